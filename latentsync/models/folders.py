"""Where each file lies in a checkpoints folder, in the layouts that are in use.

Known layouts: the published program's (`latentsync_unet.pt`, `whisper/tiny.pt`, `auxiliary/`, ...), the same with
`latentsync_syncnet.pt`, and ComfyUI's models folder (`latentsync/`, `vae/`, `audio_encoders/`, ...).
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from ..errors import FileError, InputError
from ..files import make_folder, read_text, replacing

#: Small JSON file beside the U-Net: {"version": "1.6", "resolution": 512, "files": {target: {"size", "sha256",
#: "version", "mtime"}}}, the last being what `download` fetched.
SIDECAR = "latentsync.json"

#: What readers of damaged files raise.
UNREADABLE = (
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, RuntimeError, TypeError, ValueError),
    struct.error,
)

_TENSORS = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
_CONVERTIBLE = (".pth", ".model", ".pkl")  # tensors under other names, which `convert` makes .safetensors of too
_AUXILIARY = ("auxiliary/", "")
_RESTORERS = ("GFPGAN", "CodeFormer", "RestoreFormer", "gfpgan", "codeformer", "restoreformer", "facerestore_models")
_FACEXLIB = ("auxiliary", "facexlib", "facedetection")

# File name patterns without suffix, the first match wins. A pattern may match several files (latentsync_unet_1.5,
# latentsync_unet_1.6): then the last in alphabetical order, the newest, is taken.
_STEMS: dict[str, tuple[str, ...]] = {
    "unet": ("latentsync_unet", "*/latentsync_unet", "*latentsync*unet*", "diffusion_models/latentsync*"),
    "syncnet": ("stable_syncnet", "latentsync_syncnet", "*/stable_syncnet", "*/latentsync_syncnet"),
    "whisper": tuple(
        place.format(size)
        for size in ("tiny", "small")
        for place in ("whisper/{}", "{}", "audio_encoders/{}", "audio_encoders/*whisper*{}*")
    ),
    "vae": ("vae/*ft-mse*", "vae/*ft_mse*"),
}
# File name patterns with suffix.
_NAMES: dict[str, tuple[str, ...]] = {
    "yunet": tuple(f"{place}face_detection_yunet*.onnx" for place in ("auxiliary/", "yunet/", "")),
    "syncnet_v2": tuple(f"{place}syncnet_v2.model" for place in _AUXILIARY),
    "hyperiqa": tuple(f"{place}koniq_pretrained.pkl" for place in _AUXILIARY),
    "i3d": tuple(f"{place}i3d_torchscript.pt" for place in _AUXILIARY),
    "inception": tuple(f"{place}weights-inception-2015-12-05-6726825d.pth" for place in _AUXILIARY),
    "videomae": tuple(f"{place}vit_g_hybrid_pt_1200e_ssv2_ft.pth" for place in _AUXILIARY),
    "vgg16": tuple(f"{place}vgg16-397923af.pth" for place in _AUXILIARY),
    "arcface": tuple(f"{place}/recognition_arcface_ir_se50.pth" for place in _FACEXLIB),
    "gfpgan": tuple(f"{place}/GFPGANv1.{minor}.pth" for minor in (4, 3) for place in _RESTORERS),
    "codeformer": tuple(f"{place}/codeformer*.pth" for place in _RESTORERS),
    "restoreformer": tuple(f"{place}/RestoreFormer.pth" for place in _RESTORERS),
    "parsenet": tuple(f"{place}/parsing_parsenet.pth" for place in _FACEXLIB),
    "retinaface": tuple(f"{place}/detection_Resnet50_Final.pth" for place in _FACEXLIB),
}
# Folders, each known by a file in it.
_FOLDERS: dict[str, tuple[str, ...]] = {
    "vae": ("vae", "vae/sd-vae-ft-mse", "sd-vae-ft-mse"),
    "insightface": ("insightface/models/buffalo_l", "insightface/buffalo_l", "auxiliary/models/buffalo_l"),
}
_DIFFUSERS = tuple(
    f"diffusion_pytorch_model{end}" for end in (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin")
)
_MARKS = {"vae": _DIFFUSERS, "insightface": ("det_10g.onnx",)}


@dataclass(frozen=True)
class Checkpoints:
    """Paths found in `folder`; None where there is no such file. `vae` is a folder or one file, `insightface` the
    folder of its ONNX files, everything else a file."""

    folder: Path
    unet: Path | None = None
    syncnet: Path | None = None
    whisper: Path | None = None
    vae: Path | None = None
    yunet: Path | None = None
    insightface: Path | None = None
    syncnet_v2: Path | None = None
    hyperiqa: Path | None = None
    i3d: Path | None = None
    inception: Path | None = None
    videomae: Path | None = None
    vgg16: Path | None = None
    arcface: Path | None = None
    gfpgan: Path | None = None
    codeformer: Path | None = None
    restoreformer: Path | None = None
    parsenet: Path | None = None
    retinaface: Path | None = None


def find_checkpoints(folder: str | Path) -> Checkpoints:
    """The files of a checkpoints folder, or of a ComfyUI models folder (one with a `latentsync` sub-folder).

    Only names are looked at, nothing is opened. Where a file is there as .pt and as .safetensors, the latter is
    taken: it loads faster and can hold no code. A folder that does not exist has no files.
    """
    folder = Path(folder)
    if folder.is_file():
        raise FileError(f"{folder} is a file: give the folder of the weights (--checkpoints)")
    roots = [folder / "latentsync", folder] if (folder / "latentsync").is_dir() else [folder]
    names = [field.name for field in fields(Checkpoints)[1:]]
    return Checkpoints(
        folder, **{name: next((p for root in roots for p in _matches(root, name)), None) for name in names}
    )


def _matches(root: Path, name: str) -> Iterator[Path]:
    """Paths under `root` that can be the file called `name`, best first."""
    for place in _FOLDERS.get(name, ()):
        if any((root / place / mark).is_file() for mark in _MARKS[name]):
            yield root / place
    for pattern in _STEMS.get(name, ()):
        # Exactly that stem where the pattern gives one: tiny.en.pt is not tiny.pt.
        stem = None if "*" in Path(pattern).name else Path(pattern).name
        hits = [p for p in root.glob(pattern + ".*") if p.suffix in _TENSORS and stem in (None, p.stem) and p.is_file()]
        yield from sorted(hits, key=lambda p: (p.stem, -_TENSORS.index(p.suffix)), reverse=True)
    for pattern in _NAMES.get(name, ()):
        if Path(pattern).suffix in _CONVERTIBLE:
            yield from (p for p in root.glob(str(Path(pattern).with_suffix(".safetensors"))) if p.is_file())
        yield from sorted((p for p in root.glob(pattern) if p.is_file()), reverse=True)


def vae_weights(folder: Path) -> Path:
    """The weights file in a folder as diffusers saves it."""
    path = next((folder / name for name in _DIFFUSERS if (folder / name).is_file()), None)
    if path is None:
        raise FileError(f"{folder} has no diffusion_pytorch_model.safetensors: put the VAE's weights there")
    return path


def read_sidecar(folder: str | Path) -> dict:
    """What `latentsync.json` in `folder` says, as a dict with keys out of version, resolution, files; {} without it."""
    path = Path(folder) / SIDECAR
    if not path.is_file():
        return {}
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): correct or remove it") from None
    if not isinstance(content, dict) or not isinstance(content.get("files", {}), dict):
        raise InputError(f'{path} or its "files" is not a JSON object: correct or remove it')
    return content


def write_sidecar(folder: str | Path, **changes) -> None:
    """Changes entries of `latentsync.json` in `folder`, keeping the others."""
    path = Path(folder) / SIDECAR
    content = read_sidecar(folder) | changes
    make_folder(path.parent)
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
