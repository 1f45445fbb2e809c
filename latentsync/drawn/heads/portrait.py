"""The parts of a picture that do not change with time: head, what is behind it, clothes and room."""

import cv2
import numpy as np

from .sheet import Sheet, curve, mirrored
from .speaker import BOTTOM, BROW_Y, EYE_Y, LEFT, NOSE_BASE_Y, RIGHT, TOP, Speaker

BODY = (-1.4, 0.9, 1.4, 2.6)  # left, top, right and bottom of the clothes' sheet, face coordinates
WHITE = np.ones(3)


def draw_face(speaker: Speaker, unit: float) -> np.ndarray:
    """Head, ears, brows, nose and front hair, without eyes and mouth: (h, w, 4) uint8, premultiplied."""
    sheet = Sheet(unit, LEFT, TOP, RIGHT, BOTTOM)
    skin, w = np.array(speaker.skin), speaker.face_width
    for side in (-1, 1):
        ear = curve([(x * side, y) for x, y in [(0.93 * w, 0.43), (w + 0.045, 0.42), (w + 0.055, 0.5), (w + 0.02, 0.6),
                                               (0.9 * w, 0.63)]], closed=True)  # fmt: skip
        sheet.lay(0.88 * skin, sheet.mask(ear))
        sheet.lay(0.66 * skin, 0.6 * sheet.stroke(ear[6:40] * [0.97, 1], 0.012, 0.006))
    half = [(0, 0.0), (0.5 * w, 0.034), (0.85 * w, 0.16), (w, 0.38), (0.97 * w, 0.58), (speaker.jaw * w, 0.79),
            (0.72 * speaker.jaw * w + 0.1 * speaker.chin * w, 0.9), (speaker.chin * w, 0.972), (0, 1.0)]  # fmt: skip
    head = sheet.mask(curve(mirrored(half), closed=True))
    sheet.lay(skin, head)
    _shade_skin(sheet, speaker, head)
    _draw_nose(sheet, speaker)
    _draw_brows(sheet, speaker)
    _draw_front_hair(sheet, speaker, head)
    return sheet.finish()


def _shade_skin(sheet: Sheet, speaker: Speaker, head: np.ndarray) -> None:
    w = speaker.face_width
    gain = 1.03 - 0.2 * np.clip(np.abs(sheet.x) / w, 0, 1.1) ** 4 - 0.13 * np.clip((sheet.y - 0.84) / 0.16, 0, 1) ** 2
    gain += 0.09 * speaker.light * sheet.x / w
    gain += 0.05 * sheet.blob(0, 0.25, 0.14, 0.07) + 0.04 * sheet.blob(0, 0.935, 0.05, 0.03)
    gain -= 0.07 * sheet.blob(0, speaker.mouth_y + 0.075, 0.07, 0.014)  # under the lower lip
    gain -= 0.05 * sheet.blob(0, speaker.mouth_y - 0.07, 0.012, 0.025)  # philtrum
    for side in (-1, 1):
        x = side * speaker.eye_spread
        gain -= 0.12 * sheet.blob(x * 0.93, EYE_Y - 0.015, 0.075, 0.035)
        gain += 0.06 * sheet.blob(x * 1.05, EYE_Y + 0.11, 0.06, 0.035)
        fold = curve([(side * 0.075, 0.66), (side * 0.125, 0.73), (side * 0.15, 0.79)])
        gain -= 0.1 * sheet.stroke(fold, 0.012, 0.01)
        blush = speaker.blush * sheet.blob(x * 1.1, 0.64, 0.06, 0.045) * head
        sheet.shade(1 - blush[..., None] * np.array([-0.3, 1.0, 0.8], np.float32))
    sheet.shade(gain)


def _draw_nose(sheet: Sheet, speaker: Speaker) -> None:
    skin, n = np.array(speaker.skin), speaker.nose_width
    dark = -1.0 if speaker.light > 0 else 1.0  # the side away from the light
    ridge = curve([(dark * 0.03, BROW_Y + 0.03), (dark * 0.028, 0.55), (dark * 0.8 * n, NOSE_BASE_Y - 0.02)])
    sheet.lay(0.7 * skin, 0.4 * sheet.stroke(ridge, 0.02, 0.014))
    sheet.lay(0.6 * skin + 0.4 * WHITE, 0.4 * sheet.blob(-dark * 0.004, 0.57, 0.012, 0.07))
    sheet.lay(0.55 * skin + 0.45 * WHITE, 0.4 * sheet.blob(-dark * 0.006, NOSE_BASE_Y - 0.042, 0.02, 0.016))
    base = curve([(-n, NOSE_BASE_Y - 0.035), (-n * 1.02, NOSE_BASE_Y - 0.008), (-0.6 * n, NOSE_BASE_Y - 0.002),
                  (0, NOSE_BASE_Y + 0.01), (0.6 * n, NOSE_BASE_Y - 0.002), (n * 1.02, NOSE_BASE_Y - 0.008),
                  (n, NOSE_BASE_Y - 0.035)])  # fmt: skip
    sheet.lay(0.58 * skin, 0.6 * sheet.stroke(base, 0.01, 0.005))
    for side in (-1, 1):
        sheet.lay(0.3 * skin, 0.75 * sheet.blob(side * 0.5 * n, NOSE_BASE_Y - 0.007, 0.2 * n, 0.006))


def _draw_brows(sheet: Sheet, speaker: Speaker) -> None:
    colour = 0.75 * np.array(speaker.hair) + 0.05 * np.array(speaker.skin)
    s, arch, t = speaker.eye_spread, speaker.brow_arch, speaker.brow_thickness
    for side in (-1, 1):
        top = curve([(0.42 * s, BROW_Y - 0.004), (s, BROW_Y - arch), (1.5 * s, BROW_Y + 0.014)])
        bottom = curve([(1.5 * s, BROW_Y + 0.017), (s, BROW_Y - arch + t), (0.42 * s, BROW_Y - 0.004 + t)])
        brow = np.concatenate([top, bottom]) * [side, 1]
        sheet.lay(colour, 0.85 * sheet.mask(brow, 0.004))


def strands(sheet: Sheet, speaker: Speaker) -> np.ndarray:
    """The hair colour (h, w, 3) with lighter and darker strands, or curls."""
    rng = np.random.default_rng((speaker.seed, 3))
    noise = rng.standard_normal(sheet.shape).astype(np.float32)
    across, along = (0.014, 0.014) if speaker.hair_style == "curly" else (0.008, 0.09)
    noise = cv2.GaussianBlur(noise, (0, 0), across * sheet.unit, sigmaY=along * sheet.unit)
    shine = 0.2 * np.exp(-0.5 * ((np.hypot(sheet.x, 1.1 * (sheet.y - 0.45)) - 0.4) / 0.05) ** 2)
    gain = 1 + 0.13 * noise / noise.std() + shine - 0.25 * np.clip(sheet.y - 0.3, 0, 1)
    return np.clip(np.array(speaker.hair) * gain[..., None] + 0.04 * shine[..., None], 0, 1)


# Hair line from the middle outwards, as (x / face width, y), for the right half; "parted" is not symmetric.
_HAIR_LINES = {
    "short": [(0, 0.15), (0.5, 0.165), (0.8, 0.24), (0.87, 0.36)],
    "fringe": [(0, 0.335), (0.35, 0.33), (0.7, 0.345), (0.88, 0.4)],
    "bob": [(0, 0.31), (0.4, 0.315), (0.75, 0.36), (0.86, 0.46)],
    "long": [(0, 0.12), (0.4, 0.19), (0.75, 0.33), (0.88, 0.46)],
    "curly": [(0, 0.18), (0.5, 0.2), (0.8, 0.28), (0.88, 0.4)],
    "bun": [(0, 0.15), (0.5, 0.19), (0.8, 0.29), (0.9, 0.4)],
    "receding": [(0, 0.07), (0.3, 0.08), (0.62, 0.07), (0.86, 0.25), (0.91, 0.36)],
}
_PARTED = [(-0.88, 0.4), (-0.82, 0.34), (-0.4, 0.29), (0.1, 0.2), (0.4, 0.1), (0.7, 0.18), (0.86, 0.3), (0.88, 0.4)]
_VOLUME = {"short": 1.07, "fringe": 1.1, "parted": 1.1, "bob": 1.14, "long": 1.1, "curly": 1.2, "bun": 1.04,
           "receding": 1.03}  # fmt: skip


def _draw_front_hair(sheet: Sheet, speaker: Speaker, head: np.ndarray) -> None:
    style, w = speaker.hair_style, speaker.face_width
    if style == "bald":
        return
    right = np.array(_HAIR_LINES.get(style, _PARTED))
    line = right if style == "parted" else np.concatenate([right[:0:-1] * [-1, 1], right])
    line = curve(line * [w, 1])
    side_y = 0.55 if style in ("bob", "long", "curly") else 0.5
    angle = np.linspace(0, np.pi, 90)
    swell = _VOLUME[style] + (0.03 * np.sin(17 * angle + speaker.seed) if style == "curly" else 0)
    cap = np.stack([np.cos(angle) * (w + 0.008) * swell, 0.41 - 0.41 * swell * np.sin(angle) ** 0.85], -1)
    ends = [(-(w + 0.005), side_y), (-0.93 * w, side_y), *line, (0.93 * w, side_y), (w + 0.005, side_y)]
    hair = np.concatenate([cap, ends])
    sheet.lay(np.array(speaker.skin) * 0.45, 0.3 * sheet.mask(hair + [0, 0.015], 0.014) * head)
    sheet.lay(strands(sheet, speaker), sheet.mask(hair, 0.0035))


def draw_back(speaker: Speaker, unit: float) -> np.ndarray:
    """What moves with the head behind it, back hair and neck: (h, w, 4) uint8, premultiplied."""
    sheet = Sheet(unit, LEFT, TOP, RIGHT, BOTTOM)
    w, style, skin = speaker.face_width, speaker.hair_style, np.array(speaker.skin)
    halves = {
        "bob": [(0, 0.0), (w, 0.1), (1.22 * w, 0.45), (1.25 * w, 0.85), (0.95 * w, 0.98), (0, 0.95)],
        "long": [(0, 0.0), (w, 0.1), (1.2 * w, 0.5), (1.3 * w, 1.0), (1.35 * w, 1.4), (0.8 * w, 1.5), (0, 1.5)],
        "curly": [(0, -0.05), (1.05 * w, 0.05), (1.35 * w, 0.4), (1.3 * w, 0.72), (0.9 * w, 0.8), (0, 0.8)],
        "bun": [(0, -0.16), (0.3 * w, -0.13), (0.42 * w, -0.04), (0.3 * w, 0.04), (0, 0.05)],
    }
    if style in halves:
        shape = curve(mirrored(halves[style]), closed=True)
        if style == "curly":
            bumps = 1 + 0.035 * np.sin(19 * np.arctan2(shape[:, 1] - 0.4, shape[:, 0]))
            shape = (shape - [0, 0.4]) * bumps[:, None] + [0, 0.4]
        sheet.lay((0.75 if style != "bun" else 1.0) * strands(sheet, speaker), sheet.mask(shape, 0.004))
    n = speaker.neck_width
    neck = curve(mirrored([(0, 0.7), (n, 0.72), (0.98 * n, 1.0), (1.05 * n, 1.14), (1.25 * n, 1.24), (1.5 * n, 1.32),
                           (1.5 * n, 1.6), (0, 1.6)]), closed=True)  # fmt: skip
    shade = 0.88 - 0.3 * np.exp(-0.5 * ((sheet.y - 0.98) / 0.07) ** 2)
    shade = shade - 0.15 * np.clip(np.abs(sheet.x) / n, 0, 1.2) ** 3
    shade += 0.07 * speaker.light * np.clip(sheet.x / n, -1, 1)
    sheet.lay(np.clip(skin * shade[..., None], 0, 1), sheet.mask(neck))
    return sheet.finish()


# Height of the neckline's middle and of its ends at the neck.
_NECKLINES = {"round": (1.3, 1.16), "deep": (1.44, 1.16), "collar": (1.33, 1.16), "turtleneck": (1.11, 1.08)}


def draw_body(speaker: Speaker, unit: float) -> np.ndarray:
    """Clothes over shoulders and neck: (h, w, 4) uint8, premultiplied, in the bounds `BODY`."""
    sheet = Sheet(unit, *BODY)
    n, colour = speaker.neck_width, np.array(speaker.clothes)
    rng = np.random.default_rng((speaker.seed, 4))
    depth, side = _NECKLINES[speaker.neckline]
    shoulder = rng.uniform(0.72, 0.9)
    edge = [(0, depth), (0.55 * n, depth - 0.03), (1.13 * n, side)]
    neckline = [(0, depth), (1.1 * n, side)] if speaker.neckline in ("deep", "collar") else curve(edge)
    arm = [(1.15 * n, side), (1.8 * n, side + 0.09), (0.8 * shoulder, 1.33), (shoulder, 1.45),
           (shoulder + 0.12, 1.8), (shoulder + 0.15, 2.6)]  # fmt: skip
    body = mirrored([*neckline, *curve(arm), (0, 2.6)])
    gain = 0.95 + 0.1 * speaker.light * sheet.x - 0.25 * np.clip(np.abs(sheet.x) / shoulder, 0, 1.2) ** 4
    stripes = (sheet.y, sheet.x, None, None)[rng.integers(4)]
    if stripes is not None:
        gain = gain * (0.9 + 0.1 * np.tanh(5 * np.sin(stripes * rng.uniform(50, 90))))
    sheet.lay(np.clip(colour * gain[..., None], 0, 1), sheet.mask(body))
    if speaker.neckline == "collar":
        flap = np.array([(0.02, depth), (1.12 * n, side - 0.05), (1.5 * n, side + 0.05), (0.75 * n, depth + 0.06)])
        for s in (-1, 1):
            sheet.lay(np.clip(0.4 + 0.6 * colour, 0, 1) * 0.92, sheet.mask(flap * [s, 1], 0.002))
    elif speaker.neckline != "deep":
        rim = curve([(-1.13 * n, side), (-0.55 * n, depth - 0.03), *edge])
        sheet.lay(0.75 * colour, 0.8 * sheet.stroke(rim, 0.022, 0.003))
    return sheet.finish()


def draw_wall(speaker: Speaker, height: int, width: int) -> np.ndarray:
    """The room behind: (height, width, 3) uint8, out of focus."""
    rng = np.random.default_rng((speaker.seed, 5))
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / height
    wall = np.array(speaker.wall) * (1.05 - 0.3 * rows - 0.15 * speaker.light * (0.5 - columns))[..., None]
    for _ in range(rng.integers(0, 7)):
        x, y = rng.uniform(-0.1, 0.9) * width, rng.uniform(-0.2, 0.9) * height
        size = rng.uniform(0.08, 0.4, 2) * height
        colour = np.clip(np.array(speaker.wall) * rng.uniform(0.4, 1.4) + rng.uniform(-0.12, 0.12, 3), 0, 1)
        cv2.rectangle(wall, (int(x), int(y)), (int(x + size[0]), int(y + size[1])), colour.tolist(), -1)
    wall = cv2.GaussianBlur(wall, (0, 0), rng.uniform(0.008, 0.03) * height)
    return np.rint(np.clip(wall, 0, 1) * 255).astype(np.uint8)
