"""How near pictures are to the true ones: PSNR, SSIM, MS-SSIM and LPIPS, each of them per frame."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ..frames import Frames, as_float
from .meters import Figure, FrameMean, measured

MISSING_PACKAGE = "pip install torchmetrics torch-fidelity lpips"  # what the extra `evaluate` has
SSIM_LEAST = 11  # pixels: the side of the window
MS_SSIM_LEAST = 2**4 * SSIM_LEAST  # a window at the coarsest of its five scales
LPIPS_LEAST = 16  # VGG halves its pictures four times


class Psnr(FrameMean):
    """Peak signal-to-noise ratio: of the mean square error of the whole clip; the curve has each frame's own."""

    def __init__(self):
        super().__init__("psnr", _square_errors)

    def figures(self) -> dict[str, Figure]:
        figure = super().figures()["psnr"]
        return {"psnr": Figure(_decibels(figure.value), np.array([_decibels(error) for error in figure.curve]))}


def _square_errors(pictures: Tensor, truth: Tensor) -> Tensor:
    return (as_float(pictures) - as_float(truth)).square().mean(dim=(1, 2, 3), dtype=torch.float64)


def _decibels(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)


class Ssim(FrameMean):
    """Structural similarity (Wang et al. 2004): window of 11 pixels, of each colour, mean over the pictures."""

    def __init__(self):
        super().__init__("ssim", _by_torchmetrics("structural_similarity_index_measure", SSIM_LEAST))


class MsSsim(FrameMean):
    """SSIM at five scales (Wang et al. 2003)."""

    def __init__(self):
        name = "multiscale_structural_similarity_index_measure"
        super().__init__("ms_ssim", _by_torchmetrics(name, MS_SSIM_LEAST))


def _by_torchmetrics(name: str, least: int) -> Callable[[Tensor, Tensor], Tensor]:
    try:
        from torchmetrics.functional import image
    except ImportError as error:
        raise ImportError(f"SSIM and MS-SSIM need the package torchmetrics: {MISSING_PACKAGE}") from error
    similarity = getattr(image, name)

    def measure(pictures: Tensor, truth: Tensor) -> Tensor:
        _check_side(pictures, least, "MS-SSIM" if least > SSIM_LEAST else "SSIM")
        a, b = (as_float(x).permute(0, 3, 1, 2) for x in (pictures, truth))
        found = similarity(a, b, data_range=1.0, reduction="none").reshape(-1)
        # In flat parts rounding costs a few millionths, even of equal pictures; float64 takes twelve times as long.
        return torch.where((a == b).flatten(1).all(1), 1.0, found)

    return measure


class Lpips(FrameMean):
    """Learned perceptual distance (Zhang et al. 2018, version 0.1, VGG 16); `net` is from `train.losses.load_lpips`."""

    def __init__(self, net: nn.Module):
        super().__init__("lpips", self._distances)
        self.net = net
        self.device = next(net.parameters()).device

    @torch.inference_mode()
    def _distances(self, pictures: Tensor, truth: Tensor) -> Tensor:
        _check_side(pictures, LPIPS_LEAST, "LPIPS")
        a, b = (as_float(x).permute(0, 3, 1, 2).to(self.device) * 2 - 1 for x in (pictures, truth))
        return self.net(a, b).flatten().cpu()


def _check_side(pictures: Tensor, least: int, what: str) -> None:
    height, width = pictures.shape[1:3]
    if min(height, width) < least:
        raise ValueError(
            f"{what} needs pictures of at least {least} x {least} and got {width} x {height}: choose a larger region, "
            "or a larger resolution of the crops"
        )


def psnr(pictures: Frames, truth: Frames) -> float:
    """dB, inf for equal clips; pictures are `Frames` of (h, w, 3), and so below."""
    return measured(Psnr(), pictures, truth)["psnr"].value


def ssim(pictures: Frames, truth: Frames) -> float:
    """At most 1.

    Raises:
        ImportError: torchmetrics is not installed.
        ValueError: pictures under 11 pixels.
    """
    return measured(Ssim(), pictures, truth)["ssim"].value


def ms_ssim(pictures: Frames, truth: Frames) -> float:
    """At most 1.

    Raises:
        ImportError: torchmetrics is not installed.
        ValueError: pictures under 176 pixels.
    """
    return measured(MsSsim(), pictures, truth)["ms_ssim"].value


def lpips(net: nn.Module, pictures: Frames, truth: Frames) -> float:
    """0 for equal clips; `net` from `train.losses.load_lpips`.

    Raises:
        ValueError: pictures under 16 pixels.
    """
    return measured(Lpips(net), pictures, truth)["lpips"].value
