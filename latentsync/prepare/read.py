"""First stages: is a source whole, does it sound, and where are its shots and clips."""

import math
import os
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from ..audio.syncnet import SAMPLES_PER_FRAME
from ..audio.whisper import SAMPLE_RATE
from ..files import replacing
from ..frames import batches
from ..media import VideoReader
from ..media.audio import AudioReader, blocks_16k
from .executor import Outcome
from .settings import FPS, PrepareSettings
from .sources import Source, reading

FULL_SCALE = 32767


def write_sound(reader: AudioReader, path: Path, samples: int) -> float:
    """Write a file's first `samples` at 16 kHz as WAV, silence where it has fewer; returns their peak in 0..1."""
    peak, missing = 0.0, samples
    with replacing(path) as part, wave.open(os.fspath(part), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, samples, "NONE", ""))
        for block in blocks_16k(reader, reader.rate):
            block = block[:missing].numpy().clip(-1, 1)
            peak = max(peak, float(np.abs(block).max(initial=0)))
            file.writeframesraw(np.rint(block * FULL_SCALE).astype("<i2").tobytes())
            missing -= len(block)
            if missing == 0:
                break
        file.writeframes(bytes(2 * missing))
    return peak


def read_sound(path: Path, start: int, count: int) -> np.ndarray:
    """Samples `start` to `start + count` of a WAV file of `write_sound`: (count,) int16, silence outside the file."""
    with wave.open(os.fspath(path), "rb") as file:
        first, last = (min(max(i, 0), file.getnframes()) for i in (start, start + count))
        file.setpos(first)
        inside = np.frombuffer(file.readframes(last - first), "<i2")
    before = first - start if last > first else 0
    return np.pad(inside, (before, count - before - len(inside)))


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Write 16 kHz mono sound, (n,) int16, as FLAC, which MP4 takes without loss."""
    import av

    with av.open(os.fspath(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        stream.codec_context.format = "s16"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


SILENCE_DB = -60.0  # relative to full scale; sound that never rises above it is none
WIDTH = 256  # pixels at which pictures are compared, as PySceneDetect itself does
WINDOW = 16  # frames decoded at a time


@dataclass(frozen=True)
class Read:
    """Drop a source that cannot be decoded or has no sound; write its sound at 16 kHz.

    Frame i of the source, at 25 frames/s, is on screen while samples 640 i to 640 (i + 1) are heard.
    """

    source: Source
    sound: Path

    def run(self) -> Outcome:
        with reading(self.source), VideoReader(self.source.path, fps=FPS, cache=1) as video:
            frames = len(video)
        with reading(self.source, "no_audio"):
            audio = AudioReader(self.source.path)
        with audio, reading(self.source):
            peak = write_sound(audio, self.sound, frames * SAMPLES_PER_FRAME)
        level = round(20 * math.log10(max(peak, 1e-5)), 1)
        figures = {"frames": frames, "peak_db": level}
        if level < SILENCE_DB:
            sentence = f"{self.source.name} is silent: its sound stays below {SILENCE_DB:g} dB of full scale"
            return Outcome(figures, "silent", sentence)
        return Outcome(figures)


@dataclass(frozen=True)
class Cuts:
    """Find the frames, at 25 frames/s, that begin a new shot."""

    source: Source
    threshold: float

    def run(self) -> Outcome:
        return Outcome({"cuts": list(find_cuts(self._pictures(), self.threshold))})

    def _pictures(self) -> Iterator[np.ndarray]:
        with reading(self.source), VideoReader(self.source.path, fps=FPS, cache=WINDOW) as video:
            for indices in batches(len(video), WINDOW):
                yield from video[indices].numpy()


def import_scenedetect() -> ModuleType:
    """PySceneDetect, or an ImportError that says how to get it."""
    try:
        import scenedetect
    except ImportError as error:
        raise ImportError(
            f"cutting at scene changes needs PySceneDetect ({error}): pip install 'scenedetect>=0.7', or --skip cuts"
        ) from error
    return scenedetect


def find_cuts(pictures: Iterator[np.ndarray], threshold: float) -> Iterator[int]:
    """Numbers of the pictures, (h, w, 3) uint8 RGB, that begin a new shot; by PySceneDetect's adaptive detector."""
    scenedetect = import_scenedetect()
    detector = scenedetect.AdaptiveDetector(adaptive_threshold=threshold)
    time = scenedetect.FrameTimecode(0, fps=float(FPS))
    for i, picture in enumerate(pictures):
        time = scenedetect.FrameTimecode(i, fps=float(FPS))
        height = max(1, round(picture.shape[0] * WIDTH / picture.shape[1]))
        small = cv2.resize(picture, (WIDTH, height), interpolation=cv2.INTER_AREA)
        yield from (cut.frame_num for cut in detector.process_frame(time, cv2.cvtColor(small, cv2.COLOR_RGB2BGR)))
    yield from (cut.frame_num for cut in detector.post_process(time))


def shots(frames: int, cuts: list[int]) -> list[tuple[int, int]]:
    """(start, stop) of the shots of a video."""
    borders = [0, *(cut for cut in cuts if 0 < cut < frames), frames]
    return list(zip(borders[:-1], borders[1:], strict=True))


def split(start: int, stop: int, settings: PrepareSettings) -> list[tuple[int, int]]:
    """A shot cut evenly into as few clips as are not too long; none if it is too short for one."""
    if stop - start < settings.shortest:
        return []
    count = math.ceil((stop - start) / settings.longest)
    borders = [start + (stop - start) * k // count for k in range(count + 1)]
    return list(zip(borders[:-1], borders[1:], strict=True))
