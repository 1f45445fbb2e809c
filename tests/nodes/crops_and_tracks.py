"""Crops and tracks of the embedded model's size."""

import numpy as np
import torch

STEPS = 2
SIDE = 128


def crops_of(count: int) -> torch.Tensor:
    """(count, SIDE, SIDE, 3): soft blobs in skin tones, each frame another one."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return smooth.movedim(1, -1).contiguous()


def track_of(pack, shown: list[int], cuts: tuple[int, ...] | list[int] = ()):
    """A `TrackedFace` over frames of SIDE x SIDE pixels, with the face where `shown` is 1."""
    count = len(shown)
    matrices = np.tile(np.array([[1, 0, 0], [0, 1, 0]], np.float32), (count, 1, 1))
    weight = np.array(shown, np.float32)
    starts = np.zeros(count, bool)
    starts[list(cuts)] = True
    track = pack.latentsync.face.track.FaceTrack(matrices * weight[:, None, None], weight, weight, starts, SIDE)
    return pack.nodes.sockets.TrackedFace(track, [None] * count, 25.0, (SIDE, SIDE))
