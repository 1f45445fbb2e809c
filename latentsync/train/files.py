"""Weight files that training starts from or is helped by, and the command that gets one which is missing."""

from pathlib import Path

from ..errors import FileError
from ..models.folders import read_sidecar, vae_weights
from ..models.registry import RESOLUTIONS, WEIGHTS, Weight

DEFAULT_FOLDER = Path("checkpoints")  # of the download command


def find_file(name: str | Path, resolution: int) -> Path:
    """`name`, a file or a VAE's folder; or the .safetensors that was converted from it.

    `resolution` is that of the crops, which tells the version of LatentSync.
    """
    path = Path(name)
    if path.is_file() or _is_vae(path):
        return path
    rows = [(row, folder) for row in WEIGHTS if (folder := _checkpoints_folder(path, row)) is not None]
    if not rows:
        raise FileError(f"there is no file {path}: check the path")
    row, folder = rows[-1]  # of a VAE the weights
    if (found := row.locate(folder)) is not None:
        return found
    raise FileError(f"there is no {path}: get it with `{_download(row, folder, resolution)}`")


def _is_vae(path: Path) -> bool:
    try:
        return path.is_dir() and vae_weights(path).is_file()
    except FileError:
        return False


def _checkpoints_folder(path: Path, row: Weight) -> Path | None:
    """The folder that `download` would have to be given to put `row`, or a VAE of which it is a part, at `path`."""
    for target in (Path(row.target), Path(row.target).parent) if row.group == "vae" else (Path(row.target),):
        if path.parts[-len(target.parts) :] == target.parts:
            return Path(*path.parts[: -len(target.parts)])
    return None


def _download(row: Weight, folder: Path, resolution: int) -> str:
    command = "python -m latentsync download"
    if folder != DEFAULT_FOLDER:
        command += f' --checkpoints "{folder}"' if " " in str(folder) else f" --checkpoints {folder}"
    if row.version is not None:
        version = min(RESOLUTIONS, key=lambda version: abs(RESOLUTIONS[version] - resolution))
        if row.group != "unet":  # a folder has files of one version
            version = read_sidecar(folder).get("version", version)
        command += f" --version {version}"
    return f"{command} --only {row.group}"
