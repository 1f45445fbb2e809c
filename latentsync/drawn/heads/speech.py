"""Speech without meaning: a waveform and, frame by frame, the mouth that belongs to it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...audio.whisper import SAMPLE_RATE
from ...errors import InputError
from .phones import PLAIN, SOUNDS, WIDE
from .voice import Phone, synthesise

FPS = 25.0
STEPS_PER_SECOND = 500  # of the mouth's movement, before it is sampled at the frames
COARTICULATION = 0.032  # s; standard deviation of the kernel that blends neighbouring mouths


@dataclass(frozen=True, eq=False)
class Speech:
    """Sound and mouth on one clock: frame i covers the time from i / fps to (i + 1) / fps."""

    waveform: torch.Tensor  # (samples,) float32, mono
    rate: int  # samples per second
    fps: float
    phones: tuple[Phone, ...]
    shapes: np.ndarray  # (n, 6) float32, columns as in `MouthShape`, at the middle of each frame
    loudness: np.ndarray  # (n,) float32, root mean square of the waveform within each frame

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def opening(self) -> np.ndarray:
        return self.shapes[:, 0]

    @property
    def width(self) -> np.ndarray:
        return self.shapes[:, 1]


def make_speech(seed: int, seconds: float, fps: float = FPS, variety: float = 0.0) -> Speech:
    """Syllables, pauses and a voice drawn by `seed`, round(seconds * fps) frames long.

    `variety` (0..1) is how far voices differ beyond pitch and length of the tract, see `voice.draw_voice`; with any,
    the syllables are of the wide language.
    """
    rng = np.random.default_rng((seed, 1))
    language = WIDE if variety else PLAIN
    phones: list[Phone] = []
    now, pace = rng.uniform(0.08, 0.25), rng.uniform(0.85, 1.2)
    until_pause = int(rng.integers(3, 9))  # syllables

    def add(name: str, length: float, stress: float) -> None:
        nonlocal now
        phones.append(Phone(name, now, now + length, stress))
        now += length

    while now < seconds - 0.1:  # a syllable: consonant-vowel(-consonant)
        stress = rng.uniform(0.45, 1.0)
        if rng.random() < 0.85:
            add(str(rng.choice(language.onsets)), pace * rng.uniform(0.07, 0.12), stress)
        add(str(rng.choice(language.vowels)), pace * rng.uniform(0.11, 0.24) * (0.8 + 0.3 * stress), stress)
        if rng.random() < 0.3:
            add(str(rng.choice(language.codas)), pace * rng.uniform(0.07, 0.11), stress)
        until_pause -= 1
        if until_pause == 0:
            add("_", rng.uniform(0.18, 0.5), 0.0)
            until_pause = int(rng.integers(3, 9))
    return speak(phones, seconds, seed, fps, variety)


def speak(phones: Sequence[Phone], seconds: float, seed: int = 0, fps: float = FPS, variety: float = 0.0) -> Speech:
    """These phones as `Speech`, with silence between them; `seed` chooses the voice, `variety` how odd it is."""
    frames = round(seconds * fps)
    if frames < 1:
        raise InputError(f"{seconds} s at {fps} frames/s is less than one frame: ask for at least {1 / fps:.3f} s")
    unknown = sorted({phone.name for phone in phones} - set(SOUNDS))
    if unknown:
        raise InputError(f"unknown phones {unknown}: choose from {' '.join(SOUNDS)}")
    samples = round(frames / fps * SAMPLE_RATE)
    wave = synthesise(phones, samples, np.random.default_rng((seed, 2)), variety)
    edges = np.rint(np.arange(frames + 1) * SAMPLE_RATE / fps).astype(int).clip(0, samples)
    energy = np.concatenate([[0.0], np.cumsum(wave.astype(np.float64) ** 2)])
    loudness = np.sqrt(np.diff(energy[edges]) / np.maximum(np.diff(edges), 1))
    shapes = mouth_shapes(phones, (np.arange(frames) + 0.5) / fps)
    return Speech(torch.from_numpy(wave), SAMPLE_RATE, fps, tuple(phones), shapes, loudness.astype(np.float32))


def mouth_shapes(phones: Sequence[Phone], times: np.ndarray) -> np.ndarray:
    """The mouth (len(times), 6) float32 at `times` in seconds.

    Each phone asks for its shape with the weight `hold`; weights and shapes are smoothed by a kernel that is
    symmetric in time, so that neighbours blend but the mouth neither leads nor lags. Soft speech opens less.
    """
    from scipy.ndimage import gaussian_filter1d

    end = max([phone.end for phone in phones] + [float(times.max())])
    grid = np.arange(-0.2, end + 0.2, 1 / STEPS_PER_SECOND)
    target = np.tile(np.array(SOUNDS["_"].shape), (len(grid), 1))
    weight = np.full(len(grid), SOUNDS["_"].hold)
    for phone in phones:
        sound = SOUNDS[phone.name]
        inside = (grid >= phone.start) & (grid < phone.end)
        target[inside] = sound.shape
        target[inside, 0] *= 0.55 + 0.45 * phone.stress
        weight[inside] = sound.hold
    sigma = COARTICULATION * STEPS_PER_SECOND
    asked = gaussian_filter1d(target * weight[:, None], sigma, axis=0, mode="nearest")
    shapes = asked / gaussian_filter1d(weight, sigma, mode="nearest")[:, None]
    return np.stack([np.interp(times, grid, column) for column in shapes.T], -1).astype(np.float32)
