"""The packaged sample clips: drawn heads to try lip sync on, and new words for them.

`python -m latentsync.drawn.heads.samples FOLDER` draws them again. Their seeds are no training clip's.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ...face.landmarks import Detection, Face
from ...face.track_file import write_track_file
from ...files import make_folder
from ...media.sound import pcm, write_flac
from ...models.samples import VOICES, sample_files
from .clip import DrawnClip, render
from .corpus import detections, write_clip
from .speaker import make_speaker
from .speech import make_speech, speak

HEAD_SIZE, TILE_SIZE = 320, 256  # pixels: side of a picture with one head, and of each half of one with two


@dataclass(frozen=True, eq=False)
class Drawing:
    """One sample before it is written."""

    source: DrawnClip  # with the old words; of two heads with the left one's landmarks, boxes and mouth
    truth: tuple[DrawnClip, ...]  # each head from the left, saying its new words
    faces: Sequence[Detection]  # what a perfect detector sees


def draw_one(seed: int, words: int, seconds: float, new_seconds: float) -> Drawing:
    """One head, and other words in its voice."""
    speaker = make_speaker(seed)
    source = render(speaker, make_speech(seed, seconds), HEAD_SIZE, seed)
    new = speak(make_speech(words, new_seconds).phones, new_seconds, seed)
    return Drawing(source, (render(speaker, new, HEAD_SIZE, seed),), list(detections(source)))


def draw_two_speakers(seconds: float = 3.2) -> Drawing:
    """Two heads side by side, as in a video call, who speak one after the other."""
    half = seconds / 2
    sources, truth = [], []
    for seed, start in ((900_128, 0.0), (900_109, half)):
        for words, clips in ((seed, sources), (seed + 50, truth)):
            # Each is silent while the other one speaks.
            phones = [replace(p, start=p.start + start, end=p.end + start) for p in make_speech(words, half).phones]
            phones = [phone for phone in phones if phone.end <= start + half]
            clips.append(render(make_speaker(seed), speak(phones, seconds, seed), TILE_SIZE, seed))
    both = torch.cat([clip.frames for clip in sources], dim=2)
    sound = sources[0].waveform + sources[1].waveform
    faces = []
    for left, right in zip(*(detections(clip) for clip in sources), strict=True):
        face = right.faces[0]
        x1, y1, x2, y2 = map(float, face.box)
        moved = Face((x1 + TILE_SIZE, y1, x2 + TILE_SIZE, y2), face.score, face.points + [TILE_SIZE, 0])
        faces.append(Detection([left.faces[0], moved]))
    return Drawing(replace(sources[0], frames=both, waveform=sound), tuple(truth), faces)


def draw_sample(name: str) -> Drawing:
    """The sample called `name`, a key of `models.samples.VOICES`."""
    if name == "two speakers":
        return draw_two_speakers()
    if name == "talking head":
        return draw_one(900_113, words=900_114, seconds=3.2, new_seconds=3.2)
    return draw_one(900_122, words=900_123, seconds=1.6, new_seconds=4.0)  # words that go on for much longer


if __name__ == "__main__":
    out = make_folder(sys.argv[1])
    for name in VOICES:
        drawing = draw_sample(name)
        source, sample = drawing.source, sample_files(name, out, len(drawing.truth))
        write_clip(sample.video, source.frames, source, crf=20, preset="veryslow")
        for path, clip in zip(sample.voices, drawing.truth, strict=True):
            write_flac(path, pcm(clip.waveform))
        write_track_file(sample.track, drawing.faces, source.frames.shape[2], source.frames.shape[1], source.fps)
