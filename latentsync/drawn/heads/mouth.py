"""The parts of the lower face that speak: jaw, lips, teeth and tongue.

Everything here is a function of the speaker and the mouth's shape, and changes only the skin below the nose.
"""

import cv2
import numpy as np

from .phones import MouthShape
from .sheet import SHIFT, fixed
from .speaker import Speaker

PATCH_TOP = 0.71  # above the upper lip, wherever it moves
JAW_TOP, JAW_FULL = 0.73, 0.93  # face coordinates between which the skin's way down grows from nothing to full
JAW_BOTTOM = 1.09  # below the chin at its lowest
JAW_DROP = 0.55  # way of the chin, as a fraction of the height between the lips
UPPER_SHARE = 0.22  # of the opening that the upper lip takes; the lower lip takes the rest
TOOTH = 0.036  # height of the upper teeth, face coordinates
SUPERSAMPLE = 2
TEETH_COLOUR, CAVITY_COLOUR, TONGUE_COLOUR = np.array([232, 228, 218]), np.array([38, 13, 15]), np.array([170, 74, 78])


def jaw_shift(y: np.ndarray, speaker: Speaker, opening: float) -> np.ndarray:
    """How far the skin at height `y` came down with the jaw, face coordinates."""
    t = np.clip((y - JAW_TOP) / (JAW_FULL - JAW_TOP), 0, 1)
    return JAW_DROP * speaker.max_opening * opening * t * t * (3 - 2 * t)


class Mouth:
    """Draws one speaker's mouth into a head picture that has `unit` pixels per face coordinate from (left, top)."""

    def __init__(self, speaker: Speaker, unit: float, left: float, top: float):
        self.speaker, self.unit, self.left, self.top = speaker, unit, left, top
        self.x0 = round((-0.21 - left) * unit)
        self.x1 = round((0.21 - left) * unit)
        self.y0 = round((PATCH_TOP - top) * unit)
        self.y1 = round((JAW_BOTTOM - top) * unit)
        self.lip = 255 * np.array(speaker.lip)
        skin = 255 * np.array(speaker.skin)
        # The tongue lies in the shade of the mouth: darker than any lip, or it would melt into the lower one.
        self.tongue = TONGUE_COLOUR * min(1.0, 0.4 * skin.mean() / TONGUE_COLOUR.mean())
        self.cavity = CAVITY_COLOUR * min(1.0, skin.mean() / 160)
        self.teeth = TEETH_COLOUR * (0.86 + 0.14 * min(1.0, skin.mean() / 180))

    def draw(self, head: np.ndarray, shape: MouthShape) -> None:
        """Move the jaw of `head` (h, w, 4) uint8 and draw the mouth, in place."""
        self._drop_jaw(head, shape.opening)
        lips, outer = self._lips(shape)
        inside, inner = self._inside(shape)
        mixed = lips + (inside - lips) * inner[..., None]
        size = (self.x1 - self.x0, self.y1 - self.y0)
        mixed = cv2.resize(mixed, size, interpolation=cv2.INTER_AREA)
        outer = cv2.resize(outer, size, interpolation=cv2.INTER_AREA)[..., None]
        patch = head[self.y0 : self.y1, self.x0 : self.x1, :3]
        patch[:] = np.rint(patch + (mixed - patch) * outer)

    def _drop_jaw(self, head: np.ndarray, opening: float) -> None:
        rows = np.arange(self.y0, self.y1, dtype=np.float32)
        shift = jaw_shift(self.top + rows / self.unit, self.speaker, opening) * self.unit
        # Rows are only moved up and down, so each is a mix of two rows of the closed mouth's picture.
        source = rows - shift.astype(np.float32)
        first = np.floor(source).astype(int)
        share = (source - first)[:, None, None]
        above, below = head[first].astype(np.float32), head[first + 1].astype(np.float32)
        head[self.y0 : self.y1] = np.rint(above + (below - above) * share)

    def _contours(self, shape: MouthShape) -> dict[str, np.ndarray]:
        """Upper and lower edge of lips and of the gap between them, each (49, 2), face coordinates."""
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
        return {
            "outer_top": outer_top,
            "outer_bottom": line(half, bottom + lower, full),
            "inner_top": line(gap, top, lens),
            "inner_bottom": line(gap, bottom, lens),
        }

    def _pixels(self, points: np.ndarray) -> np.ndarray:
        scale = SUPERSAMPLE * self.unit
        origin = [self.left * self.unit + self.x0, self.top * self.unit + self.y0]
        return fixed((points * scale) - np.array(origin) * SUPERSAMPLE + (SUPERSAMPLE - 1) / 2)

    def _canvas(self, colour: np.ndarray | None = None) -> np.ndarray:
        size = (SUPERSAMPLE * (self.y1 - self.y0), SUPERSAMPLE * (self.x1 - self.x0))
        return np.zeros(size, np.uint8) if colour is None else np.full((*size, 3), np.rint(colour), np.uint8)

    def _fill(self, canvas: np.ndarray, outline: np.ndarray, colour: np.ndarray | float) -> None:
        cv2.fillPoly(canvas, [self._pixels(outline)], np.atleast_1d(colour).tolist(), cv2.LINE_AA, SHIFT)

    def _lips(self, shape: MouthShape) -> tuple[np.ndarray, np.ndarray]:
        """Colours (h, w, 3) float32 of the lips without the gap, and their coverage (h, w) in [0, 1]."""
        c = self._contours(shape)
        seam = (c["inner_top"] + c["inner_bottom"]) / 2
        canvas = self._canvas(self.lip)
        self._fill(canvas, np.concatenate([c["outer_top"], seam[::-1]]), 0.88 * self.lip)
        shine = 0.45 * c["outer_bottom"][12:37] + 0.55 * c["inner_bottom"][12:37]
        width = max(1, round(0.2 * self.speaker.lower_lip * self.unit * SUPERSAMPLE))
        bright = np.minimum(1.12 * self.lip + 10, 255)
        cv2.polylines(canvas, [self._pixels(shine)], False, bright.tolist(), width, cv2.LINE_AA, SHIFT)
        canvas = cv2.GaussianBlur(canvas, (0, 0), 0.008 * self.unit * SUPERSAMPLE)
        seam_width = max(1, round(0.006 * self.unit * SUPERSAMPLE))
        for edge in (c["inner_top"], c["inner_bottom"]):
            cv2.polylines(
                canvas, [self._pixels(edge)], False, (0.62 * self.lip).tolist(), seam_width, cv2.LINE_AA, SHIFT
            )
        outer = self._canvas()
        self._fill(outer, np.concatenate([c["outer_top"], c["outer_bottom"][::-1]]), 255)
        outer = cv2.GaussianBlur(outer, (0, 0), 0.0035 * self.unit * SUPERSAMPLE)
        return canvas.astype(np.float32), outer.astype(np.float32) / 255

    def _inside(self, shape: MouthShape) -> tuple[np.ndarray, np.ndarray]:
        """Colours (h, w, 3) float32 behind the lips, and the gap between them (h, w) in [0, 1]."""
        c = self._contours(shape)
        top, bottom = c["inner_top"], c["inner_bottom"]
        middle = len(top) // 2
        height, half = bottom[middle, 1] - top[middle, 1], top[-1, 0]
        canvas = self._canvas(self.cavity)
        self._draw_tongue(canvas, bottom[middle, 1], height, half, shape.tongue)
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

    def _draw_tongue(self, canvas: np.ndarray, bottom: float, height: float, half: float, rise: float) -> None:
        reach = (0.25 + 0.45 * rise) * height
        angle = np.linspace(0, 2 * np.pi, 40)
        oval = np.stack([0.62 * half * np.cos(angle), bottom - 0.1 * reach + reach * np.sin(angle)], -1)
        self._fill(canvas, oval, self.tongue)
        groove = np.array([[0.0, bottom - 0.75 * reach], [0.0, bottom]])
        cv2.polylines(canvas, [self._pixels(groove)], False, (0.8 * self.tongue).tolist(), 1, cv2.LINE_AA, SHIFT)

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
            line = np.array([[x, rim[12, 1] - height], [x, tips[12, 1]]])
            if abs(x) < reach * edge[-1, 0]:
                cv2.polylines(canvas, [self._pixels(line)], False, (0.86 * self.teeth).tolist(), 1, cv2.LINE_AA, SHIFT)
