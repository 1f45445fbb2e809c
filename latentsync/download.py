"""Fetches the published weights into a checkpoints folder, and shows what such a folder has."""

import logging
import os
import shutil
import zipfile
from pathlib import Path

from .layout import find_checkpoints, read_sidecar, write_sidecar
from .registry import HUB, RESOLUTIONS, RUN_GROUPS, WEIGHTS, Weight, select
from .transfer import Expected, Progress, bytes_in, check_space, fetch, in_words, published_size

logger = logging.getLogger(__name__)


def download(
    folder: str | Path,
    version: str = "1.6",
    only: list[str] | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Fetches files into a checkpoints folder and returns the paths of those that were fetched.

    By default those that `run` needs: U-Net, Whisper tiny, VAE and the YuNet detector. `only` names other groups
    (see `registry.GROUPS`). A file that is there with the right size is left alone. An interrupted transfer leaves
    `<name>.part` and goes on from there next time. The environment variable HF_ENDPOINT names a mirror of the hub.
    `force` replaces files of another size or another version.

    Raises:
        ValueError: unknown version or group; the folder has the other version of the U-Net; a file that is there is
            not the published one; what was fetched has the wrong size or checksum (it is removed).
        ConnectionError: the address cannot be reached, refuses, or the connection was cut.
        OSError: the disk is too small.
    """
    folder = Path(folder)
    rows = select(version, only)
    changing = _changes_version(folder, version, rows, force)
    wanted = [row for row in rows if not _settled(folder, row, force, changing)]
    check_space(folder, sum(max(0, row.bytes_hint - bytes_in(_part(folder, row))) for row in wanted))
    fetched = []
    for row in wanted:
        if row.group == "unet":
            # Before the first byte: an unfinished file has a version too, and must not be continued with another.
            write_sidecar(folder, version=version, resolution=RESOLUTIONS[version])
        fetched.append(_fetch(folder, row, progress))
    return fetched


def _changes_version(folder: Path, version: str, rows: list[Weight], force: bool) -> bool:
    """Whether files of another version are to be replaced, which takes `force`; removes their unfinished parts."""
    other = read_sidecar(folder).get("version", version)
    versioned = [row for row in rows if row.version]
    present = any(row.locate(folder) or _part(folder, row).is_file() for row in WEIGHTS if row.group == "unet")
    if other == version or not versioned or not present:
        return False
    if not force:
        raise ValueError(
            f"{folder} has LatentSync {other} and the files of {version} have the same names: choose another folder "
            f"(--checkpoints), or replace the {other} files with force (--force)"
        )
    for row in versioned:
        _part(folder, row).unlink(missing_ok=True)
    return True


def _settled(folder: Path, row: Weight, force: bool, changing: bool) -> bool:
    """Whether there is nothing to fetch for this row."""
    found = row.locate(folder)
    if found is None:
        return False
    converted = found.name != Path(row.target).name
    if changing and row.version:
        if converted:
            raise ValueError(f"{found} was converted from another version: move it away first")
        return False
    if row.members or converted:
        return True
    expected = row.size or read_sidecar(folder).get("files", {}).get(row.target) or _stated_size(row, found)
    actual = bytes_in(found)
    if expected is None or actual == expected:
        return True
    if not force:
        raise ValueError(
            f"{found} has {actual:,} bytes and the file at {_address(row)} {expected:,}: move it away, or replace it "
            "with force (--force)"
        )
    logger.warning("replacing %s (%d bytes, published: %d)", found, actual, expected)
    return False


def _stated_size(row: Weight, found: Path) -> int | None:
    """What the server says of a file that was put there by hand; None where it cannot be asked."""
    try:
        return published_size(_address(row))
    except OSError as error:
        logger.warning("%s is kept, its size was not checked: %s", found, error)
        return None


def _fetch(folder: Path, row: Weight, progress: Progress | None) -> Path:
    """One file, to its `.part`, checked, then under its own name."""
    target, part = folder / row.target, _part(folder, row)
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        fetch(_address(row), part, Expected(row.size, row.sha256), name=row.target, progress=progress)
    except ConnectionError as error:
        by_hand = f"unpack it into {target}" if row.members else f"put the file at {target}"
        raise ConnectionError(
            f"{error}: run the command again, set HF_ENDPOINT to a mirror of the hub, or {by_hand} by hand"
        ) from error
    if row.members:
        _unpack(row, part, target)
        return target
    size = bytes_in(part)
    os.replace(part, target)
    write_sidecar(folder, files=read_sidecar(folder).get("files", {}) | {row.target: size})
    return target


def _unpack(row: Weight, archive: Path, folder: Path) -> None:
    """Takes `row.members` out of a zip archive into `folder`, by file name, and removes the archive."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = {Path(name).name: name for name in zipped.namelist()}
            folder.mkdir(parents=True, exist_ok=True)
            for member in row.members:
                part = folder / f"{member}.part"
                with zipped.open(entries[member]) as source, part.open("wb") as file:
                    shutil.copyfileobj(source, file)
                os.replace(part, folder / member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{_address(row)} gave no archive with {', '.join(row.members)} ({error})") from None
    archive.unlink()


def _address(row: Weight) -> str:
    return row.address(os.environ.get("HF_ENDPOINT") or HUB)


def _part(folder: Path, row: Weight) -> Path:
    return folder / (row.target + (".zip.part" if row.members else ".part"))


def tree(folder: str | Path) -> str:
    """The folder as text: files with sizes, what `run` still lacks, and the licences of the published files."""
    folder = Path(folder)
    sidecar, paths = read_sidecar(folder), find_checkpoints(folder)
    version = f"  (U-Net {sidecar['version']}, {sidecar.get('resolution')} pixels)" if "version" in sidecar else ""
    lines = [f"{folder}{version}", *_branches(folder)]
    if missing := [group for group in RUN_GROUPS if getattr(paths, group) is None]:
        command = f"python -m latentsync download --checkpoints {folder} --only {','.join(missing)}"
        lines += ["", f"missing for `run`: {', '.join(missing)}", f"  {command}"]
    rows = [row for row in WEIGHTS if row.version in (None, sidecar.get("version", "1.6"))]
    present = [row for row in rows if row.locate(folder)]
    absent = {row.group: row for row in rows if row.group not in (*RUN_GROUPS, *(r.group for r in present))}
    if absent:
        lines += ["", "not here, not needed for `run`:"]
        lines += [f"  {group}: {row.licence}{_terms(row)}" for group, row in absent.items()]
    if present:
        lines += ["", "licences:", *(f"  {row.target}: {row.licence}{_terms(row)}" for row in present)]
    return "\n".join(lines)


def _terms(row: Weight) -> str:
    return "" if row.commercial else " (not for commercial use)"


def _branches(folder: Path, indent: str = "") -> list[str]:
    entries = sorted(folder.iterdir(), key=lambda p: (p.is_dir(), p.name)) if folder.is_dir() else []
    lines = []
    for path in entries:
        fork, below = ("└── ", "    ") if path == entries[-1] else ("├── ", "│   ")
        if path.is_dir():
            lines += [f"{indent}{fork}{path.name}/", *_branches(path, indent + below)]
        else:
            note = "  (unfinished)" if path.suffix == ".part" else ""
            lines.append(f"{indent}{fork}{path.name}  {in_words(path.stat().st_size)}{note}")
    return lines


def listing() -> str:
    """A line for each file: group, place, what it is for, size, licence, and whether it may be used commercially."""
    lines = []
    for row in WEIGHTS:
        size = f"{in_words(row.bytes_hint)}" if row.bytes_hint else "size not stated"
        version = f" ({row.version})" if row.version else ""
        use = "" if row.commercial else " - NOT for commercial use"
        lines.append(f"{row.group}: {row.target}{version}, {row.purpose}, {size}, {row.licence}{use}")
    return "\n".join(lines)
