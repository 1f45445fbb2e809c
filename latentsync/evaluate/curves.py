"""Curves of one number per video frame, such as the height between the lips, and how they go together."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ..audio.whisper import SAMPLE_RATE
from ..errors import InputError

MOST_LAG = 10  # frames, 0.4 s at 25 frames/s
LEAST_PAUSE = 0.3  # seconds, of THEval (arXiv 2511.04520)
SILENT_DB, PAUSE_DB = -60.0, -40.0  # of full scale: no sound at all; of the loudest frames: a pause
SAME_SOUND = 0.9  # correlation of two voices' loudness, in dB above the silence, from which they say the same


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation of two curves, in [-1, 1]; 0 where one of them never changes."""
    a, b = (np.asarray(curve, np.float64) - np.mean(curve) for curve in (a, b))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else 0.0


def slope(curve: np.ndarray, reference: np.ndarray) -> float:
    """How much of the movement of `reference`, which moves, is in `curve`: that of the straight line that fits best."""
    moves = reference - reference.mean()
    return float(curve @ moves / (moves @ moves))


def best_lag(curve: Sequence[float], reference: Sequence[float], most: int = MOST_LAG) -> int:
    """Frames by which `curve` comes later than `reference`, -most..most: where they correlate best.

    Each lag is judged on the frames that both then have. Of equals the smallest lag is given.
    """
    count = len(curve)
    if count <= 2 * most:
        raise InputError(f"the curves have {count} frames: a lag of up to {most} needs more than {2 * most}")

    def at(lag: int) -> float:
        late, early = (curve, reference) if lag >= 0 else (reference, curve)
        return correlation(late[abs(lag) :], early[: count - abs(lag)])

    return max(sorted(range(-most, most + 1), key=abs), key=at)


def loudness(wave: Tensor, count: int, fps: float) -> np.ndarray:
    """(count,) dB of full scale in each frame of 16 kHz sound (samples,), `SILENT_DB` at least and after its end."""
    edges = np.rint(np.arange(count + 1) * SAMPLE_RATE / fps).astype(int).clip(max=len(wave))
    sums = np.concatenate([[0.0], np.square(wave.double().numpy()).cumsum()])
    power = np.diff(sums[edges]) / np.diff(edges).clip(min=1)
    return 10 * np.log10(power.clip(min=10 ** (SILENT_DB / 10)))


def pauses(wave: Tensor, count: int, fps: float) -> np.ndarray:
    """(count,) bool: frames in stretches of 0.3 s and more whose sound is 40 dB under that of the loud ones."""
    level = loudness(wave, count, fps)
    quiet = level <= max(SILENT_DB, np.percentile(level, 95) + PAUSE_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]])))
    for start, stop in edges.reshape(-1, 2):
        if (stop - start) / fps < LEAST_PAUSE - 1e-9:
            quiet[start:stop] = False
    return quiet


def deviation_in(curve: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """How far `curve` is from its mean over some `frames` (n,) bool, in each of them; nan in the others."""
    inside = np.where(frames, curve, np.nan)
    if np.isfinite(inside).sum() < 2:
        raise InputError(f"the sound has no pause of {LEAST_PAUSE} s in which the face is seen: nothing tells")
    return np.abs(inside - np.nanmean(inside))


def kind_of_sound(wave: Tensor, source: Tensor, count: int, fps: float) -> str:
    """What a video's sound is to its source's: "silent", "matched" (the same words) or "mismatched"."""
    a, b = (loudness(sound, count, fps) for sound in (wave, source))
    if a.max() <= SILENT_DB:
        return "silent"
    return "matched" if correlation(a, b) >= SAME_SOUND else "mismatched"
