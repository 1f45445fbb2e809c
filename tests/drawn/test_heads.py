"""Drawn people who speak: same seed same clip, sound and mouth in step, and a mouth that can be measured."""

import cv2
import numpy as np
import pytest
import torch

from latentsync.audio.whisper import SAMPLE_RATE
from latentsync.drawn.heads.clip import make_clip, make_motion, render
from latentsync.drawn.heads.corpus import CorpusSettings, align_clip, write_corpus
from latentsync.drawn.heads.mouth import JAW_DROP
from latentsync.drawn.heads.phones import PLAIN, SOUNDS
from latentsync.drawn.heads.speaker import CHIN_Y, EYE_Y, make_speaker
from latentsync.drawn.heads.speech import make_speech, speak
from latentsync.drawn.heads.voice import Phone
from latentsync.evaluate.curves import best_lag, correlation
from latentsync.evaluate.opening import measure_opening
from latentsync.face.geometry import apply, crop_matrix, fit_similarity, invert
from latentsync.face.masks import keep_mask
from latentsync.frames import as_uint8
from latentsync.prepare.executor import Local

RESOLUTION = 128


def matrices(clip) -> list[np.ndarray]:
    return [crop_matrix(fit_similarity(points, RESOLUTION)[0], RESOLUTION) for points in clip.landmarks]


@pytest.mark.parametrize(
    ("seconds", "size", "shape"),
    [(0.6, (96, 120), (15, 96, 120)), (0.04, 48, (1, 48, 48)), (0.04, (100, 70), (1, 100, 70))],
)
def test_a_clip_has_the_promised_shapes(seconds, size, shape):
    clip = make_clip(1, seconds, size)
    assert clip.frames.shape == (*shape, 3) and clip.frames.dtype == torch.uint8
    assert clip.waveform.shape == (round(seconds * SAMPLE_RATE),) and clip.waveform.dtype == torch.float32
    assert clip.rate == SAMPLE_RATE and clip.fps == 25 and clip.waveform.abs().max() <= 1
    assert clip.landmarks.shape == (shape[0], 3, 2) and clip.boxes.shape == (shape[0], 4)
    assert clip.opening.shape == clip.width.shape == shape[:1]
    assert clip.opening.min() >= 0 and clip.opening.max() <= 1
    assert (clip.boxes[:, 2:] > clip.boxes[:, :2]).all()
    assert (clip.landmarks[:, 0, 0] < clip.landmarks[:, 1, 0]).all()


def test_the_same_seed_gives_the_same_clip_and_another_another():
    first, again, other = (make_clip(seed, 0.4, 64) for seed in (5, 5, 6))
    assert torch.equal(first.frames, again.frames) and torch.equal(first.waveform, again.waveform)
    assert np.array_equal(first.landmarks, again.landmarks)
    assert not torch.equal(first.frames, other.frames) and not torch.equal(first.waveform, other.waveform)
    assert len({make_speaker(seed) for seed in range(50)}) == 50
    assert len({make_speaker(seed).hair_style for seed in range(50)}) >= 6


@pytest.mark.parametrize("fps", [24.0, 25.0, 29.97])
def test_mouth_and_loudness_are_in_step_but_not_the_same(fps):
    for seed in range(4):
        speech = make_speech(seed, 8.0, fps)
        assert len(speech) == round(8 * fps) == len(speech.loudness)
        assert best_lag(speech.opening, speech.loudness) == 0
        assert 0.4 < correlation(speech.opening, speech.loudness) < 0.9


def test_equally_loud_sounds_have_different_mouths():
    speech = speak([Phone("a", 0.2, 0.8), Phone("i", 1.0, 1.6), Phone("u", 1.8, 2.4)], 2.6, seed=3)
    a, i, u = (slice(first, first + 8) for first in (8, 28, 48))
    loudness = [speech.loudness[part].mean() for part in (a, i, u)]
    assert max(loudness) < 1.15 * min(loudness)
    assert speech.opening[a].min() > 2 * speech.opening[i].max()
    assert speech.width[i].min() > 0.9 and speech.width[u].max() < 0.1


def test_sounds_differ_in_their_spectra():
    spectra = {}
    for name in sorted({name for part in PLAIN for name in part}):
        if SOUNDS[name].kind in ("voiced", "noise"):
            wave = speak([Phone(name, 0.2, 0.8)], 1.0, seed=3).waveform.numpy()[4800:11200]
            power = np.abs(np.fft.rfft(wave * np.hanning(len(wave)))) ** 2
            bands = np.log(power[: 3200 // 40 * 40].reshape(40, -1).sum(1) + 1e-9)
            spectra[name] = bands - bands.mean()
    names = list(spectra)
    distances = [np.abs(spectra[a] - spectra[b]).mean() for k, a in enumerate(names) for b in names[:k]]
    assert min(distances) > 0.3
    centre = {n: float((np.exp(s) * np.arange(40)).sum() / np.exp(s).sum() * 200) for n, s in spectra.items()}
    assert centre["s"] > 4000 > centre["sh"] > 1500 > centre["a"] > centre["m"]


def test_other_voices_say_the_same_mouths():
    for seed in range(4):
        phones = make_speech(seed, 4.0).phones
        plain, other = (speak(phones, 4.0, seed, variety=variety) for variety in (0.0, 1.0))
        assert np.array_equal(plain.shapes, other.shapes)
        assert not torch.equal(plain.waveform, other.waveform)
        assert 0.1 < float(other.waveform.abs().max()) <= 0.7
        assert np.corrcoef(plain.loudness, other.loudness)[0, 1] > 0.5


def test_with_variety_more_is_said_and_open_vowels_are_louder():
    speeches = {variety: [make_speech(seed, 8.0, variety=variety) for seed in range(12)] for variety in (0.0, 1.0)}
    said = {v: {phone.name for speech in spoken for phone in speech.phones} for v, spoken in speeches.items()}
    assert said[0.0] == {name for part in PLAIN for name in part} | {"_"}
    assert said[1.0] == set(SOUNDS)
    moved = {v: np.mean([correlation(s.opening, s.loudness) for s in spoken]) for v, spoken in speeches.items()}
    assert 0.6 < moved[0.0] < moved[1.0] < 0.9


def test_lips_meet_for_m_b_p_even_between_open_vowels():
    for name in "mbp":
        phones = [Phone("a", 0.0, 0.3), Phone(name, 0.3, 0.38), Phone("a", 0.38, 0.7)]
        speech = speak(phones, 0.8, fps=100)
        assert speech.opening[33:35].max() < 0.15 < 0.8 < speech.opening[15]


def test_exchanged_speech_changes_the_lower_face_only():
    speaker, size = make_speaker(2), 128
    first, second = (render(speaker, make_speech(seed, 1.2), size, motion_seed=9) for seed in (1, 2))
    assert np.array_equal(first.landmarks, second.landmarks) and np.array_equal(first.boxes, second.boxes)
    keep = (keep_mask(RESOLUTION)[0].numpy() > 0.5).astype(np.uint8)
    for a, b, m in zip(first.frames, second.frames, matrices(first), strict=True):
        flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
        kept = cv2.warpAffine(keep, m, (size, size), flags=flags, borderValue=1).astype(bool)
        assert torch.equal(a[torch.from_numpy(kept)], b[torch.from_numpy(kept)])
    assert (first.frames != second.frames).any()


def test_chin_and_mouth_are_repainted_and_eyes_are_kept():
    keep = keep_mask(RESOLUTION)[0].numpy()
    for seed in range(12):
        speaker = make_speaker(seed)
        clip = render(speaker, make_speech(seed, 0.2), 128, seed)
        to_frame = make_motion(seed, 5, 25.0, (128, 128)).matrices[0]
        drop = JAW_DROP * speaker.max_opening
        x, y = 1.3 * speaker.mouth_width, speaker.mouth_y
        changing = [(-x, y), (x, y), (0, y - 0.07), (0, y + 0.14), (0, CHIN_Y + drop), (-0.12, 0.98 + drop)]
        still = [(s * e * speaker.eye_spread, EYE_Y + dy) for s in (-1, 1) for e in (0.6, 1.4) for dy in (-0.04, 0.03)]
        for points, value in ((changing, 0.0), (still, 1.0)):
            column, row = np.rint(apply(matrices(clip)[0], apply(to_frame, np.array(points)))).astype(int).T
            assert (keep[row, column] == value).all(), (seed, points, keep[row, column])
        corners = apply(invert(matrices(clip)[0]), np.array([[0.0, 0.0], [127, 127]]))
        assert corners.min() > -8 and corners.max() < 136


@pytest.mark.parametrize("seed", range(200, 204))
def test_the_opening_can_be_read_off_the_pixels(seed):
    clip = make_clip(seed, seconds=2.0)
    crops = align_clip(clip, RESOLUTION)
    measured = measure_opening(as_uint8(crops)).numpy()
    assert measured.shape == clip.opening.shape
    assert best_lag(measured, clip.opening) == 0 and correlation(measured, clip.opening) >= 0.97
    blurred = np.stack([cv2.GaussianBlur(crop, (0, 0), 0.7) for crop in crops.numpy()])
    assert correlation(measure_opening(torch.from_numpy(blurred)).numpy(), clip.opening) >= 0.95


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_speech(0, 0.01), "less than one frame"),
        (lambda: speak([Phone("q", 0.0, 0.1)], 1.0), "unknown phones.*'q'"),
        (lambda: make_clip(0, 0.2, 47), "size is 47 x 47"),
        (lambda: make_clip(0, 0.2, (100, 69)), "size is 100 x 69"),
        (lambda: measure_opening(torch.zeros(3, 8, 9, 3)), r"\(3, 8, 9, 3\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Of `make_clip(7, 1.0, 128)`.
OPENING = [0.0, 0.0, 0.00775, 0.22378, 0.52482, 0.86887, 0.20413, 0.24987, 0.05457]
MEASURED = [0.00486, 0.00572, 0.06406, 0.03512, 0.01321]
TILES = [
    96.26, 68.64, 66.11, 86.19, 76.01, 82.24, 77.39, 70.58, 74.88, 114.6, 108.87, 65.7, 97.19, 137.77, 127.81, 75.97,
]  # fmt: skip
LANDMARKS = [48.8924, 55.2122, 76.0014, 53.2726, 63.7887, 72.9959]
BOX = [34.5276, 35.4888, 90.9685, 100.5521]


def test_heads_and_voices_stay_those_the_packaged_model_was_trained_on():
    for variety, rms, peak in ((0.0, 0.142219, 26471), (1.0, 0.108179, 26736)):
        wave = make_speech(7, 2.0, variety=variety).waveform
        assert float(wave.square().mean().sqrt()) == pytest.approx(rms, rel=1e-4)
        assert int(wave.abs().argmax()) == peak
    clip = make_clip(7, 1.0, 128)
    assert clip.opening.tolist()[::3] == pytest.approx(OPENING, abs=1e-4)
    assert measure_opening(align_clip(clip, 128)).tolist()[::6] == pytest.approx(MEASURED, abs=2e-4)
    tiles = clip.frames[14].float().reshape(4, 32, 4, 32, 3).mean((1, 3, 4))  # the mouth is wide open
    assert tiles.flatten().tolist() == pytest.approx(TILES, abs=0.03)
    assert clip.landmarks[-1].ravel().tolist() == pytest.approx(LANDMARKS, abs=1e-3)
    assert clip.boxes[-1].tolist() == pytest.approx(BOX, abs=1e-3)


def test_a_corpus_that_is_broken_off_leaves_whole_clips_alone(tmp_path):
    def stop(phase, done, total):
        if done:
            raise KeyboardInterrupt

    settings = CorpusSettings(clips=2, seconds=0.2, resolution=64, size=64)
    with pytest.raises(KeyboardInterrupt):
        write_corpus(tmp_path, settings, progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["clip_000000.mp4"]
    assert [path.is_file() for path in write_corpus(tmp_path, settings, Local(1))] == [True, True]
    assert len(list(tmp_path.iterdir())) == 2
