"""YuNet through OpenCV: a face detector of 230 kB under the MIT licence that runs anywhere."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from ...errors import FileError, InputError
from ...files import file_sha256
from ...models.registry import YUNET_SHA256
from .views import NMS_OVERLAP, SEARCH_SIZE, ViewDetector

TRIAL = """
import sys, cv2, numpy
cv2.FaceDetectorYN.create(sys.argv[1], "", (64, 64)).detect(numpy.zeros((64, 64, 3), numpy.uint8))
"""
_QUIET = threading.Lock()  # one thread at a time, or the last would leave OpenCV's log as another had it meanwhile


class YuNet(ViewDetector):
    """OpenCV's FaceDetectorYN (OpenCV 4.8 and later, CPU only).

    Args:
        model: `face_detection_yunet_2023mar.onnx`.
        det_size: long side in pixels to which larger frames are shrunk for the search.
        score: least confidence; below 0.6 parts of faces and whole heads come up beside the face.
    """

    def __init__(self, model: str | Path, det_size: int = SEARCH_SIZE, score: float = 0.6):
        if not Path(model).is_file():
            raise FileError(f"{model}: no such file; give the path of face_detection_yunet_2023mar.onnx")
        # OpenCV crashes at some damaged files: any but the published one is tried by another process first.
        if file_sha256(model) != YUNET_SHA256:
            trial = subprocess.run([sys.executable, "-c", TRIAL, str(model)], stderr=subprocess.DEVNULL)
            if trial.returncode:
                raise InputError(f"{model}: OpenCV cannot read it as a YuNet model; download it again")
        super().__init__(Path(model), det_size, score)

    def _open(self, size: int) -> cv2.FaceDetectorYN:
        try:
            with _quiet():
                return cv2.FaceDetectorYN.create(str(self.path), "", (size, size), self.score, NMS_OVERLAP)
        except cv2.error as error:
            raise InputError(f"{self.path}: OpenCV cannot read it as a YuNet model; download it again") from error

    def _rows(self, net: cv2.FaceDetectorYN, picture: np.ndarray) -> np.ndarray:
        net.setInputSize(picture.shape[1::-1])
        rows = net.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
        rows = np.empty((0, 15)) if rows is None else rows.astype(np.float64)
        return rows[np.isfinite(rows).all(1)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without OpenCV 5's warning at every detector that is made, that its nets have no choice of targets."""
    log = cv2.utils.logging
    with _QUIET:
        before = log.getLogLevel()
        log.setLogLevel(min(before, log.LOG_LEVEL_ERROR))
        try:
            yield
        finally:
            log.setLogLevel(before)
