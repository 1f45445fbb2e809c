"""Drawing by formula in face coordinates: curves, whole sheets of soft-edged shapes, and details at twice the size."""

from collections.abc import Sequence

import cv2
import numpy as np

from .speaker import LEFT, TOP

SHIFT = 4  # fractional bits of OpenCV's drawing coordinates
Points = Sequence[tuple[float, float]] | np.ndarray


def curve(points: Points, closed: bool = False, steps: int = 12) -> np.ndarray:
    """A smooth curve through `points` (n, 2): Catmull-Rom spline, `steps` points per span. (m, 2) float64."""
    p = np.asarray(points, np.float64)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    t = np.arange(steps)[:, None, None] / steps
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    spans = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    smooth = spans.transpose(1, 0, 2).reshape(-1, 2)
    return smooth if closed else np.concatenate([smooth, p[-2:-1]])


def mirrored(half: Points) -> np.ndarray:
    """A closed outline from its right half, given from top to bottom."""
    half = np.asarray(half, np.float64)
    left = half[::-1] * [-1, 1]
    return np.concatenate([half, left[left[:, 0] < -1e-9]])


def fixed(points: np.ndarray) -> np.ndarray:
    """Pixel coordinates as OpenCV's drawing functions take them with `shift=SHIFT`."""
    return np.rint(np.asarray(points) * (1 << SHIFT)).astype(np.int32)


class Sheet:
    """A transparent picture in face coordinates: `rgba` (h, w, 4) float32, premultiplied, RGB.

    `unit` is pixels per unit of face coordinates, `left` and `top` the coordinates of the first pixel's centre.
    """

    def __init__(self, unit: float, left: float, top: float, right: float, bottom: float):
        self.unit, self.left, self.top = unit, left, top
        self.shape = (int(np.ceil((bottom - top) * unit)), int(np.ceil((right - left) * unit)))
        self.rgba = np.zeros((*self.shape, 4), np.float32)
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float32)
        self.x, self.y = left + columns / unit, top + rows / unit

    def _fixed(self, points: Points) -> np.ndarray:
        return fixed((np.asarray(points, np.float64) - [self.left, self.top]) * self.unit)

    def mask(self, outline: Points, blur: float = 0.0) -> np.ndarray:
        """(h, w) float32 in [0, 1], 1 inside `outline`; `blur` softens the edge, in face coordinates."""
        mask = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(mask, [self._fixed(outline)], 255, cv2.LINE_AA, SHIFT)
        return self._soft(mask, blur)

    def stroke(self, line: Points, width: float, blur: float = 0.0) -> np.ndarray:
        """(h, w) float32 in [0, 1], 1 on a line of this width."""
        mask = np.zeros(self.shape, np.uint8)
        thickness = max(1, round(width * self.unit))
        cv2.polylines(mask, [self._fixed(line)], False, 255, thickness, cv2.LINE_AA, SHIFT)
        return self._soft(mask, blur) * min(1.0, width * self.unit / thickness)

    def blob(self, x: float, y: float, rx: float, ry: float) -> np.ndarray:
        """A Gaussian bump (h, w), 1 in its middle, with these standard deviations."""
        return np.exp(-0.5 * (((self.x - x) / rx) ** 2 + ((self.y - y) / ry) ** 2))

    def lay(self, colour: Sequence[float] | np.ndarray, alpha: np.ndarray) -> None:
        """Lay a colour (3,) or picture (h, w, 3) over the sheet with opacity `alpha` (h, w)."""
        alpha = alpha[..., None]
        self.rgba *= 1 - alpha
        self.rgba[..., :3] += np.asarray(colour, np.float32) * alpha
        self.rgba[..., 3:] += alpha

    def shade(self, gain: np.ndarray) -> None:
        """Multiply what is drawn so far by `gain` (h, w) or (h, w, 3)."""
        self.rgba[..., :3] *= gain if gain.ndim == 3 else gain[..., None]
        np.minimum(self.rgba[..., :3], self.rgba[..., 3:], out=self.rgba[..., :3])

    def finish(self) -> np.ndarray:
        """(h, w, 4) uint8."""
        return np.rint(np.clip(self.rgba, 0, 1) * 255).astype(np.uint8)

    def _soft(self, mask: np.ndarray, blur: float) -> np.ndarray:
        soft = mask.astype(np.float32) / 255
        return cv2.GaussianBlur(soft, (0, 0), blur * self.unit) if blur * self.unit > 0.3 else soft


class Detail:
    """A rectangle of a head's picture, in face coordinates, which is drawn at twice its size and then shrunk.

    `unit` is pixels of the picture per unit of face coordinates.
    """

    def __init__(self, unit: float, left: float, top: float, right: float, bottom: float):
        self.unit = unit
        self.x0, self.x1 = (round((x - LEFT) * unit) for x in (left, right))
        self.y0, self.y1 = (round((y - TOP) * unit) for y in (top, bottom))
        self.size = (self.x1 - self.x0, self.y1 - self.y0)

    def patch(self, head: np.ndarray) -> np.ndarray:
        """The rectangle's colours in a head's picture, to be changed in place."""
        return head[self.y0 : self.y1, self.x0 : self.x1, :3]

    def canvas(self, colour: Sequence[float] | np.ndarray | None = None) -> np.ndarray:
        """A picture of one colour to draw on, or a mask of zeros; uint8."""
        shape = (2 * self.size[1], 2 * self.size[0])
        return np.zeros(shape, np.uint8) if colour is None else np.full((*shape, 3), np.rint(colour), np.uint8)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        return fixed(2 * ((points - [LEFT, TOP]) * self.unit - [self.x0, self.y0]) + 0.5)

    def fill(self, canvas: np.ndarray, outline: np.ndarray, colour: np.ndarray | Sequence[float] | float) -> None:
        cv2.fillPoly(canvas, [self.pixels(outline)], np.atleast_1d(colour).tolist(), cv2.LINE_AA, SHIFT)

    def stroke(self, canvas: np.ndarray, line: np.ndarray, colour: np.ndarray, width: float = 0.0) -> None:
        thickness = max(1, round(2 * width * self.unit))
        cv2.polylines(canvas, [self.pixels(line)], False, colour.tolist(), thickness, cv2.LINE_AA, SHIFT)

    def blur(self, canvas: np.ndarray, sigma: float) -> np.ndarray:
        return cv2.GaussianBlur(canvas, (0, 0), 2 * sigma * self.unit)

    def shrink(self, canvas: np.ndarray) -> np.ndarray:
        return cv2.resize(canvas, self.size, interpolation=cv2.INTER_AREA)
