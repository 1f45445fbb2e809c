"""Last stage: the aligned pictures, as they were encoded, with their sound, shifted to fit the lips."""

from dataclasses import dataclass
from pathlib import Path

from ..media import join
from ..speech import SAMPLES_PER_FRAME
from .settings import FPS
from .sound import read_sound, write_flac
from .work import Outcome


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
