"""Things in front of a drawn mouth, a hand, a microphone or a cup, and where they are.

Convention: a thing is drawn in face coordinates (see `speaker`) whose origin is the middle of the mouth.
"""

from dataclasses import replace

import numpy as np
import torch

from ...errors import InputError
from .clip import DETAIL, DrawnClip, over
from .sheet import Sheet, curve
from .speaker import BROW_Y, NOSE_BASE_Y, SKINS

BOUNDS = (-0.5, -0.35, 0.5, 1.2)  # left, top, right and bottom of a thing's sheet
MOUTH_Y = 0.8
NOSE = NOSE_BASE_Y - 0.035 - BROW_Y  # from the brows' middle to the nose of a clip's landmarks
BELOW = 1.0  # from where a thing comes, under its place


def _draw_hand(sheet: Sheet, rng: np.random.Generator) -> None:
    skin = np.array(SKINS[rng.integers(len(SKINS))])
    sheet.lay(skin, sheet.mask(curve([(-0.17, 0.1), (0.15, 0.08), (0.17, 0.3), (0.09, 0.5), (0.09, 1.3), (-0.1, 1.3),
                                      (-0.1, 0.5), (-0.19, 0.3)], closed=True)))  # fmt: skip
    for x, tip in ((0.12, -0.03), (-0.135, -0.06), (0.04, -0.13), (-0.05, -0.14)):
        finger = curve([(x, 0.22), (1.05 * x, 0.06), (1.2 * x - 0.01, tip)])
        sheet.lay(0.72 * skin, sheet.stroke(finger, 0.09))
        sheet.lay(skin, sheet.stroke(finger, 0.078, 0.003))
        sheet.lay(0.3 * skin + 0.65, 0.7 * sheet.blob(*finger[-1], 0.016, 0.02))
        sheet.lay(0.8 * skin, 0.5 * sheet.stroke([(1.05 * x - 0.025, 0.08), (1.05 * x + 0.025, 0.08)], 0.006, 0.004))
    sheet.lay(rng.uniform(0.1, 0.8, 3), sheet.mask([(-0.16, 0.7), (0.15, 0.72), (0.2, 1.3), (-0.21, 1.3)]))


def _draw_microphone(sheet: Sheet, rng: np.random.Generator) -> None:
    body, angle = rng.uniform(0.05, 0.3), np.linspace(0, 2 * np.pi, 60)
    sheet.lay([body] * 3, sheet.mask([(-0.06, 0.1), (0.06, 0.1), (0.045, 1.3), (-0.045, 1.3)]))
    sheet.lay([body + 0.25] * 3, 0.6 * sheet.stroke([(-0.03, 0.15), (-0.025, 1.3)], 0.012, 0.006))
    grille = np.stack([0.115 * np.cos(angle), 0.135 * np.sin(angle)], -1)
    mesh = 0.45 + 0.2 * np.sign(np.sin(260 * (sheet.x + sheet.y)) * np.sin(260 * (sheet.x - sheet.y)))
    sheet.lay((mesh - 0.9 * sheet.x)[..., None].repeat(3, -1), sheet.mask(grille))
    sheet.lay([0.75] * 3, sheet.stroke([(-0.12, 0.02), (0.12, 0.02)], 0.022))


def _draw_cup(sheet: Sheet, rng: np.random.Generator) -> None:
    colour, angle = rng.uniform(0.2, 0.95, 3), np.linspace(0, 2 * np.pi, 60)
    handle = np.stack([0.2 + 0.08 * np.cos(angle), 0.14 + 0.09 * np.sin(angle)], -1)
    sheet.lay(0.8 * colour, sheet.stroke(handle, 0.03))
    side = [(-0.18, -0.08), (0.18, -0.08), (0.15, 0.34), (0.11, 0.38), (-0.11, 0.38), (-0.15, 0.34)]
    sheet.lay(colour * (0.95 - 0.9 * sheet.x**2 / 0.1)[..., None], sheet.mask(side))
    rim = np.stack([0.18 * np.cos(angle), -0.08 + 0.035 * np.sin(angle)], -1)
    sheet.lay(0.6 * colour, sheet.mask(rim))
    sheet.lay(np.minimum(1.15 * colour, 1), sheet.stroke(rim, 0.014))


THINGS = {"hand": _draw_hand, "microphone": _draw_microphone, "cup": _draw_cup}


def cover(clip: DrawnClip, thing: str, seed: int = 0) -> tuple[DrawnClip, torch.Tensor]:
    """`clip` with one of `THINGS` that comes before the mouth, stays and goes, and its masks (n, h, w) float32.

    A mask is the thing's opacity. The same `seed` puts the same thing at the same place before the same head, whatever
    it says.
    """
    if thing not in THINGS:
        raise InputError(f"thing is {thing!r}: choose one of {', '.join(THINGS)}")
    rng = np.random.default_rng((seed, 7))
    brows, nose = clip.landmarks[:, :2].mean(1), clip.landmarks[:, 2]
    down = (nose - brows) / NOSE  # (n, 2): a unit of face coordinates downwards
    unit = float(round(DETAIL * np.hypot(*down.T).mean()))
    sheet = Sheet(unit, *BOUNDS)
    THINGS[thing](sheet, rng)
    drawn = sheet.finish()
    opacity = drawn[..., 3:].repeat(4, -1)
    time = np.linspace(0, 1, len(clip.frames))
    away = BELOW * (1 - np.clip(4 * np.minimum(time, 1 - time), 0, 1)) ** 2
    sway = 0.03 * np.sin(2 * np.pi * (2 * time + rng.random()))
    frames, masks = clip.frames.numpy().copy(), torch.zeros(clip.frames.shape[:3])
    for i, (x, y) in enumerate(down):
        linear = np.array([[y, x], [-x, y]])
        matrix = np.column_stack([linear, brows[i] + linear @ [sway[i], MOUTH_Y - BROW_Y + away[i]]])
        frames[i] = over(frames[i], drawn, matrix, unit, BOUNDS)
        masks[i] = torch.from_numpy(
            over(np.zeros_like(frames[i]), opacity, matrix, unit, BOUNDS)[..., 0] / np.float32(255)
        )
    return replace(clip, frames=torch.from_numpy(frames)), masks
