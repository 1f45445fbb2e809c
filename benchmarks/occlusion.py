"""A hand, a microphone and a cup before the mouth of drawn heads that are made to say other words.

    python benchmarks/occlusion.py [--seeds 900201 900202] [--seconds 1.6] [--steps 10] [--pictures FOLDER]

Prints for each thing the worst difference of its pixels from the source's, in 8-bit levels, and the PSNR of what the
net repaints beside it against the truth, in dB, with the thing and, of the same pixels, without it; last the worst of
all, as `0 levels, -0.05 dB`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from latentsync.audio.whisper import SAMPLE_RATE, resample
from latentsync.drawn.demo import make_scene
from latentsync.drawn.heads.corpus import detections, track_clip
from latentsync.drawn.heads.occluders import THINGS, cover
from latentsync.face.align import AlignedFaces
from latentsync.face.masks import keep_mask
from latentsync.face.occlusion import IN_FRONT, Occlusion
from latentsync.face.track_sheet import write_png
from latentsync.models.embedded import load_embedded
from latentsync.models.load import LipSyncModel
from latentsync.pipelines.lip_sync import LipSyncInput, lip_sync_frames
from latentsync.progress import no_progress
from latentsync.settings import RunSettings, Settings


def measure(
    model: LipSyncModel, thing: str, seed: int, seconds: float, steps: int
) -> tuple[int, float, float, np.ndarray]:
    """Levels, PSNR with and without the thing, and a strip of source, result and truth."""
    scene, settings = make_scene(seed, seconds), RunSettings(sync=Settings(steps=steps))
    (source, masks), (truth, _) = (cover(clip, thing, seed) for clip in (scene.source, scene.truth))
    track = track_clip(source, model.resolution)
    wave = resample(truth.waveform[None], truth.rate)[0][: round(len(track) / truth.fps * SAMPLE_RATE)]

    def synced(frames: torch.Tensor, masks: torch.Tensor | None) -> torch.Tensor:
        take = LipSyncInput(frames, truth.fps, wave, masks)
        result = lip_sync_frames(take, model, lambda frame, index: seen[index], settings, no_progress, track)
        return torch.cat([window.pictures for window in result.windows()])

    seen = [detection.faces for detection in detections(source)]
    covered, usual = synced(source.frames, masks), synced(scene.source.frames, None)
    worst = (covered.int() - source.frames.int()).abs()[masks >= IN_FRONT].max()
    free = Occlusion(masks, track)[list(range(len(track)))] == 1
    beside = free & (keep_mask(model.resolution)[0] < 0.5) & (~free).any(2).any(1)[:, None, None]

    def psnr(frames: torch.Tensor, wanted: torch.Tensor) -> float:
        faces = track.matrices, track.found, track.resolution
        crops = (AlignedFaces(pictures, *faces)[range(len(track))][beside] for pictures in (frames, wanted))
        return float(-10 * torch.log10(torch.mean(torch.sub(*crops) ** 2)))

    numbers = np.linspace(0, len(track) - 1, 7).astype(int)[1:-1]
    strip = np.vstack([np.hstack(clip[numbers].numpy()) for clip in (source.frames, covered, truth.frames)])
    return int(worst), psnr(covered, truth.frames), psnr(usual, scene.truth.frames), strip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[900_201, 900_202])
    parser.add_argument("--seconds", type=float, default=1.6)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    model, found = load_embedded(), []
    for thing in THINGS:
        for seed in arguments.seeds:
            levels, covered, usual, strip = measure(model, thing, seed, arguments.seconds, arguments.steps)
            found.append((levels, covered - usual))
            print(f"{thing} {seed}: {levels} levels, {covered:.2f} dB, without it {usual:.2f} dB", flush=True)
            if arguments.pictures:
                write_png(arguments.pictures / f"{thing}_{seed}.png", strip)
    print(f"{max(levels for levels, _ in found)} levels, {min(gain for _, gain in found):+.2f} dB")


if __name__ == "__main__":
    main()
