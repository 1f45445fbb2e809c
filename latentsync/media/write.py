"""Writing frames to a video file, with a sound track."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from fractions import Fraction

import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from ..errors import InputError
from ..frames import as_uint8
from ..settings import EncodingSettings
from ..threads import check
from .colour import Colour, to_yuv420, written_colour
from .encoders import codec_for, codec_options, pixel_format
from .output import OutputFile
from .source import PathLike, as_rate


class VideoWriter(AbstractContextManager):
    """Writes pictures as H.264 to .mp4, .m4v, .mov or .mkv, or as VP9 to .webm; 8 bits, 4:2:0.

    Use it in a `with` block, or call `close` or `discard`. The file appears under its name when it is
    complete; after any exception it is gone, and an older file of that name is as it was. Pictures of odd
    size get their last row or column twice.

    Args:
        path: where to write; the extension chooses the container.
        height, width: of the pictures that will come.
        colour: tags to write (`VideoReader.colour`), by which RGB is converted too; None is limited BT.709.
        sample_aspect_ratio: width of a pixel by its height; None for square ones.
        audio: a file whose first audio track is added. It is copied where the container allows for its
            codec, and else encoded as AAC (Opus in .webm) with 96 kbit/s per channel, as the mix of several is.
        duration: seconds after which the sound is cut: to the nearest packet if it is copied, else to the
            sample. None is the end of the pictures.
        pad_audio: fill up sound that is shorter with silence, for which it is encoded.
        encoding: fields of `EncodingSettings`: crf, preset, encoder.

    Attributes:
        fps: as a Fraction.
        count: pictures written so far.
    """

    def __init__(
        self,
        path: PathLike,
        fps: float | Fraction,
        height: int,
        width: int,
        *,
        colour: Colour | None = None,
        sample_aspect_ratio: Fraction | None = None,
        audio: PathLike | Sequence[PathLike] | None = None,
        duration: float | None = None,
        pad_audio: bool = False,
        **encoding,
    ):
        if height < 1 or width < 1:
            raise InputError(f"cannot write pictures of {height} x {width}: both sides must be at least 1")
        self.path, self.fps, self.height, self.width = path, as_rate(fps), height, width
        self.count = 0
        self._colour = written_colour(colour, height)
        self._reformatter = VideoReformatter()
        encoding = EncodingSettings(**encoding)
        self._closed = False
        self._output = OutputFile(path)
        try:
            self._stream = self._add_video(encoding)
            self._stream.codec_context.sample_aspect_ratio = sample_aspect_ratio or Fraction(1)
            if audio is not None:
                self._output.add_audio(audio, duration, pad_audio)
            self._output.start()
        except BaseException:
            self.discard()
            raise

    def _add_video(self, encoding: EncodingSettings) -> VideoStream:
        codec = codec_for(self.path, encoding.encoder, self.height, self.width)
        stream = self._output.container.add_stream(codec, rate=self.fps, options=codec_options(codec, encoding))
        # 4:2:0 has one colour sample for two by two pixels.
        stream.height, stream.width = self.height + self.height % 2, self.width + self.width % 2
        stream.pix_fmt = pixel_format(codec)
        context = stream.codec_context
        context.time_base = 1 / self.fps
        stream.thread_type = "AUTO"
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = self._colour
        return stream

    def write(self, frames: torch.Tensor) -> None:
        """Add pictures: (n, height, width, 3) RGB, float in [0, 1] or uint8."""
        if self._closed:
            raise InputError(f"cannot add frames to {self.path}: it is closed")
        if frames.ndim != 4 or frames.shape[1:] != (self.height, self.width, 3):
            wanted = f"(n, {self.height}, {self.width}, 3)"
            raise InputError(f"cannot write frames of shape {tuple(frames.shape)} to {self.path}: give {wanted}")
        if frames.dtype != torch.uint8 and not frames.is_floating_point():
            raise InputError(f"cannot write frames of {frames.dtype}: give uint8, or float in [0, 1]")
        try:
            for frame in frames:
                check()
                picture = as_uint8(frame).cpu().numpy()
                if self.height % 2 or self.width % 2:
                    picture = np.pad(picture, ((0, self.height % 2), (0, self.width % 2), (0, 0)), mode="edge")
                picture = np.ascontiguousarray(picture)
                encoded = to_yuv420(picture, self._colour, self._stream.pix_fmt, self._reformatter)
                encoded.pts, encoded.time_base = self.count, 1 / self.fps
                self._output.mux(self._stream.encode(encoded))
                self.count += 1
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Complete the file and give it its name."""
        if self._closed:
            return
        try:
            if self.count == 0:
                raise InputError(f"cannot write {self.path}: no frames were given")
            self._output.mux(self._stream.encode(None))
            self._output.commit(self.count / self.fps)
            self._closed = True
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Stop and remove what has been written; nothing after `close`."""
        self._closed = True
        self._output.discard()

    def __exit__(self, kind, *_) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()
