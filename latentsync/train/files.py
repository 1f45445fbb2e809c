"""Weight files that training starts from or is helped by, and the command that gets one which is missing."""

from contextlib import suppress
from pathlib import Path

from ..errors import FileError
from ..models.folders import read_sidecar, vae_weights
from ..models.registry import RESOLUTIONS, WEIGHTS

DEFAULT_FOLDER = Path("checkpoints")  # of the download command


def find_file(name: str | Path, resolution: int) -> Path:
    """`name`, a file or a VAE's folder; or the .safetensors that was converted from it.

    `resolution` is that of the crops, which tells the version of LatentSync.
    """
    path = Path(name)
    with suppress(FileError):
        if path.is_file() or (path.is_dir() and vae_weights(path).is_file()):
            return path
    # Where `download` would put a file: the folder to give to it. A VAE is named by its folder.
    places = []
    for row in WEIGHTS:
        for target in (Path(row.target), *([Path(row.target).parent] if row.group == "vae" else [])):
            if path.parts[-len(target.parts) :] == target.parts:
                places.append((row, Path(*path.parts[: -len(target.parts)])))
    if not places:
        raise FileError(f"there is no file {path}: check the path")
    row, folder = places[-1]  # of a VAE the weights
    if (found := row.locate(folder)) is not None:
        return found
    command = "python -m latentsync download"
    if folder != DEFAULT_FOLDER:
        command += f' --checkpoints "{folder}"' if " " in str(folder) else f" --checkpoints {folder}"
    if row.version is not None:
        version = min(RESOLUTIONS, key=lambda version: abs(RESOLUTIONS[version] - resolution))
        if row.group != "unet":  # a folder has files of one version
            version = read_sidecar(folder).get("version", version)
        command += f" --version {version}"
    raise FileError(f"there is no {path}: get it with `{command} --only {row.group}`")
