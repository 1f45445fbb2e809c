"""First stages: is a source whole, does it sound, and where are its shots and clips."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from ..audio.syncnet import SAMPLES_PER_FRAME
from ..audio.whisper import SAMPLE_RATE
from ..errors import InputError
from ..frames import batches
from ..media import VideoReader
from ..media.audio import AudioReader, blocks_16k
from ..media.sound import write_wav
from .executor import Outcome
from .settings import FPS, PrepareSettings
from .sources import Source, reading

SILENCE_DB = -60.0  # relative to full scale; sound that never rises above it is none
WIDTH = 256  # pixels at which pictures are compared, as PySceneDetect itself does
WINDOW = 16  # frames decoded at a time


def read_source(source: Source, sound: Path) -> Outcome:
    """Drop a source that cannot be decoded or has no sound; write its sound at 16 kHz, mono, as WAV.

    Frame i of the source, at 25 frames/s, is on screen while samples 640 i to 640 (i + 1) are heard.
    """
    with reading(source), VideoReader(source.path, fps=FPS, cache=1) as video:
        frames = len(video)
    with reading(source, "no_audio"):
        audio = AudioReader(source.path)
    with audio, reading(source):
        peak = write_wav(sound, blocks_16k(audio, audio.rate), SAMPLE_RATE, frames * SAMPLES_PER_FRAME)
    figures = {"frames": frames, "peak_db": round(20 * math.log10(max(peak, 1e-5)), 1)}
    if figures["peak_db"] >= SILENCE_DB:
        return Outcome(figures)
    return Outcome(figures, "silent", f"{source.name} is silent: its sound stays below {SILENCE_DB:g} dB of full scale")


def cut_source(source: Source, threshold: float) -> Outcome:
    """Find the frames, at 25 frames/s, that begin a new shot."""

    def pictures() -> Iterator[np.ndarray]:
        with reading(source), VideoReader(source.path, fps=FPS, cache=WINDOW) as video:
            for indices in batches(len(video), WINDOW):
                yield from video[indices].numpy()

    return Outcome({"cuts": list(find_cuts(pictures(), threshold))})


def import_scenedetect() -> ModuleType:
    """PySceneDetect, or an InputError that says how to get it."""
    try:
        import scenedetect
    except ImportError as error:
        raise InputError(
            f"cutting at scene changes needs PySceneDetect ({error}): pip install 'scenedetect>=0.7', or --skip cuts"
        ) from error
    return scenedetect


def find_cuts(pictures: Iterable[np.ndarray], threshold: float) -> Iterator[int]:
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
