"""A video file while it is written: under another name until it is complete."""

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from fractions import Fraction

import av
from av.packet import Packet

from ..errors import InputError
from ..files import part_path, publish, write_error
from .source import SCHEME, PathLike
from .track import open_track

FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}


def container_format(path: PathLike) -> str:
    """FFmpeg's name of the container that `path` asks for by its extension."""
    extension = os.path.splitext(path)[1].lower()
    if extension not in FORMATS:
        raise InputError(f"cannot write {path}: its name must end in one of {', '.join(FORMATS)}")
    return FORMATS[extension]


def output_format(path: PathLike) -> str:
    """FFmpeg's name of the container that `path` asks for, where a file can be written there."""
    path = os.fspath(path)
    if os.path.isdir(path):
        raise write_error(path, errno.EISDIR)
    name = container_format(path)
    if not os.path.isdir(os.path.dirname(path) or os.curdir):
        raise write_error(path, errno.ENOENT)
    return name


class OutputFile:
    """A container with one video stream and at most one audio track, written to `part_path`.

    Add streams, `start`, `mux` the pictures, then `commit` or `discard`. Sound is muxed as far as the
    pictures have come, so that nothing piles up.
    """

    def __init__(self, path: PathLike):
        self.path = os.fspath(path)
        # Where two programs write the same output, the last one wins.
        self.part = os.fspath(part_path(self.path))
        self.format = output_format(path)
        # The index goes to the front, so that playback starts before the whole file is there.
        options = {"movflags": "+faststart"} if self.format in ("mp4", "mov") else {}
        self.container = av.open(SCHEME + self.part, "w", format=self.format, container_options=options)
        self._track = None
        self._duration: Fraction | None = None
        self._open = True

    def add_audio(self, path: PathLike | Sequence[PathLike], duration: float | None, pad: bool) -> None:
        """Add the audio of the file `path`, or the mix of several, cut at `duration` seconds.

        None is where the pictures end.
        """
        if duration is not None and not 0 < duration < float("inf"):
            raise InputError(f"duration is {duration}: give a positive number of seconds")
        self._duration = None if duration is None else Fraction(duration)
        self._track = open_track(self.container, path, self._duration, pad)

    def start(self) -> None:
        """Create the file. The streams can no longer be changed."""
        with self._writing():
            self.container.start_encoding()

    def mux(self, packets: Iterable[Packet]) -> None:
        """Write packets of pictures, and the sound that goes with them."""
        for packet in packets:
            time = packet.pts * packet.time_base
            with self._writing():
                self.container.mux(packet)
                if self._track is not None and (self._duration is None or time < self._duration):
                    for sound in self._track.until(time):
                        self.container.mux(sound)

    def commit(self, end: Fraction) -> None:
        """Complete the file, whose pictures end at `end` seconds, and give it its name."""
        with self._writing():
            if self._track is not None:
                for sound in self._track.finish(end if self._duration is None else self._duration):
                    self.container.mux(sound)
                self._track.close()
            self.container.close()
            publish(self.part, self.path)
        self._open = False

    def discard(self) -> None:
        """Remove what has been written; nothing if it is complete."""
        if not self._open:
            return
        self._open = False
        if self._track is not None:
            self._track.close()
        # Where the system allows it, first the name: closing then finds no file to bring into order.
        with suppress(OSError):
            os.unlink(self.part)
        with suppress(av.error.FFmpegError):
            self.container.close()
        with suppress(FileNotFoundError):
            os.unlink(self.part)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except OSError as error:
            raise write_error(self.path, error.errno, error.strerror) from error
        except av.error.FFmpegError as error:
            raise InputError(f"cannot write {self.path}: the encoder refuses ({error.strerror})") from error
