"""The clips that a model is trained on: finding them, leaving out the unfit ones, reading pictures and sound."""

import json
import logging
import os
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]

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


@dataclass(frozen=True)
class LeftOut:
    """An unfit clip: the kind of fault, by which such clips are counted, and what exactly it is with this one."""

    kind: str
    detail: str


def list_clips(source: str | os.PathLike) -> list[Path]:
    """The video files in a folder, at any depth and sorted by path, or those that a list names, in its order.

    A list is a text file with one path per line, or JSON lines as the manifest of `prepare` has them: the path is
    `clip`, or else `output`, and lines that say why they were `dropped`, or that this is their `fate`, are passed over.
    Paths are relative to the list's folder.
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
        lines = read_text(source).splitlines()
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source} is not a list of clips: give a folder, or a text file with one path per line"
        ) from error
    clips = []
    for number, line in enumerate(map(str.strip, lines), 1):
        name, place = line, f"line {number} of {source}"
        if line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise InputError(f"{place} is not JSON ({error}): remove the line or make the list again") from error
            if entry.get("dropped") is not None or entry.get("fate") == "dropped":
                continue
            name = entry.get("clip") or entry.get("output")
            if not isinstance(name, str):
                raise InputError(
                    f'{place} names no clip: give each entry a path as "clip" or "output", or say "dropped"'
                )
        if name:
            clips.append(source.parent / name)
    if not clips:
        raise InputError(f"{source} lists no clip that was not dropped: give a list with at least one path")
    return clips


def scan_clips(paths: Sequence[Path], least: int, resolution: int, progress: Progress | None = None) -> list[Clip]:
    """The fit ones of these clips, in their order; one warning sums up what was left out and why.

    Only the containers are read, and the first picture and the first sound of each file are decoded.

    Args:
        least: frames that a clip must have.
        resolution: pixels that its side must have at least.
        progress: called as ("clips", done, all).
    """
    found: list[Clip | LeftOut] = []
    with ThreadPoolExecutor(SCAN_THREADS) as pool:
        for clip in pool.map(lambda path: examine(path, least, resolution), paths):
            found.append(clip)
            if progress is not None:
                progress("clips", len(found), len(paths))
    clips = [clip for clip in found if isinstance(clip, Clip)]
    left_out = [clip for clip in found if isinstance(clip, LeftOut)]
    if left_out:
        first = {clip.kind: clip.detail for clip in reversed(left_out)}
        kinds = Counter(clip.kind for clip in left_out).most_common()
        parts = ", ".join(f"{n} {kind} (first: {first[kind]})" for kind, n in kinds)
        report = f"{len(left_out)} of {len(paths)} clips left out: {parts}"
        if not clips:
            raise InputError(f"no clip is left to train on: {report}: run `python -m latentsync prepare` on them first")
        log.warning(report)
    return clips


def examine(path: Path, least: int, resolution: int) -> Clip | LeftOut:
    """Whether a file is a clip to train on; see `scan_clips`."""
    try:
        with VideoReader(path, cache=1) as reader:
            frames, fps, height, width = len(reader), reader.fps, reader.height, reader.width
    except (OSError, ValueError) as error:
        return LeftOut("unreadable", _sentence(error))
    if fps != VIDEO_FPS:
        return LeftOut(f"not at {VIDEO_FPS} frames/s", f"{path}: {float(fps):.4g} frames/s")
    if height != width:
        return LeftOut("not square", f"{path}: {width} x {height}")
    if height < resolution:
        return LeftOut(f"smaller than {resolution} pixels", f"{path}: {width} x {height}")
    if frames < least:
        return LeftOut(f"shorter than {least} frames", f"{path}: {frames} frames")
    try:
        AudioReader(path).close()
    except (OSError, ValueError) as error:
        return LeftOut("without sound", _sentence(error))
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


class Pictures:
    """The pictures of a clip as `Frames` of resolution x resolution, uint8; larger ones are reduced by area.

    Here and when pictures are read, `BrokenClip` says that the file is not, or no longer, the one that was scanned.
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

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *_) -> None:
        self.close()


class OpenClips:
    """Readers of the clips used last, which stay open until this object goes. Each process has its own."""

    def __init__(self, resolution: int, cache: int):
        self.resolution, self.cache = resolution, cache
        self._start()

    def _start(self) -> None:
        self._open: OrderedDict[Path, Pictures] = OrderedDict()
        self._process = os.getpid()
        weakref.finalize(self, _close_all, self._open, self._process)

    def __call__(self, clip: Clip) -> Pictures:
        if self._process != os.getpid():
            self._start()
        pictures = self._open.pop(clip.path, None) or Pictures(clip, self.resolution, self.cache)
        self._open[clip.path] = pictures
        if len(self._open) > OPEN_CLIPS:
            self._open.popitem(last=False)[1].close()
        return pictures

    def forget(self, clip: Clip) -> None:
        """Close the reader of a clip."""
        if self._process == os.getpid() and clip.path in self._open:
            self._open.pop(clip.path).close()

    def __getstate__(self) -> dict:
        return {"resolution": self.resolution, "cache": self.cache}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)


_inherited: list[OrderedDict[Path, Pictures]] = []


def _close_all(readers: OrderedDict[Path, Pictures], process: int) -> None:
    """Close the readers that `process` has opened.

    A forked process shares their place in the files with its parent, and lacks the decoders' threads: it must neither
    use nor close them, nor let them be collected, which would wait for those threads for ever.
    """
    if process != os.getpid():
        _inherited.append(readers)
        return
    while readers:
        readers.popitem()[1].close()


def read_sound(clip: Clip) -> torch.Tensor:
    """The sound of a clip: (samples,) float32 at 16 kHz, with silence after it up to the end of the pictures."""
    with reading(clip.path):
        waveform, rate = read_audio(clip.path)
        wave = resample(to_mono(waveform), rate)
    missing = clip.frames * SAMPLES_PER_FRAME - len(wave)
    return torch.nn.functional.pad(wave, (0, max(0, missing)))
