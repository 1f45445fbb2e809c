"""Charts and picture sheets, drawn with OpenCV at a multiple of their size and shrunk, so that all edges are smooth."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[int, int, int]  # RGB, 0..255
WHITE, INK, GREY, GRID = (255, 255, 255), (38, 42, 50), (110, 116, 128), (228, 231, 236)

FINER = 3  # pixels drawn per pixel of the result
FONT = cv2.FONT_HERSHEY_SIMPLEX
CAPITALS = 0.7  # height of a capital letter, of the font's size


class Canvas:
    """A picture to draw on; coordinates, widths and sizes are pixels of the result, y downwards."""

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.pixels = np.full((height * FINER, width * FINER, 3), WHITE, np.uint8)

    def _fixed(self, points: np.ndarray) -> np.ndarray:
        """Points (n, 2) as OpenCV takes them with 4 fractional bits."""
        return np.rint((np.asarray(points, np.float64) * FINER - 0.5) * 16).astype(np.int32)

    def line(self, points: np.ndarray, colour: Colour, width: float = 1.0, dash: float = 0.0) -> None:
        """A line through points (n, 2); `dash` is the length of dashes and gaps, 0 for none."""
        thickness = max(1, round(width * FINER))
        for part in _dashes(np.asarray(points, np.float64), dash) if dash else [points]:
            cv2.polylines(self.pixels, [self._fixed(part)], False, colour, thickness, cv2.LINE_AA, 4)

    def area(self, points: np.ndarray, colour: Colour) -> None:
        """A filled outline (n, 2)."""
        cv2.fillPoly(self.pixels, [self._fixed(points)], colour, cv2.LINE_AA, 4)

    def text(self, x: float, y: float, words: str, size: float = 15, colour: Colour = INK, align: float = 0.0) -> float:
        """Words with the middle of their capitals at height `y`; `align` 0 starts at x, 0.5 centres, 1 ends there.

        Returns their width.
        """
        capital = cv2.getTextSize("H", FONT, 10.0, 1)[0][1] / 10
        scale, thickness = CAPITALS * size * FINER / capital, max(1, round(size * FINER / 22))
        width = cv2.getTextSize(words, FONT, scale, thickness)[0][0] / FINER
        corner = round((x - align * width) * FINER), round((y + CAPITALS * size / 2) * FINER)
        cv2.putText(self.pixels, words, corner, FONT, scale, colour, thickness, cv2.LINE_AA)
        return width

    def picture(self, x: int, y: int, picture: np.ndarray) -> None:
        """Lay (h, w, 3) uint8 with its upper left corner at (x, y), pixel for pixel."""
        finer = picture.repeat(FINER, 0).repeat(FINER, 1)
        self.pixels[y * FINER : y * FINER + len(finer), x * FINER : x * FINER + finer.shape[1]] = finer

    def finish(self) -> np.ndarray:
        """(height, width, 3) uint8."""
        return cv2.resize(self.pixels, (self.width, self.height), interpolation=cv2.INTER_AREA)


def _dashes(points: np.ndarray, dash: float) -> list[np.ndarray]:
    """The pieces of a line through `points` (n, 2) that are drawn when it is dashed."""
    way = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    pieces = []
    for start in np.arange(0, way[-1], 2 * dash):
        stop = min(start + dash, way[-1])
        at = np.concatenate([[start], way[(way > start) & (way < stop)], [stop]])
        pieces.append(np.stack([np.interp(at, way, column) for column in points.T], -1))
    return pieces


@dataclass(frozen=True, eq=False)
class Curve:
    """One line of a chart: `values` (n,), one for each video frame."""

    label: str
    values: np.ndarray
    colour: Colour
    width: float = 2.0
    dash: float = 0.0


@dataclass(frozen=True)
class Panel:
    """A rectangle of a canvas and the ranges of time (from 0) and values that it shows."""

    left: float
    top: float
    right: float
    bottom: float
    seconds: float
    highest: float = 1.0
    lowest: float = 0.0

    def points(self, times: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Canvas coordinates (n, 2)."""
        x = self.left + np.asarray(times) / self.seconds * (self.right - self.left)
        share = (np.clip(values, self.lowest, self.highest) - self.lowest) / (self.highest - self.lowest)
        y = self.bottom - share * (self.bottom - self.top)
        return np.stack(np.broadcast_arrays(x, y), -1)

    def axes(self, canvas: Canvas, title: str, ticks: Sequence[float], seconds_shown: bool) -> None:
        """Grid, numbers and title; seconds below where they are shown."""
        step = next(
            s for s in (0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 60, 120, 300, 600, 1800, 3600) if self.seconds / s <= 12
        )
        times = np.arange(0, self.seconds + 1e-6, step)
        for value in ticks:
            canvas.line(self.points([0, self.seconds], [value, value]), GRID)
            canvas.text(self.left - 9, self.points([0], [value])[0, 1], f"{value:.4g}", 13, GREY, align=1)
        for time in times:
            canvas.line(self.points([time, time], [self.lowest, self.highest]), GRID)
            if seconds_shown:
                canvas.text(
                    self.points([time], [self.lowest])[0, 0], self.bottom + 15, f"{time:g}", 13, GREY, align=0.5
                )
        canvas.line(self.points([0, self.seconds], [self.lowest, self.lowest]), GREY, 1.2)
        canvas.text(self.left, self.top - 15, title, 14, INK)
        if seconds_shown:
            canvas.text(self.right, self.bottom + 35, "seconds", 13, GREY, align=1)


def curve_chart(curves: Sequence[Curve], loudness: Curve, fps: float, title: str) -> np.ndarray:
    """Curves in 0..1 over time, with a legend, and the loudness of the voice below: (h, w, 3) uint8.

    The curves are drawn in their order, later ones on top; a frame's value stands at the frame's middle.
    """
    canvas = Canvas(1280, 520)
    count = len(loudness.values)
    seconds, times = count / fps, (np.arange(count) + 0.5) / fps
    canvas.text(64, 28, title, 19)
    upper = Panel(64, 100, 1252, 350, seconds)
    lower = Panel(64, 394, 1252, 470, seconds)
    upper.axes(canvas, "mouth opening", (0, 0.25, 0.5, 0.75, 1), seconds_shown=False)
    lower.axes(canvas, loudness.label, (), seconds_shown=True)
    x = upper.right
    for curve in reversed(curves):
        canvas.line(upper.points(times, curve.values), curve.colour, curve.width, curve.dash)
    for curve in reversed(curves):
        x -= canvas.text(x, 64, curve.label, 15, INK, align=1) + 8
        canvas.line(np.array([[x - 34, 64], [x, 64]]), curve.colour, curve.width, curve.dash)
        x -= 58
    level = loudness.values / max(float(np.max(loudness.values)), 1e-9)
    outline = lower.points(times, level)
    ends = lower.points(times[[-1, 0]], np.zeros(2))
    canvas.area(np.concatenate([outline, ends]), loudness.colour)
    return canvas.finish()


def picture_sheet(
    rows: Sequence[tuple[str, str, Sequence[np.ndarray]]], columns: Sequence[str], title: str
) -> np.ndarray:
    """Rows of pictures (h, w, 3) uint8 of one width, each with a name and a line below it, under labelled columns.

    (height, width, 3) uint8.
    """
    gap, left, top = 5, 130, 88
    side = rows[0][2][0].shape[1]
    heights = [pictures[0].shape[0] for _, _, pictures in rows]
    canvas = Canvas(left + len(columns) * (side + gap) + 15, top + sum(heights) + gap * len(rows) + 10)
    canvas.text(18, 28, title, 19)
    for k, label in enumerate(columns):
        canvas.text(left + k * (side + gap) + side / 2, top - 17, label, 13, GREY, align=0.5)
    y = top
    for (name, note, pictures), height in zip(rows, heights, strict=True):
        canvas.text(18, y + height / 2 - 10, name, 17)
        canvas.text(18, y + height / 2 + 12, note, 13, GREY)
        for k, picture in enumerate(pictures):
            canvas.picture(left + k * (side + gap), y, picture)
        y += height + gap
    return canvas.finish()
