"""Joining the parts of one video without encoding it anew."""

import os
from collections.abc import Sequence

from ..errors import InputError
from .index import scan
from .output import OutputFile
from .source import PathLike, open_source, packets, video_stream


def join(
    parts: Sequence[PathLike],
    path: PathLike,
    audio: PathLike | Sequence[PathLike] | None = None,
    duration: float | None = None,
    pad_audio: bool = False,
) -> None:
    """Put videos that `VideoWriter` wrote with the same settings one after another into one file.

    Pictures are copied as they are; sound of the parts is left out. `audio`, `duration` and `pad_audio` are
    those of `VideoWriter`, and as there the file appears under its name when it is complete.
    """
    if not parts:
        raise InputError(f"cannot write {os.fspath(path)}: there are no parts to join")
    indexes, common, delay = [], None, 0
    for part in parts:
        index = scan(part)
        with open_source(part, "video") as container:
            stream = video_stream(container)
            context = stream.codec_context
            settings = (context.name, context.height, context.width, context.extradata, index.rate, index.constant)
            shown = [index.find(packet.pts) for packet in packets(container, stream) if packet.size]
        if index.places is not None or None in shown:
            raise InputError(f"cannot join {part}: its frames have no usable time stamps; write it with VideoWriter")
        if settings != (common := common or settings):
            raise InputError(
                f"cannot join {part} to {parts[0]}: they differ in codec, size, rate or settings; "
                "write all parts with the same"
            )
        # How many frames the decoder holds back to bring them into the order shown.
        delay = max(delay, *(i - number for i, number in enumerate(shown)))
        indexes.append(index)
    rate = indexes[0].rate
    output = OutputFile(path)
    try:
        with open_source(parts[0], "video") as first:
            codec = video_stream(first).codec_context.name
            if codec not in output.container.supported_codecs:
                raise InputError(f"cannot join {parts[0]} to {path}: it holds no {codec}; write it with VideoWriter")
            target = output.container.add_stream_from_template(video_stream(first), opaque=True)
        # WebM keeps the rate in its header; the others find it in the time stamps.
        target.codec_context.framerate = rate
        if audio is not None:
            output.add_audio(audio, duration, pad_audio)
        output.start()
        start = 0
        for part, index in zip(parts, indexes, strict=True):
            with open_source(part, "video") as container:
                feed = (packet for packet in packets(container, video_stream(container)) if packet.size)
                for i, packet in enumerate(feed):
                    # Counted anew in frames, so that no rounding adds up.
                    packet.pts, packet.dts = start + index.find(packet.pts), start + i - delay
                    packet.time_base, packet.duration = 1 / rate, 1
                    packet.stream = target
                    output.mux([packet])
            start += len(index.stamps)
        output.commit(start / rate)
    except BaseException:
        output.discard()
        raise
