"""Faces measured in several views: what a small net's landmarks need to be steady enough for a crop.

In one pass over a picture the landmarks of YuNet scatter by 3 % of the distance between the eyes and by up to 5
degrees, which would make the crop tremble. So each face found at a small size is measured again in four enlarged
views, half of them mirrored, whose mean scatters by 1.5 % and about 1 degree, for some 35 ms of one core. A face that
is followed from frame to frame is measured in three smaller ones for 9 ms; its crop, once smoothed, is as steady.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from ..landmarks import Face, points_from_five, yaw_from_five

SEARCH_SIZE = 640  # long side at which frames are searched: a face of 50 pixels in 1080p is found
NMS_OVERLAP = 0.3
NESTED_OVERLAP = 0.7  # of the smaller box: a detection so far inside a better one is the same face
# (scale, shift right, shift down, mirrored) of the views; shifts in view pixels, off the net's grid of 8
VIEWS = ((0.9, -6, -10, False), (1.0, 10, -3, True), (1.05, 3, 6, False), (1.15, -10, 10, True))


class Views(NamedTuple):
    """How a face is measured: in views of `size` pixels, in which it is about `height` pixels high.

    Views that are over `averaged` times as large in the frame are averaged, others interpolated.
    """

    size: int
    height: int
    averaged: float
    views: tuple[tuple[float, int, int, bool], ...]


# Of the smaller sizes, the tighter views and the threes and pairs of them, those of a face that is followed were the
# least work that kept the smoothed crop as steady all through two clips.
FULL, FOLLOWED = Views(448, 240, 1, VIEWS), Views(256, 171, 2, VIEWS[:3])
MEASURED_FACES = 4  # the largest ones of a frame; the rest keep the landmarks of the search
MIRRORED_ORDER = [1, 0, 2, 4, 3]  # eyes and mouth corners change places in a mirror


class ViewDetector(ABC):
    """A `RegionDetector` on a net that gives boxes and five points; faces come largest first.

    Threads may share it: each call takes nets that no other one has.

    Args:
        path: the net's file.
        det_size: long side in pixels to which larger frames are shrunk for the search.
        score: least confidence.
    """

    def __init__(self, path: Path, det_size: int, score: float):
        self.path, self.det_size, self.score = path, det_size, score
        self._idle: dict[int, list] = {}
        with self._net(det_size):
            pass

    @abstractmethod
    def _open(self, size: int) -> Any:
        """A net for pictures of up to `size` pixels."""

    @abstractmethod
    def _rows(self, net: Any, picture: np.ndarray) -> np.ndarray:
        """Faces in `picture` (h, w, 3), RGB: float64 (n, 15) of x, y, width, height, five points and the score."""

    def __call__(self, frame: np.ndarray, index: int = 0) -> list[Face]:
        found = self.find(frame)
        return [self._averaged(frame, face, FULL) or face for face in found[:MEASURED_FACES]] + found[MEASURED_FACES:]

    def find(self, frame: np.ndarray) -> list[Face]:
        small, factor = shrunk(frame, self.det_size)
        with self._net(self.det_size) as net:
            rows = self._rows(net, small)
        rows[:, [0, 1, *range(4, 14)]] = (rows[:, [0, 1, *range(4, 14)]] + 0.5) * np.tile(factor, 6) - 0.5
        rows[:, 2:4] *= factor
        # Non-maximum suppression keeps a box inside, or around, a better one.
        kept: list[np.ndarray] = []
        for row in rows[np.argsort(-rows[:, 14], kind="stable")]:
            if all(_overlap(row[:4], other[:4]) < NESTED_OVERLAP for other in kept):
                kept.append(row)
        kept.sort(key=lambda row: -row[2] * row[3])
        return [_face(np.concatenate([row[:2], row[:2] + row[2:4], row[4:14]]), row[14]) for row in kept]

    def measure(self, frame: np.ndarray, faces: Sequence[Face]) -> list[Face | None]:
        return [self._averaged(frame, face, FOLLOWED) for face in faces]

    def _averaged(self, frame: np.ndarray, face: Face, how: Views) -> Face | None:
        """A face with the mean of its boxes and points in several views; None where no view shows it."""
        size = how.size
        centre, extent = (np.add(face.box[:2], face.box[2:])) / 2, max(face.width, face.height)
        measured = []
        for scale, right, down, mirrored in how.views:
            side = max(8, round(size / how.height * extent / scale))
            pixel = side / size  # size of a view pixel in frame pixels
            corner = np.round(centre - side / 2 - np.array([right, down]) * pixel).astype(int)
            view = cv2.resize(
                _window(frame, corner, side),
                (size, size),
                interpolation=cv2.INTER_AREA if pixel > how.averaged else cv2.INTER_LINEAR,
            )
            with self._net(size) as net:
                rows = self._rows(net, cv2.flip(view, 1) if mirrored else view)
            # Two corners of the box and five points of each face.
            points = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4], rows[:, 4:14]], 1).reshape(-1, 7, 2)
            if mirrored:
                points[..., 0] = size - 1 - points[..., 0]
                points[:, :2, 0] = points[:, 1::-1, 0]
                points[:, 2:] = points[:, 2:][:, MIRRORED_ORDER]
            points = (points + 0.5) * pixel - 0.5 + corner
            apart = np.hypot(*((points[:, 0] + points[:, 1]) / 2 - centre).T)  # neighbours are in the view, too
            if len(points) and apart.min() < extent / 2:
                measured.append(points[apart.argmin()])
        return _face(np.mean(measured, 0).ravel(), face.score) if measured else None

    @contextmanager
    def _net(self, size: int) -> Iterator[Any]:
        """A net that no other thread has: each keeps buffers for one picture size."""
        idle = self._idle.setdefault(size, [])
        try:
            net = idle.pop()
        except IndexError:
            net = self._open(size)
        try:
            yield net
        finally:
            idle.append(net)


def _face(values: np.ndarray, score: float) -> Face:
    """A face from two corners of its box and five points, (14,)."""
    five = values[4:].reshape(5, 2)
    return Face(tuple(values[:4].tolist()), float(score), points_from_five(five), turned=yaw_from_five(five))


def _window(frame: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """The square of `side` pixels whose top left pixel is `corner` (x, y), black outside the frame."""
    x, y = corner
    inside = frame[max(y, 0) : max(y + side, 0), max(x, 0) : max(x + side, 0)]
    window = np.zeros((side, side, 3), np.uint8)
    top, left = max(-y, 0), max(-x, 0)
    window[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return window


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Area that two boxes (x, y, width, height) share, as a fraction of the smaller one."""
    shared = np.minimum(a[:2] + a[2:], b[:2] + b[2:]) - np.maximum(a[:2], b[:2])
    return float(np.prod(np.maximum(shared, 0)) / max(min(np.prod(a[2:]), np.prod(b[2:])), 1e-9))


def shrunk(picture: np.ndarray, det_size: int) -> tuple[np.ndarray, np.ndarray]:
    """`picture` (h, w, 3) with a long side of at most `det_size`, and the factors (x, y) by which it was larger."""
    height, width = picture.shape[:2]
    scale = min(1.0, det_size / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) if scale < 1 else picture
    return small, np.array([width / size[0], height / size[1]])
