"""How well lips and sound belong together, by SyncNet v2 and by StableSyncNet."""

import numpy as np
from torch import Tensor, nn

from ..frames import Extended, Frames
from ..nets.syncnet_v2 import SyncNetV2
from ..prepare.sync_filter import MouthViews, sync_score
from ..quality import at_25, sync_curve
from ..train.estimate import SyncJudge
from .meters import Figure


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
