"""The sound of a list of phones: a source (glottal pulses or noise) sent through resonances."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..audio import SAMPLE_RATE
from .phones import SOUNDS, Sound

EDGE = 0.012  # s; phones fade into each other over twice this time, half of it on either side of their border
BURST = 0.014  # s; length of the burst that ends a stop
PEAK = 0.7  # of full scale
BANDWIDTHS = (70.0, 100.0, 150.0)  # Hz, of the first, second and third resonance


@dataclass(frozen=True)
class Phone:
    """One sound of a speech: its key in `SOUNDS`, start and end in seconds, and stress (0..1, scales loudness)."""

    name: str
    start: float
    end: float
    stress: float = 1.0


def glottal_pulses(pitch: np.ndarray) -> np.ndarray:
    """Derivative of the air flow through the glottis, one period per cycle of `pitch` (Hz at every sample).

    The flow rises over 45 % of a period, falls over 17 % and rests: the fast closing gives the many harmonics.
    """
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1.0
    opening = 0.5 - 0.5 * np.cos(np.pi * phase / 0.45)
    closing = np.cos(np.pi / 2 * (phase - 0.45) / 0.17)
    flow = np.where(phase < 0.45, opening, np.where(phase < 0.62, closing, 0.0))
    return np.diff(flow, prepend=0.0)


def resonate(source: np.ndarray, frequencies: Sequence[float]) -> np.ndarray:
    """`source` through a cascade of two-pole resonances at these frequencies in Hz."""
    from scipy.signal import lfilter

    for frequency, bandwidth in zip(frequencies, BANDWIDTHS, strict=False):
        radius = np.exp(-np.pi * bandwidth / SAMPLE_RATE)
        a = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE), radius**2]
        source = lfilter([sum(a)], a, source)
    return source


def band_noise(noise: np.ndarray, low: float, high: float) -> np.ndarray:
    """`noise` between two frequencies in Hz."""
    from scipy.signal import butter, sosfilt

    return sosfilt(butter(4, [low, min(high, 0.48 * SAMPLE_RATE)], "bandpass", fs=SAMPLE_RATE, output="sos"), noise)


def synthesise(phones: Sequence[Phone], samples: int, rng: np.random.Generator) -> np.ndarray:
    """The waveform (samples,) float32 of `phones`, in a voice (pitch, length of the tract) that `rng` chooses."""
    time = np.arange(samples) / SAMPLE_RATE
    tract = rng.uniform(0.9, 1.15)
    pitch = 115 * tract**3 * rng.uniform(0.85, 1.25) * _melody(phones, time, rng)
    source = glottal_pulses(pitch) + 0.004 * rng.standard_normal(samples)
    noise = rng.standard_normal(samples)
    wave = np.zeros(samples)
    for phone in phones:
        sound = SOUNDS[phone.name]
        if sound.kind == "silence":
            continue
        start = phone.end - BURST if sound.kind == "stop" else phone.start
        span = slice(
            *np.clip(np.rint(np.array([start - EDGE, phone.end + EDGE]) * SAMPLE_RATE).astype(int), 0, samples)
        )
        if span.stop - span.start < 2:  # beyond the end
            continue
        part = _excite(sound, source[span], noise[span], tract)
        rms = np.sqrt(np.mean(part**2))
        wave[span] += part / max(rms, 1e-9) * sound.level * phone.stress * _fade(time[span], start, phone.end)
    wave += 2e-4 * noise  # a room is never silent
    loudest = max(np.abs(wave).max(), 0.1)  # silence stays silent
    return (PEAK * wave / loudest).astype(np.float32)


def _excite(sound: Sound, source: np.ndarray, noise: np.ndarray, tract: float) -> np.ndarray:
    if sound.kind == "voiced":
        return resonate(source, [tract * f for f in sound.bands])
    return band_noise(noise, *sound.bands)


def _fade(time: np.ndarray, start: float, end: float) -> np.ndarray:
    """1 inside, raised-cosine edges centred on the borders, so that neighbours sum to 1."""
    ramp = np.clip(np.minimum(time - start, end - time) / (2 * EDGE) + 0.5, 0.0, 1.0)
    return 0.5 - 0.5 * np.cos(np.pi * ramp)


def _melody(phones: Sequence[Phone], time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Relative pitch (samples,): it falls from pause to pause, rises where stressed, and wavers a little."""
    knots = [(0.0, 1.1)]
    since = 0.0
    for phone in phones:
        since = phone.end if phone.name == "_" else since
        fall = 1.12 * np.exp(-0.12 * (phone.start - since))
        knots.append(((phone.start + phone.end) / 2, fall * (0.85 + 0.2 * phone.stress) * rng.uniform(0.95, 1.05)))
    times, values = np.array(knots).T
    return np.interp(time, times, values) * (1 + 0.01 * np.sin(2 * np.pi * 5.2 * time + rng.uniform(0, 6.28)))
