"""Figures of a lip-synced clip whose true pictures and true mouth are known.

A curve is one number per video frame, such as the height between the lips. Pictures are (n, h, w, 3), uint8 or float
in [0, 1]; a region is a mask (h, w) bool of the pixels that count.
"""

import math
from collections.abc import Collection, Sequence

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..frames import as_float

MOST_LAG = 10  # frames, 0.4 s at 25 frames/s
SSIM_SIGMA, SSIM_LUMINANCE, SSIM_CONTRAST = 1.5, 0.01**2, 0.03**2  # Wang et al. 2004, for pictures in [0, 1]
LOUDNESS_SMOOTHING = 0.032  # s, as the mouths of `synthetic.speech` are smoothed


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Pearson's correlation of two curves, in [-1, 1]; 0 where one of them never changes.

    Raises:
        ValueError: curves of different length, or of fewer than two frames.
    """
    a, b = _curves(a, b)
    a, b = a - a.mean(), b - b.mean()
    size = math.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size > 0 else 0.0


def best_lag(curve: Sequence[float], reference: Sequence[float], most: int = MOST_LAG) -> int:
    """Frames by which `curve` comes later than `reference`, -most..most: where they correlate best.

    Each lag is judged on the frames that both then have. Of equals the smallest lag is given.

    Raises:
        ValueError: curves of different length, or not longer than 2 * most.
    """
    curve, reference = _curves(curve, reference)
    if len(curve) <= 2 * most:
        raise InputError(f"the curves have {len(curve)} frames: a lag of up to {most} needs more than {2 * most}")

    def at(lag: int) -> float:
        late, early = (curve, reference) if lag >= 0 else (reference, curve)
        return correlation(late[abs(lag) :], early[: len(early) - abs(lag)])

    return max(sorted(range(-most, most + 1), key=abs), key=at)


def _curves(a: Sequence[float], b: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise InputError(f"the curves have shapes {a.shape} and {b.shape}: give two of one length, at least 2 frames")
    return a, b


def psnr(pictures: torch.Tensor, truth: torch.Tensor, region: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB inside the region, of the mean square error over all frames; inf if equal."""
    error = (as_float(pictures) - as_float(truth))[:, region].square().mean().item()
    return -10 * math.log10(error) if error > 0 else math.inf


def ssim(pictures: torch.Tensor, truth: torch.Tensor, region: torch.Tensor) -> float:
    """Structural similarity of the brightness, at most 1: mean over the region's pixels and over the frames.

    With a Gaussian window of 1.5 pixels (Wang et al., Image quality assessment, 2004).
    """
    pairs = zip(as_float(pictures).mean(-1).numpy(), as_float(truth).mean(-1).numpy(), strict=True)
    return float(np.mean([_ssim_map(a, b)[region.numpy()].mean() for a, b in pairs]))


def _ssim_map(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    def blurred(x: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(x, (0, 0), SSIM_SIGMA)

    mean_a, mean_b = blurred(a), blurred(b)
    variance = blurred(a * a) - mean_a**2 + blurred(b * b) - mean_b**2
    covariance = blurred(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + SSIM_LUMINANCE) / (mean_a**2 + mean_b**2 + SSIM_LUMINANCE)
    return luminance * (2 * covariance + SSIM_CONTRAST) / (variance + SSIM_CONTRAST)


def largest_change(pictures: torch.Tensor, before: torch.Tensor, region: torch.Tensor) -> int:
    """Greatest difference between two clips inside the region, rounded to 8-bit levels.

    The difference is rounded and not the pictures: one float's last bit can lie between two levels.
    """
    a, b = (as_float(x)[:, region] for x in (pictures, before))
    return round(float((a - b).abs().max()) * 255)


def flicker(
    pictures: torch.Tensor, truth: torch.Tensor, region: torch.Tensor, borders: Collection[int] = ()
) -> tuple[float, float]:
    """Unsteadiness that the truth does not have: (at the borders, elsewhere), in 8-bit levels.

    The bend of frame i is |x[i - 1] - 2 x[i] + x[i + 1]|, mean over the region: steady motion has none, a jump has it
    on both of its sides. The figure is the mean bend of `pictures` less that of `truth`, over the frames whose three
    pictures lie on both sides of a border (i or i + 1 in `borders`), and over all others.

    Args:
        borders: frame numbers b between which and b - 1 the pictures come from different windows, or from a
            different mix of two; see `window_borders`.

    Returns:
        nan for a group without frames.
    """
    excess = _bends(pictures, region) - _bends(truth, region)
    at_border = np.array([bool({i, i + 1} & set(borders)) for i in range(1, len(pictures) - 1)], bool)
    return tuple(float(group.mean()) if group.size else math.nan for group in (excess[at_border], excess[~at_border]))


def _bends(pictures: torch.Tensor, region: torch.Tensor) -> np.ndarray:
    path = as_float(pictures)[:, region] * 255
    return (path[:-2] - 2 * path[1:-1] + path[2:]).abs().mean((1, 2)).numpy()


def window_borders(spans: Sequence[tuple[int, int]]) -> set[int]:
    """The borders for `flicker` of windows (first, end), as `sync.windows` gives them.

    Without overlap the first frames of all windows but one. Windows that share frames are cross-faded over them,
    so that there every frame is another mix than the one before.
    """
    return {
        b for (_, end), (first, _) in zip(spans[:-1], spans[1:], strict=True) for b in range(first, max(first, end) + 1)
    }


def loudness(waveform: torch.Tensor, rate: int, fps: float, frames: int) -> np.ndarray:
    """Root mean square of a mono waveform (samples,) within each video frame, smoothed as mouths are: (frames,).

    Frames beyond the end of the sound are silent.
    """
    from scipy.ndimage import gaussian_filter1d

    edges = np.rint(np.arange(frames + 1) * rate / fps).astype(int).clip(0, len(waveform))
    energy = np.concatenate([[0.0], np.cumsum(waveform.numpy().astype(np.float64) ** 2)])
    level = np.sqrt(np.diff(energy[edges]) / np.maximum(np.diff(edges), 1))
    return gaussian_filter1d(level, LOUDNESS_SMOOTHING * fps, mode="nearest")
