"""Whether the mouth has the true shape, and whether the face is still that person, by InsightFace."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from ..frames import Frames, as_uint8
from ..landmarks import Face
from .meters import Figure, measured, placed

MOUTH_106 = slice(52, 72)  # rows of InsightFace's `landmark_2d_106`: outer and inner lips
# The faces of a picture (h, w, 3) uint8 with their 106 landmarks, as `detect.insight.InsightFace.described` gives them.
Look = Callable[[np.ndarray], list[tuple[Face, np.ndarray]]]


class Likeness:
    """Landmark distance of the mouth and likeness of the face, of whole frames. A `Meter`.

    "lmd" is the mean distance, in frame pixels, of the 20 points of the lips from the true ones, both sets about their
    own mean (Chen et al. 2018). "identity" is the cosine of the faces' embeddings, 1 for the same picture.

    Args:
        look: finds faces, with embeddings if they are to be had.
        boxes: (n, 4) of the face that counts, in frame pixels.
    """

    def __init__(self, look: Look, boxes: np.ndarray):
        self.look, self.boxes = look, boxes
        self.numbers: list[int] = []
        self.distances: list[float] = []
        self.cosines: list[float] = []

    def add(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        self.numbers += numbers
        for i, made, true in zip(numbers, as_uint8(pictures).numpy(), as_uint8(truth).numpy(), strict=True):
            seen = [self._face(picture, self.boxes[i]) for picture in (made, true)]
            found = None not in seen
            self.distances.append(mouth_distance(seen[0][1], seen[1][1]) if found else math.nan)
            self.cosines.append(_cosine(seen[0][0], seen[1][0]) if found else math.nan)

    def _face(self, picture: np.ndarray, box: np.ndarray) -> tuple[Face, np.ndarray] | None:
        """The face whose middle is nearest to that of the box; None where there is none within the box's size."""
        middle = (box[:2] + box[2:]) / 2

        def away(seen: tuple[Face, np.ndarray]) -> float:
            x1, y1, x2, y2 = seen[0].box
            return math.dist(((x1 + x2) / 2, (y1 + y2) / 2), middle)

        nearest = min(self.look(picture), key=away, default=None)
        return nearest if nearest and away(nearest) < math.dist(box[:2], box[2:]) / 2 else None

    def figures(self) -> dict[str, Figure]:
        return {"lmd": self._mean("lmd", self.distances), "identity": self._mean("identity", self.cosines)}

    def _mean(self, name: str, values: list[float]) -> Figure:
        known = [value for value in values if not math.isnan(value)]
        if not known:
            raise ValueError(f"{name} found the face in no frame of both videos: give clips that show it")
        return Figure(float(np.mean(known)), placed(self.numbers, values))


def mouth_distance(landmarks: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of the lips' points, of two (106, 2), each about its own mean."""
    lips = [points[MOUTH_106] - points[MOUTH_106].mean(axis=0) for points in (landmarks, true)]
    return float(np.hypot(*(lips[0] - lips[1]).T).mean())


def _cosine(a: Face, b: Face) -> float:
    return math.nan if a.embedding is None or b.embedding is None else float(np.dot(a.embedding, b.embedding))


def landmark_distance(look: Look, frames: Frames, truth: Frames, boxes: np.ndarray) -> float:
    """ "lmd" of `Likeness`: frame pixels, 0 for equal clips.

    Raises:
        ValueError: no frame in which both show the face.
    """
    return measured(Likeness(look, boxes), frames, truth)["lmd"].value


def identity(look: Look, frames: Frames, truth: Frames, boxes: np.ndarray) -> float:
    """ "identity" of `Likeness`: -1 to 1, 1 for equal clips.

    Raises:
        ValueError: no frame in which both show the face, or a `look` without embeddings.
    """
    return measured(Likeness(look, boxes), frames, truth)["identity"].value
