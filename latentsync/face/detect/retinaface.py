"""RetinaFace (ResNet-50) as facexlib has it: the detector that the face restorers use. MIT licence."""

import warnings
from pathlib import Path

import cv2
import numpy as np
import torch

from ...errors import InputError
from ...models.state_dict import load_state_dict
from ...nets.loading import load_foreign
from ..landmarks import Face, points_from_five, yaw_from_five
from .views import shrunk

WEIGHTS = "detection_Resnet50_Final.pth"
SEARCH_SIZE = 640  # long side at which frames are searched


class RetinaFace:
    """A `Detector` with five landmarks, mapped to the three points.

    Args:
        weights: `detection_Resnet50_Final.pth`.
        det_size: long side in pixels to which larger frames are shrunk.
        device: a torch device; None is the CPU.
        score: least confidence; 0.8 as in facexlib.
    """

    def __init__(self, weights: str | Path, det_size: int = SEARCH_SIZE, device: str | None = None, score: float = 0.8):
        state = load_state_dict(weights)
        self.path, self.det_size = Path(weights), det_size
        self.score = score
        self._net = _build(torch.device(device or "cpu"))
        load_foreign(self._net, state, weights, "RetinaFace ResNet-50", WEIGHTS)

    def __call__(self, frame: np.ndarray, index: int = 0) -> list[Face]:
        small, factor = shrunk(frame, self.det_size)
        with torch.inference_mode():
            rows = self._net.detect_faces(cv2.cvtColor(small, cv2.COLOR_RGB2BGR), conf_threshold=self.score)
        faces = []
        for row in np.asarray(rows, dtype=np.float64):  # x1, y1, x2, y2, score, five points (x, y)
            corners = (row[:4].reshape(2, 2) + 0.5) * factor - 0.5
            if np.isfinite(row).all() and (corners[1] > corners[0]).all():
                five = (row[5:].reshape(5, 2) + 0.5) * factor - 0.5
                box, points = tuple(corners.ravel().tolist()), points_from_five(five)
                faces.append(Face(box, float(row[4]), points, turned=yaw_from_five(five)))
        return faces


def _build(device: torch.device):
    """The net with random weights. facexlib's own loader would fetch a file, so the class is taken."""
    try:
        from facexlib.detection.retinaface import RetinaFace as Net
    except ImportError as error:
        raise InputError(f"the detector facexlib needs its package ({error}): pip install facexlib") from error
    with warnings.catch_warnings():  # it uses torchvision's older spelling of "no pretrained weights"
        warnings.simplefilter("ignore", UserWarning)
        return Net(network_name="resnet50", half=False, device=device).eval()
