"""A corpus of drawn speakers: aligned clips with their sound, ready to train on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ...errors import InputError
from ...face.align import AlignedFaces
from ...face.landmarks import Detection, Face
from ...face.track import FaceTrack, track_faces
from ...files import make_folder
from ...media import VideoWriter
from ...media.sound import write_wav
from ...models.load import check_resolution
from ...prepare.executor import Executor, InProcess
from ...progress import Progress, no_progress
from .clip import DrawnClip, make_clip


@dataclass(frozen=True)
class CorpusSettings:
    """What the clips of a corpus are like; clip i is `make_clip(seed + i)`."""

    clips: int
    seconds: float = 4.0
    seed: int = 0
    resolution: int = 256  # side of the aligned crops in pixels
    size: int = 256  # side of the drawn frames that the crops are cut from
    crf: int = 12  # H.264 quality of the crops; lower is better
    variety: float = 0.0  # how far the voices differ, 0 to 1; see `voice.draw_voice`

    def __post_init__(self):
        if self.clips < 1 or self.seed < 0:
            raise InputError(
                f"clips is {self.clips} and seed {self.seed}: give at least one clip, and a seed from 0 up"
            )
        if not 0.04 <= self.seconds <= 600:
            raise InputError(f"seconds is {self.seconds}: give the length of a clip, from 0.04 to 600")
        if not 0 <= self.variety <= 1:
            raise InputError(f"variety is {self.variety}: give 0 (plain voices) to 1")
        check_resolution(self.resolution)


def detections(clip: DrawnClip) -> Iterator[Detection]:
    """What a perfect detector sees in a drawn clip."""
    for box, points in zip(clip.boxes, clip.landmarks, strict=True):
        yield Detection([Face(tuple(box), 1.0, points)])


def track_clip(clip: DrawnClip, resolution: int) -> FaceTrack:
    """The track of a drawn face, from its landmarks instead of a detector's."""
    return track_faces(detections(clip), resolution, clip.fps)


def align_clip(clip: DrawnClip, resolution: int) -> torch.Tensor:
    """The aligned crops of a clip: (n, resolution, resolution, 3) float32 in [0, 1]."""
    track = track_clip(clip, resolution)
    return AlignedFaces(clip.frames, track.matrices, track.found, resolution)[range(len(track))]


def write_corpus(
    folder: Path, settings: CorpusSettings, executor: Executor | None = None, progress: Progress = no_progress
) -> list[Path]:
    """Draw the clips of a corpus and write them as `clip_000000.mp4` and so on; those already there are kept.

    The pictures are aligned crops at 25 frames/s, the sound is 16 kHz mono, AAC.
    """
    make_folder(folder)
    paths = {settings.seed + i: folder / f"clip_{settings.seed + i:06d}.mp4" for i in range(settings.clips)}
    missing = {seed: path for seed, path in paths.items() if not path.is_file()}
    done = len(paths) - len(missing)
    progress("drawing", done, len(paths))
    # In a folder of their own, which goes with all in it where the work is broken off.
    with TemporaryDirectory(prefix=".drawing-", dir=folder) as work, executor or InProcess() as executor:
        jobs = [(settings, seed, Path(work) / path.name, path) for seed, path in missing.items()]
        for (_, _, _, path), outcome in executor.results(jobs, _draw):
            if outcome is not None:
                raise RuntimeError(f"cannot draw {path.name}: {outcome.sentence}")
            done += 1
            progress("drawing", done, len(paths))
    return list(paths.values())


def _draw(job: tuple[CorpusSettings, int, Path, Path]) -> None:
    settings, seed, part, path = job
    clip = make_clip(seed, settings.seconds, settings.size, variety=settings.variety)
    write_clip(part, align_clip(clip, settings.resolution), clip, crf=settings.crf, preset="veryfast")
    part.replace(path)


def write_clip(path: Path, pictures: torch.Tensor, clip: DrawnClip, **quality) -> None:
    """Pictures (n, h, w, 3) of a clip as a video with the clip's sound; `quality` are `VideoWriter`'s crf and preset.

    The sound is in a .wav file beside `path` in the meantime.
    """
    sound = path.with_suffix(".wav")
    try:
        write_wav(sound, [clip.waveform], clip.rate)
        with VideoWriter(path, clip.fps, *pictures.shape[1:3], audio=sound, **quality) as writer:
            writer.write(pictures)
    finally:
        sound.unlink(missing_ok=True)
