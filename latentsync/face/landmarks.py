"""Faces as the alignment sees them: a box, a score and three points.

Convention: as in `geometry`. "Left" and "right" are those of the PICTURE: on an upright face the left brow has the
smaller x. The three points, to which the crop is fitted, are the left brow centre, the right brow centre and the nose,
in this order. Detectors that give other points are mapped to these three here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from ..errors import InputError

Box = tuple[float, float, float, float]

# Rows of InsightFace's `landmark_2d_106` that the published program averages. Each brow is its upper edge
# with the outer tip; the nose is the lower bridge, the two wings and the tip.
LEFT_BROW_106 = (43, 48, 49, 51, 50)
RIGHT_BROW_106 = (101, 102, 103, 104, 105)
NOSE_106 = (74, 77, 83, 86)

# Vertices of MediaPipe's face mesh: the brows of its topology, both edges; the nose as above. On its canonical face the
# points are within 0.005 eye distances of those of the mean face below.
LEFT_BROW_MESH = (46, 52, 53, 55, 63, 65, 66, 70, 105, 107)
RIGHT_BROW_MESH = (276, 282, 283, 285, 293, 295, 296, 300, 334, 336)
NOSE_MESH = (5, 129, 358, 4)
MESH_VERTICES = (468, 478)  # without and with the irises

# From eyes and nose tip to the three points, by the mean face of the usual 68-point mark-up: eye centres
# (0.2257, 0.2161) and (0.7547, 0.2161), so 0.529 apart; brow centres (0.188, 0.0552) and (0.792, 0.0552); nose tip at
# y 0.5156. The mean of the four nose points of the 106-point mark-up lies at about y 0.48.
BROW_SPREAD = 0.571  # half the distance of the brow centres, in eye distances: 0.604 / 2 / 0.529
BROW_RISE = 0.304  # brow centres above the eye centres, in eye distances: (0.2161 - 0.0552) / 0.529
NOSE_FRACTION = 0.88  # of the way from the eyes' midpoint to the nose tip: (0.48 - 0.2161) / (0.5156 - 0.2161)

# Where eyes, nose tip and corners of the mouth lie on MediaPipe's canonical face, in cm: to the right, down and towards
# the viewer. `NOSE_DEPTH` is how far the nose point of five points lies before the brows, in distances of these.
CANONICAL_FIVE = np.array(
    [[-3.15, -2.62, 3.7], [3.15, -2.62, 3.7], [0.0, 0.46, 7.59], [-2.46, 4.34, 4.28], [2.46, 4.34, 4.28]]
)
NOSE_DEPTH = 0.477
EYES_MESH, TIP_MESH, MOUTH_MESH = ((33, 133), (263, 362)), 4, (61, 291)  # their vertices; an eye is between its corners

# Where the three points lie in a detector's face box (hairline to chin), as fractions of its width and height.
# Mean over every 10th frame of two talking-head clips, YuNet boxes, heads turning both ways (so x is symmetric).
BOX_BROW_X = 0.24  # left brow; the right one is at 1 - 0.24
BOX_BROW_Y = 0.28
BOX_NOSE_Y = 0.555
BOX_ASPECT = 0.74  # width / height


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one frame.

    Attributes:
        box: (x1, y1, x2, y2) in frame pixels; may reach beyond the frame.
        score: the detector's confidence, 0..1.
        points: float64 (3, 2): left brow centre, right brow centre, nose.
        embedding: a recognition net's vector that tells people apart, or None where the detector has none.
        appearance: the colours of hair, face and clothes (`shots.colour_histogram`), or None.
        turned: its `yaw` by more than the three points, or None where they are all there is.
    """

    box: Box
    score: float
    points: np.ndarray
    embedding: np.ndarray | None = None
    appearance: np.ndarray | None = None
    turned: float | None = None

    @property
    def yaw(self) -> float:
        """Degrees, -90 to 90, by which the face is turned to the right of the picture, as its landmarks tell.

        By the three points alone it is how far the nose has moved along the line of the brows, which is right as long
        as the camera looks neither up nor down.
        """
        if self.turned is not None:
            return self.turned
        left, right, nose = self.points
        across = right - left
        distance = max(float(np.hypot(*across)), 1e-9)
        sideways = float((nose - (left + right) / 2) @ across) / distance
        return math.degrees(math.atan2(sideways, NOSE_DEPTH * distance))

    @property
    def width(self) -> float:
        return self.box[2] - self.box[0]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]


@dataclass(frozen=True, eq=False)
class Detection:
    """What was seen in one frame: its faces (None where nobody looked) and whether a new shot begins with it."""

    faces: list[Face] | None
    cut: bool = False


class Detector(Protocol):
    """Finds the faces, in any order, of `frame`, uint8 RGB (h, w, 3), which is number `index` of its clip.

    Detectors that look at the picture ignore the number; those that read a file go by it.
    """

    def __call__(self, frame: np.ndarray, index: int) -> list[Face]: ...


@runtime_checkable
class RegionDetector(Detector, Protocol):
    """A detector that can also look where faces are thought to be, in any number of threads at once."""

    def find(self, frame: np.ndarray) -> list[Face]:
        """The faces of the whole frame as one quick look sees them, largest first."""

    def measure(self, frame: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
        """Each of `faces`, which are where they are thought to be, as a close look sees it; None where it is not."""


@dataclass(frozen=True)
class FaceLimits:
    """Which detections count as a face: least score, least size in frame pixels, range of width / height."""

    score: float = 0.5
    width: float = 50.0
    height: float = 80.0
    aspect: tuple[float, float] = (0.2, 1.5)


PUBLISHED_LIMITS = FaceLimits()  # those of the published program
LOOSE_LIMITS = FaceLimits(width=24.0, height=24.0)  # small faces too: a blurry lip sync is better than none


def plausible(face: Face, limits: FaceLimits = PUBLISHED_LIMITS) -> bool:
    """Whether a detection passes `limits`; every bound is inclusive. A box without area never does."""
    if face.width <= 0 or face.height <= 0:
        return False
    low, high = limits.aspect
    big_enough = face.width >= limits.width and face.height >= limits.height
    return face.score >= limits.score and big_enough and low <= face.width / face.height <= high


def points_from_106(landmarks: np.ndarray) -> np.ndarray:
    """The three points from InsightFace's 106 landmarks (106, 2), as float64 (3, 2), not rounded."""
    landmarks = _checked(landmarks, (106, 2), "InsightFace's 2d106 landmarks")
    return np.stack([landmarks[list(rows)].mean(0) for rows in (LEFT_BROW_106, RIGHT_BROW_106, NOSE_106)])


def points_from_mesh(vertices: np.ndarray) -> np.ndarray:
    """The three points from MediaPipe's face mesh (468 or 478, 2), as float64 (3, 2)."""
    count = len(vertices) if len(vertices) in MESH_VERTICES else MESH_VERTICES[-1]
    vertices = _checked(vertices, (count, 2), "MediaPipe's face landmarks")
    return np.stack([vertices[list(rows)].mean(0) for rows in (LEFT_BROW_MESH, RIGHT_BROW_MESH, NOSE_MESH)])


def points_from_five(five: np.ndarray) -> np.ndarray:
    """The three points from (5, 2): eye on the left of the picture, eye on the right, nose tip, mouth corners.

    YuNet, RetinaFace and SCRFD give this order. The brows are placed by the proportions of the mean face, turned and
    scaled with the line between the eyes. The mouth corners are not used, for they move with speech. Float64 (3, 2).
    """
    left_eye, right_eye, tip = _checked(five, (5, 2), "five-point landmarks")[:3]
    across = right_eye - left_eye
    up = np.array([across[1], -across[0]])  # a quarter turn of `across`, so on an upright face (0, -distance)
    middle = (left_eye + right_eye) / 2
    brows = middle + BROW_RISE * up
    nose = middle + NOSE_FRACTION * (tip - middle)
    return np.stack([brows - BROW_SPREAD * across, brows + BROW_SPREAD * across, nose])


def points_from_box(box: Box) -> np.ndarray:
    """The three points of an upright, frontal face that fills `box` from hairline to chin. Float64 (3, 2)."""
    x1, y1, x2, y2 = box
    fractions = np.array([[BOX_BROW_X, BOX_BROW_Y], [1 - BOX_BROW_X, BOX_BROW_Y], [0.5, BOX_NOSE_Y]])
    return np.array([x1, y1], dtype=np.float64) + fractions * np.array([x2 - x1, y2 - y1], dtype=np.float64)


def yaw_from_five(five: np.ndarray) -> float:
    """`Face.yaw` by (5, 2) points, as in `points_from_five`: that of the canonical face whose view is the nearest.

    The view is a parallel projection: the affine map by least squares and the rotation nearest to it.
    """
    five = _checked(five, (5, 2), "five-point landmarks")
    affine = np.linalg.lstsq(CANONICAL_FIVE - CANONICAL_FIVE.mean(0), five - five.mean(0), rcond=None)[0]
    u, _, vt = np.linalg.svd(affine, full_matrices=False)
    _, down, forward = u @ vt  # the face's axes as the picture shows them
    # How far it looks to the side as seen upright, with its chin below its forehead.
    sideways = (down[1] * forward[0] - down[0] * forward[1]) / max(math.hypot(*down), 1e-9)
    return math.degrees(math.asin(min(max(sideways, -1.0), 1.0)))


def yaw_from_mesh(vertices: np.ndarray) -> float:
    """`Face.yaw` by MediaPipe's face mesh; see `points_from_mesh`."""
    eyes = [vertices[list(corners)].mean(0) for corners in EYES_MESH]
    return yaw_from_five(np.stack([*eyes, vertices[TIP_MESH], *vertices[list(MOUTH_MESH)]]))


def box_from_points(points: np.ndarray) -> Box:
    """The upright box of usual proportions around a face whose three points (3, 2) are given."""
    left, right, _ = _checked(points, (3, 2), "brow and nose points")
    across = right - left
    width = float(np.hypot(*across)) / (1 - 2 * BOX_BROW_X)
    if width == 0:
        raise InputError(f"the two brow points coincide at {left.tolist()}: give two different points")
    height = width / BOX_ASPECT
    down = np.array([-across[1], across[0]]) / np.hypot(*across)
    x, y = (left + right) / 2 + (0.5 - BOX_BROW_Y) * height * down
    return float(x - width / 2), float(y - height / 2), float(x + width / 2), float(y + height / 2)


def between(a: Face, b: Face, t: float) -> Face:
    """The face on the line from `a` (t = 0) to `b` (t = 1), with the lesser score."""
    box = tuple((1 - t) * p + t * q for p, q in zip(a.box, b.box, strict=True))
    turned = None if a.turned is None or b.turned is None else (1 - t) * a.turned + t * b.turned
    return Face(box, min(a.score, b.score), (1 - t) * a.points + t * b.points, turned=turned)


def _checked(points: np.ndarray, shape: tuple[int, int], what: str) -> np.ndarray:
    points = np.asarray(points, dtype=np.float64)
    if points.shape != shape:
        raise InputError(f"{what} have shape {points.shape}: expected {shape}")
    if not np.isfinite(points).all():
        raise InputError(f"{what} hold values that are not finite: drop this face")
    return points
