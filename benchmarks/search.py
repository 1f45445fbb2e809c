"""Frames a second of the search for the face in a clip, reading included, and how steady the crop is.

    python benchmarks/search.py VIDEO YUNET.onnx [--frames N]

"Before" searches the whole of each frame, in one thread. Prints both, with what they took, in how many frames they
follow the same face, and last the speed and how many times the jitter of before the crop has, as
`51.3 frames/s, jitter 0.98x`.
"""

import argparse
import sys
import time
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from latentsync.face.detect.yunet import YuNet
from latentsync.face.shots import detect_faces
from latentsync.face.track import FaceTrack, choose_faces, place_faces
from latentsync.frames import FrameView
from latentsync.media import VideoReader
from latentsync.settings import TrackSettings


class Counted(YuNet):
    """YuNet that counts, in any thread, the pictures that it looks at."""

    def __init__(self, model: Path):
        super().__init__(model)
        self.whole, self.regions = count(), count()

    def find(self, frame):
        next(self.whole)
        return super().find(frame)

    def measure(self, frame, faces):
        for _ in faces:
            next(self.regions)
        return super().measure(frame, faces)


def searched(
    video: Path, detector: Counted, frames: int | None, whole: bool
) -> tuple[float, float, np.ndarray, FaceTrack]:
    """Frames a second, milliseconds of one core a frame, the face's boxes (n, 4), NaN without it, and its track."""
    with VideoReader(video) as reader:
        clip = FrameView(reader, range(min(len(reader), frames or len(reader))))
        start, worked = time.perf_counter(), time.process_time()
        detections = list(detect_faces(clip, detector, whole=whole))
        rate = len(clip) / (time.perf_counter() - start)
        cost = 1000 * (time.process_time() - worked) / len(clip)
        chosen = choose_faces(detections, float(reader.fps), TrackSettings())
        track = place_faces(chosen, 256, float(reader.fps), TrackSettings())
    return rate, cost, np.array([face.box if face else [np.nan] * 4 for face in chosen.faces]), track


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("yunet", type=Path)
    parser.add_argument("--frames", type=int, help="of the clip's beginning; all of them by default")
    arguments = parser.parse_args()
    rates, jitters, boxes = [], [], []
    for name, whole in (("before", True), ("now", False)):
        detector = Counted(arguments.yunet)
        rate, cost, places, track = searched(arguments.video, detector, arguments.frames, whole)
        print(
            f"{name:6}  {rate:5.1f} frames/s   {cost:4.1f} ms of one core a frame   jitter {track.jitter():.2f} px   "
            f"{next(detector.whole)} whole frames, {next(detector.regions)} faces measured in small views"
        )
        rates.append(rate), jitters.append(track.jitter()), boxes.append(places)
    centres = [(b[:, :2] + b[:, 2:]) / 2 for b in boxes]
    apart = np.linalg.norm(centres[0] - centres[1], axis=1) / (boxes[0][:, 2] - boxes[0][:, 0])
    both_lost = np.isnan(boxes).all(axis=(0, 2))
    print(f"the same face in {np.mean(both_lost | (apart < 0.25)):.1%} of the frames")
    print(f"{rates[1]:.1f} frames/s, jitter {jitters[1] / jitters[0]:.2f}x")


if __name__ == "__main__":
    main()
