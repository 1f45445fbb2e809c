"""The parts of the lower face that speak: jaw, lips, teeth and tongue.

Everything here is a function of the speaker and the mouth's shape, and changes only the skin below the nose.
"""

import cv2
import numpy as np

from .phones import MouthShape
from .sheet import SHIFT, fixed
from .speaker import LEFT, TOP, Speaker

PATCH_TOP = 0.71  # above the upper lip, wherever it moves
JAW_TOP, JAW_FULL = 0.73, 0.93  # face coordinates between which the skin moves down with the jaw: not at all, fully
JAW_BOTTOM = 1.09  # below the chin at its lowest
JAW_DROP = 0.55  # how far the chin goes down, as a fraction of the height between the lips
UPPER_SHARE = 0.22  # of the opening that the upper lip takes; the lower lip takes the rest
TOOTH = 0.036  # height of the upper teeth, face coordinates
SUPERSAMPLE = 2
TEETH_COLOUR, CAVITY_COLOUR, TONGUE_COLOUR = np.array([232, 228, 218]), np.array([38, 13, 15]), np.array([170, 74, 78])


def jaw_shift(y: np.ndarray, speaker: Speaker, opening: float) -> np.ndarray:
    """How far the skin at height `y` moves down with the jaw, face coordinates."""
    t = np.clip((y - JAW_TOP) / (JAW_FULL - JAW_TOP), 0, 1)
    return JAW_DROP * speaker.max_opening * opening * t * t * (3 - 2 * t)


class Mouth:
    """Draws one speaker's mouth into a head's picture that has `unit` pixels per face coordinate."""

    def __init__(self, speaker: Speaker, unit: float):
        self.speaker, self.unit = speaker, unit
        self.x0, self.x1 = (round((x - LEFT) * unit) for x in (-0.21, 0.21))
        self.y0, self.y1 = (round((y - TOP) * unit) for y in (PATCH_TOP, JAW_BOTTOM))
        self.lip = 255 * np.array(speaker.lip)
        skin = 255 * np.array(speaker.skin)
        # The tongue lies in the shade of the mouth: darker than any lip, or it would melt into the lower one.
        self.tongue = TONGUE_COLOUR * min(1.0, 0.4 * skin.mean() / TONGUE_COLOUR.mean())
        self.cavity = CAVITY_COLOUR * min(1.0, skin.mean() / 160)
        self.teeth = TEETH_COLOUR * (0.86 + 0.14 * min(1.0, skin.mean() / 180))

    def draw(self, head: np.ndarray, shape: MouthShape) -> None:
        """Move the jaw of `head` (h, w, 4) uint8 and draw the mouth, in place."""
        rows = np.arange(self.y0, self.y1, dtype=np.float32)
        # Rows are only moved up and down, so each is a mix of two rows of the closed mouth's picture.
        shift = jaw_shift(TOP + rows / self.unit, self.speaker, shape.opening) * self.unit
        source = rows - shift.astype(np.float32)
        first = np.floor(source).astype(int)
        share = (source - first)[:, None, None]
        above, below = head[first].astype(np.float32), head[first + 1].astype(np.float32)
        head[self.y0 : self.y1] = np.rint(above + (below - above) * share)

        contours = self._contours(shape)
        lips, outer = self._lips(*contours)
        inside, inner = self._inside(*contours[2:], shape)
        mixed = lips + (inside - lips) * inner[..., None]
        size = (self.x1 - self.x0, self.y1 - self.y0)
        mixed = cv2.resize(mixed, size, interpolation=cv2.INTER_AREA)
        outer = cv2.resize(outer, size, interpolation=cv2.INTER_AREA)[..., None]
        patch = head[self.y0 : self.y1, self.x0 : self.x1, :3]
        patch[:] = np.rint(patch + (mixed - patch) * outer)

    def _contours(self, shape: MouthShape) -> tuple[np.ndarray, ...]:
        """Upper and lower edge of the lips, then of the gap between them: each (49, 2), face coordinates."""
        s = self.speaker
        height = s.max_opening * shape.opening
        half = s.mouth_width * (0.6 + 0.66 * shape.width)
        t = np.linspace(-1, 1, 49)
        corner = s.mouth_y + 0.12 * height - s.smile * (1 - shape.rounding)
        top = s.mouth_y - UPPER_SHARE * height - 0.1 * TOOTH * shape.tuck
        bottom = top + height
        thick = 1 + 0.3 * shape.rounding - 0.2 * (shape.width - 0.5)
        upper, lower = s.upper_lip * thick, s.lower_lip * thick * (1 - 0.5 * shape.tuck)
        lens = (1 - np.abs(t) ** 2.2) ** (0.9 - 0.3 * shape.rounding)
        bow = np.exp(-((t / 0.15) ** 2)) * 0.22 * upper * (1 - 0.5 * shape.rounding)
        full = (1 - np.abs(t) ** 2.0) ** 0.8

        def line(x: float, level: float, profile: np.ndarray) -> np.ndarray:
            return np.stack([x * t, corner + (level - corner) * profile], -1)

        gap = half * (0.9 - 0.12 * shape.rounding)
        outer_top = line(half, top - upper, full)
        outer_top[:, 1] += bow
        return outer_top, line(half, bottom + lower, full), line(gap, top, lens), line(gap, bottom, lens)

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        scale = SUPERSAMPLE * self.unit
        origin = [LEFT * self.unit + self.x0, TOP * self.unit + self.y0]
        return fixed((points * scale) - np.array(origin) * SUPERSAMPLE + (SUPERSAMPLE - 1) / 2)

    def _canvas(self, colour: np.ndarray | None = None) -> np.ndarray:
        size = (SUPERSAMPLE * (self.y1 - self.y0), SUPERSAMPLE * (self.x1 - self.x0))
        return np.zeros(size, np.uint8) if colour is None else np.full((*size, 3), np.rint(colour), np.uint8)

    def _fill(self, canvas: np.ndarray, outline: np.ndarray, colour: np.ndarray | float) -> None:
        cv2.fillPoly(canvas, [self._pixels(outline)], np.atleast_1d(colour).tolist(), cv2.LINE_AA, SHIFT)

    def _stroke(self, canvas: np.ndarray, line: np.ndarray, colour: np.ndarray, width: float = 0.0) -> None:
        thickness = max(1, round(width * self.unit * SUPERSAMPLE))
        cv2.polylines(canvas, [self._pixels(line)], False, colour.tolist(), thickness, cv2.LINE_AA, SHIFT)

    def _lips(
        self, outer_top: np.ndarray, outer_bottom: np.ndarray, inner_top: np.ndarray, inner_bottom: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Colours (h, w, 3) float32 of the lips without the gap, and their coverage (h, w) in [0, 1]."""
        seam = (inner_top + inner_bottom) / 2
        canvas = self._canvas(self.lip)
        self._fill(canvas, np.concatenate([outer_top, seam[::-1]]), 0.88 * self.lip)
        shine = 0.45 * outer_bottom[12:37] + 0.55 * inner_bottom[12:37]
        self._stroke(canvas, shine, np.minimum(1.12 * self.lip + 10, 255), 0.2 * self.speaker.lower_lip)
        canvas = cv2.GaussianBlur(canvas, (0, 0), 0.008 * self.unit * SUPERSAMPLE)
        for edge in (inner_top, inner_bottom):
            self._stroke(canvas, edge, 0.62 * self.lip, 0.006)
        outer = self._canvas()
        self._fill(outer, np.concatenate([outer_top, outer_bottom[::-1]]), 255)
        outer = cv2.GaussianBlur(outer, (0, 0), 0.0035 * self.unit * SUPERSAMPLE)
        return canvas.astype(np.float32), outer.astype(np.float32) / 255

    def _inside(self, top: np.ndarray, bottom: np.ndarray, shape: MouthShape) -> tuple[np.ndarray, np.ndarray]:
        """Colours (h, w, 3) float32 behind the lips, and the gap between them (h, w) in [0, 1]."""
        middle = len(top) // 2
        height, half = bottom[middle, 1] - top[middle, 1], top[-1, 0]
        canvas = self._canvas(self.cavity)
        reach, root = (0.25 + 0.45 * shape.tongue) * height, bottom[middle, 1]
        angle = np.linspace(0, 2 * np.pi, 40)
        tongue = np.stack([0.62 * half * np.cos(angle), root - 0.1 * reach + reach * np.sin(angle)], -1)
        self._fill(canvas, tongue, self.tongue)
        self._stroke(canvas, np.array([[0.0, root - 0.75 * reach], [0.0, root]]), 0.8 * self.tongue)  # its groove
        upper = min(shape.teeth * TOOTH, height)
        lower = min(max(0.0, shape.teeth - 0.55) * TOOTH * 1.6, height)
        if upper + lower > height:  # the rows meet: a dark line stays between them
            upper, lower = 0.56 * height - 0.002, 0.44 * height - 0.002
        self._draw_teeth(canvas, top, max(upper, 0.0), 0.8)
        self._draw_teeth(canvas, bottom, -max(lower, 0.0), 0.7)
        canvas = cv2.GaussianBlur(canvas, (0, 0), 0.0035 * self.unit * SUPERSAMPLE)
        gap = self._canvas()
        self._fill(gap, np.concatenate([top, bottom[::-1]]), 255)
        return canvas.astype(np.float32), gap.astype(np.float32) / 255

    def _draw_teeth(self, canvas: np.ndarray, edge: np.ndarray, height: float, reach: float) -> None:
        """A row of teeth hanging from (height > 0) or standing on (height < 0) the edge of a lip."""
        if abs(height) * self.unit < 0.3:
            return
        t = np.linspace(-reach, reach, 25)
        n = (len(edge) - 1) / 2
        rim = np.stack([np.interp(n + n * t, np.arange(len(edge)), column) for column in edge.T], -1)
        rim[:, 1] = edge[len(edge) // 2, 1] + 0.25 * (rim[:, 1] - edge[len(edge) // 2, 1])
        tips = rim + np.stack([0 * t, height * (1 - 0.35 * np.abs(t / reach) ** 3)], -1)
        behind = rim - [0, 4 * height]  # under the lip: the gap's outline cuts it off
        self._fill(canvas, np.concatenate([behind, tips[::-1]]), self.teeth)
        for x in np.arange(-4, 5) * 0.022:
            if abs(x) < reach * edge[-1, 0]:
                self._stroke(canvas, np.array([[x, rim[12, 1] - height], [x, tips[12, 1]]]), 0.86 * self.teeth)
