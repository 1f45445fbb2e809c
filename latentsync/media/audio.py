"""Audio tracks of any file as float samples, on the clock of its pictures."""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from fractions import Fraction
from itertools import chain

import av
import numpy as np
import torch
from av.audio.frame import AudioFrame

from ..audio.whisper import SAMPLE_RATE, resample, to_mono
from ..errors import InputError
from ..limits import check_limit
from .source import PathLike, audio_stream, open_source, packets, video_stream

log = logging.getLogger(__name__)

# A track that leaves out silence (Opus, phone recordings) jumps in time. Less than this is imprecise time stamps.
GAP_SECONDS = 0.1
LOWEST_RATE = 4000  # Hz; telephones have 8000, and at 1 Hz a few bytes are hours
MOST_CHANNELS = 64
LOUDEST = 8.0  # of full scale, 18 dB above it; a lossy codec goes a little above
SPARSEST = 20  # times its sound is what a track may leave out in all, apart from one gap; a quiet guest of a long call
SILENCE_SAMPLES = 1 << 14  # of a gap, filled at a time
BLOCK, MARGIN = 30, 1  # seconds that are resampled at once, and that the filter sees on either side


def read_audio(path: PathLike) -> tuple[torch.Tensor, int]:
    """The first audio track of an audio or video file: (waveform, rate).

    The waveform is (channels, samples) float32 in [-1, 1] at the file's own rate in Hz, one row per channel
    in FFmpeg's order. Sample 0 is heard with the first picture of a video file: what starts later has silence
    before it, what starts earlier is cut. Without pictures it is the first sample of the track.
    """
    with AudioReader(path) as reader:
        waveform = np.ascontiguousarray(np.concatenate(_not_empty(list(reader), reader), axis=1))
        return torch.from_numpy(waveform).clamp_(-1.0, 1.0), reader.rate


def load_mono_16k(path: PathLike) -> torch.Tensor:
    """What the models hear of it: (samples,) float32, mono, 16 kHz; of a long file no more than that is in memory."""
    with AudioReader(path) as reader:
        blocks = list(blocks_16k((chunk.clip(-1, 1) for chunk in reader), reader.rate))
        return torch.cat(_not_empty(blocks, reader))


def _not_empty(pieces: list, reader: "AudioReader") -> list:
    if not pieces:
        raise InputError(f"the audio track of {reader.path} has no samples: give a file with sound")
    return pieces


def blocks_16k(chunks: Iterable[np.ndarray], rate: int) -> Iterator[torch.Tensor]:
    """The chunks of an `AudioReader` as blocks (samples,) of 16 kHz, mono: what resampling all of them gives."""
    given, size = 0, 0  # seconds at the front of what is held that are out already; samples that are held
    held: list[torch.Tensor] = []
    for chunk in chunks:
        held.append(to_mono(chunk))
        size += len(held[-1])
        while size >= (given + BLOCK + MARGIN) * rate:
            wave = torch.cat(held)
            block = resample(wave[: (given + BLOCK + MARGIN) * rate], rate)
            yield block[given * SAMPLE_RATE : (given + BLOCK) * SAMPLE_RATE]
            held = [wave[(given + BLOCK - MARGIN) * rate :]]
            given, size = MARGIN, len(held[0])
    if size > given * rate:
        yield resample(torch.cat(held), rate)[given * SAMPLE_RATE :]


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
            self._warned = False
            self._frames = self._decode()
            self._first = next(self._frames, None)
            if self._first is None:
                raise InputError(f"the audio track of {self.path} has no samples: it is empty or damaged")
            self._check(self._first)
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

    def _check(self, frame: AudioFrame) -> None:
        """Refuse sound that a small file could blow up: resampling and gaps take room by the rate and the channels."""
        if frame.sample_rate < LOWEST_RATE:
            raise InputError(
                f"{self.path} has {frame.sample_rate} audio samples a second: at least {LOWEST_RATE} are needed; "
                "export it again at 16000 or more"
            )
        check_limit("audio_rate", frame.sample_rate, self.path)
        if frame.layout.nb_channels > MOST_CHANNELS:
            raise InputError(
                f"{self.path} has {frame.layout.nb_channels} audio channels: at most {MOST_CHANNELS} are taken"
            )

    def _warn(self, what: str) -> None:
        if not self._warned:
            log.warning("the audio track of %s %s", self.path, what)
        self._warned = True

    def _decode(self) -> Iterator[AudioFrame]:
        def damaged(reason: object = None) -> None:
            self._warn("is damaged: what cannot be decoded is left out")

        for packet in packets(self._container, audio_stream(self._container, self.path), damaged):
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                damaged()

    def __iter__(self) -> Iterator[np.ndarray]:
        position, silence, kind, resampler = 0, 0, None, None
        for frame in chain([self._first], self._frames):
            time = _time(frame)
            # In the format of the first frame, whatever follows.
            if (frame.format.name, frame.layout.name, frame.sample_rate) != kind:
                self._check(frame)
                kind = (frame.format.name, frame.layout.name, frame.sample_rate)
                # Packed: PyAV miscounts the planes of planar audio with eight channels.
                resampler = av.AudioResampler(format="flt", layout=self._first.layout, rate=self.rate)
            parts = [part.to_ndarray().reshape(-1, self.channels) for part in resampler.resample(frame)]
            if not parts:
                continue
            samples = self._sane(np.concatenate(parts).T)
            # Where these samples belong, seen from where we are.
            lead = 0 if time is None else round((time - self.zero) * self.rate) - position
            check_limit("seconds", (position + max(0, lead) + samples.shape[1]) / self.rate, self.path)
            if lead > (0 if position == 0 else GAP_SECONDS * self.rate):
                silence += lead
                excess = silence - SPARSEST * (position + lead - silence)
                check_limit("gap", max(lead, excess) / self.rate, self.path)
                for start in range(0, lead, SILENCE_SAMPLES):
                    yield np.zeros((self.channels, min(SILENCE_SAMPLES, lead - start)), dtype=np.float32)
                position += lead
            elif lead < 0 and position == 0:
                samples = samples[:, -lead:]
            if samples.shape[1]:
                yield samples
                position += samples.shape[1]

    def _sane(self, samples: np.ndarray) -> np.ndarray:
        """What float formats can hold and no encoder takes: NaN and infinity become silence, the rest is clamped."""
        finite = np.isfinite(samples)
        if not finite.all():
            self._warn("has samples that are NaN or infinite: they are taken for silence")
            samples = np.where(finite, samples, np.float32(0))
        return samples.clip(-LOUDEST, LOUDEST)

    def close(self) -> None:
        self._container.close()

    def __exit__(self, *_) -> None:
        self.close()


def _time(frame: AudioFrame) -> Fraction | None:
    return None if frame.pts is None else frame.pts * frame.time_base
