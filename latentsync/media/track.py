"""The audio track of a file being written: the source's packets as they are, or encoded anew."""

import os
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from av.audio.frame import AudioFrame
from av.container import OutputContainer
from av.packet import Packet

from ..errors import InputError
from .audio import AudioReader
from .mix import MixedAudio
from .source import PathLike, audio_stream, open_source, packets

# What players understand in each container, which is less than FFmpeg writes. Matroska takes whatever it can.
COPYABLE = {
    "mp4": ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"),
    "mov": ("aac", "mp3", "ac3", "eac3", "alac", "pcm_"),
    "matroska": ("",),
    "webm": ("opus", "vorbis"),
}

# ISO/IEC 14496-3, table 1.18; of two that are as near, the lower one comes first.
AAC_RATES = [7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000]
AAC_LAYOUTS = ["mono", "stereo", "3.0", "4.0", "5.0", "5.1", "7.1", "7.1"]
# RFC 7845, section 5.1.1.2: the layouts of mapping family 1. Opus runs at 48 kHz whatever goes in.
OPUS_RATE = 48000
OPUS_LAYOUTS = ["mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1"]
BITS_PER_CHANNEL = 96_000

# Codecs need up to this much sound before the first sample that is heard (Opus: 80 ms, RFC 7845, section 4.6).
PRIMING_SECONDS = Fraction(1, 10)
# A copied packet with no more than this before the end of the track is left out.
SLIVER_SECONDS = Fraction(1, 50)


def open_track(
    container: OutputContainer, path: PathLike | Sequence[PathLike], duration: Fraction | None, pad: bool
) -> "CopiedTrack | EncodedTrack":
    """Add the first audio track of the file `path`, or the mix of several, to an output that has not been started.

    It is copied if the container allows for its codec and no silence must be added; else it is encoded.
    `duration` is the length of the output in seconds, None if not known yet.
    """
    one = isinstance(path, (str, os.PathLike))
    reader = AudioReader(path) if one else MixedAudio(path)
    try:
        if not one:
            return EncodedTrack(container, reader, pad)
        enough = duration is not None and reader.duration is not None and reader.duration >= duration
        known = reader.codec in container.supported_codecs and reader.codec.startswith(COPYABLE[container.format.name])
        if known and (enough or not pad):
            reader.close()
            return CopiedTrack(container, path, reader.zero)
        return EncodedTrack(container, reader, pad)
    except BaseException:
        reader.close()
        raise


class CopiedTrack:
    """The packets of an audio track, moved so that `zero` (seconds on the source's clock) is time 0.

    The packets end at the border nearest to the end of the track; long ones (FLAC, ALAC) overlap it, and
    the container says where to stop.
    """

    def __init__(self, container: OutputContainer, path: PathLike, zero: Fraction):
        self._source = open_source(path, "audio")
        stream = audio_stream(self._source, path)
        self._target = container.add_stream_from_template(stream)
        self._packets = self._moved(packets(self._source, stream), round(zero / stream.time_base))
        self._next = next(self._packets, None)

    def _moved(self, source: Iterator[Packet], zero: int) -> Iterator[Packet]:
        end = last = None
        for packet in source:
            if packet.size == 0:
                continue
            stamp = packet.pts if packet.pts is not None else packet.dts
            stamp = stamp - zero if stamp is not None else (end or 0)
            end = stamp + (packet.duration or 0)
            # Damaged files repeat stamps, which no container takes.
            if stamp * packet.time_base < -PRIMING_SECONDS or (last is not None and stamp <= last):
                continue
            last = packet.pts = packet.dts = stamp
            packet.stream = self._target
            yield packet

    def until(self, time: Fraction) -> Iterator[Packet]:
        """Packets of sound before `time` (seconds) that have not been given yet."""
        while (packet := self._next) is not None:
            # What reaches beyond `time` may have to be shortened by `finish`.
            if (packet.pts + (packet.duration or 0)) * packet.time_base > time:
                return
            yield from self._give()

    def finish(self, end: Fraction) -> Iterator[Packet]:
        """What is missing up to `end` (seconds), and no more."""
        while (packet := self._next) is not None:
            unit, length = packet.time_base, packet.duration or 0
            if packet.pts * unit + min(length * unit / 2, SLIVER_SECONDS) >= end:
                return
            packet.duration = min(length, round(end / unit) - packet.pts)
            yield from self._give()

    def _give(self) -> Iterator[Packet]:
        # Muxing changes the packet's clock, so the next one is fetched after it.
        yield self._next
        self._next = next(self._packets, None)

    def close(self) -> None:
        self._source.close()


class EncodedTrack:
    """An audio track encoded as AAC (Opus in WebM), cut to the sample, with silence at its end if `pad`."""

    def __init__(self, container: OutputContainer, reader: AudioReader | MixedAudio, pad: bool):
        if reader.channels > len(AAC_LAYOUTS):
            raise InputError(f"{reader.path} has {reader.channels} audio channels: mix them down to at most 8")
        opus = container.format.name == "webm"
        layout = (OPUS_LAYOUTS if opus else AAC_LAYOUTS)[reader.channels - 1]
        rate = OPUS_RATE if opus else min(AAC_RATES, key=lambda rate: abs(rate - reader.rate))
        self._stream = container.add_stream("libopus" if opus else "aac", rate=rate, layout=layout)
        self._stream.bit_rate = BITS_PER_CHANNEL * reader.channels
        self._reader = reader
        # Files that do not say which channel is where have layouts like "6 channels", which cannot be converted.
        self._layout = AAC_LAYOUTS[reader.channels - 1] if reader.layout.endswith("channels") else reader.layout
        self._chunks = iter(reader)
        self._rest = np.zeros((reader.channels, 0), dtype=np.float32)
        self._pad = pad
        self._count = 0

    def until(self, time: Fraction) -> Iterator[Packet]:
        """As `CopiedTrack.until`."""
        target = round(time * self._reader.rate)
        while self._count < target:
            if self._rest.shape[1] == 0:
                self._rest = next(self._chunks, self._rest)
            if self._rest.shape[1] == 0:
                return
            piece, self._rest = np.split(self._rest, [target - self._count], axis=1)
            yield from self._encode(piece)

    def finish(self, end: Fraction) -> Iterator[Packet]:
        """As `CopiedTrack.finish`."""
        yield from self.until(end)
        rate = self._reader.rate
        while self._pad and self._count < round(end * rate):
            missing = min(rate, round(end * rate) - self._count)
            yield from self._encode(np.zeros((self._reader.channels, missing), dtype=np.float32))
        if self._count:
            yield from self._stream.encode(None)

    def _encode(self, samples: np.ndarray) -> list[Packet]:
        packed = np.ascontiguousarray(samples.T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(packed, format="flt", layout=self._layout)
        frame.rate, frame.pts, frame.time_base = self._reader.rate, self._count, Fraction(1, self._reader.rate)
        self._count += samples.shape[1]
        return self._stream.encode(frame)

    def close(self) -> None:
        self._reader.close()
