"""Fetches the published weights into a checkpoints folder, and shows what such a folder has."""

import logging
import lzma
import math
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urljoin

import requests
from filelock import BaseFileLock, FileLock, Timeout
from huggingface_hub import constants
from huggingface_hub.utils import build_hf_headers
from tqdm import tqdm

from ..errors import FileError, InputError
from ..files import file_sha256, make_folder, publish, replacing, write_error
from ..limits import check_limit, limit
from .folders import UNREADABLE, find_checkpoints, read_sidecar, write_sidecar
from .registry import HUB, RESOLUTIONS, RUN_GROUPS, WEIGHTS, Weight, select

logger = logging.getLogger(__name__)
in_words = partial(tqdm.format_sizeof, suffix="B")  # 5.07GB

CHUNK = 1 << 18  # bytes between two reports of progress, which is where a download can be cancelled
TIMEOUT = 30.0  # seconds without a byte
MOVES = 5  # addresses on the hub that lead to one another
PLAIN = {"Accept-Encoding": "identity"}  # as many bytes as the file has

#: Called with bytes done, bytes in all (None where the server does not say) and the file's name.
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True)
class Expected:
    """What a whole file has to be: bytes and lower-case hex SHA-256, None where nobody says."""

    size: int | None = None
    sha256: str | None = None

    def __or__(self, other: "Expected") -> "Expected":
        """These facts, and the other's where these are unknown."""
        return Expected(self.size or other.size, self.sha256 or other.sha256)


def hub_states(url: str) -> Expected:
    """Size and SHA-256 that the hub's headers give for a file; small ones, which git keeps, have no SHA-256 there."""
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError(f"{url} was not asked for (HF_HUB_OFFLINE is set)")
    try:
        # Not by the hub's client, whose errors belong to another package in each of its versions.
        for _ in range(MOVES):
            reply = requests.head(url, headers=build_hf_headers() | PLAIN, timeout=TIMEOUT)
            reply.raise_for_status()
            # A renamed repository is elsewhere on the hub. A large file is at a storage, which knows less of it and is
            # not to have the token.
            if not re.match(r"/(?!/)", place := reply.headers.get("Location", "")):
                break
            url = urljoin(url, place)
    except requests.RequestException as error:
        raise ConnectionError(f"{url} could not be read ({_reason(error)})") from error
    size = _number(reply, "X-Linked-Size") or (None if reply.is_redirect else _number(reply, "Content-Length"))
    tag = (reply.headers.get("X-Linked-ETag") or reply.headers.get("ETag", "")).removeprefix("W/").strip('"')
    return Expected(size, tag if re.fullmatch(r"[0-9a-f]{64}", tag) else None)


def fetch(
    url: str, part: Path, expected: Expected, *, hub: bool, name: str, most: float, progress: Progress | None = None
) -> str:
    """Fetches `url` into `part`, going on behind the bytes that are there, checks the whole and returns its SHA-256.

    A connection that breaks is taken up again as long as each attempt brings something. What has arrived stays in
    `part` when it fails, unless it is wrong, such as longer than `most`. `hub`: with the user's token, which a redirect
    elsewhere does not get.
    """
    while True:
        before = bytes_in(part)
        try:
            wrong = _append(url, part, expected, build_hf_headers() if hub else {}, name, most, progress)
            break
        except requests.HTTPError as error:
            answer = f"{error.response.status_code} {error.response.reason}"
            raise ConnectionError(f"{url} answered {answer}") from error
        except requests.RequestException as error:
            if bytes_in(part) <= before:
                raise ConnectionError(f"{url} could not be read ({_reason(error)})") from error
            logger.info("%s: %s, going on at byte %d", url, _reason(error), bytes_in(part))
    actual = "" if wrong else file_sha256(part)
    if not wrong and expected.sha256 not in (None, actual):
        wrong = f"SHA-256 {actual}, expected {expected.sha256}"
    if wrong:
        part.unlink(missing_ok=True)
        raise InputError(
            f"{url} gave {wrong}: the file was removed, fetch it again, or from another mirror (--force takes what was "
            "published anew)"
        )
    return actual


def _append(
    url: str, part: Path, expected: Expected, headers: dict, name: str, most: float, progress: Progress | None
) -> str:
    """Adds to `part` what it lacks; returns what is wrong with the size, "" for nothing."""
    start = bytes_in(part)
    if start and start == expected.size:
        return ""
    headers = headers | PLAIN | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
        if reply.status_code == 416 and start:
            return f"no byte {start:,}"
        reply.raise_for_status()
        if reply.headers.get("Content-Type", "").startswith("text/html"):
            raise ConnectionError(f"{url} answered with a web page")
        done = start if reply.status_code == 206 else 0
        length = _number(reply, "Content-Length")
        size = expected.size if length is None else done + length
        if expected.size not in (None, size):
            if not done:  # says nothing against what is there already
                raise InputError(f"{url} has {size:,} bytes, expected {expected.size:,}: fetch it from another mirror")
            return f"{size:,} bytes, expected {expected.size:,}"
        if size and size > most:
            raise InputError(f"{url} has {size:,} bytes, far more than the known file: fetch it from another mirror")
        with part.open("ab" if done else "wb") as file:
            for data in reply.iter_content(CHUNK):
                file.write(data)
                done += len(data)
                if done > (size or most):
                    return f"more than {size or most:,.0f} bytes"
                if progress is not None:
                    progress(done, size, name)
    if size and done < size:
        raise requests.ConnectionError(f"cut after {done:,} of {size:,} bytes")
    return ""


def _number(reply: requests.Response, header: str) -> int | None:
    text = reply.headers.get(header, "")
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else None


def _reason(error: BaseException) -> str:
    while error.__context__ is not None:  # requests wraps what the system said in names of its own classes
        error = error.__context__
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def bytes_in(path: Path) -> int:
    """Size of a file, 0 without it."""
    return path.stat().st_size if path.is_file() else 0


def download(
    folder: str | Path,
    version: str = "1.6",
    only: list[str] | None = None,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Fetches files into a checkpoints folder and returns the paths of those that were fetched.

    By default those that `run` needs; `only` names other groups (`registry.GROUPS`). A file that is there with the
    right size is left alone; `force` replaces files of another size or another version. An interrupted transfer leaves
    a `.part` and goes on from there next time. A second download into the same folder waits for the first. The hub's
    environment variables hold (HF_ENDPOINT for a mirror, HF_TOKEN, HF_HUB_OFFLINE), and those of proxies.
    """
    folder, rows = Path(folder), select(version, only)
    if folder.is_file():
        raise InputError(f"{folder} is a file: give the folder to put the weights in (--checkpoints)")
    if not _wanted(folder, version, rows, force):
        return []
    with _locked(folder, progress):
        wanted = _wanted(folder, version, rows, force)  # another download may have fetched them meanwhile
        needed = sum(max(0, row.bytes_hint - bytes_in(_part(folder, row))) for row in wanted)
        if needed > (free := shutil.disk_usage(folder).free):
            raise FileError(
                f"{folder} has {in_words(free)} of free space and the download needs {in_words(needed)}: make room, or "
                "choose another folder (--checkpoints)"
            )
        return [_fetch(folder, row, force, progress) for row in wanted]


def _locked(folder: Path, progress: Progress | None) -> BaseFileLock:
    """The folder's lock, for a `with` block, once no other download holds it."""
    while True:
        try:
            make_folder(folder)
            return FileLock(folder / ".download.lock").acquire(timeout=0.2)
        except Timeout:
            if progress is not None:
                progress(0, None, "(waiting for another download)")
        except OSError as error:
            raise write_error(folder, error.errno) from error


def _wanted(folder: Path, version: str, rows: list[Weight], force: bool) -> list[Weight]:
    """The rows that are to be fetched."""
    sidecar = read_sidecar(folder)
    other = sidecar.get("version", version)
    present = any(row.locate(folder) for row in WEIGHTS if row.group == "unet")
    changing = other != version and present and any(row.version for row in rows)
    if changing and not force:
        raise InputError(
            f"{folder} has LatentSync {other} and the files of {version} have the same names: choose another folder "
            f"(--checkpoints), or replace the {other} files (--force)"
        )
    wanted = []
    for row in rows:
        found = row.locate(folder)
        if found is None:
            wanted.append(row)
            continue
        converted = found.name != Path(row.target).name
        if changing and row.version:
            if converted:
                raise InputError(f"{found} was converted from another version: move it away first")
            wanted.append(row)
            continue
        actual, kept = bytes_in(found), _kept(folder, row)
        if row.members or converted:
            continue
        if actual in (row.size, kept.get("size")):
            # Its checksum is looked at only if its time says that it was written since.
            written_since = kept.get("mtime", 0) not in (0, found.stat().st_mtime_ns)
            if written_since and file_sha256(found) != kept["sha256"]:
                logger.warning("%s is not what was downloaded: it is kept", found)
                wanted += [row] * force
            continue
        published = _published_size(row, found)
        if published in (None, actual):
            continue
        if not force:
            raise InputError(
                f"{found} has {actual:,} bytes and the file at {_address(row)} {published:,}: move it away, or replace "
                "it (--force)"
            )
        wanted.append(row)
    return wanted


def _published_size(row: Weight, found: Path) -> int | None:
    """Bytes of the published file; None where nobody says."""
    if row.repo is None:
        return row.size
    try:
        return hub_states(_address(row)).size
    except ConnectionError as error:
        logger.warning("%s is kept, its size was not checked: %s", found, error)
        return None


def _fetch(folder: Path, row: Weight, force: bool, progress: Progress | None) -> Path:
    """One file, to its `.part`, checked, then under its own name."""
    target, part = folder / row.target, _part(folder, row)
    most = min(max(4 * row.bytes_hint, 1 << 20) if row.bytes_hint else math.inf, limit("download"))
    make_folder(part.parent)
    try:
        expected = _expected(row, {} if force else _kept(folder, row))
        facts = {"hub": row.repo is not None, "name": row.target, "most": most, "progress": progress}
        kept = {"sha256": fetch(_address(row), part, expected, **facts), "size": bytes_in(part), "version": row.version}
        if not row.members:
            publish(part, target)
            kept["mtime"] = target.stat().st_mtime_ns
    except ConnectionError as error:
        by_hand = f"unpack it into {target}" if row.members else f"put the file at {target}"
        raise InputError(f"{error}: try again, set HF_ENDPOINT to a mirror of the hub, or {by_hand} by hand") from error
    except OSError as error:
        raise write_error(part, error.errno) from error
    if row.members:
        _unpack(row, part, target)
    # Only now: a U-Net that comes from elsewhere after a failed download has a version of its own.
    facts = {"version": row.version, "resolution": RESOLUTIONS[row.version]} if row.group == "unet" else {}
    write_sidecar(folder, files=read_sidecar(folder).get("files", {}) | {row.target: kept}, **facts)
    return target


def _kept(folder: Path, row: Weight) -> dict:
    """What is known of the file that was downloaded to the place of `row` last; {} for one of another version."""
    kept = read_sidecar(folder).get("files", {}).get(row.target)
    if type(kept) is int:  # older folders have the size alone
        return {"size": kept}
    if not isinstance(kept, dict) or type(kept.get("size")) is not int or not isinstance(kept.get("sha256"), str):
        return {}
    return kept if kept.get("version") == row.version else {}


def _expected(row: Weight, kept: dict) -> Expected:
    """What the hub says of the file, else what is pinned in the registry or was `kept` when it was fetched last.

    For a program nothing but the pin counts.
    """
    pin = Expected(row.size or kept.get("size"), row.sha256 or kept.get("sha256"))
    stated = hub_states(_address(row)) if row.repo else pin
    if stated.sha256 is None:
        return pin | stated
    if pin.sha256 in (None, stated.sha256):
        return stated | pin
    if row.program:
        raise InputError(
            f"{_address(row)} is another program than the known one (SHA-256 {stated.sha256}, expected {pin.sha256}) "
            "and was not fetched: choose another mirror (HF_ENDPOINT)"
        )
    logger.warning("%s: the hub has SHA-256 %s, known was %s; going by the hub", row.target, stated.sha256, pin.sha256)
    return stated


def _unpack(row: Weight, archive: Path, folder: Path) -> None:
    """Takes `row.members` out of a zip archive into `folder`, by file name, and removes the archive."""
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = {Path(entry.filename).name: entry for entry in zipped.infolist()}
            entries = {member: entries[member] for member in row.members}
            unpacked = sum(entry.file_size for entry in entries.values())
            check_limit("unpacked", unpacked, _address(row))
            check_limit("expansion", unpacked / bytes_in(archive), _address(row))
            for entry in entries.values():  # all of them are whole before the first gets its name
                with zipped.open(entry) as source:
                    while source.read(CHUNK):
                        pass
    except (*UNREADABLE, OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError) as error:
        archive.unlink()
        if isinstance(error, InputError):
            raise
        raise InputError(f"{_address(row)} gave no archive with {', '.join(row.members)} ({error!s:.200})") from error
    make_folder(folder)
    with zipfile.ZipFile(archive) as zipped:
        for member, entry in entries.items():
            with replacing(folder / member) as part, zipped.open(entry) as source, part.open("wb") as file:
                shutil.copyfileobj(source, file)
    archive.unlink()


def _address(row: Weight) -> str:
    return row.address(os.environ.get("HF_ENDPOINT") or HUB)


def _part(folder: Path, row: Weight) -> Path:
    """An unfinished file; that of one version is never continued as another's."""
    return folder / f"{row.target}{f'.{row.version}' if row.version else ''}{'.zip' if row.members else ''}.part"


def tree(folder: str | Path, way_out: str | None = None) -> str:
    """The folder as text: files with sizes, what `run` still lacks, and the licences of the published files.

    `way_out` says how what is missing comes there; None is the command.
    """
    folder = Path(folder)
    sidecar, paths = read_sidecar(folder), find_checkpoints(folder)
    version = f"  (U-Net {sidecar['version']}, {sidecar.get('resolution')} pixels)" if "version" in sidecar else ""
    lines = [f"{folder}{version}", *_branches(folder)]
    if missing := [group for group in RUN_GROUPS if getattr(paths, group) is None]:
        command = f"python -m latentsync download --checkpoints {folder} --only {','.join(missing)}"
        lines += ["", f"missing for `run`: {', '.join(missing)}", f"  {command if way_out is None else way_out}"]
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
    paths = [path for path in folder.iterdir() if path.name[0] != "."] if folder.is_dir() else []
    entries = sorted(paths, key=lambda p: (p.is_dir(), p.name))
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
