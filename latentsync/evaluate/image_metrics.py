"""Pictures against the true ones: PSNR, SSIM, MS-SSIM, LPIPS, seam, flicker, and the face's landmarks and identity.

Pictures are (n, h, w, 3), uint8 or float in [0, 1]; a region is a mask (h, w) bool of the pixels that count.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..face.landmarks import Face
from ..face.masks import face_mask
from ..frames import as_float, as_uint8
from .metrics import FrameMean, MetricValue

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


LIPS_106 = slice(52, 72)  # rows of InsightFace's `landmark_2d_106`: outer and inner lips
# A picture (h, w, 3) uint8 to its faces with 106 landmarks each, as `detect.insight.InsightFace.described` gives them.
DescribeFaces = Callable[[np.ndarray], list[tuple[Face, np.ndarray]]]


class Identity:
    """Distance of the lips' landmarks and likeness of the face, of whole frames. A metric as `FrameMean` is.

    "lmd" is the mean distance, in frame pixels, of the 20 points of the lips from the true ones, both sets about their
    own mean (Chen et al. 2018). "identity" is the cosine of the faces' embeddings, 1 for the same picture. `boxes` are
    those of the face that counts, (n, 4) in frame pixels.
    """

    def __init__(self, describe_faces: DescribeFaces, boxes: np.ndarray):
        self.describe_faces, self.boxes = describe_faces, boxes
        self.lmd, self.identity = FrameMean("lmd"), FrameMean("identity")
        for metric in (self.lmd, self.identity):
            metric.too_little = "found no frame that shows the face in both videos: give clips that do"

    def update(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        for i, made, true in zip(numbers, as_uint8(pictures).numpy(), as_uint8(truth).numpy(), strict=True):
            self.lmd.values[i] = self.identity.values[i] = math.nan
            a, b = (self._face(picture, self.boxes[i]) for picture in (made, true))
            if a is not None and b is not None:
                self.lmd.values[i] = mouth_distance(a[1], b[1])
                if a[0].embedding is not None and b[0].embedding is not None:
                    self.identity.values[i] = float(np.dot(a[0].embedding, b[0].embedding))

    def _face(self, picture: np.ndarray, box: np.ndarray) -> tuple[Face, np.ndarray] | None:
        """The face whose middle is nearest to that of the box; None if it is half the box's diagonal away or more."""

        def away(seen: tuple[Face, np.ndarray]) -> float:
            x1, y1, x2, y2 = seen[0].box
            return math.dist(((x1 + x2) / 2, (y1 + y2) / 2), (box[:2] + box[2:]) / 2)

        nearest = min(self.describe_faces(picture), key=away, default=None)
        return nearest if nearest and away(nearest) < math.dist(box[:2], box[2:]) / 2 else None

    def compute(self) -> dict[str, MetricValue]:
        return self.lmd.compute() | self.identity.compute()


def mouth_distance(landmarks: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of the lips' points, of two (106, 2), each about its own mean."""
    lips = [points[LIPS_106] - points[LIPS_106].mean(axis=0) for points in (landmarks, true)]
    return float(np.hypot(*(lips[0] - lips[1]).T).mean())
