"""The face of every frame, brought to one place and size."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..audio.syncnet import SAMPLES_PER_FRAME
from ..face.align import AlignedFaces
from ..face.detect import load_detector
from ..face.landmarks import PUBLISHED_LIMITS, Detector
from ..face.shots import detect_faces
from ..face.track import choose_faces, place_faces
from ..face.track_file import FaceFile
from ..files import replacing
from ..frames import batches
from ..media import VideoReader, VideoWriter, join
from ..media.sound import read_wav, write_flac
from ..settings import EVERY_FACE, TrackSettings
from .executor import Outcome
from .settings import FPS, Tools
from .sources import Source, reading

WINDOW = 16  # frames decoded, aligned and encoded at a time
CRF = 13  # quality of the H.264 pictures, lower is better


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


def align_segment(
    source: Source, start: int, stop: int, tools: Tools, resolution: int, video: Path, boxes: Path
) -> Outcome:
    """Write the aligned crops of a segment, without sound, and the boxes of its face; drop it without a face.

    Of track files, `tools` names that of the source.
    """
    settings, detector, limits = TrackSettings(**EVERY_FACE), detector_of(tools), PUBLISHED_LIMITS
    if isinstance(detector, FaceFile):  # of the whole source; and what it says is a face
        whole, limits = detector.at(FPS), None

        def detector(frame, index):
            return whole(frame, start + index)

    with Segment(source, start, stop) as frames:
        detections = []
        for detection in detect_faces(frames, detector, limits=limits):
            detections.append(detection)
            if not detection.faces:  # the rest need not be looked at
                break
        chosen = choose_faces(detections, FPS, settings)
        missing = next((i for i, face in enumerate(chosen.faces) if face is None), None)
        if missing is not None:
            return Outcome(reason="no_face", sentence=f"no face at {(start + missing) / FPS:.2f} s")
        track = place_faces(chosen, resolution, FPS, settings)
        crops = AlignedFaces(frames, track.matrices, track.found, resolution)
        with VideoWriter(video, FPS, resolution, resolution, crf=CRF) as writer:
            for indices in batches(len(crops), WINDOW):
                writer.write(crops[indices])
    found = np.array([face.box for face in chosen.faces])
    with replacing(boxes) as part, part.open("wb") as file:
        np.save(file, found)
    sides = (found[:, 2:] - found[:, :2]).min(axis=1)
    return Outcome({"face_size": round(float(np.median(sides)), 1)})


def finish_clip(start: int, stop: int, offset: int, sound: Path, video: Path, out: Path) -> Outcome:
    """Write a finished clip. `offset` (frames) delays the sound: frame i gets what was heard with frame i - offset.

    The sound that moves in at an end is the source's own, or silence where that has none.
    """
    count, flac = stop - start, video.with_suffix(".flac")
    samples = read_wav(sound, (start - offset) * SAMPLES_PER_FRAME, count * SAMPLES_PER_FRAME)
    try:
        write_flac(flac, samples)
        join([video], out, audio=flac, duration=count / FPS)
    finally:
        flac.unlink(missing_ok=True)
    return Outcome()
