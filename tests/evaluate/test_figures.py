"""Figures of a result against the truth, on curves and pictures whose figures are known."""

import math

import numpy as np
import pytest
import torch

from latentsync.drawn.heads.speech import make_speech
from latentsync.evaluate.figures import (
    best_lag,
    correlation,
    flicker,
    largest_change,
    loudness,
    psnr,
    ssim,
    window_borders,
)
from latentsync.sampling.sample import windows

REGION = torch.zeros(16, 16, dtype=torch.bool)
REGION[8:, 4:12] = True


def clip(frames: int = 20, seed: int = 0) -> torch.Tensor:
    return torch.rand(frames, 16, 16, 3, generator=torch.Generator().manual_seed(seed))


def test_correlation_of_curves_of_any_scale():
    a = np.sin(np.arange(40) / 3)
    assert correlation(a, 5 * a + 2) == pytest.approx(1) and correlation(a, -a) == pytest.approx(-1)
    b = np.cos(np.arange(40) / 7)
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, np.ones(40)) == 0


@pytest.mark.parametrize("lag", [-10, -3, 0, 1, 7])
def test_best_lag_is_positive_for_a_mouth_that_comes_late(lag):
    course = np.random.default_rng(3).standard_normal(80)
    assert best_lag(course[20 - lag : 60 - lag], course[20:60]) == lag


def test_best_lag_without_any_difference_is_none():
    assert best_lag(np.ones(30), np.arange(30)) == 0


def test_curves_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
        correlation([1, 2, 3], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="20 frames: a lag of up to 10 needs more than 20"):
        best_lag(np.arange(20), np.arange(20))


def test_psnr_and_change_count_the_region_only():
    truth = clip() * 0.5
    other = truth.clone()
    other[:, ~REGION] += 0.5
    assert psnr(other, truth, REGION) == math.inf and largest_change(other, truth, REGION) == 0
    other[:, REGION] += 0.1
    assert psnr(other, truth, REGION) == pytest.approx(20, abs=1e-3)
    assert largest_change((truth * 255).round() / 255, truth, REGION) == 0
    between = torch.full_like(truth, 100.5 / 255)
    assert largest_change(between, torch.nextafter(between, torch.zeros(1)), REGION) == 0
    levels = torch.zeros(2, 16, 16, 3, dtype=torch.uint8)
    changed = levels.clone()
    changed[1, 10, 6, 2] = 200
    assert largest_change(changed, levels, REGION) == 200 and largest_change(changed, levels, ~REGION) == 0


def test_ssim_of_equal_shifted_and_unlike_pictures():
    truth = clip(4)
    assert ssim(truth, truth, REGION) == pytest.approx(1)
    assert abs(ssim(truth, clip(4, seed=1), REGION)) < 0.3
    smooth = torch.linspace(0, 1, 16).expand(4, 16, 16)[..., None].repeat(1, 1, 1, 3)
    assert ssim(smooth, truth, REGION) < 0.3 < 0.9 < ssim(smooth + 0.02, smooth, REGION)


def test_flicker_finds_a_jump_at_its_border_and_nothing_elsewhere():
    truth = torch.linspace(0, 0.5, 20)[:, None, None, None].expand(20, 16, 16, 3).clone()
    assert flicker(truth, truth, REGION, {8, 16}) == (0, 0)
    jumping = truth.clone()
    jumping[8:16] += 0.1  # of 255 levels, on both sides of two borders
    edges, inside = flicker(jumping, truth, REGION, {8, 16})
    assert edges == pytest.approx(25.5, rel=1e-4) and inside == pytest.approx(0, abs=1e-4)
    edges, inside = flicker(jumping, truth, REGION)
    assert math.isnan(edges) and inside == pytest.approx(25.5 * 4 / 18, rel=1e-4)


def test_flicker_is_less_where_the_jump_is_faded():
    truth, weight = torch.zeros(32, 16, 16, 3), torch.zeros(32)
    weight[16:] = 1
    faded = weight.clone()
    faded[12:16] = torch.arange(1, 5) / 5
    hard = flicker(weight[:, None, None, None] + truth, truth, REGION, {16})[0]
    soft = flicker(faded[:, None, None, None] + truth, truth, REGION, window_borders([(0, 16), (12, 28)]))[0]
    assert soft < hard / 5


def test_borders_of_windows():
    assert window_borders(windows(0, 40, 16, 0)) == {16, 32}
    assert window_borders(windows(0, 28, 16, 4)) == {12, 13, 14, 15, 16}
    assert window_borders([(0, 16)]) == set()


def test_loudness_is_that_of_the_frames():
    speech = make_speech(3, 2.0)
    level = loudness(speech.waveform, speech.rate, speech.fps, len(speech))
    assert level.shape == (50,) and np.corrcoef(level, speech.loudness)[0, 1] > 0.95
    assert loudness(speech.waveform, speech.rate, speech.fps, 80)[60:].max() < 1e-6
