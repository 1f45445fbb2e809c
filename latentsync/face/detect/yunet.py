"""YuNet through OpenCV: a face detector of 230 kB under the MIT licence that runs anywhere."""

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

# Files of OpenCV's model zoo: 2023mar, its two 8-bit versions, and 2026may, whose pictures may be of any size.
PUBLISHED = {
    YUNET_SHA256,
    "d0405ddda91a261af340e087219dfbac26cea1575aab2ccb7f2ed41e20708a82",
    "49f000ec501fef24739071fc7e68267d32209045b6822c0c72dce1da25726f10",
    "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
}
_QUIET = threading.Lock()  # one thread at a time, or the last would leave OpenCV's log as another had it meanwhile


class YuNet(ViewDetector):
    """OpenCV's FaceDetectorYN (OpenCV 4.8 and later, CPU only).

    Args:
        model: `face_detection_yunet_2023mar.onnx`, or another that OpenCV has published for this class.
        det_size: long side in pixels to which larger frames are shrunk for the search.
        score: least confidence; below 0.6 parts of faces and whole heads come up beside the face.
    """

    def __init__(self, model: str | Path, det_size: int = SEARCH_SIZE, score: float = 0.6):
        if not Path(model).is_file():
            raise FileError(f"{model}: no such file; give the path of face_detection_yunet_2023mar.onnx")
        # OpenCV takes the whole process along at some damaged files: it gets none but those that it publishes itself.
        if (digest := file_sha256(model)) not in PUBLISHED:
            raise InputError(
                f"{model} is no YuNet that OpenCV has published (SHA-256 {digest}): download it again, "
                "or take another detector"
            )
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
