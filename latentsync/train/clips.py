"""The clips that a model is trained on: finding them, leaving out the unfit ones, reading pictures and sound."""

import json
import logging
import os
import weakref
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from ..audio.syncnet import SAMPLES_PER_FRAME, VIDEO_FPS
from ..audio.whisper import resample, to_mono
from ..errors import FileError, InputError
from ..files import read_text
from ..media import VideoReader, read_audio
from ..media.audio import AudioReader
from ..media.source import VIDEO_SUFFIXES
from ..progress import Progress, no_progress

log = logging.getLogger(__name__)

SCAN_THREADS = 8  # the scan waits for the drive more than it computes
OPEN_CLIPS = 4  # readers kept open per process; each has threads of its own


class BrokenClip(Exception):
    """A clip that was fit when it was scanned and can no longer be read."""


@dataclass(frozen=True)
class Clip:
    """A fit clip: 25 square pictures per second, with sound. `side` is their height and width in pixels."""

    path: Path
    frames: int
    side: int


def list_clips(source: str | os.PathLike) -> list[Path]:
    """The video files in a folder, at any depth and sorted by path, or those that a list names, in its order.

    A list has one path per line, relative to its own folder, or JSON lines as the manifest of `prepare`: the path is
    `clip`, or else `output`, and lines that say why they were `dropped`, or that this is their `fate`, are passed over.
    """
    source = Path(source)
    if source.is_dir():
        found = (path for path in source.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
        clips = sorted(path for path in found if path.is_file() and not path.name.startswith("."))
        if not clips:
            kinds = ", ".join(sorted(VIDEO_SUFFIXES))
            raise InputError(f"{source} holds no video file ({kinds}): give the folder with the clips, or a list")
        return clips
    if not source.exists():
        raise FileError(f"there is no folder or list of clips {source}: check the path")
    try:
        lines = list(map(str.strip, read_text(source).splitlines()))
    except UnicodeDecodeError as error:
        raise InputError(f"{source} is not a list of clips: give a folder, or one path per line") from error
    names = []
    for number, line in enumerate(lines, 1):
        if not line.startswith("{"):
            names.append(line)
            continue
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise InputError(f"line {number} of {source} is not JSON ({error}): make the list again") from error
        if entry.get("dropped") is None and entry.get("fate") != "dropped":
            names.append(entry.get("clip") or entry.get("output"))
            if not isinstance(names[-1], str):
                raise InputError(f'line {number} of {source} names no clip: give its path as "clip", or say "dropped"')
    if not any(names):
        raise InputError(f"{source} lists no clip that was not dropped: give a list with at least one path")
    return [source.parent / name for name in names if name]


def scan_clips(paths: Sequence[Path], least: int, resolution: int, progress: Progress = no_progress) -> list[Clip]:
    """Those of at least `least` frames and `resolution` pixels, in their order; a warning sums up the others.

    Only the containers are read, and the first picture and the first sound of each file are decoded. `progress` is
    called as ("clips", done, all).
    """
    clips, left_out = [], []
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        for done, found in enumerate(pool.map(lambda path: examine(path, least, resolution), paths), 1):
            (clips if isinstance(found, Clip) else left_out).append(found)
            progress("clips", done, len(paths))
    if left_out:
        first = dict(reversed(left_out))
        kinds = Counter(kind for kind, _ in left_out).most_common()
        parts = ", ".join(f"{n} {kind} (first: {first[kind]})" for kind, n in kinds)
        report = f"{len(left_out)} of {len(paths)} clips left out: {parts}"
        if not clips:
            raise InputError(f"no clip is left to train on: {report}: run `python -m latentsync prepare` on them first")
        log.warning(report)
    return clips


def examine(path: Path, least: int, resolution: int) -> Clip | tuple[str, str]:
    """The clip in a file, or why it is unfit: the kind of fault, by which such clips are counted, and what it is."""
    try:
        with VideoReader(path, cache=1) as reader:
            frames, fps, height, width = len(reader), reader.fps, reader.height, reader.width
    except (OSError, ValueError) as error:
        return "unreadable", _sentence(error)
    if fps != VIDEO_FPS:
        return f"not at {VIDEO_FPS} frames/s", f"{path}: {float(fps):.4g} frames/s"
    if height != width:
        return "not square", f"{path}: {width} x {height}"
    if height < resolution:
        return f"smaller than {resolution} pixels", f"{path}: {width} x {height}"
    if frames < least:
        return f"shorter than {least} frames", f"{path}: {frames} frames"
    try:
        AudioReader(path).close()
    except (OSError, ValueError) as error:
        return "without sound", _sentence(error)
    return Clip(path, frames, height)


def _sentence(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Around what reads the file of a clip: its errors become `BrokenClip`."""
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        raise BrokenClip(f"{path} can no longer be read: {_sentence(error)}") from error


class Pictures(AbstractContextManager):
    """The pictures of a clip as `Frames` of resolution x resolution, uint8; larger ones are reduced by area.

    Raises `BrokenClip`, here and when pictures are read, where the file is no longer the one that was scanned.
    """

    def __init__(self, clip: Clip, resolution: int, cache: int):
        self.clip, self.resolution = clip, resolution
        with reading(clip.path):
            self._reader = VideoReader(clip.path, cache=cache)
        found = (len(self._reader), self._reader.height, self._reader.width)
        if found != (clip.frames, clip.side, clip.side):
            self.close()
            raise BrokenClip(f"{clip.path} is no longer the clip that was scanned: start training again")

    def __len__(self) -> int:
        return self.clip.frames

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        with reading(self.clip.path):
            pictures = self._reader[indices]
        if self.clip.side == self.resolution:
            return pictures
        size = (self.resolution, self.resolution)
        smaller = [cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in pictures.numpy()]
        return torch.from_numpy(np.stack(smaller))

    def close(self, *_) -> None:
        self._reader.close()

    __exit__ = close


class OpenClips:
    """Readers of the clips used last, which stay open until this object goes. Each process has its own."""

    def __init__(self, resolution: int, cache: int):
        self.resolution, self.cache = resolution, cache
        self.readers: OrderedDict[Path, Pictures] = OrderedDict()
        _all_open.add(self)

    def __call__(self, clip: Clip) -> Pictures:
        pictures = self.readers.pop(clip.path, None) or Pictures(clip, self.resolution, self.cache)
        self.readers[clip.path] = pictures
        if len(self.readers) > OPEN_CLIPS:
            self.readers.popitem(last=False)[1].close()
        return pictures

    def __del__(self):
        while self.readers:
            self.readers.popitem()[1].close()

    def __reduce__(self):
        return OpenClips, (self.resolution, self.cache)


_all_open: weakref.WeakSet[OpenClips] = weakref.WeakSet()
_inherited: list[OrderedDict[Path, Pictures]] = []


def _start_anew_after_a_fork() -> None:
    """A forked process shares its parent's place in the files and lacks the decoders' threads.

    It must not use the readers, close them or let them be collected, which would wait for those threads for ever.
    """
    for clips in _all_open:
        _inherited.append(clips.readers)
        clips.readers = OrderedDict()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew_after_a_fork)


def read_sound(clip: Clip) -> torch.Tensor:
    """The sound of a clip: (samples,) float32 at 16 kHz, with silence after it up to the end of the pictures."""
    with reading(clip.path):
        waveform, rate = read_audio(clip.path)
        wave = resample(to_mono(waveform), rate)
    missing = clip.frames * SAMPLES_PER_FRAME - len(wave)
    return torch.nn.functional.pad(wave, (0, max(0, missing)))
