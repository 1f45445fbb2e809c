"""What is measured of a segment: how far sound and lips are apart, and how good it looks."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..audio.syncnet import SAMPLES_PER_FRAME
from ..evaluate.sync_score import MouthViews, sync_score
from ..frames import as_float
from ..media import VideoReader
from ..media.sound import read_wav
from ..models.load import default_device
from ..models.state_dict import load_state_dict
from ..nets.hyperiqa import HyperIQA
from ..nets.loading import FixedNet
from ..nets.syncnet_v2 import SyncNetV2
from .align import Segment
from .executor import Outcome
from .sources import Source


@lru_cache
def load_net(kind: type[FixedNet], weights: Path, device: str | None) -> FixedNet:
    """A net of this kind, loaded once in each process."""
    return kind.from_state_dict(load_state_dict(weights), dtype=torch.float32, device=device or default_device())


def measure_sync(
    source: Source, start: int, stop: int, boxes: Path, sound: Path, weights: Path, device: str | None
) -> Outcome:
    """Offset (frames), confidence (LSE-C) and distance (LSE-D) of an aligned segment, by SyncNet v2."""
    net = load_net(SyncNetV2, weights, device)
    samples = read_wav(sound, start * SAMPLES_PER_FRAME, (stop - start) * SAMPLES_PER_FRAME)
    with Segment(source, start, stop) as frames:
        score = sync_score(net, MouthViews(frames, np.load(boxes, allow_pickle=False)), samples)
    confidence, distance = round(score.confidence, 3), round(score.min_distance, 3)
    return Outcome({"offset": score.offset, "confidence": confidence, "distance": distance})


def measure_quality(video: Path, weights: Path, device: str | None) -> Outcome:
    """The mean score of the first, the middle and the last frame of an aligned clip, by hyperIQA."""
    net = load_net(HyperIQA, weights, device)
    with VideoReader(video, cache=1) as reader:
        frames = reader[[0, len(reader) // 2, len(reader) - 1]]
    with torch.inference_mode():
        scores = net(as_float(frames).permute(0, 3, 1, 2).to(next(net.parameters())))
    return Outcome({"quality": round(float(scores.mean()), 2)})
