"""Video files as sequences of frames."""

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from fractions import Fraction

import numpy as np
import torch
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from ..errors import InputError
from ..limits import check_limit, limit
from ..progress import Progress, no_progress
from ..threads import check
from .colour import Colour, lost_by_output, to_rgb
from .decode import FrameDecoder
from .index import FrameIndex, scan
from .source import PathLike, as_rate

log = logging.getLogger(__name__)

CACHE_BYTES = 1 << 31  # of kept pictures at most: 86 of 4K


class VideoReader(AbstractContextManager):
    """The pictures of a video file as `Frames`: `reader[[0, 5]]` is (2, h, w, 3) uint8 RGB, upright.

    Without `fps`, output frame i of a constant-rate file is its frame i. Of a variable-rate file, and with
    `fps`, output frame i is what is on screen in the middle of the interval from i / fps to (i + 1) / fps.
    Time starts with the first frame.

    Any order of access works. A jump seeks to the nearest key frame and decodes from there; the last `cache`
    pictures stay in memory, so playing backward decodes a group of g frames about g / (2 * cache) + 1 times.
    A damaged frame repeats the good one before it, and closing logs how many there were. HDR is not tone-mapped.
    What `progress` raises ends the look through the file that comes first; with its `index` there is none. Threads may
    share a reader: they take turns.

    Attributes:
        fps: Fraction, frames per second of the output.
        height, width: of the upright picture.
        duration: seconds, `len(reader) / fps`.
        colour: the file's `Colour` tags.
        sample_aspect_ratio: Fraction, width of an upright pixel by its height; None where the file does not say.
    """

    def __init__(
        self,
        path: PathLike,
        fps: float | Fraction | None = None,
        cache: int = 48,
        progress: Progress = no_progress,
        index: FrameIndex | None = None,
    ):
        if cache < 1:
            raise InputError(f"cache is {cache}: keep at least 1 picture")
        self.path = os.fspath(path)
        self._is_twin = index is not None
        self._index = index = index or scan(path, progress)
        self.fps = index.rate if fps is None else as_rate(fps)
        self._asked = fps is not None
        self._count = len(index.stamps)
        self._resampled = self._asked or not index.constant
        self._length = index.count_at(self.fps) if self._resampled else self._count
        check_limit("frames", self._length, self.path)
        self._repeats: dict[int, int] = {}  # damaged frame -> the good one that is shown in its place
        # Frame number -> its place in the block of kept pictures, the one used last at the end.
        self._kept: OrderedDict[int, int] = OrderedDict()
        self._reformatter = VideoReformatter()
        self._closed = False
        self._turn = threading.Lock()
        self._decoder = FrameDecoder(path, index)
        _, frame = next(self._decoder.up_to(0), (0, None))
        if frame is None:
            self._decoder.close()
            raise InputError(
                f"no frame of {self.path} can be decoded: it is damaged, in an unknown format, or has more than "
                f"{limit('pixels'):.12g} pixels (if you trust the file, raise that on the command line with "
                "--limit pixels=N)"
            )
        context = self._decoder.context
        self.colour = Colour(context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        self._format = frame.format
        self._turns = round(frame.rotation / 90) % 4
        self._size = (frame.height, frame.width)
        self.height, self.width = self._size if self._turns % 2 == 0 else self._size[::-1]
        aspect = context.sample_aspect_ratio or None
        self.sample_aspect_ratio = 1 / aspect if aspect and self._turns % 2 else aspect
        self._capacity = max(1, min(cache, self._count, CACHE_BYTES // (3 * self.height * self.width)))
        # One block for good: pictures that come and go one by one between large windows fragment the memory.
        self._pictures = torch.empty((self._capacity, self.height, self.width, 3), dtype=torch.uint8)
        self._keep(*self._decoder.last)

    def twin(self) -> "VideoReader":
        """Another reader of these pictures, for a thread that is elsewhere in the file; it keeps one of them."""
        return VideoReader(self.path, self.fps if self._asked else None, cache=1, index=self._index)

    @property
    def duration(self) -> float:
        return float(len(self) / self.fps)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        """The frames with these numbers, in this order: (n, height, width, 3) uint8 RGB."""
        if self._closed:
            raise InputError(f"cannot read frames of {self.path}: it is closed")
        places: dict[int, list[int]] = {}
        for place, i in enumerate(indices):
            if not 0 <= i < len(self):
                raise IndexError(f"frame {i} of {self.path}: it has the frames 0 to {len(self) - 1}")
            number = self._index.shown_at(i, self.fps) if self._resampled else i
            places.setdefault(number, []).append(place)
        frames = torch.empty((len(indices), self.height, self.width, 3), dtype=torch.uint8)
        # In the file's order, so that a window played backward is decoded forward, once.
        with self._turn:
            for number in sorted(places):
                picture = self._frame(number)
                for place in places[number]:  # one by one: a list of places costs five times as much
                    frames[place] = picture
        return frames

    def _frame(self, number: int) -> torch.Tensor:
        number = self._repeats.get(number, number)
        if number in self._kept:
            self._kept.move_to_end(number)
            return self._pictures[self._kept[number]]
        before, found = self._decoder.last, None
        for found, frame in self._decoder.up_to(number):
            check()
            if found > number - self._capacity:
                self._keep(found, frame)
            if found <= number:
                before = found, frame
        if found != number:
            return self._repeat(number, before)
        return self._pictures[self._kept[number]]

    def _repeat(self, number: int, before: tuple[int, VideoFrame] | None) -> torch.Tensor:
        """Put the good frame before the damaged frame `number` in its place, or else the one after it."""
        if self._decoder.threaded:
            self._decoder.slow_down()
            return self._frame(number)
        after = self._decoder.last
        good = before if before and before[0] < number else after
        if good is None:
            raise InputError(f"{self.path} can no longer be decoded at frame {number}: the file has changed")
        # The whole gap at once: to look for each of its frames would decode the way there each time.
        first = good[0] + 1 if good[0] < number else 0
        end = after[0] if after[0] > number else self._count
        self._repeats.update(dict.fromkeys(range(first, end), good[0]))
        self._keep(*good)
        return self._pictures[self._kept[good[0]]]

    def _keep(self, number: int, frame: VideoFrame) -> None:
        """Keep the frame as upright RGB in place of the one that was used longest ago."""
        # `frame.rotation` counts counter-clockwise degrees, as np.rot90 does.
        picture = np.rot90(to_rgb(frame, self.colour, self._size, self._reformatter), self._turns)
        place = self._kept.pop(number, None)
        if place is None:
            place = len(self._kept)
            if place == self._capacity:
                _, place = self._kept.popitem(last=False)
        self._kept[number] = place
        np.copyto(self._pictures[place].numpy(), picture)

    def warn_of_losses(self) -> None:
        """Say what a `VideoWriter` cannot keep of these pictures."""
        if lost := lost_by_output(self._format):
            log.warning("%s has %s: the result has 8 bits, 4:2:0 and no alpha", self.path, lost)

    def close(self) -> None:
        """Close the file. Pictures can no longer be read."""
        lost = self._index.lost + len(self._repeats)
        if lost and not self._closed and not self._is_twin:
            log.warning(
                "%s is damaged: %d of %d frames lost, the first of them frame %d; %s",
                self.path,
                lost,
                self._index.lost + self._count,
                min(self._repeats, default=self._count),
                "good ones beside them are shown instead" if self._repeats else "the video ends there",
            )
        self._closed = True
        self._decoder.close()
        self._kept.clear()
        self._pictures = torch.empty(0)

    def __exit__(self, *_) -> None:
        self.close()
