"""What someone looks like, without a recognition net: the colours of hair, face and clothes."""

import cv2
import numpy as np

from .landmarks import Face

# The region compared, in face-box sizes beyond the box: hair above, hair and background beside, shoulders below.
ABOVE, BESIDE, BELOW = 0.6, 0.5, 1.0
SIZE = (48, 64)  # width and height at which colours are counted
BANDS = 4  # hair, eyes, mouth, clothes are counted apart
LIGHT_EDGES = np.linspace(0, 100, 7)  # CIELAB; coarse, for light changes more than colour
COLOUR_EDGES = np.linspace(-64, 64, 17)


def appearance(frame: np.ndarray, face: Face) -> np.ndarray:
    """A unit vector of non-negative numbers; the product of two is 1 for the same colours and 0 for none in common.

    Within one video the same person gives over 0.85 and two people under 0.65, as a rule; twins in uniform need a
    recognition net. The product is the Bhattacharyya coefficient of the two colour distributions.

    Args:
        frame: uint8 RGB (h, w, 3).
    """
    height, width = frame.shape[:2]
    x1, y1, x2, y2 = face.box
    left, right = max(0, int(x1 - BESIDE * face.width)), min(width, int(x2 + BESIDE * face.width) + 1)
    top, bottom = max(0, int(y1 - ABOVE * face.height)), min(height, int(y2 + BELOW * face.height) + 1)
    patch = frame[top:bottom, left:right]
    if patch.size == 0:  # the box lies outside the frame
        patch = np.zeros((1, 1, 3), np.uint8)
    small = cv2.resize(patch, SIZE, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    counts = []
    for band in np.array_split(lab, BANDS):
        counted = np.histogramdd(band.reshape(-1, 3), bins=[LIGHT_EDGES, COLOUR_EDGES, COLOUR_EDGES])[0]
        # Blurred, so that a colour on the edge of a bin also counts in the next.
        blurred = cv2.GaussianBlur(counted.transpose(1, 2, 0).copy(), (3, 3), 0.8).ravel()
        counts.append(np.sqrt(blurred / max(blurred.sum(), 1e-9) / BANDS))
    return np.concatenate(counts).astype(np.float32)
