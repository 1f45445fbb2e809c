"""A made-up SyncNet v2 in place of the real one, with pictures and sound that carry the same code."""

import numpy as np
import torch

from latentsync.audio.syncnet import SAMPLES_PER_FRAME

FRAMES, LEAD = 50, 20  # of a video, and of the code before it


class Flicker(torch.nn.Module):
    """A made-up SyncNet: light and loudness of five frames, which carry the same code where they belong together."""

    QUIET = 20.6  # log energy of the sound whose code is 0

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def lips(self, frames):
        return 20 * (frames.mean(dim=(1, 3, 4)) - 128) / 60

    def audio(self, mfcc):
        loudness = (mfcc[:, 0, 0] - self.QUIET) / 2
        return 20 * loudness.clamp(-1.5, 1.5).unflatten(1, (5, 4)).mean(dim=2)  # silence has the logarithm of nothing


def code(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, FRAMES + 2 * LEAD)


def pictures() -> torch.Tensor:
    """(FRAMES, 64, 64, 3) uint8, whose light is the code."""
    light = np.rint(128 + 60 * code()[LEAD : LEAD + FRAMES]).astype(np.uint8)
    return torch.from_numpy(np.broadcast_to(light[:, None, None, None], (FRAMES, 64, 64, 3)).copy())


def sound(late: int, seed: int = 0) -> np.ndarray:
    """The code as loudness, `late` frames later than in the pictures: (FRAMES * 640,) int16."""
    noise = np.random.default_rng(9).standard_normal(len(code()) * SAMPLES_PER_FRAME)
    loud = 1500 * noise * np.repeat(np.exp(code(seed)), SAMPLES_PER_FRAME)
    start = (LEAD - late) * SAMPLES_PER_FRAME
    return loud[start : start + FRAMES * SAMPLES_PER_FRAME].clip(-32767, 32767).astype(np.int16)
