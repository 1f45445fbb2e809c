"""Opening media files: one clear error for each way in which a file may be unfit."""

import errno
import logging
import os
from collections.abc import Iterator
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ..errors import FileError, InputError

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

# What a folder is searched for; a list file may name anything.
VIDEO_SUFFIXES = frozenset(".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv".split())
SCHEME = "file:"  # FFmpeg then takes a name for a local file even if it has a colon in it


def as_rate(fps: float | Fraction) -> Fraction:
    """Frames per second as a fraction: 25, 29.97 and Fraction(30000, 1001) are all taken."""
    try:
        # Wide enough for the NTSC rates, narrow enough to turn the float 29.97 into a short fraction.
        rate = Fraction(fps).limit_denominator(1001)
    except (TypeError, ValueError, OverflowError):
        rate = Fraction(0)
    if rate <= 0:
        raise InputError(f"fps is {fps!r}: give a positive number of frames per second")
    return rate


def open_source(path: PathLike, kind: str) -> InputContainer:
    """Open a file for reading; `kind` ("video", "audio") is what the caller wants from it.

    Only local files are opened, also where the file itself (a playlist) names others.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileError(f"there is no {kind} file {name}: check the path", errno.ENOENT)
    if os.path.isdir(name):
        raise IsADirectoryError(errno.EISDIR, f"{name} is a folder: give one {kind} file")
    unreadable = f"{name} is not readable as {kind}: it is damaged, incomplete or not a media file"
    try:
        # Tags in old encodings must not stop a file from being read.
        options = {"protocol_whitelist": "file"}
        container = av.open(SCHEME + name, container_options=options, metadata_errors="ignore")
    except OSError as error:
        raise FileError(f"cannot read {name} ({error.strerror}): check its permissions", error.errno) from error
    except (av.error.FFmpegError, ValueError) as error:
        raise InputError(unreadable) from error
    # FFmpeg renders any text as pictures of a terminal.
    if container.format.name == "tty":
        container.close()
        raise InputError(unreadable)
    return container


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of moving pictures (a song's cover is none) in a known format, or None."""
    streams = (stream for stream in container.streams.video if stream.codec_context is not None)
    return next((stream for stream in streams if not stream.disposition & Disposition.attached_pic), None)


def moving_pictures(container: InputContainer, path: PathLike) -> VideoStream:
    """As `video_stream`, which must be there."""
    stream = video_stream(container)
    if stream is None:
        raise InputError(f"{path} has no video stream that can be decoded: give a file with moving pictures")
    return stream


def audio_stream(container: InputContainer, path: PathLike) -> AudioStream:
    """The first audio track of a file in a known format, which must be there."""
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            return stream
    raise InputError(f"{os.fspath(path)} has no audio track that can be decoded: give a file with sound")


def packets(container: InputContainer, stream: Stream, warn: bool = False) -> Iterator[Packet]:
    """The packets of one stream; a damaged file ends where it cannot be read on, with a warning if `warn`."""
    try:
        yield from container.demux(stream)
    except av.error.FFmpegError as error:
        if warn:
            log.warning("%s ends early: it is damaged (%s)", container.name.removeprefix(SCHEME), error.strerror)
        # FFmpeg drains its decoders on an empty packet: what came before the damage is still delivered.
        flush = Packet()
        flush.stream = stream
        yield flush
