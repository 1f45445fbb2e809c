"""How well lips fit their sound and, where the true pictures are known, how good the mouth is: figures and a chart."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from .checkpoint import find_checkpoints, load_vae
from .demo.charts import GREY, GRID, INK, Canvas, Panel
from .figures import flicker, psnr, ssim
from .frames import Extended, Frames
from .masks import keep_mask
from .speech import SYNCNET_FRAMES, VIDEO_FPS
from .train.estimate import SyncJudge
from .train.syncnet import load_syncnet
from .train.validate import STRIDE, mean_of_windows, sync_cosines

BAR, BEST, LINE = (158, 182, 214), (46, 134, 110), (214, 69, 65)


@dataclass(frozen=True, eq=False)
class SyncCurve:
    """How well lips and sound fit when shifted against each other.

    Attributes:
        offsets: (k,) frames of 1/25 s; positive: the mouth is that late, the sound would have to come later.
        cosines: (k,) mean over the clip, 0 (do not belong together) to 1; nan where the clip is too short to tell.
        over_time: (windows,) cosine of sound and lips as they are, for windows of `frames`, 4 apart.
        frames: what SyncNet judges at once.
    """

    offsets: np.ndarray
    cosines: np.ndarray
    over_time: np.ndarray
    frames: int = SYNCNET_FRAMES

    @property
    def middles(self) -> np.ndarray:
        """(windows,) seconds: the middle of each window of `over_time`."""
        return (np.arange(len(self.over_time)) * STRIDE + self.frames / 2) / VIDEO_FPS

    @property
    def confidence(self) -> float:
        """Mean cosine of lips and sound as they are."""
        return float(self.cosines[self.offsets == 0][0])

    @property
    def offset(self) -> int:
        """Frames of 1/25 s by which the mouth is late: where the cosine is highest."""
        return int(self.offsets[np.nanargmax(self.cosines)])

    @property
    def margin(self) -> float:
        """How much the best offset stands out: its cosine less the median over the offsets."""
        return float(np.nanmax(self.cosines) - np.nanmedian(self.cosines))


@dataclass(frozen=True)
class Likeness:
    """The repainted part of crops against the true ones: dB, SSIM of at most 1, and flicker that those do not have in
    8-bit levels (nan for clips under 3 frames)."""

    psnr: float
    ssim: float
    flicker: float


def load_judge(folder: str | Path) -> tuple[SyncJudge, nn.Module | None]:
    """The SyncNet in a checkpoints folder and, if it sees latents, the VAE that makes them. On the CPU, float32.

    Raises:
        FileNotFoundError: one of them is missing.
        ValueError: a file of another kind.
    """
    paths = find_checkpoints(folder)
    if paths.syncnet is None:
        raise FileNotFoundError(
            f"{folder} lacks stable_syncnet: fetch it with `python -m latentsync download --checkpoints {folder} "
            "--only syncnet`, in ComfyUI with Download LatentSync Models and syncnet on"
        )
    judge = SyncJudge(*load_syncnet(paths.syncnet))
    if judge.sees_pixels:
        return judge, None
    if paths.vae is None:
        raise FileNotFoundError(
            f"{paths.syncnet} judges latents and {folder} lacks the VAE: fetch it with `python -m latentsync download "
            f"--checkpoints {folder} --only vae`"
        )
    return judge, load_vae(paths.vae)


def sync_curve(judge: SyncJudge, vae: nn.Module | None, crops: Frames, wave: Tensor, fps: float = 25.0) -> SyncCurve:
    """What SyncNet says of crops and their sound at every offset.

    Args:
        judge, vae: from `load_judge`, on one device.
        crops: aligned crops, [indices] -> (n, resolution, resolution, 3); read 16 (`judge.frames`) at a time.
        wave: (samples,) float32 at 16 kHz. Sound that ends before the pictures goes on in silence.
        fps: of the crops; SyncNet hears and sees 25, so that others are dropped or repeated.

    Raises:
        ValueError: a clip too short to be judged, or a frame rate that is none.
    """
    crops = at_25(crops, fps)
    if len(crops) < judge.frames:
        raise ValueError(
            f"the clip has {len(crops)} frames at {VIDEO_FPS} frames per second: SyncNet judges {judge.frames} at "
            "once, give a longer one"
        )
    offsets, cosines = sync_cosines(judge, vae, crops, wave)
    return SyncCurve(offsets, mean_of_windows(cosines), cosines[:, offsets == 0][:, 0], judge.frames)


def at_25(crops: Frames, fps: float) -> Frames:
    """Pictures at `fps` as SyncNet sees them, at 25 per second: as they are, or as `Extended`.

    Raises:
        ValueError: a frame rate that is none.
    """
    if not 0 < fps < math.inf:
        raise ValueError(f"fps is {fps}: give the frames per second of the crops")
    if fps == VIDEO_FPS:
        return crops
    count = round(len(crops) * VIDEO_FPS / fps)
    return Extended(crops, [min(int((i + 0.5) * fps / VIDEO_FPS), len(crops) - 1) for i in range(count)])


def likeness(crops: Tensor, reference: Tensor) -> Likeness:
    """The repainted part of `crops` (n, h, h, 3) in [0, 1] against `reference`, the true crops.

    Raises:
        ValueError: the two differ in shape.
    """
    if crops.shape != reference.shape:
        raise ValueError(
            f"the crops are {_size(crops)} and the reference {_size(reference)}: give the same frames, cropped with "
            "the same track"
        )
    region = keep_mask(crops.shape[1])[0] < 0.5
    steady = flicker(crops, reference, region)[1] if len(crops) > 2 else math.nan
    return Likeness(psnr(crops, reference, region), ssim(crops, reference, region), steady)


def _size(pictures: Tensor) -> str:
    count, height, width = pictures.shape[:3]
    return f"{count} frames of {width} x {height}"


def unsteadiness(crops: Tensor) -> float:
    """Mean bend of the repainted part over time, in 8-bit levels, of motion and flicker together; see
    `figures.flicker`. nan for clips under 3 frames."""
    region = keep_mask(crops.shape[1])[0] < 0.5
    return flicker(crops, torch.zeros_like(crops), region)[1] if len(crops) > 2 else math.nan


def describe(curve: SyncCurve, judged_by: str, like: Likeness | None = None, unsteady: float = math.nan) -> str:
    """The figures in lines of text; `judged_by` names the SyncNet."""
    place = f"the mouth is {'late' if curve.offset > 0 else 'early'} by {abs(curve.offset)} frames of 1/25 s"
    lines = [
        f"judged by {judged_by}",
        f"confidence {curve.confidence:.2f}: mean cosine of lips and sound as they are, 0 to 1",
        f"best offset {curve.offset:+d}: {place}" if curve.offset else "best offset 0: lips and sound are in step",
        f"margin {curve.margin:.2f}: cosine at the best offset less the median of all; near 0 the offset means little",
    ]
    if like is not None:
        lines.append(f"mouth against the reference: PSNR {like.psnr:.1f} dB, SSIM {like.ssim:.3f}")
        lines.append(f"flicker that the reference does not have: {like.flicker:.2f} levels of 255")
    elif math.isfinite(unsteady):
        lines.append(f"unsteadiness of the mouth, motion and flicker together: {unsteady:.2f} levels of 255")
    return "\n".join(lines)


def chart(curve: SyncCurve, title: str) -> np.ndarray:
    """Cosines by offset, the best one in colour, and over time: (480, 1280, 3) uint8."""
    canvas = Canvas(1280, 480)
    canvas.text(64, 30, title, 19)
    _bars(canvas, curve, Panel(64, 96, 560, 410, 1.0, 1.0))
    seconds = float(curve.middles[-1] + curve.frames / 2 / VIDEO_FPS)
    right = Panel(660, 96, 1244, 410, seconds, 1.0)
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
