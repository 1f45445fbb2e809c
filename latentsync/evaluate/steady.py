"""What gives a pasted mouth away: an edge around it, and flicker that the true pictures do not have."""

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from ..figures import flicker as flicker_of
from ..frames import Frames, as_float
from ..masks import face_mask
from .meters import Figure, FrameMean, measured, placed

BESIDE = (2, 5)  # pixels from the edge, of the steps that the one across it is compared with


class Seam(FrameMean):
    """The step across the edge of the repainted region less the steps beside it, in 8-bit levels, of aligned crops.

    A step is the difference of two neighbouring pixels, mean over the colours. Skin and texture have the same steps
    on the edge and 2 to 5 pixels from it, so that 0 is no seam; a mouth pasted with other colours and a hard edge has
    the difference of the colours. A soft edge has no step: the seam says whether an edge is seen, not whether colours
    are right.
    """

    def __init__(self):
        super().__init__("seam", _seams)


def _seams(crops: Tensor, _: Tensor | None = None) -> Tensor:
    levels = as_float(crops) * 255
    steps = [(levels[:, 1:] - levels[:, :-1]).abs().mean(-1), (levels[:, :, 1:] - levels[:, :, :-1]).abs().mean(-1)]
    on, beside = zip(*_edge_pairs(crops.shape[1]), strict=True)

    def mean_over(pairs: Sequence[Tensor]) -> Tensor:
        return torch.cat([step[:, chosen] for step, chosen in zip(steps, pairs, strict=True)], dim=1).mean(dim=1)

    return mean_over(on) - mean_over(beside)


@lru_cache(maxsize=2)
def _edge_pairs(resolution: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """For pairs one above the other, then side by side: those across the edge, and those beside it (bool)."""
    inside = (face_mask(resolution, "mouth", feather=0) > 0.5).numpy().astype(np.uint8)
    depth, height = (cv2.distanceTransform(x, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for x in (inside, 1 - inside))
    signed = torch.from_numpy(np.where(inside > 0, depth, -height))
    found = []
    for a, b in ((signed[1:], signed[:-1]), (signed[:, 1:], signed[:, :-1])):
        near = torch.minimum(a.abs(), b.abs())
        found.append(((a > 0) != (b > 0), (near >= BESIDE[0]) & (near <= BESIDE[1])))
    return tuple(found)


class Flicker:
    """Unsteadiness that the true pictures do not have, in 8-bit levels; see `figures.flicker`. A `Meter`."""

    def __init__(self):
        self._numbers: list[int] = []
        self._pair: tuple[Tensor, Tensor] | None = None  # the last two frames, and the true ones
        self.numbers: list[int] = []
        self.values: list[float] = []

    def add(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        if self._pair is not None and numbers[0] == self._numbers[-1] + 1:
            pictures, truth = (torch.cat(both) for both in zip(self._pair, (pictures, truth), strict=True))
            numbers = [*self._numbers, *numbers]
        region = torch.ones(pictures.shape[1:3], dtype=torch.bool)
        for k in range(1, len(numbers) - 1):
            around = slice(k - 1, k + 2)
            self.numbers.append(numbers[k])
            self.values.append(flicker_of(pictures[around], truth[around], region)[1])
        self._numbers = list(numbers[-2:])
        self._pair = pictures[-2:].clone(), truth[-2:].clone()

    def figures(self) -> dict[str, Figure]:
        if not self.values:
            raise ValueError("flicker got fewer than 3 frames in a row: give a longer clip")
        return {"flicker": Figure(math.fsum(self.values) / len(self.values), placed(self.numbers, self.values))}


def seam(crops: Frames) -> float:
    """The seam of aligned crops (h, h, 3), in 8-bit levels; about 0 where there is none. See `Seam`."""
    return measured(Seam(), crops)["seam"].value


def flicker(pictures: Frames, truth: Frames) -> float:
    """Mean unsteadiness of `pictures` less that of `truth`, in 8-bit levels; below 0 where they are steadier.

    Raises:
        ValueError: fewer than 3 frames.
    """
    return measured(Flicker(), pictures, truth)["flicker"].value
