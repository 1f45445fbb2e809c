"""The sample clips that come along: drawn heads to try lip sync on, and new words for them."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import FileError, InputError

SAMPLES = Path(__file__).parents[1] / "assets" / "sample"
TRACK_SUFFIX = ".faces.json"
VOICES = {"talking head": 1, "two speakers": 2, "short clip": 1}  # of each sample


@dataclass(frozen=True)
class Sample:
    """The files of one sample."""

    video: Path  # with the sound of its old words
    voices: tuple[Path, ...]  # the new words, one file for each head from the left
    track: Path  # where the heads are


def find_sample(name: str, folder: Path = SAMPLES) -> Sample:
    """The files of the sample called `name`, a key of `VOICES`."""
    if name not in VOICES:
        raise InputError(f"sample clip is {name!r}: choose one of {', '.join(VOICES)}")
    sample = sample_files(name, folder, VOICES[name])
    for path in (sample.video, *sample.voices, sample.track):
        if not path.is_file():
            raise FileError(f"{path} is not there: the sample clips belong to the package, install that again")
    return sample


def sample_files(name: str, folder: Path, voices: int) -> Sample:
    stem = name.replace(" ", "_")
    endings = [""] if voices == 1 else [f"_{i + 1}" for i in range(voices)]
    sounds = tuple(folder / f"{stem}{ending}.flac" for ending in endings)
    return Sample(folder / f"{stem}.mp4", sounds, folder / f"{stem}{TRACK_SUFFIX}")
