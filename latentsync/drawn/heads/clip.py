"""Clips of drawn people who speak: picture, sound and the true mouth."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch

from ...errors import InputError
from ...face.geometry import apply
from .eyes import draw_eyes
from .mouth import Mouth
from .phones import MouthShape
from .portrait import BODY, draw_back, draw_body, draw_face, draw_wall
from .speaker import BROW_Y, CHIN_Y, LEFT, NOSE_BASE_Y, TOP, Speaker, make_speaker
from .speech import FPS, Speech, make_speech

DETAIL = 1.5  # pixels of the head's picture per pixel of the frame, so that turning it costs no sharpness
HAIR_LINE_Y = 0.15  # upper edge of the face box
BODY_FOLLOWS = 0.45  # share of the head's movement that the shoulders make
MIN_SIZE = 48  # pixels; below, a mouth has no shape


@dataclass(frozen=True, eq=False)
class DrawnClip:
    """A talking head with its ground truth."""

    frames: torch.Tensor  # (n, h, w, 3) uint8 RGB
    waveform: torch.Tensor  # (samples,) float32, mono
    rate: int  # samples per second
    fps: float
    landmarks: np.ndarray  # (n, 3, 2) float64, frame pixels, of `face.landmarks.Face`; they do not move with speech
    boxes: np.ndarray  # (n, 4) float64, (x1, y1, x2, y2) from hair line to chin of the closed mouth
    opening: np.ndarray  # (n,) float32, height between the lips; 1 is the speaker's greatest
    width: np.ndarray  # (n,) float32, of the mouth; 0 pursed to 1 drawn wide


@dataclass(frozen=True, eq=False)
class Motion:
    """What a head does besides speaking, for n frames."""

    matrices: np.ndarray  # (n, 2, 3), face coordinates to frame pixels
    body: np.ndarray  # (n, 2, 3), the same for the shoulders
    eyelids: np.ndarray  # (n,), 0 shut to 1 open
    gaze: np.ndarray  # (n, 2) in -1..1, to the right of the picture and down
    light: np.ndarray  # (n, 3), gain of each colour channel


def _drift(rng: np.random.Generator, time: np.ndarray, slowest: float = 0.08, fastest: float = 0.45) -> np.ndarray:
    """A smooth curve in about -1..1: sines between two frequencies in Hz, from a random phase."""
    f = rng.uniform(slowest, fastest, 4)
    waves = np.sin(2 * np.pi * (f * time[:, None] + rng.random(4))) * (slowest / f) ** 0.5
    return waves.sum(-1) / ((slowest / f) ** 0.5).sum()


def make_motion(seed: int, frames: int, fps: float, size: tuple[int, int]) -> Motion:
    """Smooth turning, nodding, blinking and changing light for a picture (height, width) of `size`."""
    rng = np.random.default_rng((seed, 6))
    height, width = size
    time = np.arange(frames) / fps
    unit = rng.uniform(0.56, 0.62) * height * np.exp(0.035 * _drift(rng, time))
    angle = np.deg2rad(rng.uniform(-3, 3) + 5 * _drift(rng, time))
    # The head turns about its middle and keeps away from the borders.
    centre = np.array([0.5 * width, 0.46 * height]) + height * rng.uniform(-0.03, 0.03, 2) * [1.5, 0.6]
    shift = np.stack([0.05 * _drift(rng, time), 0.025 * _drift(rng, time)], -1) * height
    head = _similarities(unit, angle, centre + shift)
    body = _similarities(np.full(frames, unit.mean()), 0.15 * angle, centre + BODY_FOLLOWS * shift)
    tint = rng.uniform(0.94, 1.03, 3)
    light = (1 + 0.05 * _drift(rng, time, 0.03, 0.2))[:, None] * tint
    end = time[-1] if frames else -1.0
    gaze, at = np.zeros((frames, 2)), 0.0
    while at <= end:  # the eyes rest, then jump
        gaze[time >= at] = rng.uniform(-0.6, 0.6, 2) * [1.0, 0.5]
        at += rng.uniform(0.6, 2.5)
    eyelids, at = np.full(frames, rng.uniform(0.85, 1.0)), rng.uniform(0.5, 3.0)
    while at < end:  # a blink takes a quarter of a second
        eyelids *= 1 - np.exp(-(((time - at) / 0.075) ** 4))
        at += rng.uniform(1.5, 4.5)
    return Motion(head, body, eyelids, gaze, light)


def _similarities(unit: np.ndarray, angle: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Matrices (n, 2, 3) that scale by `unit`, turn by `angle` and take the middle of the head to `target` (n, 2)."""
    cos, sin = unit * np.cos(angle), unit * np.sin(angle)
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    return np.concatenate([linear, (target - linear @ np.array([0.0, 0.5]))[..., None]], -1)


def over(frame: np.ndarray, sheet: np.ndarray, face_to_frame: np.ndarray, unit: float, bounds=(LEFT, TOP)):
    """`frame` (h, w, 3) uint8 with a premultiplied `sheet` (., ., 4), whose first pixel is at `bounds`, over it."""
    linear = face_to_frame[:, :2]
    matrix = np.column_stack([linear / unit, face_to_frame[:, 2] + linear @ bounds[:2]])
    warped = cv2.warpAffine(sheet, matrix, frame.shape[1::-1], flags=cv2.INTER_LINEAR)
    kept = cv2.cvtColor(255 - warped[..., 3], cv2.COLOR_GRAY2RGB)
    return cv2.add(cv2.multiply(frame, kept, scale=1 / 255), warped[..., :3])


@lru_cache(maxsize=8)
def _sheets(speaker: Speaker, height: int, width: int, unit: float) -> tuple[np.ndarray, ...]:
    """Wall, body, back of the head and face, drawn once for all frames."""
    return draw_wall(speaker, height, width), *(draw(speaker, unit) for draw in (draw_body, draw_back, draw_face))


def render(speaker: Speaker, speech: Speech, size: int | tuple[int, int] = 256, motion_seed: int = 0) -> DrawnClip:
    """`speaker` saying `speech`, in pictures of `size` (a side, or height and width); the head is 0.6 as high.

    The same speaker, size and `motion_seed` give the same pictures except for the lower face, whatever is said: the
    ground truth for exchanged audio is known.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < MIN_SIZE or width < 0.7 * height:
        raise InputError(f"size is {height} x {width}: give at least {MIN_SIZE} pixels, and width >= 0.7 height")
    motion = make_motion(motion_seed, len(speech), speech.fps, (height, width))
    unit = round(0.6 * height * DETAIL)
    wall, body, back, face = _sheets(speaker, height, width, float(unit))
    mouth = Mouth(speaker, unit)
    frames = np.empty((len(speech), height, width, 3), np.uint8)
    levels = np.arange(256, dtype=np.float64)[:, None]
    for i, shape in enumerate(speech.shapes):
        head = face.copy()
        draw_eyes(head, speaker, unit, motion.eyelids[i], motion.gaze[i])
        mouth.draw(head, MouthShape(*shape.tolist()))
        frame = over(wall, back, motion.matrices[i], unit)
        frame = over(frame, body, motion.body[i], unit, BODY)
        frame = over(frame, head, motion.matrices[i], unit)
        table = np.rint(np.clip(levels * motion.light[i], 0, 255)).astype(np.uint8)
        frames[i] = cv2.LUT(frame, table[None])
    x, w = 1.03 * speaker.eye_spread, speaker.face_width
    points = np.array([[-x, BROW_Y], [x, BROW_Y], [0, NOSE_BASE_Y - 0.035]])
    rim = np.array([[-w, 0.45], [w, 0.45], [0, HAIR_LINE_Y], [0, CHIN_Y]])
    landmarks, rims = (np.stack([apply(matrix, p) for matrix in motion.matrices]) for p in (points, rim))
    boxes = np.concatenate([rims.min(1), rims.max(1)], -1)
    return DrawnClip(torch.from_numpy(frames), speech.waveform, speech.rate, speech.fps, landmarks, boxes,
                     speech.opening, speech.width)  # fmt: skip


def make_clip(
    seed: int, seconds: float = 4.0, size: int | tuple[int, int] = 256, fps: float = FPS, variety: float = 0.0
) -> DrawnClip:
    """A clip whose speaker, speech and motion all follow from `seed`; `variety` is that of `make_speech`."""
    return render(make_speaker(seed), make_speech(seed, seconds, fps, variety), size, seed)
