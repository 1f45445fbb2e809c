"""The sound of sources and clips: 16 kHz, mono, 16 bits, without loss from here on."""

import os
import wave
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from ..audio import SAMPLE_RATE, resample, to_mono
from ..files import replacing
from ..media.audio import AudioReader

FULL_SCALE = 32767
BLOCK, MARGIN = 30, 1  # seconds that are resampled at once, and that the filter sees on either side


def sound_16k(reader: AudioReader) -> Iterator[torch.Tensor]:
    """A file's sound at 16 kHz, mono, (samples,) float32, in blocks: the same as all of it resampled at once."""
    rate, given = reader.rate, 0  # seconds at the front of what is held that are out already
    held: list[torch.Tensor] = []
    size = 0
    for chunk in reader:
        held.append(to_mono(chunk))
        size += len(held[-1])
        while size >= (given + BLOCK + MARGIN) * rate:
            wave_in = torch.cat(held)
            block = resample(wave_in[: (given + BLOCK + MARGIN) * rate], rate)
            yield block[given * SAMPLE_RATE : (given + BLOCK) * SAMPLE_RATE]
            held = [wave_in[(given + BLOCK - MARGIN) * rate :]]
            given, size = MARGIN, len(held[0])
    if size > given * rate:
        yield resample(torch.cat(held), rate)[given * SAMPLE_RATE :]


def write_sound(reader: AudioReader, path: Path, samples: int) -> float:
    """Write a file's first `samples` at 16 kHz as WAV, silence where it has fewer; returns their peak in 0..1."""
    peak, missing = 0.0, samples
    with replacing(path) as part, wave.open(os.fspath(part), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, samples, "NONE", ""))
        for block in sound_16k(reader):
            block = block[:missing].numpy().clip(-1, 1)
            peak = max(peak, float(np.abs(block).max(initial=0)))
            file.writeframesraw(np.rint(block * FULL_SCALE).astype("<i2").tobytes())
            missing -= len(block)
            if missing == 0:
                break
        file.writeframes(bytes(2 * missing))
    return peak


def read_sound(path: Path, start: int, count: int) -> np.ndarray:
    """Samples `start` to `start + count` of a WAV file of `write_sound`: (count,) int16, silence outside the file."""
    with wave.open(os.fspath(path), "rb") as file:
        first, last = (min(max(i, 0), file.getnframes()) for i in (start, start + count))
        file.setpos(first)
        inside = np.frombuffer(file.readframes(last - first), "<i2")
    before = first - start if last > first else 0
    return np.pad(inside, (before, count - before - len(inside)))


def write_flac(path: Path, samples: np.ndarray) -> None:
    """Write 16 kHz mono sound, (n,) int16, as FLAC, which MP4 takes without loss."""
    import av

    with av.open(os.fspath(path), "w", format="flac") as container:
        stream = container.add_stream("flac", rate=SAMPLE_RATE, layout="mono")
        stream.codec_context.format = "s16"
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format="s16", layout="mono")
        frame.rate, frame.pts, frame.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
