"""How well lips and sound belong together, by SyncNet v2 and by StableSyncNet; and how well the latter can tell."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import default_collate

from ..frames import Extended, Frames, batches
from ..nets.syncnet_v2 import SyncNetV2
from ..prepare.sync_filter import MouthViews, sync_score
from ..progress import Progress
from ..quality import at_25, sync_curve
from ..train.estimate import SyncJudge
from .meters import Figure

BATCH, SEED = 16, 42  # the seed is that of the published script


def syncnet_v2(net: SyncNetV2, frames: Frames, boxes: np.ndarray, wave: Tensor, fps: float) -> dict[str, Figure]:
    """Sync-C (LSE-C), Sync-D (LSE-D) and offset of a clip; see `nets.syncnet_v2.SyncScore`.

    Args:
        net: SyncNet v2.
        frames: whole pictures; read 16 at a time.
        boxes: (n, 4), (x1, y1, x2, y2) of the face in frame pixels.
        wave: (samples,) float32 at 16 kHz; the first one is heard with the first frame.
        fps: of the frames; SyncNet sees 25, so that others are dropped or repeated.

    Returns:
        "sync_c", "sync_d" and "sync_offset": frames of 1/25 s by which the mouth is late.

    Raises:
        ValueError: fewer than 6 frames of pictures and sound.
    """
    frames = at_25(frames, fps)
    if isinstance(frames, Extended):
        boxes = boxes[frames.index_map]
    score = sync_score(net, MouthViews(frames, boxes), wave)
    values = {"sync_c": score.confidence, "sync_d": score.min_distance, "sync_offset": float(score.offset)}
    return {name: Figure(value) for name, value in values.items()}


def stable_syncnet(
    judge: SyncJudge, vae: nn.Module | None, crops: Frames, wave: Tensor, fps: float
) -> dict[str, Figure]:
    """Mean cosine and offset by StableSyncNet; arguments and errors of `quality.sync_curve`.

    Returns:
        "stable_sync", 0..1, whose curve has the windows of 16 frames (or what SyncNet judges), and "stable_offset":
        frames of 1/25 s by which the mouth is late.
    """
    curve = sync_curve(judge, vae, crops, wave, fps)
    confidence = Figure(curve.confidence, curve.over_time.astype(np.float64), curve.middles)
    return {"stable_sync": confidence, "stable_offset": Figure(float(curve.offset))}


@torch.no_grad()
def syncnet_accuracy(judge: SyncJudge, vae: nn.Module | None, clips: Path, samples: int, progress: Progress) -> float:
    """Share of samples that a StableSyncNet judges rightly: in sync where the cosine is over 0.5.

    As in the published script (which takes 2048 samples), the sound of 16 frames goes with those frames or with 16
    others of the same clip. There each sample is either by chance, here exactly every other one.

    Args:
        judge, vae: from `quality.load_judge`, on one device.
        clips: folder or list of aligned clips, as `prepare` makes them.

    Raises:
        FileNotFoundError, OSError, ValueError: no clips, or none that is fit.
    """
    from ..train.config import DataConfig
    from ..train.dataset import SyncNetClips, pass_order

    data = SyncNetClips(DataConfig(str(clips), judge.side, judge.frames, workers=0), vae, SEED, progress)
    count, device = len(data.clips), next(judge.net.parameters()).device
    # Clip by clip, so that each one's features are made once.
    order = sorted(range(samples), key=lambda n: pass_order(SEED, n // count, count)[n % count])
    right = 0
    for numbers in batches(samples, BATCH):
        progress("judging samples", numbers[0], samples)
        batch = {name: x.to(device) for name, x in default_collate([data[order[i]] for i in numbers]).items()}
        cosine = F.cosine_similarity(*judge.net(batch["frames"], batch["mel"]))
        right += int(((cosine > 0.5) == (batch["target"] > 0.5)).sum())
    progress("judging samples", samples, samples)
    return right / samples
