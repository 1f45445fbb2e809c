"""Eyes that look about and blink, drawn into the head's picture frame by frame."""

import cv2
import numpy as np

from .sheet import SHIFT, Detail, curve, fixed
from .speaker import EYE_Y, LEFT, TOP, Speaker


def draw_eyes(head: np.ndarray, speaker: Speaker, unit: float, openness: float, gaze: np.ndarray) -> None:
    """Draw both eyes, and glasses, into a head's picture (h, w, 4) uint8 with `unit` pixels per face coordinate.

    `openness` is 0 (shut) to 1, `gaze` (x, y) in -1..1, to the right of the picture and down.
    """
    for side in (-1, 1):
        _draw_eye(head, speaker, unit, side, openness, gaze)
    if speaker.glasses:
        angle = np.linspace(0, 2 * np.pi, 40)
        circle = np.stack([np.cos(angle), np.sin(angle)], -1)
        rim = np.sign(circle) * np.abs(circle) ** 0.6 * [0.92 * speaker.eye_spread - 0.01, 0.075]
        lines = [rim + [side * speaker.eye_spread * 1.03, EYE_Y + 0.02] for side in (-1, 1)]
        lines.append(curve([(-0.025, EYE_Y - 0.005), (0, EYE_Y - 0.015), (0.025, EYE_Y - 0.005)]))
        picture = np.ascontiguousarray(head[..., :3])
        pixels = [fixed((line - [LEFT, TOP]) * unit) for line in lines]
        cv2.polylines(picture, pixels, False, (38, 32, 34), max(1, round(0.011 * unit)), cv2.LINE_AA, SHIFT)
        head[..., :3] = picture


def _draw_eye(head: np.ndarray, s: Speaker, unit: float, side: int, openness: float, gaze: np.ndarray) -> None:
    x, rx, ry = side * s.eye_spread, s.eye_width, s.eye_height
    detail = Detail(unit, x - 1.4 * rx, EYE_Y - 2.4 * ry, x + 1.4 * rx, EYE_Y + 2.0 * ry)
    patch = detail.patch(head)
    canvas = cv2.resize(patch, (2 * detail.size[0], 2 * detail.size[1]), interpolation=cv2.INTER_LINEAR)

    skin, hair = 255 * np.array(s.skin), 255 * np.array(s.hair)
    lid, lash = 0.84 * skin, 0.35 * np.minimum(hair, 90) + 0.1 * skin
    t = np.linspace(-1, 1, 25)
    arch = (1 - np.abs(t) ** 2.2) * ry
    lower = np.stack([x + rx * t, EYE_Y + 0.006 * (1 - side * t) / 2 + 0.75 * arch], -1)
    upper = lower - np.stack([0 * t, 1.85 * openness * arch], -1)
    crease = np.stack([x + 1.05 * rx * t, EYE_Y - 1.6 * arch - 0.003], -1)
    detail.fill(canvas, np.concatenate([crease, lower[::-1]]), lid)

    ball = detail.canvas((232, 228, 224))
    ball[: int(0.42 * len(ball))] = (205, 198, 194)  # the shade of the upper lid
    angle = np.linspace(0, 2 * np.pi, 30)
    circle = np.stack([np.cos(angle), np.sin(angle)], -1)
    radius, iris = 0.42 * rx, 255 * np.array(s.iris)
    centre = np.array([x + 0.4 * rx * gaze[0], EYE_Y - 0.1 * ry + 0.3 * ry * gaze[1]])
    for scale, colour in ((1.0, 0.55 * iris), (0.85, iris), (0.45, (12, 10, 10))):
        detail.fill(ball, centre + scale * radius * circle, colour)
    detail.fill(ball, centre + [-0.35 * radius, -0.4 * radius] + 0.2 * radius * circle, (250, 250, 250))  # a highlight

    opened = detail.canvas()
    detail.fill(opened, np.concatenate([upper, lower[::-1]]), 255)
    share = opened[..., None].astype(np.float32) / 255
    canvas = np.rint(canvas + (ball - canvas.astype(np.float32)) * share).astype(np.uint8)
    for line, width, colour in ((crease, 0.005, 0.75 * lid), (lower, 0.004, 0.6 * lid), (upper, 0.011, lash)):
        detail.stroke(canvas, line, colour, width)
    patch[:] = detail.shrink(canvas)
