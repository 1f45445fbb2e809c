"""Mono 16-bit sound files: WAV, written block by block and read from any sample on, and FLAC."""

import os
import wave
from collections.abc import Iterable
from fractions import Fraction

import av
import numpy as np
import torch

from ..audio.whisper import SAMPLE_RATE
from ..files import replacing
from .source import PathLike


def pcm(waveform: torch.Tensor) -> np.ndarray:
    """A waveform as int16; what is beyond [-1, 1] is cut off."""
    return np.rint(waveform.numpy().clip(-1, 1) * 32767).astype("<i2")


def write_wav(path: PathLike, blocks: Iterable[torch.Tensor], rate: int, samples: int | None = None) -> float:
    """Write blocks (n,) in [-1, 1]; with `samples` so many of them, and silence where there are fewer.

    Returns their peak, 0 to 1.
    """
    peak, done = 0.0, 0
    with replacing(path) as part, wave.open(os.fspath(part), "wb") as file:
        file.setparams((1, 2, rate, samples or 0, "NONE", ""))
        for block in blocks:
            block = block if samples is None else block[: samples - done]
            peak = max(peak, float(np.abs(block.numpy().clip(-1, 1)).max(initial=0)))
            file.writeframesraw(pcm(block).tobytes())
            done += len(block)
            if done == samples:
                break
        if samples is not None:
            file.writeframes(bytes(2 * (samples - done)))
    return peak


def read_wav(path: PathLike, start: int, count: int) -> np.ndarray:
    """Samples `start` to `start + count`: (count,) int16, silence outside the file."""
    with wave.open(os.fspath(path), "rb") as file:
        first, last = (min(max(i, 0), file.getnframes()) for i in (start, start + count))
        file.setpos(first)
        inside = np.frombuffer(file.readframes(last - first), "<i2")
    before = first - start if last > first else 0
    return np.pad(inside, (before, count - before - len(inside)))


def write_flac(path: PathLike, samples: np.ndarray) -> None:
    """Write 16 kHz mono sound, (n,) int16, as FLAC, which MP4 takes without loss."""
    with av.open(os.fspath(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        stream.codec_context.format = "s16"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
