"""Opening media files: one clear error for each way in which a file may be unfit."""

import errno
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import BinaryIO

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from ..errors import FileError, InputError
from ..limits import check_limit, limit

PathLike = str | os.PathLike[str]

# What a folder is searched for; a list file may name anything.
VIDEO_SUFFIXES = frozenset(".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ts .webm .wmv".split())
# FFmpeg's names of the formats that are opened. Each is one file with all in it: playlists, lists and numbered pictures
# would read other files of this machine. Of QuickTime, FFmpeg reads no external tracks unless told to.
CONTAINERS = (
    "mov matroska avi mpegts mpeg mpegvideo m4v h264 hevc vvc av1 obu ivf vc1 dv asf flv mxf gxf nut nsv rm wtv "
    "yuv4mpegpipe mjpeg mpjpeg gif apng png_pipe jpeg_pipe jpegxl_pipe bmp_pipe webp_pipe tiff_pipe "
    "ogg wav w64 aiff caf au flac mp3 aac ac3 eac3 dts dtshd truehd mlp amr ape wv tta tak mpc mpc8 dsf voc loas"
).split()
# What begins a file that names others, and what it is then called.
LISTS = {
    b"#EXTM3U": "an HLS playlist",
    b"ffconcat": "a list of files to join (ffconcat)",
    b"<MPD": "a DASH manifest",
    b"CompositionPlaylist": "an IMF playlist",
    b"IN IP4": "a description of a network stream (SDP)",
}
# Boxes of MP4 that hold boxes, in which FFmpeg looks for those of tracks.
NESTED = frozenset(
    b"moov cmov trak mdia minf stbl moof traf mvex udta meta edts dinf gmhd wave tref tapt ilst sinf schi iprp".split()
)
LARGEST_HEADER = 1 << 26  # bytes
MOST_BOXES = 1_000_000  # that are looked at; a day in fragments of a second has a fifth of it
FEW_SAMPLES = 1_000_000  # of which no table takes much room
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

    Nothing but this file is read, whatever it names: `CONTAINERS` alone are opened.
    """
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileError(f"there is no {kind} file {name}: check the path", errno.ENOENT)
    if os.path.isdir(name):
        raise FileError(f"{name} is a folder: give one {kind} file", errno.EISDIR)
    if not os.path.isfile(name):
        raise InputError(f"{name} is a pipe or a device, and it is read more than once: give a {kind} file")
    allowed = {"format_whitelist": ",".join(CONTAINERS), "protocol_whitelist": "file"}
    # A decoder refuses a larger picture before it makes room for it, wherever in the file it comes. Twice, because it
    # counts the padding of its rows, too.
    largest = {"max_pixels": str(int(min(2 * limit("pixels"), 2**31 - 1)))}
    try:
        _check_announced(name)
        # Tags in old encodings must not stop a file from being read.
        container = av.open(SCHEME + name, options=largest, container_options=allowed, metadata_errors="ignore")
    except InputError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        # EIO is what FFmpeg says of much that is damaged.
        if isinstance(error, OSError) and error.errno != errno.EIO:
            raise FileError(f"cannot read {name} ({error.strerror}): check its permissions", error.errno) from error
        raise InputError(f"{name} is not readable as {kind}: {_what_it_is(name)}") from error
    for stream in container.streams.video:
        if stream.codec_context is not None:
            stream.codec_context.options = largest
    return container


def _check_announced(name: str) -> None:
    """Refuse an MP4 or QuickTime file of more samples than bytes: FFmpeg makes room for all of them at once."""
    with open(name, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        announced = _samples_announced(file, size)
    if announced > max(size, FEW_SAMPLES):
        raise InputError(f"{name} is damaged: it announces {announced} frames or samples in {size} bytes")


def _samples_announced(file: BinaryIO, end: int) -> int:
    """How many samples there are by what has no entry for each of them, and so can say anything.

    That is the table of samples of one size, the header of a fragment, and lists of edits, each of which may show all
    of them again (ISO/IEC 14496-12, sections 8.7.3, 8.8.8 and 8.6.6).
    """
    announced = samples = place = 0
    edits = 1
    for _ in range(MOST_BOXES):
        if place + 8 > end:
            break
        file.seek(place)
        head = file.read(20).ljust(20, b"\0")
        size, kind = struct.unpack_from(">I4s", head)
        header = 8
        if size == 1:
            size, header = int.from_bytes(head[8:16], "big"), 16
        size = size or end - place  # 0: up to the end
        if size < header:
            break
        first, second = struct.unpack_from(">II", head, 12)
        if kind == b"stsz":
            samples += second
            announced += second if first else 0
        elif kind == b"trun":
            announced += first
        elif kind == b"elst":
            edits = max(edits, first)
        elif kind == b"cmvd":  # QuickTime's compressed header
            file.seek(place + header + 4)
            with suppress(zlib.error):
                data = zlib.decompressobj().decompress(file.read(size), LARGEST_HEADER)
                announced += _samples_announced(io.BytesIO(data), len(data))
        elif kind == b"meta" and head[12:16] != b"hdlr":  # MP4's has a version, QuickTime's none
            header += 4
        place += header if kind in NESTED else size
    return announced + (edits - 1) * samples


def _what_it_is(name: str) -> str:
    """Why a file is not opened, in words."""
    with open(name, "rb") as file:
        head = file.read(4096)
    found = next((text for mark, text in LISTS.items() if mark in head), None)
    if found is None and any(c in os.path.basename(name) for c in "%*?{"):
        found = "the name of a sequence of pictures"
    if found is None:
        return "it is damaged, incomplete or not a media file"
    return f"it is {found}, which stands for other files; give a file that holds all itself, such as .mp4 or .wav"


def video_stream(container: InputContainer) -> VideoStream | None:
    """The first stream of moving pictures (a song's cover is none) in a known format, or None."""
    streams = (stream for stream in container.streams.video if stream.codec_context is not None)
    return next((stream for stream in streams if not stream.disposition & Disposition.attached_pic), None)


def moving_pictures(container: InputContainer, path: PathLike) -> VideoStream:
    """As `video_stream`, which must be there."""
    stream = video_stream(container)
    if stream is None:
        raise InputError(f"{path} has no video stream that can be decoded: give a file with moving pictures")
    check_limit("pixels", stream.width * stream.height, os.fspath(path))
    return stream


def audio_stream(container: InputContainer, path: PathLike) -> AudioStream:
    """The first audio track of a file in a known format, which must be there."""
    for stream in container.streams.audio:
        if stream.codec_context is not None:
            return stream
    raise InputError(f"{os.fspath(path)} has no audio track that can be decoded: give a file with sound")


def all_packets(container: InputContainer, damaged: Callable[[str], object]) -> Iterator[Packet]:
    """The packets of a file; a damaged one ends where it cannot be read on, and `damaged` is told why."""
    try:
        yield from container.demux()
    except (av.error.FFmpegError, IndexError) as error:  # an IndexError where a stream appears on the way
        damaged(getattr(error, "strerror", None) or str(error))
        # FFmpeg drains its decoders on an empty packet: what came before the damage is still delivered.
        for stream in container.streams:
            flush = Packet()
            flush.stream = stream
            yield flush


def packets(
    container: InputContainer, stream: Stream, damaged: Callable[[str], object] = lambda reason: None
) -> Iterator[Packet]:
    """Those of one stream; Ctrl-C need not wait for one where thousands of others come first."""
    return (packet for packet in all_packets(container, damaged) if packet.stream is stream)
