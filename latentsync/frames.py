"""Frame sequences: the one shape that every stage reads and writes.

A `Frames` has a length and is indexed by a list of frame numbers. A tensor is one; so are a video file
(`media.VideoReader`), a clip stretched to the length of an audio track (`FrameView`) and the aligned crops of a face
(`face.align.AlignedFaces`). Stages pull windows out of them, so memory does not grow with duration.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, get_args, runtime_checkable

import torch

from .errors import InputError
from .settings import EndMode


@runtime_checkable
class Frames(Protocol):
    """A sequence of RGB pictures of one size.

    Indexing with a list of n frame numbers gives (n, h, w, 3): float in [0, 1], or uint8 in 0..255 where
    the source has no more than that (a file). The dtype says which; `as_float` and `as_uint8` convert.
    The result is the caller's own to change, as it is where a tensor is indexed by a list.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class Window:
    """Some frames of a result: their numbers, and their pictures (n, h, w, 3)."""

    numbers: range
    pictures: torch.Tensor


def windows_from(start: int, pictures: Iterable[torch.Tensor]) -> Iterator[Window]:
    """Stretches of pictures (n, h, w, 3), the first of them frame `start`, as windows."""
    for some in pictures:
        yield Window(range(start, start + len(some)), some)
        start += len(some)


def as_float(frames: torch.Tensor) -> torch.Tensor:
    """Pictures as float32 in [0, 1], whatever their dtype."""
    if frames.dtype == torch.uint8:
        return frames.to(torch.float32).div_(255.0)
    return frames.to(torch.float32)


def as_stored(frames: torch.Tensor) -> torch.Tensor:
    """Pictures on the CPU, as uint8 if they are and else as float32: what NumPy and OpenCV can work on."""
    return frames.cpu() if frames.dtype == torch.uint8 else frames.to("cpu", torch.float32)


def as_uint8(frames: torch.Tensor) -> torch.Tensor:
    """Pictures as uint8 in 0..255, rounded to the nearest level; `as_uint8(as_float(x))` is x for uint8 x."""
    if frames.dtype == torch.uint8:
        return frames
    return frames.to(torch.float32).mul(255.0).round_().clamp_(0, 255).to(torch.uint8)


def end_map(count: int, length: int, mode: EndMode, repeat_turns: bool = False) -> list[int]:
    """Source frame number for each of `length` output frames of a clip of `count` frames.

    `pingpong` plays forward and backward, `loop` starts over, `hold` repeats the last frame; `stop` never goes past the
    end, so its result may be shorter than `length`. With `repeat_turns` the frames at which pingpong turns stand twice,
    as in the published program, which plays whole passes; without it they stand once.
    """
    if mode not in get_args(EndMode):
        raise InputError(f"end mode is {mode!r}: choose one of {', '.join(get_args(EndMode))}")
    if count < 1:
        raise InputError("the clip has no frames: give one with at least one frame")
    if mode == "stop":
        return list(range(min(count, length)))
    if mode == "hold":
        return [min(i, count - 1) for i in range(length)]
    if mode == "loop" or count == 1:
        return [i % count for i in range(length)]
    period, turn = (2 * count, 1) if repeat_turns else (2 * (count - 1), 0)
    return [min(i % period, period - turn - i % period) for i in range(length)]


class FrameView:
    """A view of `frames` in the order of `index_map` (source frame number of each output frame)."""

    def __init__(self, frames: Frames, index_map: Sequence[int]):
        self.frames = frames
        self.index_map = list(index_map)

    def __len__(self) -> int:
        return len(self.index_map)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        return self.frames[[self.index_map[i] for i in indices]]


class FramesInTurn:
    """`frames` that several threads may index: one at a time."""

    def __init__(self, frames: Frames):
        self.frames, self._turn = frames, threading.Lock()

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        with self._turn:
            return self.frames[indices]


class SharedFrames:
    """`frames` that threads go through in order, those ahead by `read`, the one behind by indexing.

    Each frame from `start` on is kept from when it is read first until it is taken. What was read together and is read
    again or taken together is not copied.
    """

    def __init__(self, frames: Frames, start: int = 0):
        self.frames = frames
        self._kept: dict[int, tuple[torch.Tensor, int]] = {}  # frame: what it was read with, its place there
        self._next = start
        self._turn = threading.Lock()

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, indices: Sequence[int]) -> torch.Tensor:
        with self._turn:
            kept = [self._kept.get(i) for i in indices]
            if all(kept):
                return self._together(kept)
            pictures = self.frames[indices]
            for place, i in enumerate(indices):
                if i >= self._next:
                    self._kept[i], self._next = (pictures, place), i + 1
            return pictures

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        return self._together([self._kept.pop(i, None) or (self.frames[[i]], 0) for i in indices])

    @staticmethod
    def _together(kept: list[tuple[torch.Tensor, int]]) -> torch.Tensor:
        (first, start), count = kept[0], len(kept)
        if all(pictures is first and place == start + k for k, (pictures, place) in enumerate(kept)):
            return first[start : start + count]
        return torch.stack([pictures[place] for pictures, place in kept])


def batches(count: int, size: int) -> list[list[int]]:
    """The numbers 0 .. count - 1 in consecutive lists of `size`, the last one shorter."""
    return [list(range(i, min(i + size, count))) for i in range(0, count, size)]


def skip_frames(windows: Iterable[torch.Tensor], count: int) -> Iterator[torch.Tensor]:
    """Windows (n, h, w, 3) without the first `count` pictures of them all."""
    for window in windows:
        if count < len(window):
            yield window[count:] if count else window
        count = max(0, count - len(window))


def for_net(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (n, h, w, 3) as the nets see them: (n, 3, h, w) float32 in [-1, 1]."""
    return as_float(pictures).permute(0, 3, 1, 2) * 2 - 1
