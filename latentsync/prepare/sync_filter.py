"""How far sound and lips of a segment are apart, by SyncNet v2."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from ..checkpoint import default_device
from ..frames import Frames, as_uint8, batches
from ..nets.syncnet_v2 import SyncNetV2, SyncScore, offset_and_confidence, sync_distances
from ..speech import SAMPLES_PER_FRAME, mfcc, mfcc_windows
from ..weights import load_state_dict
from .align import Segment
from .sound import read_sound
from .sources import Source
from .work import Outcome

SIDE = 224  # of what SyncNet v2 sees
LIP_FRAMES = 5  # that it sees at once
PADDING = 0.4  # of half a face box's longer side, added to it; below it twice, for the box is placed lower
MEDIAN = 13  # frames over which place and size of the box are smoothed
OUTSIDE = 110  # grey beyond the picture
BATCH = 16


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
            score = sync_score(net, mouth_views(frames, np.load(self.boxes, allow_pickle=False)), samples)
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


def mouth_views(frames: Frames, boxes: np.ndarray) -> torch.Tensor:
    """All of `MouthViews` at once: (n, 3, 224, 224) uint8, BGR."""
    made, views = MouthViews(frames, boxes), torch.empty((len(boxes), 3, SIDE, SIDE), dtype=torch.uint8)
    for indices in batches(len(boxes), BATCH):
        views[indices] = made[indices[0] : indices[-1] + 1]
    return views


class MouthViews:
    """What SyncNet v2 sees of a face, framed as in its authors' program: the smoothed box, padded by 40 %.

    A slice gives (n, 3, 224, 224) uint8, BGR, made when it is asked for.

    Args:
        frames: the clip, n pictures.
        boxes: (n, 4), (x1, y1, x2, y2) of the face in frame pixels.
    """

    def __init__(self, frames: Frames, boxes: np.ndarray):
        self.frames = frames
        self.half = running_median((boxes[:, 2:] - boxes[:, :2]).max(axis=1) / 2)
        self.centres = np.stack([running_median((boxes[:, k] + boxes[:, k + 2]) / 2) for k in (0, 1)], axis=1)

    def __len__(self) -> int:
        return len(self.half)

    def __getitem__(self, part: slice) -> torch.Tensor:
        indices = list(range(*part.indices(len(self))))
        views = torch.empty((len(indices), 3, SIDE, SIDE), dtype=torch.uint8)
        for k, (i, frame) in enumerate(zip(indices, as_uint8(self.frames[indices]).cpu().numpy(), strict=True)):
            views[k] = self._view(frame, i)
        return views

    def _view(self, frame: np.ndarray, i: int) -> torch.Tensor:
        scale = SIDE / (2 * self.half[i] * (1 + PADDING))
        # The middle of the view lies lower than that of the box, so that the chin is in it.
        middle = self.centres[i] + [0, PADDING * self.half[i]]
        matrix = np.column_stack([np.eye(2) * scale, (SIDE - 1) / 2 - scale * middle])
        view = cv2.warpAffine(frame, matrix, (SIDE, SIDE), borderValue=(OUTSIDE,) * 3)
        return torch.from_numpy(view[..., ::-1].copy()).permute(2, 0, 1)


def running_median(values: np.ndarray) -> np.ndarray:
    """(n,) medians over `MEDIAN` neighbours; the values are mirrored at the ends, so that none counts for more."""
    padded = np.pad(values, MEDIAN // 2, mode="reflect")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, MEDIAN), axis=1)


def sync_score(net: SyncNetV2, views: torch.Tensor | MouthViews, samples: np.ndarray | torch.Tensor) -> SyncScore:
    """The score of a clip at 25 frames/s; positions as in the published measure.

    Args:
        views: (n, 3, 224, 224) uint8 of `mouth_views`, or `MouthViews`, of which the frames of a batch are held.
        samples: (m,) at 16 kHz, int16 or float in [-1, 1]; the first one is heard with the first view.

    Raises:
        ValueError: fewer than 6 frames of pictures and sound.
    """
    count = min(len(views), len(samples) // SAMPLES_PER_FRAME) - LIP_FRAMES
    if count < 1:
        raise ValueError(f"the clip has {count + LIP_FRAMES} frames with sound: SyncNet v2 needs {LIP_FRAMES + 1}")
    weight = next(net.parameters())
    heard = mfcc_windows(mfcc(samples))[:count]
    with torch.inference_mode():
        lips = [net.lips(window.to(weight)).cpu() for window in _lip_windows(views, count)]
        audio = [net.audio(part.to(weight)).cpu() for part in heard.split(BATCH)]
    return offset_and_confidence(sync_distances(torch.cat(lips), torch.cat(audio)))


def _lip_windows(views: torch.Tensor | MouthViews, count: int) -> Iterator[torch.Tensor]:
    """(b, 3, 5, 224, 224): the five frames from each of the first `count` on, `BATCH` at a time."""
    for indices in batches(count, BATCH):
        part = views[indices[0] : indices[-1] + LIP_FRAMES]
        yield torch.stack([part[k : k + LIP_FRAMES].transpose(0, 1) for k in range(len(indices))])
