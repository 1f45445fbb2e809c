"""Pauses of a voice, in video frames: by silero-vad where that is installed, else by loudness.

silero-vad's net is read from its package's file; the package itself, which sets torch's threads, is never imported.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from ..threads import check
from .whisper import SAMPLE_RATE

CHUNK = 512  # samples that the net hears at a time, 32 ms
SPEECH = 0.5  # probability from which a chunk is speech
PAUSE = 0.4  # seconds; what is no longer is no pause
FADE = 0.16  # seconds at a pause's ends over which it is gone into and left
# By loudness: the voice's loudest chunks but a few are LOUD, and RANGE below them, or below FLOOR, is silence.
LOUD, RANGE, FLOOR = 95, 30.0, -60.0  # per cent, dB, dB of full scale


def packaged() -> Path | None:
    """silero-vad's net, if the package is installed."""
    spec = find_spec("silero_vad")
    places = spec.submodule_search_locations or () if spec else ()
    return next((path for place in places if (path := Path(place) / "data" / "silero_vad.jit").is_file()), None)


class Pauses:
    """Which frames lie in pauses, for `count` frames at `fps` that say the 16 kHz `wave` (samples,).

    Attributes:
        quiet: (count,) bool; after the end of the sound all is quiet.
        shares: (count,) float32, how much of speech there is: 1, and 0 in a pause, with fades at its ends.
    """

    def __init__(self, wave: torch.Tensor, fps: float, count: int):
        chunks = F.pad(wave, (0, -len(wave) % CHUNK)).reshape(-1, CHUNK)
        path = packaged()
        spoken = _by_loudness(chunks) if path is None else _by_net(chunks, path)
        bounds = np.flatnonzero(spoken) * CHUNK / SAMPLE_RATE * fps
        starts = [0.0, *(bounds + CHUNK / SAMPLE_RATE * fps)]
        self.quiet, fade = np.zeros(count, bool), round(FADE * fps)
        for start, stop in zip(starts, [*bounds, float(count)], strict=True):
            if stop - start > PAUSE * fps:
                self.quiet[int(np.ceil(start)) : int(stop)] = True
        numbers = np.arange(count, dtype=np.float32)
        since = numbers - np.maximum.accumulate(np.where(self.quiet, -np.inf, numbers))
        until = np.minimum.accumulate(np.where(self.quiet, np.inf, numbers)[::-1])[::-1] - numbers
        self.shares = np.clip(1 - np.minimum(since, until) / (fade + 1), 0, 1).astype(np.float32)


def _by_net(chunks: torch.Tensor, path: Path) -> np.ndarray:
    net = torch.jit.load(str(path), map_location="cpu").eval()
    found = []
    with torch.inference_mode():
        for chunk in chunks:
            check()
            found.append(float(net(chunk[None], SAMPLE_RATE)) >= SPEECH)
    return np.array(found)


def _by_loudness(chunks: torch.Tensor) -> np.ndarray:
    levels = 10 * torch.log10(chunks.square().mean(1) + 1e-12).numpy()
    return levels >= max(np.percentile(levels, LOUD) - RANGE, FLOOR)
