"""What is in front of a face: there the source stays, and the net sees the face as other frames show it.

Masks are `Frames` of (n, h, w) or (n, h, w, 3), float in [0, 1] or uint8, of the size of the clip's frames: white is in
front of the face.
"""

from collections.abc import Callable, Sequence
from functools import reduce

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..frames import Frames, as_float, as_uint8
from .align import OUTSIDE, warp_crop
from .geometry import corners, crop_matrix, region, shifted
from .track import FaceTrack, Runs

IN_FRONT = 0.1  # from here on a mask's pixel belongs to the thing in front
REACH = 1.5  # crop pixels, or frame pixels where those are larger, over which a weight spreads when a crop is laid down
EDGE = 0.02  # of the crop's side, over which the result fades in beside a thing
GAP = 3  # frames in which what is in front may be missed
FREE = 0.98  # of a crop, that has to be free for others to be filled from it


class Occlusion:
    """How free the crops of a tracked face are: [numbers] -> (n, resolution, resolution) float32, 0 where covered.

    No pixel of what is in front is mixed with the result when such weights go with a crop. Masks that flicker are
    steadied: what is covered, free for at most `GAP` frames of a run and covered again counts as covered in between.
    So nothing that is in front is ever left out, and a mask that does not change stays as it is.

    Args:
        masks: of each frame of the clip, or one for all.
        runs: those of the track, where it is not known yet: asked for no more than the frames and `GAP` more.
    """

    def __init__(self, masks: Frames, track: FaceTrack, runs: Runs | None = None):
        if len(masks) not in (1, len(track)):
            raise InputError(
                f"there are {len(masks)} masks of what is in front of the face for {len(track)} frames: give one for "
                "each frame, or one for all"
            )
        self.masks, self.track, self.runs = masks, track, runs or track.runs
        self._kept: dict[int, torch.Tensor] = {}  # masks of the last frames and the next ones

    def __len__(self) -> int:
        return len(self.track)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        side = self.track.resolution
        free = torch.ones(len(indices), side, side)
        runs = self.runs(min(len(self), max(indices) + 1 + GAP))
        for k, i in enumerate(indices):
            run = next((run for run in runs if run[0] <= i < run[1]), None)
            if run is None:
                continue
            first, stop = (max(run[0], i - GAP), min(run[1], i + GAP + 1)) if len(self.masks) > 1 else (i, i + 1)
            self._kept = {n: self._kept[n] if n in self._kept else self._mask(n) for n in range(first, stop)}
            matrix = self.track.matrices[i]
            where = region(corners(matrix, side), *self._kept[i].shape, margin=2)
            if where is None:
                continue
            mask = _closed([as_float(mask[where]) for mask in self._kept.values()], i - first)
            # Moved by what stands for the outside, so that nothing is in front there.
            moved = (mask + OUTSIDE)[..., None].expand(*mask.shape, 3)
            covered = (warp_crop(moved, shifted(matrix, *where), side)[..., 0] - OUTSIDE).clamp(0, 1)
            finer = max(1.0, float(np.hypot(*crop_matrix(matrix, side)[:, 0])))  # crop pixels to a frame pixel
            free[k] = _free(covered, REACH * finer)
        return free

    def _mask(self, i: int) -> torch.Tensor:
        """(h, w), in the dtype of the masks; those of a tensor are not copied."""
        i %= len(self.masks)
        mask = (self.masks[i] if torch.is_tensor(self.masks) else self.masks[[i]][0]).cpu()
        if mask.ndim == 2:
            return mask
        grey = as_float(mask).mean(-1)
        return as_uint8(grey) if mask.dtype == torch.uint8 else grey


def _closed(masks: Sequence[torch.Tensor], at: int) -> torch.Tensor:
    """The mask `at` a place in a run of them, gaps of up to `GAP` masks filled: a morphological closing in time."""
    spans = [masks[max(0, first) : first + GAP + 1] for first in range(at - GAP, at + 1)]
    return reduce(torch.minimum, (reduce(torch.maximum, span) for span in spans))


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
