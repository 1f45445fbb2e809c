"""Audio tracks of any file as float samples, on the clock of its pictures."""

import logging
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import chain

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame

from ..errors import InputError
from .source import PathLike, audio_stream, open_source, packets, video_stream

log = logging.getLogger(__name__)

# A track that leaves out silence (Opus, phone recordings) jumps in time. Less than this is imprecise time stamps.
GAP_SECONDS = 0.1


def read_audio(path: PathLike) -> tuple[torch.Tensor, int]:
    """The first audio track of an audio or video file: (waveform, rate).

    The waveform is (channels, samples) float32 in [-1, 1] at the file's own rate in Hz, one row per channel
    in FFmpeg's order. Sample 0 is heard with the first picture of a video file: what starts later has silence
    before it, what starts earlier is cut. Without pictures it is the first sample of the track.
    """
    with AudioReader(path) as reader:
        chunks = list(reader)
        if not chunks:
            raise InputError(f"the audio track of {reader.path} has no samples: give a file with sound")
        waveform = np.ascontiguousarray(np.concatenate(chunks, axis=1))
        return torch.from_numpy(waveform).clamp_(-1.0, 1.0), reader.rate


class AudioReader(AbstractContextManager):
    """The first audio track of a file in chunks of (channels, n) float32, on `read_audio`'s clock.

    Attributes:
        rate: samples per second.
        layout: FFmpeg's name of the channel layout, such as "stereo".
        codec: FFmpeg's name of the codec, such as "aac".
        zero: the time, on the clock of the file's stamps, at which the samples start; seconds.
        duration: seconds of sound from there on, as far as the file says; None where it does not.
    """

    def __init__(self, path: PathLike):
        self.path = os.fspath(path)
        self._container = open_source(path, "audio")
        try:
            self._frames = self._decode()
            self._first = next(self._frames, None)
            if self._first is None:
                raise InputError(f"the audio track of {self.path} has no samples: it is empty or damaged")
        except BaseException:
            self._container.close()
            raise
        stream = audio_stream(self._container, self.path)
        self.codec = stream.codec_context.codec.canonical_name
        self.rate = self._first.sample_rate
        self.layout = self._first.layout.name
        self.channels = self._first.layout.nb_channels
        pictures = video_stream(self._container)
        if pictures is not None and pictures.start_time is not None:
            self.zero = pictures.start_time * pictures.time_base
        else:
            self.zero = _time(self._first) or Fraction(0)
        start = (stream.start_time or 0) * stream.time_base
        self.duration = None if stream.duration is None else start + stream.duration * stream.time_base - self.zero

    def _decode(self) -> Iterator[AudioFrame]:
        warned = False
        for packet in packets(self._container, audio_stream(self._container, self.path), warn=True):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                if not warned:
                    log.warning("the audio track of %s is damaged: what cannot be decoded is left out", self.path)
                warned = True

    def __iter__(self) -> Iterator[np.ndarray]:
        position, kind, resampler = 0, None, None
        for frame in chain([self._first], self._frames):
            time = _time(frame)
            # In the format of the first frame, whatever follows.
            if (frame.format.name, frame.layout.name, frame.sample_rate) != kind:
                kind = (frame.format.name, frame.layout.name, frame.sample_rate)
                # Packed: PyAV miscounts the planes of planar audio with eight channels.
                resampler = av.AudioResampler(format="flt", layout=self._first.layout, rate=self.rate)
            parts = [part.to_ndarray().reshape(-1, self.channels) for part in resampler.resample(frame)]
            if not parts:
                continue
            samples = np.concatenate(parts).T
            # Where these samples belong, seen from where we are.
            lead = 0 if time is None else round((time - self.zero) * self.rate) - position
            if lead > (0 if position == 0 else GAP_SECONDS * self.rate):
                # A second at a time.
                for start in range(0, lead, self.rate):
                    yield np.zeros((self.channels, min(self.rate, lead - start)), dtype=np.float32)
                position += lead
            elif lead < 0 and position == 0:
                samples = samples[:, -lead:]
            if samples.shape[1]:
                yield samples
                position += samples.shape[1]

    def close(self) -> None:
        self._container.close()

    def __exit__(self, *_) -> None:
        self.close()


def _time(frame: AudioFrame) -> Fraction | None:
    return None if frame.pts is None else frame.pts * frame.time_base
