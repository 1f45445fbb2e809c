"""What is in front of a face: there the source stays, and the net sees the face as other frames show it.

Masks are `Frames` of (n, h, w) or (n, h, w, 3), float in [0, 1] or uint8, of the size of the clip's frames: white is in
front of the face.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..frames import Frames, as_float
from .align import OUTSIDE, warp_crop
from .geometry import crop_matrix
from .track import FaceTrack

IN_FRONT = 0.1  # from here on a mask's pixel belongs to the thing in front
REACH = 1.5  # crop pixels, or frame pixels where those are larger, over which a weight spreads when a crop is laid down
EDGE = 0.02  # of the crop's side, over which the result fades in beside a thing
FREE = 0.98  # of a crop, that has to be free for others to be filled from it


class Occlusion:
    """How free the crops of a tracked face are: [numbers] -> (n, resolution, resolution) float32, 0 where covered.

    No pixel of what is in front is mixed with the result when such weights go with a crop.

    Args:
        masks: of each frame of the clip, or one for all.
    """

    def __init__(self, masks: Frames, track: FaceTrack):
        if len(masks) not in (1, len(track)):
            raise InputError(
                f"there are {len(masks)} masks of what is in front of the face for {len(track)} frames: give one for "
                "each frame, or one for all"
            )
        self.masks, self.track = masks, track

    def __len__(self) -> int:
        return len(self.track)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        side = self.track.resolution
        free = torch.ones(len(indices), side, side)
        for k, i in enumerate(indices):
            if not self.track.found[i]:
                continue
            mask, matrix = as_float(self.masks[[i % len(self.masks)]])[0].cpu(), self.track.matrices[i]
            mask = mask.mean(-1) if mask.ndim == 3 else mask
            # Moved by what stands for the outside, so that nothing is in front there.
            shifted = (mask + OUTSIDE)[..., None].expand(*mask.shape, 3)
            covered = (warp_crop(shifted, matrix, side)[..., 0] - OUTSIDE).clamp(0, 1)
            finer = max(1.0, float(np.hypot(*crop_matrix(matrix, side)[:, 0])))  # crop pixels to a frame pixel
            free[k] = _free(covered, REACH * finer)
        return free


def _free(covered: torch.Tensor, clear: float) -> torch.Tensor:
    """How free a crop (h, h) is of what covers it; the fading begins `clear` pixels away."""
    away = (covered < IN_FRONT).numpy().astype(np.uint8)
    if away.all():
        return 1 - covered
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.clip((distance - clear) / (EDGE * len(covered)), 0, 1)
    return torch.minimum(torch.from_numpy(ramp * ramp * (3 - 2 * ramp)).float(), 1 - covered)


class FreeCrops:
    """Crops as a `Frames`, where what is in front of the face is filled from the nearest free one of those asked for.

    The net takes its reference from these crops, so that it does not paint the hand that it would see there. Where no
    crop is free they stay as they are.
    """

    def __init__(self, crops: Frames, free: Callable[[Sequence[int]], torch.Tensor]):
        """`free` gives what `Occlusion` does."""
        self.crops, self.free = crops, free

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        crops, free = as_float(self.crops[indices]), self.free(indices)
        shares = free.mean((1, 2)).tolist()
        donors = [k for k, share in enumerate(shares) if share >= FREE]
        for k, share in enumerate(shares):
            if share < FREE and donors:
                nearest = min(donors, key=lambda donor: (abs(indices[donor] - indices[k]), donor))
                crops[k] = torch.lerp(crops[nearest], crops[k], free[k][..., None])
        return crops
