"""The sample clips that come along: drawn heads to try lip sync on, and the words that they are to say.

`python -m latentsync.drawn.heads.samples FOLDER` draws them again. Their seeds are no training clip's.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ...face.landmarks import Detection, Face
from ...face.track_file import write_track_file
from ...files import replacing
from ...models.samples import Sample, sample_files
from .clip import Clip, render
from .corpus import detections, write_clip
from .speaker import make_speaker
from .speech import Speech, make_speech, speak
from .voice import Phone

HEAD_SIZE, TILE_SIZE = 320, 256  # pixels: side of a picture with one head, and of each half of one with two
CRF = 20


@dataclass(frozen=True, eq=False)
class Drawing:
    """One sample before it is written.

    Attributes:
        source: the clip with the old words; of two heads the left one's numbers.
        truth: for each head from the left, itself saying its new words: (n, h, w, 3) pictures and their numbers.
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
    seeds, spans = (900_128, 900_109), ((0.0, seconds / 2), (seconds / 2, seconds))
    speakers = [make_speaker(seed) for seed in seeds]
    old = [_within(seed, seed, span, seconds) for seed, span in zip(seeds, spans, strict=True)]
    new = [_within(seed + 50, seed, span, seconds) for seed, span in zip(seeds, spans, strict=True)]
    halves = [render(*pair, TILE_SIZE, seed) for *pair, seed in zip(speakers, old, seeds, strict=True)]
    truth = tuple(render(*pair, TILE_SIZE, seed) for *pair, seed in zip(speakers, new, seeds, strict=True))
    both = torch.cat([half.frames for half in halves], dim=2)
    sound = halves[0].waveform + halves[1].waveform
    return Drawing(replace(halves[0], frames=both, waveform=sound), truth, list(_side_by_side(halves)))


def _within(words: int, voice: int, span: tuple[float, float], seconds: float) -> Speech:
    """Words that are said within `span` seconds of a clip that is silent else."""
    start, stop = span
    phones = [Phone(p.name, p.start + start, p.end + start, p.stress) for p in make_speech(words, stop - start).phones]
    return speak([phone for phone in phones if phone.end <= stop], seconds, voice)


def _side_by_side(halves: Sequence[Clip]) -> Iterator[Detection]:
    for seen in zip(*(detections(half) for half in halves), strict=True):
        faces = [detection.faces[0] for detection in seen]
        yield Detection([_moved(face, k * TILE_SIZE) for k, face in enumerate(faces)])


def _moved(face: Face, right: int) -> Face:
    box = tuple(float(v) for v in np.asarray(face.box) + [right, 0, right, 0])
    return Face(box, face.score, face.points + [right, 0])


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "talking head": draw_talking_head,
    "two speakers": draw_two_speakers,
    "short clip": draw_short_clip,
}


def write_samples(folder: Path) -> list[Sample]:
    """Draw all samples and write them into `folder`, which is made if it is not there.

    Raises:
        OSError: it cannot be written.
    """
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
    import av

    samples = np.rint(waveform.numpy().clip(-1, 1) * 32767).astype(np.int16)
    with replacing(path) as part, av.open(str(part), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate, format="s16", layout="mono")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m latentsync.drawn.heads.samples", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="where to write")
    write_samples(parser.parse_args().folder)


if __name__ == "__main__":
    main()
