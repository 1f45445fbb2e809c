"""A corpus of drawn speakers: aligned clips with their sound, ready to train on."""

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from ...face.align import AlignedFaces
from ...face.landmarks import Detection, Face
from ...face.track import FaceTrack, track_faces
from ...models.load import check_resolution
from .clip import Clip, make_clip

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class CorpusSettings:
    """What the clips of a corpus are like; clip i is `make_clip(seed + i)`.

    Attributes:
        clips: how many.
        seconds: length of each.
        seed: of the first clip.
        resolution: side of the aligned crops in pixels.
        size: side of the drawn frames that the crops are cut from.
        crf: quality of the H.264 pictures, less is better.
        variety: how far the voices differ, 0 to 1; see `voice.draw_voice`.
    """

    clips: int
    seconds: float = 4.0
    seed: int = 0
    resolution: int = 256
    size: int = 256
    crf: int = 12
    variety: float = 0.0

    def __post_init__(self):
        if self.clips < 1 or self.seed < 0:
            raise ValueError(
                f"clips is {self.clips} and seed {self.seed}: give at least one clip, and a seed from 0 up"
            )
        if not 0.04 <= self.seconds <= 600:
            raise ValueError(f"seconds is {self.seconds}: give the length of a clip, from 0.04 to 600")
        if not 0 <= self.variety <= 1:
            raise ValueError(f"variety is {self.variety}: give 0 (plain voices) to 1")
        check_resolution(self.resolution)


def detections(clip: Clip) -> Iterator[Detection]:
    """What a perfect detector sees in a drawn clip."""
    for box, points in zip(clip.boxes, clip.landmarks, strict=True):
        yield Detection([Face(tuple(box), 1.0, points)])


def track_clip(clip: Clip, resolution: int) -> FaceTrack:
    """The track of a drawn face, from its landmarks instead of a detector's."""
    return track_faces(detections(clip), resolution, clip.fps)


def align_clip(clip: Clip, resolution: int) -> torch.Tensor:
    """The aligned crops of a clip: (n, resolution, resolution, 3) float32 in [0, 1]."""
    track = track_clip(clip, resolution)
    return AlignedFaces(clip.frames, track.matrices, track.found, resolution)[range(len(track))]


def write_corpus(
    folder: Path, settings: CorpusSettings, workers: int = 1, progress: Progress = lambda phase, done, total: None
) -> list[Path]:
    """Draw the clips of a corpus and write them as `clip_000000.mp4` and so on; those already there are kept.

    The pictures are aligned crops at 25 frames/s, the sound is 16 kHz mono, AAC.

    Args:
        workers: processes that draw at the same time.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"clip_{settings.seed + i:06d}.mp4" for i in range(settings.clips)]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    done = len(paths) - len(missing)
    progress("drawing", done, len(paths))
    for _ in _written(settings, [(settings.seed + i, paths[i]) for i in missing], workers):
        done += 1
        progress("drawing", done, len(paths))
    return paths


def _written(settings: CorpusSettings, jobs: list[tuple[int, Path]], workers: int) -> Iterator[Path]:
    if workers <= 1 or len(jobs) < 2:
        for seed, path in jobs:
            yield _write(settings, seed, path)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_single_thread) as pool:
        futures = [pool.submit(_write, settings, seed, path) for seed, path in jobs]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _single_thread() -> None:
    """Each worker is a process of its own and has one core to itself."""
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _write(settings: CorpusSettings, seed: int, path: Path) -> Path:
    clip = make_clip(seed, settings.seconds, settings.size, variety=settings.variety)
    write_clip(path, align_clip(clip, settings.resolution), clip, crf=settings.crf, preset="veryfast")
    return path


def write_clip(path: Path, pictures: torch.Tensor, clip: Clip, **quality) -> None:
    """Pictures (n, h, w, 3) of a clip as a video with the clip's sound.

    The sound is in a .wav file beside `path` meanwhile. `quality` are `VideoWriter`'s crf and preset.
    """
    from ...media import VideoWriter

    sound = path.with_suffix(".wav")
    try:
        write_wav(sound, clip.waveform, clip.rate)
        with VideoWriter(path, clip.fps, *pictures.shape[1:3], audio=sound, **quality) as writer:
            writer.write(pictures)
    finally:
        sound.unlink(missing_ok=True)


def write_wav(path: Path, waveform: torch.Tensor, rate: int) -> None:
    """A mono waveform (samples,) in [-1, 1] as 16-bit PCM."""
    import wave

    samples = np.rint(waveform.numpy().clip(-1, 1) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
