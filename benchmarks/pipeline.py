"""How little a run waits: decoding, cropping, blending and encoding beside a stand-in for the device.

    python benchmarks/pipeline.py VIDEO [--seconds 10] [--resolution 256]
    python benchmarks/pipeline.py VIDEO --presets [--seconds 2]

The stand-in sleeps in place of the nets, a given time for each window. The face stands still in the middle, so that
nothing is searched for. Prints, for device times from 0.25 to 4 times what all else takes, the wall time over the
longer of the device's time and the busiest stage's, each measured alone; then the worst of these. Stages that keep
every core busy alone cannot go side by side: the last column has the cores' share of all work for a bound too.

With --presets it encodes the clip with each of x264's, and prints CPU time and size of the file at the PSNR that the
default has, over those of the default.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from timing import face_matrix

from latentsync import threads
from latentsync.audio.whisper import AudioFeatures
from latentsync.face.blend import Blender
from latentsync.face.track import FaceTrack
from latentsync.frames import FrameView, SharedFrames, Window, batches, end_map
from latentsync.media import VideoReader, VideoWriter
from latentsync.pipelines.lip_sync import CropsAhead, LipSyncResult, write
from latentsync.progress import no_progress
from latentsync.settings import PRESETS, EncodingSettings, RunSettings, Settings

TIMES = (0.25, 0.5, 1, 2, 4)
MOST = 1.15
SETTINGS = RunSettings(sync=Settings(steps=1, guidance=1.0))
FACE = 350  # pixels
HELD = 96  # frames in memory where reading is not measured


@dataclass
class Sleeper:
    """Stands in for a `LipSyncModel`: it answers after `seconds` with nothing."""

    resolution: int
    seconds: float = 0.0
    max_frames = None
    latent_channels = 4
    device, dtype = torch.device("cpu"), torch.float32
    source = "stand-in"

    def encode(self, pictures: torch.Tensor) -> torch.Tensor:
        side = self.resolution // 8
        return torch.zeros(len(pictures), 4, side, side)

    def denoise(self, noisy: torch.Tensor, *_) -> torch.Tensor:
        time.sleep(self.seconds)
        return torch.zeros_like(noisy[:, :4])

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(latents), 3, self.resolution, self.resolution)


class Clip:
    def __init__(self, path: Path, seconds: float, resolution: int, folder: Path):
        self.path, self.out, self.model = path, folder / "out.mp4", Sleeper(resolution)
        with VideoReader(path) as reader:
            self.count = min(round(seconds * reader.fps), 4 * len(reader))
            middle = np.array([reader.width, reader.height]) / 2
        matrix = face_matrix(FACE)
        matrix[:, 2] += matrix[:, :2] @ (np.array([540, 800]) - middle)  # it stands at 540, 800
        ones = np.ones(self.count, np.float32)
        matrices = np.repeat(matrix[None], self.count, 0).astype(np.float32)
        self.track = FaceTrack(matrices, ones, ones, np.zeros(self.count, bool), resolution)
        self.features = AudioFeatures(torch.zeros(100, 5, 384), 25.0, self.count)

    def opened(self) -> VideoReader:
        return VideoReader(self.path, cache=2 * SETTINGS.sync.window)

    def frames(self, reader: VideoReader) -> FrameView:
        return FrameView(reader, end_map(len(reader), self.count, "loop"))

    def run(self) -> None:
        with self.opened() as reader:
            heard = lambda: self.features  # noqa: E731
            made = LipSyncResult(self.model, self.frames(reader), 25.0, self.track, heard, False, SETTINGS, no_progress)
            write(made.windows(), self.out, reader, SETTINGS, {})

    def stages(self) -> dict[str, float]:
        """Seconds of each stage, which goes through the clip alone; the last two have their frames in memory."""
        some = batches(self.count, SETTINGS.sync.window)
        crops = torch.zeros(SETTINGS.sync.window, self.model.resolution, self.model.resolution, 3)
        with self.opened() as reader:
            shared = SharedFrames(self.frames(reader), self.count)  # keeps none
            ahead = CropsAhead(shared, self.track, published=False)
            held = reader[list(range(min(HELD, len(reader))))]
            still = FrameView(held, end_map(len(held), self.count, "pingpong"))
            blender = Blender(still, self.track, SETTINGS.blend)
            windows = (Window(range(n[0], n[-1] + 1), still[n]) for n in some)
            return {
                "read and crop": seconds(lambda: [ahead[n] for n in some]),
                "blend": seconds(lambda: [blender(crops[: len(n)], n[0]) for n in some]),
                "encode": seconds(lambda: write(windows, self.out, reader, SETTINGS, {})),
            }


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compare_presets(path: Path, length: float) -> None:
    default, costs = EncodingSettings(), {}
    with VideoReader(path) as reader, tempfile.TemporaryDirectory() as folder:
        frames = reader[list(range(min(round(length * reader.fps), len(reader))))]
        for preset in PRESETS:
            points = []
            for crf in (default.crf - 4, default.crf, default.crf + 4):
                used, out = time.process_time(), Path(folder) / "out.mp4"
                with VideoWriter(out, reader.fps, reader.height, reader.width, crf=crf, preset=preset) as writer:
                    writer.write(frames)
                used = time.process_time() - used
                with VideoReader(out) as made:
                    errors = [(made[[i]].float() - frames[i]).square().mean().item() for i in range(len(frames))]
                points.append((-10 * np.log10(np.mean(errors)), np.log(used), np.log(out.stat().st_size)))
            costs[preset] = np.array(points)[::-1].T  # by rising PSNR
    psnr = costs[default.preset][0][1]
    found = {name: np.exp([np.interp(psnr, x, y) for y in more]) for name, (x, *more) in costs.items()}
    print(f"{'preset':10}{'CPU time':>10}{'size':>8}")
    for name, cost in found.items():
        print(f"{name:10}{cost[0] / found[default.preset][0]:10.2f}{cost[1] / found[default.preset][1]:8.2f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--presets", action="store_true", help="compare x264's instead")
    given = parser.parse_args()
    if given.presets:
        compare_presets(given.video, given.seconds)
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        clip = Clip(given.video, given.seconds, given.resolution, Path(folder))
        clip.run()  # what is loaded and tuned at the first time
        stages = clip.stages()
        used = time.process_time()
        threads.THREADED = False
        alone = seconds(clip.run)
        threads.THREADED = True
        share = (time.process_time() - used) / cores
        parts = ", ".join(f"{name} {took / alone:.2f}" for name, took in stages.items())
        print(f"{clip.count} frames, {cores} cores; of the time without device and threads: {parts}")
        print(f"{'device':>8}{'wall':>8}{'wall / longer':>16}{'with cores':>13}")
        windows = len(batches(clip.count, SETTINGS.sync.window))
        for factor in TIMES:
            device = factor * alone
            clip.model.seconds = device / windows
            wall = seconds(clip.run)
            ratio, bound = (wall / max(device, *stages.values(), more) for more in (0, share))
            worst = max(worst, ratio)
            print(f"{factor:8}{wall / alone:8.2f}{ratio:16.2f}{bound:13.2f}", flush=True)
    print(f"worst: {worst:.2f}, at most {MOST} is wanted")
    return 0 if worst <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
