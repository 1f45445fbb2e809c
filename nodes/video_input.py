"""ComfyUI's VIDEO as frames that are read when they are needed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from comfy_api.latest import Input, InputImpl

from ..latentsync.errors import InputError
from ..latentsync.frames import Frames
from ..latentsync.media import VideoReader
from ..latentsync.media.source import open_source
from . import inputs, runtime


@dataclass(frozen=True, eq=False)
class Source:
    """The pictures of a VIDEO.

    Attributes:
        frames: RGB, at `fps`; see `latentsync.frames`.
        fps: frames per second.
        size: (height, width) in pixels.
        file: where they are read from; None where they are in memory.
        sound: AUDIO that came with pictures in memory, or None; that of a file is in the file.
        tags: what `VideoWriter` needs to write pictures that look the same (colour, sample_aspect_ratio).
    """

    frames: Frames
    fps: Fraction
    size: tuple[int, int]
    file: Path | None = None
    sound: Mapping[str, Any] | None = None
    tags: dict[str, Any] = field(default_factory=dict)


@contextmanager
def opened(video: Input.Video, cache: int = 48) -> Iterator[Source]:
    """A VIDEO of any kind as a `Source`, for the `with` block; `cache` is `VideoReader`'s."""
    if isinstance(video, InputImpl.VideoFromComponents):
        yield _in_memory(video)
        return
    stream = video.get_stream_source()
    if _is_cut(video, stream):
        yield _in_memory(video)
    elif isinstance(stream, str):
        yield from _from_file(Path(stream), cache)
    else:
        copy = runtime.temp_file(".video")
        try:
            copy.write_bytes(stream.getbuffer())
            yield from _from_file(copy, cache)
        finally:
            copy.unlink(missing_ok=True)


def _in_memory(video: Input.Video) -> Source:
    parts = video.get_components()
    if not len(parts.images):
        raise InputError("the video has no frames: give one with at least one frame")
    frames = inputs.pictures(parts.images)
    return Source(frames, Fraction(parts.frame_rate), tuple(frames.shape[1:3]), sound=parts.audio)


def _from_file(path: Path, cache: int) -> Iterator[Source]:
    with VideoReader(path, cache=cache, progress=lambda *_: runtime.check_interrupted()) as reader:
        tags = {"colour": reader.colour, "sample_aspect_ratio": reader.sample_aspect_ratio}
        yield Source(reader, reader.fps, (reader.height, reader.width), path, tags=tags)


def _is_cut(video: Input.Video, stream: Any) -> bool:
    """Whether a VIDEO is a part of its file only, as newer versions of ComfyUI have it; the file does not know."""
    if not isinstance(stream, str):
        return False
    try:
        with open_source(stream, "video") as container:
            length = container.duration
    except (OSError, ValueError):  # the reader says what is wrong, and better
        return False
    return length is not None and abs(video.get_duration() - length / av.time_base) > 0.01
