"""The face of every frame, brought to one place and size."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from ..audio.syncnet import SAMPLES_PER_FRAME
from ..face.align import AlignedFaces
from ..face.detect import load_detector
from ..face.landmarks import PUBLISHED_LIMITS, Detection, Detector, Face
from ..face.shots import detect_faces
from ..face.track import choose_faces, place_faces
from ..face.track_file import FaceFile
from ..files import replacing
from ..frames import Frames, batches
from ..media import VideoReader, VideoWriter, join
from ..settings import TrackSettings
from .executor import Outcome
from .read import read_sound, write_flac
from .settings import FPS, Tools
from .sources import Source, reading

WINDOW = 16  # frames decoded, aligned and encoded at a time


@lru_cache(maxsize=2)
def detector_of(tools: Tools) -> Detector:
    """The detector, loaded once in each process."""
    return load_detector(tools.detector, model=tools.detector_model, checkpoints=tools.checkpoints, device=tools.device)


class Segment(AbstractContextManager):
    """Frames `start` to `stop` of a source at 25 frames/s, as `Frames`, in a `with` block."""

    def __init__(self, source: Source, start: int, stop: int):
        self.source, self.start, self.stop = source, start, stop
        with reading(source):
            self._video = VideoReader(source.path, fps=FPS, cache=WINDOW)

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        with reading(self.source):
            return self._video[[self.start + i for i in indices]]

    def __exit__(self, *_) -> None:
        self._video.close()


def _shifted(detector: Detector, start: int, frame: np.ndarray, index: int) -> list[Face]:
    return detector(frame, start + index)


@dataclass(frozen=True)
class Align:
    """Write the aligned crops of a segment, without sound, and the boxes of its face; drop it without a face.

    Of track files, `tools` names that of the source.
    """

    source: Source
    start: int
    stop: int
    tools: Tools
    resolution: int
    crf: float
    video: Path
    boxes: Path

    def run(self) -> Outcome:
        settings = TrackSettings()
        with Segment(self.source, self.start, self.stop) as frames:
            chosen = choose_faces(self._detections(frames), FPS, settings)
            missing = next((i for i, face in enumerate(chosen.faces) if face is None), None)
            if missing is not None:
                return Outcome(reason="no_face", sentence=f"no face at {(self.start + missing) / FPS:.2f} s")
            track = place_faces(chosen, self.resolution, FPS, settings)
            side = self.resolution
            crops = AlignedFaces(frames, track.matrices, track.found, side)
            with VideoWriter(self.video, FPS, side, side, crf=self.crf) as writer:
                for indices in batches(len(crops), WINDOW):
                    writer.write(crops[indices])
        boxes = np.array([face.box for face in chosen.faces])
        with replacing(self.boxes) as part, part.open("wb") as file:
            np.save(file, boxes)
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1)
        return Outcome({"face_size": round(float(np.median(sides)), 1)})

    def _detections(self, frames: Frames) -> Iterator[Detection]:
        """The faces of each frame, up to the first frame without one: the rest need not be looked at."""
        detector, limits = detector_of(self.tools), PUBLISHED_LIMITS
        if isinstance(detector, FaceFile):  # of the whole source; and what it says is a face
            detector, limits = partial(_shifted, detector.at(FPS), self.start), None
        for detection in detect_faces(frames, detector, limits=limits):
            yield detection
            if not detection.faces:
                return


@dataclass(frozen=True)
class Clip:
    """Write a finished clip. `offset` (frames) delays the sound: frame i gets what was heard with frame i - offset.

    The sound that moves in at an end is the source's own, or silence where that has none.
    """

    start: int
    stop: int
    offset: int
    sound: Path
    video: Path
    out: Path

    def run(self) -> Outcome:
        count = self.stop - self.start
        samples = read_sound(self.sound, (self.start - self.offset) * SAMPLES_PER_FRAME, count * SAMPLES_PER_FRAME)
        flac = self.video.with_suffix(".flac")
        try:
            write_flac(flac, samples)
            join([self.video], self.out, audio=flac, duration=count / FPS)
        finally:
            flac.unlink(missing_ok=True)
        return Outcome()
