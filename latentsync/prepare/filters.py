"""How far sound and lips of a segment are apart, by SyncNet v2."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..audio.syncnet import SAMPLES_PER_FRAME
from ..evaluate.sync_score import MouthViews, sync_score
from ..frames import as_float
from ..media import VideoReader
from ..models.load import default_device
from ..models.state_dict import load_state_dict
from ..nets.hyperiqa import HyperIQA
from ..nets.syncnet_v2 import SyncNetV2
from .align import Segment
from .executor import Outcome
from .read import read_sound
from .sources import Source


@dataclass(frozen=True)
class Sync:
    """Measure offset (frames), confidence (LSE-C) and distance (LSE-D) of a segment that has been aligned."""

    source: Source
    start: int
    stop: int
    boxes: Path
    sound: Path
    weights: Path
    device: str | None

    def run(self) -> Outcome:
        net = syncnet_of(self.weights, self.device)
        count = self.stop - self.start
        samples = read_sound(self.sound, self.start * SAMPLES_PER_FRAME, count * SAMPLES_PER_FRAME)
        with Segment(self.source, self.start, self.stop) as frames:
            score = sync_score(net, MouthViews(frames, np.load(self.boxes, allow_pickle=False)), samples)
        return Outcome(
            {
                "offset": score.offset,
                "confidence": round(score.confidence, 3),
                "distance": round(score.min_distance, 3),
            }
        )


@lru_cache(maxsize=1)
def syncnet_of(weights: Path, device: str | None) -> SyncNetV2:
    """SyncNet v2, loaded once in each process."""
    return SyncNetV2.from_state_dict(load_state_dict(weights), dtype=torch.float32, device=device or default_device())


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
