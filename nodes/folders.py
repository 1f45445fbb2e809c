"""Where the models lie: ComfyUI's `models/latentsync`, and beside it what other nodes use too."""

import os
from dataclasses import fields, replace
from pathlib import Path

import folder_paths

from ..latentsync.errors import FileError
from ..latentsync.face.parsing import parser_file as find_parser
from ..latentsync.models.folders import Checkpoints, find_checkpoints
from ..latentsync.models.registry import WEIGHTS
from ..latentsync.models.samples import TRACK_SUFFIX
from ..latentsync.pipelines.options import NETS

FOLDER = "latentsync"
EXTENSIONS = {".safetensors", ".pt", ".pth", ".ckpt", ".bin"}
EMBEDDED_NAME = "embedded (small)"

_UNET_SUFFIXES = (".safetensors", ".pt")
# Published files that are no U-Net, by stem and by folder.
_OTHER_STEMS = {Path(row.target).stem for row in WEIGHTS if row.group != "unet"} | {"latentsync_syncnet"}
_OTHER_FOLDERS = {"vae", "whisper", "auxiliary", "audio_encoders"}


def models_folder() -> Path:
    """ComfyUI's folder for these models (the first one registered), which need not exist."""
    # A folder that an extra_model_paths.yaml names is registered by then, with an empty set of extensions: any file.
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    if extensions != EXTENSIONS:
        folder_paths.folder_names_and_paths[FOLDER] = (paths, set(EXTENSIONS))
    return Path(paths[0])


def model_files() -> list[str]:
    """The U-Net files in those folders, relative, in order; files that are known to be something else are left out."""
    models_folder()
    return [
        str(name)
        for name in map(Path, folder_paths.get_filename_list(FOLDER))
        if name.suffix in _UNET_SUFFIXES and name.stem not in _OTHER_STEMS
        if not _OTHER_FOLDERS & {part.lower() for part in name.parts[:-1]}
    ]


def checkpoints_of(name: str) -> Checkpoints:
    """The files that make a model of the U-Net `name` (as `model_files` says it); absent ones are None.

    The others are looked for beside the U-Net, then in these folders, then in ComfyUI's for VAEs and audio encoders.
    """
    folder = models_folder()
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        raise FileError(
            f"there is no model {name!r} in {folder}: choose another one, or fetch it with the node "
            "Download LatentSync Models"
        )
    shared = [Path(p).parent for kind in ("vae", "audio_encoders") for p in _registered(kind)]
    roots = [Path(path).parent, *map(Path, _registered(FOLDER)), *shared]
    found = Checkpoints(folder)
    for root in dict.fromkeys(roots):
        here = find_checkpoints(root)
        names = [field.name for field in fields(here)[1:] if getattr(found, field.name) is None]
        found = replace(found, **{name: getattr(here, name) for name in names})
    return replace(found, unet=Path(path))


def restorer_files() -> dict[str, Path]:
    """Files of face restorers by the name that a combo shows, in order: those of this pack's folders, then what
    other packs and the upscaler of ComfyUI use."""
    models_folder()
    below = [(Path(root) / kind, f"{kind}/") for root in _registered(FOLDER) for kind in NETS]
    beside = [(Path(folder_paths.models_dir) / "facerestore_models", "")]
    beside += [(Path(path), "") for kind in ("facerestore_models", "upscale_models") for path in _registered(kind)]
    found: dict[str, Path] = {}
    for folder, prefix in (*below, *beside):
        for path in sorted(folder.glob("*")) if folder.is_dir() else []:
            if path.suffix in (".pth", ".safetensors"):
                found.setdefault(prefix + path.name, path)
    return found


def parser_file() -> Path:
    """ParseNet's file: in this pack's folders, or where other packs keep it."""
    way_out = "run the node Download LatentSync Models with version none and parsing on (85 MB)"
    roots = [models_folder(), *map(Path, _registered(FOLDER)), Path(folder_paths.models_dir)]
    found = next((root for root in roots if find_checkpoints(root).parsenet), roots[0])
    return find_parser(found, way_out)


def _registered(kind: str) -> list[str]:
    return folder_paths.get_folder_paths(kind) if kind in folder_paths.folder_names_and_paths else []


def track_files() -> list[str]:
    """Names of the track files in ComfyUI's input folder, in order."""
    folder = Path(folder_paths.get_input_directory())
    return sorted(path.name for path in folder.glob(f"*{TRACK_SUFFIX}")) if folder.is_dir() else []


def input_file(name: str) -> Path:
    """A file in ComfyUI's input folder, such as one that `track_files` names."""
    return Path(folder_paths.get_input_directory()) / name


def served(path: Path) -> dict[str, str] | None:
    """Where the browser finds a file: filename, subfolder and type; None unless it is in temp, output or input."""
    for kind in ("temp", "output", "input"):
        folder = Path(folder_paths.get_directory_by_type(kind)).resolve()
        if folder in path.resolve().parents:
            place = path.resolve().relative_to(folder)
            subfolder = "" if place.parent == Path() else place.parent.as_posix()
            return {"filename": place.name, "subfolder": subfolder, "type": kind}
    return None
