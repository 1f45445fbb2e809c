"""InsightFace `buffalo_l`: the detector that LatentSync was trained and published with.

Its code is MIT; its models are for non-commercial use only and are never downloaded from here.
"""

import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ...errors import FileError, InputError
from ..landmarks import Face, points_from_106, yaw_from_five

logger = logging.getLogger(__name__)

HOME_FOLDER = Path(".insightface", "models", "buffalo_l")  # under the user's home: where the package puts it
DETECTION, LANDMARKS, RECOGNITION = "detection", "landmark_2d_106", "recognition"
LICENCE = "InsightFace's models are for non-commercial use only"


class InsightFace:
    """A `Detector` with the 106 landmarks that the published program uses.

    Args:
        folder: holds the ONNX files of `buffalo_l` (det_10g.onnx, 2d106det.onnx; w600k_r50.onnx for embeddings).
        det_size: side of the square in which faces are searched, a multiple of 32; published 512.
        device: "cpu", "cuda" or "cuda:1"; None takes the GPU where onnxruntime has one.
        score: least confidence; published 0.5.
        embeddings: give each face its ArcFace embedding, of unit length; this takes the recognition model and time.
    """

    def __init__(
        self,
        folder: str | Path,
        det_size: int = 512,
        device: str | None = None,
        score: float = 0.5,
        embeddings: bool = False,
    ):
        self.path = folder = Path(folder).expanduser().resolve()
        if not any(folder.glob("*.onnx")):  # the package would ask the network or fail an assertion
            state = "holds no .onnx files" if folder.is_dir() else "is no folder"
            raise FileError(
                f"{folder}: {state}; unpack InsightFace's buffalo_l.zip there ({LICENCE}), or use the detector yunet"
            )
        if det_size < 64 or det_size % 32:
            raise InputError(f"det_size is {det_size}: give a multiple of 32, 64 or more")
        tasks = [DETECTION, LANDMARKS] + [RECOGNITION] * embeddings
        self._app = _load(self.path, device, tasks, {"det_thresh": score, "det_size": (det_size, det_size)})

    def __call__(self, frame: np.ndarray, index: int = 0) -> list[Face]:
        return [face for face, _ in self.described(frame)]

    def published(self, frame: np.ndarray, index: int = 0) -> list[Face]:
        """The faces as the published program finds them: boxes cut and all 106 landmarks rounded to whole pixels."""
        # The package takes BGR, as OpenCV reads pictures, and swaps the channels itself. `described` gives it BGR. The
        # published program gives it RGB, so there its nets see red and blue exchanged; for comparisons so do ours here.
        return [
            replace(face, box=tuple(np.trunc(face.box).tolist()), points=points_from_106(np.rint(landmarks)))
            for face, landmarks in self._found(frame)
        ]

    def described(self, frame: np.ndarray) -> list[tuple[Face, np.ndarray]]:
        """The faces of a frame (h, w, 3) uint8 RGB, each with its 106 landmarks (106, 2) in frame pixels."""
        return self._found(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def _found(self, picture: np.ndarray) -> list[tuple[Face, np.ndarray]]:
        found = []
        for face in self._app.get(picture):
            x1, y1, x2, y2 = box = tuple(float(v) for v in face.bbox)
            if x2 > x1 and y2 > y1:
                points, score = points_from_106(face[LANDMARKS]), float(face.det_score)
                turned = yaw_from_five(face.kps)
                found.append((Face(box, score, points, face.normed_embedding, turned=turned), face[LANDMARKS]))
        return found


def _load(folder: Path, device: str | None, tasks: list[str], options: dict):
    try:
        from insightface.app import FaceAnalysis
    except ImportError as error:
        raise InputError(f"the detector insightface needs its package ({error}): pip install insightface") from error
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kinds = ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented", "RuntimeException")
    damaged = tuple(getattr(state, kind) for kind in kinds)
    logger.info("faces are found with InsightFace; %s", LICENCE)
    try:
        models = FaceAnalysis(str(folder), allowed_modules=tasks, providers=_providers(device))
        models.prepare(0, **options)
        if LANDMARKS in models.models:  # nets of another kind fail at the first picture
            models.get(np.zeros((96, 96, 3), np.uint8))
    except (*damaged, IndexError, ValueError) as error:
        raise InputError(f"{folder}: holds a damaged ONNX file ({error}); unpack buffalo_l.zip again") from error
    except AssertionError as error:  # how the package says that there is no detection model
        raise InputError(f"{folder}: no {DETECTION} model in it; unpack all of buffalo_l.zip there") from error
    missing = [task for task in tasks if task not in models.models]
    if missing:
        raise InputError(f"{folder}: no {missing[0]} model in it; unpack all of buffalo_l.zip there")
    return models


def _providers(device: str | None) -> list:
    """onnxruntime's execution providers for a torch-like device name."""
    import onnxruntime

    wants_gpu = device is None or device.startswith("cuda")
    if not wants_gpu or "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    number = (device or "").partition(":")[2] or "0"
    return [("CUDAExecutionProvider", {"device_id": number}), "CPUExecutionProvider"]
