"""How well the demo's result speaks, in figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ...evaluate.curves import best_lag, correlation
from ...evaluate.image_metrics import psnr, ssim
from ...face.align import AlignedFaces
from ...face.masks import keep_mask
from ...face.track import FaceTrack
from ...models.embedded import EMBEDDED
from ...models.load import find_checkpoints
from ..heads.opening import measure_opening
from .scene import Scene


@dataclass(frozen=True)
class Report:
    """How well the result speaks the new audio; `str` gives the lines that the command prints.

    Attributes:
        folder: where the files are.
        correlation: of the mouth's opening, measured in the result, with the true one of the new audio.
        lag: frames by which the measured mouth comes later than the true one.
        old_correlation: of the measured opening with that of the old audio.
        psnr: dB, of the repainted part of the aligned crops against the true pictures.
        ssim: of the same.
        sync: mean cosine of result and audio by the embedded SyncNet, with the new and the old; None without it.
        seconds: time taken.
    """

    folder: Path
    correlation: float
    lag: int
    old_correlation: float
    psnr: float
    ssim: float
    sync: tuple[float, float] | None
    seconds: float

    def __str__(self) -> str:
        folder = self.folder
        source, audio, track = (folder / name for name in ("source.mp4", "audio.wav", "track.json"))
        lines = [
            "mouth opening in the result, against the true one of the new audio:",
            f"correlation {self.correlation:.2f}",
            f"best lag {self.lag} frames",
            f"correlation with the old audio {self.old_correlation:.2f}",
            "pictures, against the true ones:",
            f"PSNR of the mouth {self.psnr:.1f} dB, SSIM {self.ssim:.3f}",
        ]
        if self.sync:
            lines.append(f"SyncNet {self.sync[0]:.2f} with the new audio, {self.sync[1]:.2f} with the old")
        lines += [
            f"{folder / 'result.mp4'} in {self.seconds:.0f} s, from {source} and {audio}",
            f"to look at: {folder / 'strip.png'} and {folder / 'curve.png'}",
            "the same by hand: python -m latentsync run --checkpoints embedded --detector file "
            f"--detector_model {track} --video_path {source} --audio_path {audio} "
            f"--video_out_path {folder / 'again.mp4'}",
        ]
        return "\n".join(lines)


def measure(scene: Scene, result: torch.Tensor, track: FaceTrack) -> tuple[Report, np.ndarray]:
    """The report on `result` (n, h, w, 3), without folder and time, and the mouth's opening in it, 0..1: (n,)."""
    crops, truth = (
        AlignedFaces(frames, track.matrices, track.found, track.resolution)[range(len(track))]
        for frames in (result, scene.truth.frames)
    )
    # What an opening of 1 measures depends on the speaker; the true pictures tell.
    slope, level = np.polyfit(measure_opening(truth).numpy(), scene.truth.opening, 1)
    measured = slope * measure_opening(crops).numpy() + level
    region = keep_mask(track.resolution)[0] < 0.5
    paths, sync = find_checkpoints(EMBEDDED), None
    if paths.syncnet is not None and paths.vae is not None:
        from ...evaluate.sync_score import load_stable_syncnet
        from ...train.validate import judge_sync

        judge, vae = load_stable_syncnet(EMBEDDED)
        new, old = (judge_sync(judge, vae, crops, clip.waveform)["sync"] for clip in (scene.truth, scene.source))
        sync = new, old
    report = Report(
        folder=Path(),
        correlation=correlation(measured, scene.truth.opening),
        lag=best_lag(measured, scene.truth.opening),
        old_correlation=correlation(measured, scene.source.opening),
        psnr=psnr(crops, truth, region),
        ssim=float(ssim(crops, truth, region, grey=True).mean()),
        sync=sync,
        seconds=0.0,
    )
    return report, measured
