"""Decoding the frames of a video file in any order of request."""

from collections.abc import Iterator

import av
from av.video.frame import VideoFrame

from .index import FrameIndex, decoded
from .source import PathLike, open_source, packets, video_stream

# Decoding up to this many frames in vain is cheaper than a seek, which drains the decoder's threads.
SEEK_AHEAD = 32


class FrameDecoder:
    """One open video file, which goes on decoding where it is or seeks to a key frame, whichever is nearer.

    Attributes:
        count: frames decoded so far.
        seeks: jumps made so far.
        threaded: whether several frames are decoded at a time. An error then takes good frames with it.
        last: number and picture of the frame decoded last since the last jump.
        context: the codec context.
    """

    def __init__(self, path: PathLike, index: FrameIndex):
        self.path = path
        self.index = index
        self.count = self.seeks = 0
        self.threaded = True
        self._open()

    def _open(self, start: int | None = None) -> None:
        self._container = open_source(self.path, "video")
        self._stream = video_stream(self._container)
        self._stream.thread_type = "AUTO" if self.threaded else "SLICE"
        self.context = self._stream.codec_context
        self._restart(start)

    def _restart(self, start: int | None) -> None:
        self._next = 0
        self.last: tuple[int, VideoFrame] | None = None
        self._frames = self._decode(start)

    def close(self) -> None:
        self._frames.close()
        self._container.close()

    def slow_down(self) -> None:
        """From now on decode one frame at a time, so that damage costs no more than the damaged frames."""
        self.close()
        self.threaded = False
        self._open()

    def up_to(self, number: int) -> Iterator[tuple[int, VideoFrame]]:
        """Decode on the way to frame `number`: (frame number, picture) in the order shown.

        Ends with frame `number`; where that one is damaged, with the first good one after it, or with the
        last of the file.
        """
        key = self.index.key_before(number)
        skipped = (self.index.find(key) or 0) - self._next if key is not None else 0
        if number >= self._next and skipped <= SEEK_AHEAD:
            yield from self._run(number)
            return
        for start in self.index.starts(number):
            if not self._jump(start):
                continue
            landed = False
            for found, frame in self._run(number):
                if not landed and found > number and start is not None:
                    break  # past it: try an earlier key frame
                landed = True
                yield found, frame
            if landed:
                return

    def _run(self, number: int) -> Iterator[tuple[int, VideoFrame]]:
        while number >= self._next and (found := next(self._frames, None)):
            self.count += 1
            self._next, self.last = found[0] + 1, found
            yield found

    def _jump(self, start: int | None) -> bool:
        """Go to the key frame with the stamp `start`; None opens the file anew. False: it cannot be reached."""
        self.seeks += 1
        if start is None or self.index.places is not None:
            self.close()
            self._open(start)
            return True
        try:
            self._container.seek(start, stream=self._stream)
        except av.error.FFmpegError:
            return False
        self._restart(start)
        return True

    def _decode(self, start: int | None) -> Iterator[tuple[int, VideoFrame]]:
        """(frame number, picture) from where the file stands; nothing of before `start`, which may be broken."""
        places = None if self.index.places is None else iter(self.index.places)
        waiting = places is not None and start is not None
        newest = -1
        for packet in packets(self._container, self._stream):
            if places is not None and packet.size:
                # A file without time stamps: the number of its frame serves each packet as one.
                packet.pts, packet.dts = next(places, None), None
                waiting = waiting and packet.pts != start
            if waiting:
                continue
            for frame in decoded(packet):
                number = self.index.find(frame.pts)
                if number is not None and number > newest and (start is None or frame.pts >= start):
                    newest = number
                    yield number, frame
