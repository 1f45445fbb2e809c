"""How well lips fit their sound and, where the true pictures are known, how good the mouth is: text and a chart."""

import math

import numpy as np
from torch import Tensor

from ..audio.syncnet import VIDEO_FPS
from ..errors import InputError
from ..face.masks import keep_mask
from .charts import GREY, drawn, new_figure, style
from .image_metrics import flicker, psnr, ssim
from .sync_score import SyncCurve

BAR, BEST, LINE = "#9eb6d6", "#2e866e", "#d64541"


def mouth_metrics(crops: Tensor, reference: Tensor) -> dict[str, float]:
    """The repainted part of `crops` (n, h, h, 3) in [0, 1] against `reference`, the true crops.

    "psnr" in dB, "ssim" of at most 1, and "flicker" in 8-bit levels, nan for clips under 3 frames.
    """
    if crops.shape != reference.shape:
        sizes = ["{} frames of {} x {}".format(*(clip.shape[k] for k in (0, 2, 1))) for clip in (crops, reference)]
        raise InputError(
            f"the crops are {sizes[0]} and the reference {sizes[1]}: give the same frames, cropped with the same track"
        )
    region = keep_mask(crops.shape[1])[0] < 0.5
    return {
        "psnr": psnr(crops, reference, region),
        "ssim": float(ssim(crops, reference, region, grey=True).mean()),
        "flicker": float(flicker(crops, reference, region).mean()),
    }


def unsteadiness(crops: Tensor) -> float:
    """Motion and flicker together of the repainted part, in 8-bit levels; nan for clips under 3 frames."""
    return float(flicker(crops, region=keep_mask(crops.shape[1])[0] < 0.5).mean())


def describe(
    curve: SyncCurve, measured_by: str, mouth: dict[str, float] | None = None, unsteady: float = math.nan
) -> str:
    """The metrics in lines of text; `measured_by` names the SyncNet."""
    place = f"the mouth is {'late' if curve.offset > 0 else 'early'} by {abs(curve.offset)} frames of 1/25 s"
    lines = [
        f"judged by {measured_by}",
        f"confidence {curve.confidence:.2f}: mean cosine of lips and sound as they are, 0 to 1",
        f"best offset {curve.offset:+d}: {place}" if curve.offset else "best offset 0: lips and sound are in step",
        f"margin {curve.margin:.2f}: cosine at the best offset less the median of all; near 0 the offset means little",
    ]
    if mouth is not None:
        lines.append(f"mouth against the reference: PSNR {mouth['psnr']:.1f} dB, SSIM {mouth['ssim']:.3f}")
        lines.append(f"flicker that the reference does not have: {mouth['flicker']:.2f} levels of 255")
    elif math.isfinite(unsteady):
        lines.append(f"unsteadiness of the mouth, motion and flicker together: {unsteady:.2f} levels of 255")
    return "\n".join(lines)


def chart(curve: SyncCurve, title: str) -> np.ndarray:
    """Cosines by offset, the best one in colour, and over time: (480, 1280, 3) uint8."""
    figure = new_figure(1280, 480, title)
    left, right = figure.subplots(1, 2, sharey=True)
    colours = [BEST if offset == curve.offset else BAR for offset in curve.offsets]
    left.bar(curve.offsets, curve.cosines, 0.7, color=colours)
    left.set(ylim=(0, 1), xticks=sorted({*range(-10, 11, 5), curve.offset}))
    style(left, "mean cosine by offset", "frames of 1/25 s that the mouth is late")
    right.axhline(curve.confidence, color=GREY, linewidth=1, linestyle="--")
    right.plot(curve.middles, curve.over_time, color=LINE, linewidth=1.4)
    right.set_xlim(0, float(curve.middles[-1] + curve.frames / 2 / VIDEO_FPS))
    style(right, "cosine over time, lips and sound as they are", "seconds")
    return drawn(figure)
