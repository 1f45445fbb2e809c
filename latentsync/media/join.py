"""Joining the parts of one video without encoding it anew."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from av.packet import Packet
from av.video.stream import VideoStream

from ..errors import InputError
from .index import FrameIndex, scan
from .output import OutputFile
from .source import PathLike, open_source, packets, video_stream


@dataclass(frozen=True)
class _Part:
    """One of the videos.

    Attributes:
        settings: what all parts must have in common.
        index: its frames.
        delay: how many frames the decoder holds back to bring them into the order shown.
    """

    path: str
    settings: tuple[object, ...]
    index: FrameIndex
    delay: int


def join(
    parts: Sequence[PathLike],
    path: PathLike,
    audio: PathLike | None = None,
    duration: float | None = None,
    pad_audio: bool = False,
) -> None:
    """Put videos that `VideoWriter` wrote with the same settings one after another into one file.

    Pictures are copied as they are; sound of the parts is left out. `audio`, `duration` and `pad_audio` are
    those of `VideoWriter`, and as there the file appears under its name when it is complete.

    Raises:
        ValueError: no parts, or parts of different codec, size, rate or settings; see also `VideoWriter`.
        FileNotFoundError, OSError: a part or the audio cannot be read, or the file cannot be written.
    """
    if not parts:
        raise InputError(f"cannot write {os.fspath(path)}: there are no parts to join")
    found = [_inspect(os.fspath(part)) for part in parts]
    for part in found:
        if part.settings != found[0].settings:
            raise InputError(
                f"cannot join {part.path} to {found[0].path}: they differ in codec, size, rate or settings; "
                "write all parts with the same"
            )
    output = OutputFile(path)
    try:
        with open_source(found[0].path, "video") as first:
            stream = output.container.add_stream_from_template(video_stream(first), opaque=True)
        rate = found[0].index.rate
        # WebM keeps the rate in its header; the others find it in the time stamps.
        stream.codec_context.framerate = rate
        if audio is not None:
            output.add_audio(audio, duration, pad_audio)
        output.start()
        output.mux(_joined(found, stream))
        output.commit(sum(len(part.index.stamps) for part in found) / rate)
    except BaseException:
        output.discard()
        raise


def _inspect(path: str) -> _Part:
    index = scan(path)
    with open_source(path, "video") as container:
        stream = video_stream(container)
        context = stream.codec_context
        settings = (context.name, context.height, context.width, context.extradata, index.rate, index.constant)
        shown = [index.find(packet.pts) for packet in packets(container, stream) if packet.size]
    if index.places is not None or None in shown:
        raise InputError(f"cannot join {path}: its frames have no usable time stamps; write it with VideoWriter")
    return _Part(path, settings, index, max(i - number for i, number in enumerate(shown)))


def _joined(parts: list[_Part], target: VideoStream) -> Iterator[Packet]:
    """The packets of all parts, their stamps counted anew in frames, so that no rounding adds up."""
    unit = 1 / parts[0].index.rate
    delay = max(part.delay for part in parts)
    start = 0
    for part in parts:
        count = len(part.index.stamps)
        with open_source(part.path, "video") as container:
            feed = (packet for packet in packets(container, video_stream(container)) if packet.size)
            for i, packet in enumerate(feed):
                packet.pts, packet.dts = start + part.index.find(packet.pts), start + i - delay
                packet.time_base, packet.duration = unit, 1
                packet.stream = target
                yield packet
        start += count
