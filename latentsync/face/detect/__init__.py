"""Face detectors by name. The packages behind them are imported only when one is loaded."""

from importlib.util import find_spec
from pathlib import Path

from ...errors import InputError
from ...models.folders import find_checkpoints
from ..landmarks import Detector
from ..track_file import read_track_file
from .insightface import HOME_FOLDER, LICENCE, InsightFace
from .retinaface import WEIGHTS, RetinaFace
from .yunet import YuNet

NAMES = ("auto", "insightface", "yunet", "facexlib", "file")

_YUNET_FILE = "auxiliary/face_detection_yunet_2023mar.onnx"
_YUNET_WAY_OUT = (
    "download face_detection_yunet_2023mar.onnx (230 kB, MIT licence, OpenCV's model zoo; "
    "`python -m latentsync download --only yunet` fetches it)"
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
            free, OpenCV only), "facexlib" (RetinaFace), "file" (a track file, see `track_file`), or "auto": by the
            kind of `model` if that is given, else InsightFace where its package and models are, else YuNet.
        model: file to use (for insightface a folder); None looks into `checkpoints`.
        checkpoints: folder of the weights; for insightface ~/.insightface is looked into as well.
        det_size: pixels at which faces are searched; None is the detector's own: insightface 512, others 640.
        device: torch device or its name for insightface and facexlib; None is onnxruntime's GPU where there
            is one, else the CPU. YuNet runs on the CPU.
        score: least confidence of a face; None is the detector's own: 0.5, 0.6 (yunet), 0.8 (facexlib).
        embeddings: faces come with an embedding that tells people apart; only insightface has one.

    Raises:
        FileNotFoundError: the model file is not there; the sentence says what to get and where to put it.
        ImportError: the package is not installed.
        ValueError: an unknown name, a damaged file, or embeddings of a detector that has none.
    """
    if name not in NAMES:
        raise InputError(f"detector is {name!r}: choose one of {', '.join(NAMES)}")
    if name == "auto":
        name = _choose(checkpoints) if model is None else _kind(Path(model))
    if embeddings and name != "insightface":
        raise InputError(f"the detector {name} gives no embeddings: use insightface (by its name, with its models)")
    options = {key: value for key, value in (("det_size", det_size), ("score", score)) if value is not None}
    device = None if device is None else str(device)
    if name == "file":
        if model is None:
            raise InputError("detector is 'file' without a file: name the track file with --detector_model")
        return read_track_file(model)
    if name == "yunet":
        return YuNet(model or _find_yunet(checkpoints), **options)
    if name == "facexlib":
        return RetinaFace(model or _find_retinaface(checkpoints), device=device, **options)
    return InsightFace(model or _find_insightface(checkpoints), device=device, embeddings=embeddings, **options)


def _kind(model: Path) -> str:
    """Which detector a model file belongs to."""
    if model.is_dir():
        return "insightface"
    kinds = {".json": "file", ".onnx": "yunet", ".pth": "facexlib"}
    if model.suffix.lower() not in kinds:
        raise InputError(f"{model}: no detector goes with this file; say which of {', '.join(NAMES[1:])} it is for")
    return kinds[model.suffix.lower()]


def _choose(checkpoints: str | Path | None) -> str:
    if find_spec("insightface") and any(any(place.glob("*.onnx")) for place in _insightface_places(checkpoints)):
        return "insightface"
    if checkpoints is not None and find_checkpoints(checkpoints).yunet:
        return "yunet"
    raise FileNotFoundError(
        f"no face detector's model found: {_YUNET_WAY_OUT} and put it at {_wanted(checkpoints, _YUNET_FILE)}, or "
        f"unpack InsightFace's buffalo_l.zip ({LICENCE}) at {_insightface_places(checkpoints)[0]}"
    )


def _wanted(checkpoints: str | Path | None, name: str) -> str:
    return str(Path(checkpoints) / name) if checkpoints is not None else f"CHECKPOINTS/{name}"


def _find_yunet(checkpoints: str | Path | None) -> Path:
    found = None if checkpoints is None else find_checkpoints(checkpoints).yunet
    if found is None:
        raise FileNotFoundError(
            f"{_wanted(checkpoints, _YUNET_FILE)}: not there; {_YUNET_WAY_OUT} to that place, or name the file with "
            "--detector_model"
        )
    return found


def _find_retinaface(checkpoints: str | Path | None) -> Path:
    found = None if checkpoints is None else find_checkpoints(checkpoints).retinaface
    if found is None:
        raise FileNotFoundError(
            f"{_wanted(checkpoints, f'auxiliary/{WEIGHTS}')}: not there; download {WEIGHTS} (104 MB, MIT licence, "
            "`python -m latentsync download --only facexlib` fetches it) to that place, or name the file with "
            "--detector_model"
        )
    return found


def _insightface_places(checkpoints: str | Path | None) -> list[Path]:
    places = [Path.home() / HOME_FOLDER]
    if checkpoints is not None:
        places.insert(0, find_checkpoints(checkpoints).insightface or Path(checkpoints) / "auxiliary/models/buffalo_l")
    return places


def _find_insightface(checkpoints: str | Path | None) -> Path:
    """The first place with models, or the first place, about which the detector then complains."""
    places = _insightface_places(checkpoints)
    return next((place for place in places if any(place.glob("*.onnx"))), places[0])
