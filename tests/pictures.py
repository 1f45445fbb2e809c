"""Reading and writing pictures in tests."""

from pathlib import Path

import cv2
import torch


def read_png(path: Path) -> torch.Tensor:
    """(h, w, 3) RGB uint8."""
    return torch.from_numpy(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB))
