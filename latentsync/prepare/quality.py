"""How good a clip looks, by hyperIQA."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch

from ..checkpoint import default_device
from ..frames import as_float
from ..media import VideoReader
from ..nets.hyperiqa import HyperIQA
from ..weights import load_state_dict
from .work import Outcome


@dataclass(frozen=True)
class Quality:
    """Judge the first, the middle and the last frame of an aligned clip."""

    video: Path
    weights: Path
    device: str | None

    def run(self) -> Outcome:
        net = hyperiqa_of(self.weights, self.device)
        with VideoReader(self.video, cache=1) as video:
            last = len(video) - 1
            frames = video[[0, len(video) // 2, last]]
        with torch.inference_mode():
            scores = net(as_float(frames).permute(0, 3, 1, 2).to(next(net.parameters())))
        return Outcome({"quality": round(float(scores.mean()), 2)})


@lru_cache(maxsize=1)
def hyperiqa_of(weights: Path, device: str | None) -> HyperIQA:
    """The hyperIQA net, loaded once in each process."""
    return HyperIQA.from_state_dict(load_state_dict(weights), dtype=torch.float32, device=device or default_device())
