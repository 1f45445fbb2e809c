"""The packaged sample clips: drawn heads to try lip sync on, and new words for them.

`python -m latentsync.drawn.heads.samples FOLDER` draws them again. Their seeds are no training clip's.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import av
import torch

from ...face.landmarks import Detection, Face
from ...face.track_file import write_track_file
from ...files import replacing
from ...models.samples import Sample, sample_files
from .clip import Clip, render
from .corpus import detections, pcm, write_clip
from .speaker import make_speaker
from .speech import make_speech, speak

HEAD_SIZE, TILE_SIZE = 320, 256  # pixels: side of a picture with one head, and of each half of one with two
CRF = 20


@dataclass(frozen=True, eq=False)
class Drawing:
    """One sample before it is written.

    Attributes:
        source: the clip with the old words; of two heads with the left one's landmarks, boxes and mouth.
        truth: each head from the left, saying its new words.
        faces: what a perfect detector sees.
    """

    source: Clip
    truth: tuple[Clip, ...]
    faces: Sequence[Detection]


def draw_talking_head() -> Drawing:
    """One head, and other words of the same length in its voice."""
    return _one_head(900_113, words=900_114, seconds=3.2, new_seconds=3.2)


def draw_short_clip() -> Drawing:
    """One head for a moment, and words that go on for much longer."""
    return _one_head(900_122, words=900_123, seconds=1.6, new_seconds=4.0)


def _one_head(seed: int, words: int, seconds: float, new_seconds: float) -> Drawing:
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


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "talking head": draw_talking_head,
    "two speakers": draw_two_speakers,
    "short clip": draw_short_clip,
}


def write_samples(folder: Path) -> list[Sample]:
    """Draw all samples and write them into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in DRAWINGS.items():
        drawing = draw()
        source, sample = drawing.source, sample_files(name, folder, len(drawing.truth))
        write_clip(sample.video, source.frames, source, crf=CRF, preset="veryslow")
        for path, clip in zip(sample.voices, drawing.truth, strict=True):
            write_flac(path, clip.waveform, clip.rate)
        write_track_file(sample.track, drawing.faces, source.frames.shape[2], source.frames.shape[1], source.fps)
        written.append(sample)
    return written


def write_flac(path: Path, waveform: torch.Tensor, rate: int) -> None:
    """A mono waveform (samples,) in [-1, 1] as 16-bit FLAC."""
    with replacing(path) as part, av.open(str(part), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, format="s16", layout="mono")
        frame = av.AudioFrame.from_ndarray(pcm(waveform)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m latentsync.drawn.heads.samples")
    parser.add_argument("folder", type=Path, help="where to write")
    write_samples(parser.parse_args().folder)
