"""How well lips fit their sound and, where the true pictures are known, how good the mouth is: text and a chart."""

import math

import numpy as np
from torch import Tensor

from ..audio.syncnet import VIDEO_FPS
from ..errors import InputError
from ..face.masks import keep_mask
from .charts import GREY, GRID, INK, Canvas, Panel
from .image_metrics import flicker, psnr, ssim
from .sync_score import SyncCurve

BAR, BEST, LINE = (158, 182, 214), (46, 134, 110), (214, 69, 65)


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
    canvas = Canvas(1280, 480)
    canvas.text(64, 30, title, 19)
    _bars(canvas, curve, Panel(64, 96, 560, 410, 1.0))
    seconds = float(curve.middles[-1] + curve.frames / 2 / VIDEO_FPS)
    right = Panel(660, 96, 1244, 410, seconds)
    right.axes(canvas, "cosine over time, lips and sound as they are", (0, 0.25, 0.5, 0.75, 1), seconds_shown=True)
    canvas.line(right.points([0, seconds], [curve.confidence] * 2), GREY, 1.4, dash=6)
    canvas.line(right.points(curve.middles, curve.over_time), LINE, 2.4)
    return canvas.finish()


def _bars(canvas: Canvas, curve: SyncCurve, panel: Panel) -> None:
    """A bar for each offset; below the axis every fifth is numbered."""
    canvas.text(panel.left, panel.top - 15, "mean cosine by offset", 14, INK)
    for value in (0, 0.25, 0.5, 0.75, 1):
        height = panel.points([0, 1], [value, value])
        canvas.line(height, GRID if value else GREY)
        canvas.text(panel.left - 9, height[0, 1], f"{value:g}", 13, GREY, align=1)
    width = 1 / len(curve.offsets)
    for k, (offset, cosine) in enumerate(zip(curve.offsets, curve.cosines, strict=True)):
        left, right = (k + 0.15) * width, (k + 0.85) * width
        if math.isfinite(cosine):
            best = offset == curve.offset
            canvas.area(panel.points([left, right, right, left], [0, 0, cosine, cosine]), BEST if best else BAR)
        if offset % 5 == 0 or offset == curve.offset:
            x = panel.points([(k + 0.5) * width], [0])[0, 0]
            canvas.text(x, panel.bottom + 15, f"{offset:+d}" if offset else "0", 13, GREY, align=0.5)
    canvas.text(panel.right, panel.bottom + 35, "frames of 1/25 s that the mouth is late", 13, GREY, align=1)
