"""Pictures against the true ones: PSNR, SSIM, MS-SSIM, LPIPS, flicker; and by themselves: seam and quality.

Pictures are (n, h, w, 3), uint8 or float in [0, 1]; a region is a mask (h, w) bool of the pixels that count.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..face.masks import face_mask
from ..frames import as_float
from ..nets.hyperiqa import SIZE, HyperIQA
from .metrics import FrameMean

MISSING_PACKAGE = "pip install torchmetrics torch-fidelity lpips"  # what the extra `evaluate` has
SSIM_WINDOW, SSIM_GREY_WINDOW, SSIM_SIGMA = 11, 13, 1.5  # pixels
SSIM_LUMINANCE, SSIM_CONTRAST = 0.01**2, 0.03**2  # for pictures in [0, 1]
MS_SSIM_LEAST = 2**4 * SSIM_WINDOW  # pixels: a window at the coarsest of its five scales
LPIPS_LEAST = 16  # pixels: VGG halves its pictures four times


def psnr(pictures: Tensor, truth: Tensor, region: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB, of the mean square error over all frames; inf for equal clips."""
    return _decibels(float(_square_errors(pictures, truth, region).mean()))


def psnr_metric() -> FrameMean:
    """The mean error over the whole clip, in dB; the curve has each frame's own."""
    return FrameMean("psnr", _square_errors, unit=_decibels)


def _square_errors(pictures: Tensor, truth: Tensor, region: Tensor | None = None) -> Tensor:
    """(n,) float64: of each frame, the mean over its pixels."""
    error = _inside(pictures, region) - _inside(truth, region)
    return error.square().mean(dim=(1, 2), dtype=torch.float64)


def _decibels(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)


def _inside(pictures: Tensor, region: Tensor | None) -> Tensor:
    """(n, pixels, 3) float32 in [0, 1]."""
    return as_float(pictures).flatten(1, 2) if region is None else as_float(pictures)[:, region]


def ssim(pictures: Tensor, truth: Tensor, region: Tensor | None = None, grey: bool = False) -> Tensor:
    """Structural similarity (Wang et al. 2004) of each frame, at most 1: mean over its pixels and colours, (n,).

    Gaussian window of 11 pixels with a sigma of 1.5; `grey` compares the brightness in place of the colours, in a
    window of 13.
    """
    window = SSIM_GREY_WINDOW if grey else SSIM_WINDOW

    def blurred(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (window, window), SSIM_SIGMA)

    found = []
    for pair in zip(as_float(pictures).cpu(), as_float(truth).cpu(), strict=True):
        a, b = ((x.mean(-1) if grey else x).numpy() for x in pair)
        mean_a, mean_b = blurred(a), blurred(b)
        # Summed so that equal pictures give exactly 1.
        variance = (blurred(a * a) - mean_a**2) + (blurred(b * b) - mean_b**2)
        covariance = blurred(a * b) - mean_a * mean_b
        similarity = (2 * mean_a * mean_b + SSIM_LUMINANCE) / (mean_a**2 + mean_b**2 + SSIM_LUMINANCE)
        similarity *= (2 * covariance + SSIM_CONTRAST) / (variance + SSIM_CONTRAST)
        found.append(float((similarity if region is None else similarity[region.numpy()]).mean(dtype=np.float64)))
    return torch.tensor(found, dtype=torch.float64)


def ms_ssim_metric() -> FrameMean:
    """SSIM at five scales (Wang et al. 2003)."""
    try:
        from torchmetrics.functional.image import multiscale_structural_similarity_index_measure
    except ImportError as error:
        raise InputError(f"MS-SSIM needs the package torchmetrics: {MISSING_PACKAGE}") from error

    def ms_ssim(pictures: Tensor, truth: Tensor) -> Tensor:
        a, b = (as_float(x).permute(0, 3, 1, 2) for x in (pictures, truth))
        found = multiscale_structural_similarity_index_measure(a, b, data_range=1.0, reduction="none").reshape(-1)
        # In flat parts rounding costs a few millionths, even of equal pictures; float64 takes twelve times as long.
        return torch.where((a == b).flatten(1).all(1), 1.0, found)

    return FrameMean("ms_ssim", ms_ssim, MS_SSIM_LEAST)


def lpips_metric(net: nn.Module) -> FrameMean:
    """Learned perceptual distance (Zhang et al. 2018, version 0.1, VGG 16); `net` is from `perceptual.load_lpips`."""
    device = next(net.parameters()).device

    @torch.inference_mode()
    def lpips(pictures: Tensor, truth: Tensor) -> Tensor:
        a, b = (as_float(x).permute(0, 3, 1, 2).to(device) * 2 - 1 for x in (pictures, truth))
        return net(a, b).flatten().cpu()

    return FrameMean("lpips", lpips, LPIPS_LEAST)


def quality_metric(net: HyperIQA) -> FrameMean:
    """How good pictures look by themselves, 0 (bad) to 100: hyperIQA (Su et al. 2020), of their middle 224 pixels."""
    weight = next(net.parameters())

    @torch.inference_mode()
    def quality(pictures: Tensor, _: Tensor | None) -> Tensor:
        return net(as_float(pictures).permute(0, 3, 1, 2).to(weight)).cpu()

    return FrameMean("quality", quality, SIZE)


def flicker(pictures: Tensor, truth: Tensor | None = None, region: Tensor | None = None) -> Tensor:
    """Unsteadiness that the true pictures do not have, in 8-bit levels; below 0 where `pictures` are steadier.

    The bend of frame i is |x[i - 1] - 2 x[i] + x[i + 1]|, mean over the pixels: steady motion has none, a jump has it
    on both of its sides. The flicker is the bend of `pictures` less that of `truth`; without `truth` motion counts too.
    It is (n - 2,), of all frames but the first and the last.
    """

    def bends(clip: Tensor) -> Tensor:
        path = _inside(clip, region) * 255
        return (path[:-2] - 2 * path[1:-1] + path[2:]).abs().mean((1, 2))

    return bends(pictures) if truth is None else bends(pictures) - bends(truth)


class Flicker(FrameMean):
    """`flicker` over windows: the last two frames of one are kept for the next."""

    too_little = "got fewer than 3 frames in a row: give a longer clip"

    def __init__(self):
        super().__init__("flicker", flicker)
        self._last: tuple[list[int], Tensor, Tensor] | None = None

    def update(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        numbers = list(numbers)
        if self._last is not None and numbers[0] == self._last[0][-1] + 1:
            before, made, true = self._last
            numbers, pictures, truth = before + numbers, torch.cat([made, pictures]), torch.cat([true, truth])
        super().update(numbers[1:-1], pictures, truth)
        self._last = numbers[-2:], pictures[-2:].clone(), truth[-2:].clone()


BESIDE = (2, 5)  # pixels from the edge, of the steps that the one across it is compared with


def seam(crops: Tensor, _: Tensor | None = None) -> Tensor:
    """The step across the edge of the repainted region less the steps beside it, in 8-bit levels; crops to (n,).

    A step is the difference of two neighbouring pixels, mean over the colours. Skin and texture have the same steps
    on the edge and 2 to 5 pixels from it, so that 0 is no seam; a mouth pasted with other colours and a hard edge has
    the difference of the colours. A soft edge has no step: the seam says whether an edge is seen, not whether colours
    are right.
    """
    levels = as_float(crops) * 255
    on, beside = [], []
    for axis, (across, near) in zip((1, 2), _edge_pairs(crops.shape[1]), strict=True):
        steps = levels.diff(dim=axis).abs().mean(-1)
        on.append(steps[:, across])
        beside.append(steps[:, near])
    return torch.cat(on, dim=1).mean(dim=1) - torch.cat(beside, dim=1).mean(dim=1)


@lru_cache(maxsize=2)
def _edge_pairs(resolution: int) -> list[tuple[Tensor, Tensor]]:
    """For pairs one above the other, then side by side: those across the edge, and those beside it (bool)."""
    inside = (face_mask(resolution, "mouth", feather=0) > 0.5).numpy().astype(np.uint8)
    depth, height = (cv2.distanceTransform(x, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for x in (inside, 1 - inside))
    signed = torch.from_numpy(np.where(inside > 0, depth, -height))
    found = []
    for a, b in ((signed[1:], signed[:-1]), (signed[:, 1:], signed[:, :-1])):
        near = torch.minimum(a.abs(), b.abs())
        found.append(((a > 0) != (b > 0), (near >= BESIDE[0]) & (near <= BESIDE[1])))
    return found
