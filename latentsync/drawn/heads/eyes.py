"""Eyes that look about and blink, drawn into the head's picture frame by frame."""

import cv2
import numpy as np

from .sheet import SHIFT, curve, fixed
from .speaker import EYE_Y, Speaker

SUPERSAMPLE = 2


class Eyes:
    """Draws one speaker's eyes into a head picture that has `unit` pixels per face coordinate from (left, top)."""

    def __init__(self, speaker: Speaker, unit: float, left: float, top: float):
        self.speaker, self.unit, self.left, self.top = speaker, unit, left, top
        skin, hair = 255 * np.array(speaker.skin), 255 * np.array(speaker.hair)
        self.lid, self.lash = 0.84 * skin, 0.35 * np.minimum(hair, 90) + 0.1 * skin

    def draw(self, head: np.ndarray, openness: float, gaze: np.ndarray) -> None:
        """Draw both eyes into `head` (h, w, 4) uint8, in place.

        `openness` is 0 (shut) to 1, `gaze` (x, y) in -1..1, to the right of the picture and down.
        """
        for side in (-1, 1):
            self._draw_one(head, side, openness, gaze)
        if self.speaker.glasses:
            self._draw_glasses(head)

    def _pixels(self, points: np.ndarray, x0: int, y0: int) -> np.ndarray:
        shifted = (np.asarray(points) - [self.left, self.top]) * self.unit - [x0, y0]
        return fixed(shifted * SUPERSAMPLE + (SUPERSAMPLE - 1) / 2)

    def _draw_one(self, head: np.ndarray, side: int, openness: float, gaze: np.ndarray) -> None:
        s = self.speaker
        x, rx, ry = side * s.eye_spread, s.eye_width, s.eye_height
        x0, x1 = (round((v - self.left) * self.unit) for v in (x - 1.4 * rx, x + 1.4 * rx))
        y0, y1 = (round((v - self.top) * self.unit) for v in (EYE_Y - 2.4 * ry, EYE_Y + 2.0 * ry))
        patch = head[y0:y1, x0:x1, :3]
        size = (SUPERSAMPLE * (x1 - x0), SUPERSAMPLE * (y1 - y0))
        canvas = cv2.resize(patch, size, interpolation=cv2.INTER_LINEAR)
        t = np.linspace(-1, 1, 25)
        arch = (1 - np.abs(t) ** 2.2) * ry
        lower = np.stack([x + rx * t, EYE_Y + 0.006 * (1 - side * t) / 2 + 0.75 * arch], -1)
        upper = lower - np.stack([0 * t, 1.85 * openness * arch], -1)
        crease = np.stack([x + 1.05 * rx * t, EYE_Y - 1.6 * arch - 0.003], -1)
        lid = np.concatenate([crease, lower[::-1]])
        cv2.fillPoly(canvas, [self._pixels(lid, x0, y0)], self.lid.tolist(), cv2.LINE_AA, SHIFT)

        ball = self._eyeball(canvas.shape, (x + 0.4 * rx * gaze[0], EYE_Y - 0.1 * ry + 0.3 * ry * gaze[1]), (x0, y0))
        opened = np.zeros(canvas.shape[:2], np.uint8)
        cv2.fillPoly(opened, [self._pixels(np.concatenate([upper, lower[::-1]]), x0, y0)], 255, cv2.LINE_AA, SHIFT)
        share = opened[..., None].astype(np.float32) / 255
        canvas = np.rint(canvas + (ball - canvas.astype(np.float32)) * share).astype(np.uint8)
        for line, width, colour in (
            (crease, 0.005, 0.75 * self.lid),
            (lower, 0.004, 0.6 * self.lid),
            (upper, 0.011, self.lash),
        ):
            thickness = max(1, round(width * self.unit * SUPERSAMPLE))
            cv2.polylines(canvas, [self._pixels(line, x0, y0)], False, colour.tolist(), thickness, cv2.LINE_AA, SHIFT)
        patch[:] = cv2.resize(canvas, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)

    def _eyeball(self, shape: tuple[int, ...], centre: tuple[float, float], origin: tuple[int, int]) -> np.ndarray:
        """White, iris, pupil and highlight, (h, w, 3) uint8; the lids cut it out."""
        ball = np.full(shape, (232, 228, 224), np.uint8)
        ball[: int(0.42 * shape[0])] = (205, 198, 194)  # the shade of the upper lid
        angle = np.linspace(0, 2 * np.pi, 30)
        circle = np.stack([np.cos(angle), np.sin(angle)], -1)
        radius = 0.42 * self.speaker.eye_width
        iris = 255 * np.array(self.speaker.iris)
        rings = ((1.0, 0.55 * iris), (0.85, iris), (0.45, np.array([12.0, 10, 10])))
        for scale, colour in rings:
            pixels = self._pixels(np.array(centre) + scale * radius * circle, *origin)
            cv2.fillPoly(ball, [pixels], colour.tolist(), cv2.LINE_AA, SHIFT)
        spot = np.array(centre) + [-0.35 * radius, -0.4 * radius] + 0.2 * radius * circle
        cv2.fillPoly(ball, [self._pixels(spot, *origin)], (250, 250, 250), cv2.LINE_AA, SHIFT)
        return ball

    def _draw_glasses(self, head: np.ndarray) -> None:
        s = self.speaker
        rx, ry = 0.92 * s.eye_spread - 0.01, 0.075
        t = np.linspace(0, 2 * np.pi, 40)
        rim = np.stack(
            [np.sign(np.cos(t)) * np.abs(np.cos(t)) ** 0.6 * rx, np.sign(np.sin(t)) * np.abs(np.sin(t)) ** 0.6 * ry], -1
        )
        lines = [rim + [side * s.eye_spread * 1.03, EYE_Y + 0.02] for side in (-1, 1)]
        lines.append(curve([(-0.025, EYE_Y - 0.005), (0, EYE_Y - 0.015), (0.025, EYE_Y - 0.005)]))
        picture = np.ascontiguousarray(head[..., :3])
        thickness = max(1, round(0.011 * self.unit))
        for line in lines:
            pixels = fixed((line - [self.left, self.top]) * self.unit)
            cv2.polylines(picture, [pixels], False, (38, 32, 34), thickness, cv2.LINE_AA, SHIFT)
        head[..., :3] = picture
