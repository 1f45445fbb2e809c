"""SyncNet v2: how far sound and lips are apart, and how sure that is (LSE-C and LSE-D, "Sync-C" and "Sync-D").

J. S. Chung and A. Zisserman, "Out of time: automated lip sync in the wild", 2016. Names of modules are those of the
published weights, syncnet_v2.model.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from .loading import FixedNet

SHIFT = 15  # frames either way that sound is tried at
DISTANCE_EPS = 1e-6  # added to every difference, as in the published measure


class SyncNetV2(FixedNet):
    """Lips and sound of 0.2 s as vectors of 1024, close together where they belong together."""

    title = "SyncNet v2"

    def __init__(self):
        super().__init__()
        self.netcnnaud = nn.Sequential(  # (b, 1, 13, 20)
            *_normed(nn.Conv2d(1, 64, 3, padding=1)),
            nn.Identity(),  # the checkpoints number a pool of 1 x 1 here
            *_normed(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_normed(nn.Conv2d(192, 384, 3, padding=1)),
            *_normed(nn.Conv2d(384, 256, 3, padding=1)),
            *_normed(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, stride=2),
            *_normed(nn.Conv2d(256, 512, (5, 4))),
        )
        self.netfcaud = _head()
        self.netfclip = _head()
        self.netcnnlip = nn.Sequential(  # (b, 3, 5, 224, 224)
            *_normed(nn.Conv3d(3, 96, (5, 7, 7), stride=(1, 2, 2))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_normed(nn.Conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_normed(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_normed(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_normed(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_normed(nn.Conv3d(256, 512, (1, 6, 6))),
        )

    def lips(self, frames: torch.Tensor) -> torch.Tensor:
        """Features of five consecutive frames each: (b, 3, 5, 224, 224), BGR, 0..255, to (b, 1024)."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))

    def audio(self, mfcc: torch.Tensor) -> torch.Tensor:
        """Features of 20 columns of MFCC each (`audio.syncnet.mfcc_windows`): (b, 1, 13, 20) to (b, 1024)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))


class SyncScore(NamedTuple):
    """What SyncNet v2 says of a clip.

    offset: frames of 1/25 s; positive: lips i fit the sound of frame i - offset, so delay the sound by it.
    confidence: LSE-C: by how much the best shift beats the median one; from about 3 up a clip counts as in sync.
    min_distance: LSE-D: mean distance at the best shift.
    """

    offset: int
    confidence: float
    min_distance: float


def sync_distances(lips: torch.Tensor, audio: torch.Tensor, shift: int = SHIFT) -> torch.Tensor:
    """Euclidean distances between the lips of each frame and the sound of its neighbours: (n, 2 * shift + 1).

    `lips` and `audio` are (n, d) features of the same frames; the published measure takes the first
    min(frames, samples // 640) - 5. Column k is the sound of frame i - shift + k; beyond the clip it is zeros.
    """
    if lips.ndim != 2 or lips.shape != audio.shape or len(lips) == 0:
        raise ValueError(
            f"lips have shape {tuple(lips.shape)} and audio {tuple(audio.shape)}: give two equal shapes (n, d) with n "
            "from 1 up"
        )
    padded = F.pad(audio, (0, 0, shift, shift))
    neighbours = [padded[k : k + len(lips)] for k in range(2 * shift + 1)]
    return torch.stack([F.pairwise_distance(lips, near, eps=DISTANCE_EPS) for near in neighbours], dim=1)


def offset_and_confidence(distances: torch.Tensor) -> SyncScore:
    """The score of a clip from its `sync_distances`, (n, 2 * shift + 1)."""
    mean = distances.mean(dim=0)
    if not torch.isfinite(mean).all():
        raise ValueError("distances are NaN or infinite: check the frames and the sound that the features are of")
    best, column = mean.min(dim=0)
    return SyncScore(distances.shape[1] // 2 - int(column), float(mean.median() - best), float(best))


def _normed(conv: nn.Conv2d | nn.Conv3d) -> tuple[nn.Module, nn.Module, nn.Module]:
    norm = nn.BatchNorm3d if isinstance(conv, nn.Conv3d) else nn.BatchNorm2d
    return conv, norm(conv.out_channels), nn.ReLU()


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))
