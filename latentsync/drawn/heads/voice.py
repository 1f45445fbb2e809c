"""The sound of a list of phones: a source (glottal pulses or noise) sent through resonances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...audio.whisper import SAMPLE_RATE
from .phones import SOUNDS, Sound

EDGE = 0.012  # s on either side of a border, in which phones fade into each other
BURST = 0.014  # s; length of the burst that ends a stop
PEAK = 0.7  # of full scale
BANDWIDTHS = (70.0, 100.0, 150.0, 220.0, 300.0)  # Hz, of the resonances
UPPER = (3500.0, 4500.0)  # Hz; the fourth and fifth resonance, which hardly depend on the vowel


@dataclass(frozen=True)
class Phone:
    """One sound of a speech: its key in `SOUNDS`, start and end in seconds, and stress (0..1, scales loudness)."""

    name: str
    start: float
    end: float
    stress: float = 1.0


@dataclass(frozen=True)
class Voice:
    """A speaker's voice, and the noise of the room."""

    pitch: float  # mean, Hz
    sounds: Mapping[str, Sound]  # how this voice makes each phone; the bands are in Hz for its own tract
    rise: float = 0.45  # share of a glottal period in which the air flow grows
    fall: float = 0.17  # share in which it ends
    breath: float = 0.004  # noise in the source, relative to the pulses
    damping: float = 1.0  # bandwidths of the resonances, relative to `BANDWIDTHS`
    room: float = 2e-4  # root mean square of the noise that is always there


def draw_voice(rng: np.random.Generator, variety: float = 0.0) -> Voice:
    """A voice: its pitch and the length of its tract and, where `variety` (0..1) is above 0, all the rest.

    With variety come other sources, soft or harsh, an accent (vowels and consonants at other places and levels, open
    vowels louder than closed ones as in natural speech), upper resonances, and more noise.
    """
    others = rng.spawn(1)[0]  # so that a plain voice draws the same numbers with or without them
    stretch = 1 + variety * others.uniform(-0.12, 0.12)
    tract = rng.uniform(0.9, 1.15) * stretch
    pitch = 115 * tract**3 * rng.uniform(0.85, 1.25)
    # Resonances lie higher in a shorter tract; bands of noise are made in front of it.
    voiced = {n: replace(s, bands=tuple(tract * f for f in s.bands)) for n, s in SOUNDS.items() if s.kind == "voiced"}
    plain = Voice(pitch, SOUNDS | voiced)
    if variety == 0:
        return plain

    def factor(most: float) -> float:
        return most ** (variety * others.uniform(-1, 1))

    sounds = {}
    upper = tuple(tract * f for f in UPPER) if others.random() < 0.7 else ()
    louder_open = variety * others.uniform(0, 1)
    for name, sound in plain.sounds.items():
        bands = tuple(f * factor(1.08) for f in sound.bands)
        level = sound.level * factor(1.6)
        if sound.kind == "voiced":
            bands += upper
            level *= 3 ** (louder_open * (sound.shape.opening - 0.6))
        sounds[name] = replace(sound, bands=bands, level=level)
    most = {"pitch": 1.3, "rise": 1.4, "fall": 1.8, "breath": 8, "damping": 1.8, "room": 10}
    return replace(plain, sounds=sounds, **{name: getattr(plain, name) * factor(m) for name, m in most.items()})


def glottal_pulses(pitch: np.ndarray, rise: float, fall: float) -> np.ndarray:
    """Derivative of the air flow through the glottis, one period per cycle of `pitch` (Hz at every sample).

    The flow rises over a share `rise` of a period, falls over `fall` and rests: the fast closing gives the many
    harmonics.
    """
    phase = np.cumsum(pitch / SAMPLE_RATE) % 1.0
    opening = 0.5 - 0.5 * np.cos(np.pi * phase / rise)
    closing = np.cos(np.pi / 2 * (phase - rise) / fall)
    flow = np.where(phase < rise, opening, np.where(phase < rise + fall, closing, 0.0))
    return np.diff(flow, prepend=0.0)


def resonate(source: np.ndarray, frequencies: Sequence[float], damping: float = 1.0) -> np.ndarray:
    """`source` through a cascade of two-pole resonances at these frequencies in Hz."""
    from scipy.signal import lfilter

    for frequency, bandwidth in zip(frequencies, BANDWIDTHS, strict=False):
        radius = np.exp(-np.pi * damping * bandwidth / SAMPLE_RATE)
        a = [1.0, -2 * radius * np.cos(2 * np.pi * frequency / SAMPLE_RATE), radius**2]
        source = lfilter([sum(a)], a, source)
    return source


def synthesise(phones: Sequence[Phone], samples: int, rng: np.random.Generator, variety: float = 0.0) -> np.ndarray:
    """The waveform (samples,) float32 of `phones`, in a voice that `rng` chooses; see `draw_voice` for `variety`."""
    from scipy.signal import butter, sosfilt

    time = np.arange(samples) / SAMPLE_RATE
    voice = draw_voice(rng, variety)
    pulses = glottal_pulses(voice.pitch * _melody(phones, time, rng), voice.rise, voice.fall)
    source = pulses + voice.breath * rng.standard_normal(samples)
    noise = rng.standard_normal(samples)
    wave = np.zeros(samples)
    for phone in phones:
        sound = voice.sounds[phone.name]
        if sound.kind == "silence":
            continue
        start = phone.end - BURST if sound.kind == "stop" else phone.start
        first, last = np.rint(np.array([start - EDGE, phone.end + EDGE]) * SAMPLE_RATE).astype(int).clip(0, samples)
        if last - first < 2:  # beyond the end
            continue
        span = slice(first, last)
        if sound.kind == "voiced":
            part = resonate(source[span], sound.bands, voice.damping)
        else:
            band = [sound.bands[0], min(sound.bands[1], 0.48 * SAMPLE_RATE)]
            part = sosfilt(butter(4, band, "bandpass", fs=SAMPLE_RATE, output="sos"), noise[span])
        # Raised-cosine edges centred on the borders, so that neighbours sum to 1.
        ramp = np.clip(np.minimum(time[span] - start, phone.end - time[span]) / (2 * EDGE) + 0.5, 0.0, 1.0)
        rms = np.sqrt(np.mean(part**2))
        wave[span] += part / max(rms, 1e-9) * sound.level * phone.stress * (0.5 - 0.5 * np.cos(np.pi * ramp))
    wave += voice.room * noise  # a room is never silent
    loudest = max(np.abs(wave).max(), 0.1)  # silence stays silent
    return (PEAK * wave / loudest).astype(np.float32)


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
