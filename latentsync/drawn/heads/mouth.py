"""The parts of the lower face that speak: jaw, lips, teeth and tongue.

Everything here is a function of the speaker and the mouth's shape, and changes only the skin below the nose.
"""

import numpy as np

from .phones import MouthShape
from .sheet import Detail
from .speaker import TOP, Speaker

PATCH_TOP = 0.71  # above the upper lip, wherever it moves
JAW_TOP, JAW_FULL = 0.73, 0.93  # face coordinates between which the skin moves down with the jaw: not at all, fully
JAW_BOTTOM = 1.09  # below the chin at its lowest
JAW_DROP = 0.55  # how far the chin goes down, as a fraction of the height between the lips
UPPER_SHARE = 0.22  # of the opening that the upper lip takes; the lower lip takes the rest
TOOTH = 0.036  # height of the upper teeth, face coordinates
SOFT = 0.0035  # blur of edges, face coordinates
TEETH_COLOUR, CAVITY_COLOUR, TONGUE_COLOUR = np.array([232, 228, 218]), np.array([38, 13, 15]), np.array([170, 74, 78])


class Mouth:
    """Draws one speaker's mouth into a head's picture that has `unit` pixels per face coordinate."""

    def __init__(self, speaker: Speaker, unit: float):
        self.speaker, self.unit = speaker, unit
        self.detail = Detail(unit, -0.21, PATCH_TOP, 0.21, JAW_BOTTOM)
        self.lip = 255 * np.array(speaker.lip)
        skin = 255 * np.array(speaker.skin)
        # The tongue lies in the shade of the mouth: darker than any lip, or it would melt into the lower one.
        self.tongue = TONGUE_COLOUR * min(1.0, 0.4 * skin.mean() / TONGUE_COLOUR.mean())
        self.cavity = CAVITY_COLOUR * min(1.0, skin.mean() / 160)
        self.teeth = TEETH_COLOUR * (0.86 + 0.14 * min(1.0, skin.mean() / 180))

    def draw(self, head: np.ndarray, shape: MouthShape) -> None:
        """Move the jaw of `head` (h, w, 4) uint8 and draw the mouth, in place."""
        rows = np.arange(self.detail.y0, self.detail.y1, dtype=np.float32)
        t = np.clip((TOP + rows / self.unit - JAW_TOP) / (JAW_FULL - JAW_TOP), 0, 1)
        shift = JAW_DROP * self.speaker.max_opening * shape.opening * t * t * (3 - 2 * t) * self.unit
        # Rows are only moved up and down, so each is a mix of two rows of the closed mouth's picture.
        source = rows - shift.astype(np.float32)
        first = np.floor(source).astype(int)
        above, below = head[first].astype(np.float32), head[first + 1].astype(np.float32)
        head[self.detail.y0 : self.detail.y1] = np.rint(above + (below - above) * (source - first)[:, None, None])

        outer_top, outer_bottom, top, bottom = self._contours(shape)
        lips = self._lips(outer_bottom, top, bottom, np.concatenate([outer_top, (top + bottom)[::-1] / 2]))
        inside = self._inside(top, bottom, shape)
        outer, gap = self.detail.canvas(), self.detail.canvas()
        self.detail.fill(outer, np.concatenate([outer_top, outer_bottom[::-1]]), 255)
        self.detail.fill(gap, np.concatenate([top, bottom[::-1]]), 255)
        mixed = self.detail.shrink(lips + (inside - lips) * (gap.astype(np.float32) / 255)[..., None])
        cover = self.detail.shrink(self.detail.blur(outer, SOFT).astype(np.float32) / 255)[..., None]
        patch = self.detail.patch(head)
        patch[:] = np.rint(patch + (mixed - patch) * cover)

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

    def _lips(self, outer_bottom: np.ndarray, top: np.ndarray, bottom: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Colours (h, w, 3) float32 of the lips without the gap; `upper` is the outline of the upper one."""
        canvas = self.detail.canvas(self.lip)
        self.detail.fill(canvas, upper, 0.88 * self.lip)
        shine = 0.45 * outer_bottom[12:37] + 0.55 * bottom[12:37]
        self.detail.stroke(canvas, shine, np.minimum(1.12 * self.lip + 10, 255), 0.2 * self.speaker.lower_lip)
        canvas = self.detail.blur(canvas, 0.008)
        for edge in (top, bottom):
            self.detail.stroke(canvas, edge, 0.62 * self.lip, 0.006)
        return canvas.astype(np.float32)

    def _inside(self, top: np.ndarray, bottom: np.ndarray, shape: MouthShape) -> np.ndarray:
        """Colours (h, w, 3) float32 behind the lips."""
        middle = len(top) // 2
        height, half = bottom[middle, 1] - top[middle, 1], top[-1, 0]
        canvas = self.detail.canvas(self.cavity)
        reach, root = (0.25 + 0.45 * shape.tongue) * height, bottom[middle, 1]
        angle = np.linspace(0, 2 * np.pi, 40)
        tongue = np.stack([0.62 * half * np.cos(angle), root - 0.1 * reach + reach * np.sin(angle)], -1)
        self.detail.fill(canvas, tongue, self.tongue)
        groove = np.array([[0.0, root - 0.75 * reach], [0.0, root]])
        self.detail.stroke(canvas, groove, 0.8 * self.tongue)
        upper = min(shape.teeth * TOOTH, height)
        lower = min(max(0.0, shape.teeth - 0.55) * TOOTH * 1.6, height)
        if upper + lower > height:  # the rows meet: a dark line stays between them
            upper, lower = 0.56 * height - 0.002, 0.44 * height - 0.002
        self._draw_teeth(canvas, top, max(upper, 0.0), 0.8)
        self._draw_teeth(canvas, bottom, -max(lower, 0.0), 0.7)
        return self.detail.blur(canvas, SOFT).astype(np.float32)

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
        self.detail.fill(canvas, np.concatenate([behind, tips[::-1]]), self.teeth)
        for x in np.arange(-4, 5) * 0.022:
            if abs(x) < reach * edge[-1, 0]:
                tooth = np.array([[x, rim[12, 1] - height], [x, tips[12, 1]]])
                self.detail.stroke(canvas, tooth, 0.86 * self.teeth)
