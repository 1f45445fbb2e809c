"""Figures and chart of a clip whose offset is known; the embedded SyncNet where it is packaged."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from clock import Clock, rising_pictures, rising_sound
from safetensors.torch import save_file
from small_nets import narrow_syncnet

from latentsync.audio.syncnet import syncnet_mel
from latentsync.evaluate.sync_report import BEST, chart, describe, mouth_metrics, unsteadiness
from latentsync.evaluate.sync_score import SyncCurve, load_stable_syncnet, sync_curve
from latentsync.face.masks import keep_mask

FRAMES = 60


def judged(late: int = 0, fps: float = 25.0, at_once: int = 16) -> SyncCurve:
    wave, pictures = rising_sound(FRAMES), rising_pictures(FRAMES, late)
    if fps != 25:
        pictures = pictures[[min(round(i * 25 / fps), FRAMES - 1) for i in range(round(FRAMES * fps / 25))]]
    return sync_curve(Clock(syncnet_mel(wave), FRAMES, at_once), None, pictures, wave, fps)


@pytest.mark.parametrize(("late", "at_once"), [(0, 16), (4, 16), (-7, 16), (4, 25)])
def test_the_curve_peaks_where_the_mouth_is_late_by(late, at_once):
    curve = judged(late, at_once=at_once)
    assert curve.offset == late and list(curve.offsets) == list(range(-10, 11))
    assert curve.confidence == pytest.approx(np.cos(late / 20), abs=0.02)
    assert curve.margin == pytest.approx(np.nanmax(curve.cosines) - np.nanmedian(curve.cosines)) and curve.margin > 0
    assert len(curve.over_time) == (FRAMES - at_once) // 4 + 1 and curve.middles[0] == at_once / 50
    assert curve.over_time.mean() == pytest.approx(curve.confidence)


@pytest.mark.parametrize("fps", [12.5, 30.0, 50.0])
def test_other_frame_rates_are_judged_at_25(fps):
    assert abs(judged(3, fps).offset - 3) <= 1 and judged(0, fps).confidence > 0.95


def test_a_clip_that_barely_suffices_has_no_figures_for_far_offsets():
    wave = rising_sound(17)
    curve = sync_curve(Clock(syncnet_mel(wave), 17), None, rising_pictures(17), wave)
    assert np.isfinite(curve.cosines).sum() == 2 and curve.offset in (0, -1)
    assert chart(curve, "short").shape == (480, 1280, 3)


def test_what_cannot_be_judged_is_refused():
    wave = rising_sound(20)
    clock = Clock(syncnet_mel(wave), 20)
    with pytest.raises(ValueError, match="has 15 frames at 25 frames per second: SyncNet judges 16"):
        sync_curve(clock, None, rising_pictures(15), wave)
    with pytest.raises(ValueError, match="has 8 frames at 25"):
        sync_curve(clock, None, rising_pictures(15), wave, 50.0)
    for fps in (0, -25.0, math.nan):
        with pytest.raises(ValueError, match="fps is"):
            sync_curve(clock, None, rising_pictures(20), wave, fps)


def test_the_report_says_what_was_found():
    text = describe(judged(4), "a clock", unsteady=1.234)
    assert text.startswith("judged by a clock\nconfidence 0.98") and "unsteadiness" in text and "1.23 levels" in text
    assert "best offset +4: the mouth is late by 4 frames" in text and "in step" in describe(judged(), "a clock")
    assert "early by 7" in describe(judged(-7), "a clock")


def test_the_reference_is_compared_at_the_mouth_only():
    truth = torch.rand(5, 64, 64, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    other = truth.clone()
    other[:, keep_mask(64)[0] >= 0.5] = 1.0
    same = mouth_metrics(other, truth)
    assert same["psnr"] == math.inf and same["flicker"] == 0
    worse = mouth_metrics(truth + 0.1, truth)
    assert worse["psnr"] == pytest.approx(20, abs=1e-3) and worse["ssim"] < 1
    text = describe(judged(), "a clock", worse)
    assert "PSNR 20.0 dB, SSIM" in text and "unsteadiness" not in text
    with pytest.raises(ValueError, match="crops are 4 frames of 64 x 64 and the reference 5 frames of 64 x 64"):
        mouth_metrics(truth[:4], truth)


def test_unsteadiness_of_a_still_and_of_a_flickering_clip():
    still = torch.full((6, 64, 64, 3), 0.5)
    assert unsteadiness(still) == 0 and math.isnan(unsteadiness(still[:2]))
    still[::2] += 0.1
    assert unsteadiness(still) == pytest.approx(51, rel=1e-4)  # 2 * 0.1 of 255 levels


def test_the_chart_marks_the_best_offset():
    curve = judged(4)

    def place(curve):
        picture = chart(curve, "clock").astype(int)
        return np.flatnonzero((np.abs(picture[:, :600] - BEST).max(-1) < 8).sum(0) > 100).mean()

    other = replace(curve, cosines=np.roll(curve.cosines, 2))
    assert place(other) - place(curve) == pytest.approx(2 * (560 - 64) / 21, abs=2)


def test_a_folder_without_its_judge_says_how_to_get_it(tmp_path):
    with pytest.raises(ValueError, match="lacks stable_syncnet: .* --only syncnet"):
        load_stable_syncnet(tmp_path)
    save_file(narrow_syncnet(4, [2, 2, 2, 1, 2, 2]).state_dict(), tmp_path / "stable_syncnet.safetensors")
    with pytest.raises(ValueError, match="judges latents and .* lacks the VAE"):
        load_stable_syncnet(tmp_path)


def test_a_judge_of_pixels_needs_no_vae(tmp_path):
    net = narrow_syncnet(3, [[1, 2], 2, 2, 2, 2, 2, 2, 2])
    save_file(net.state_dict(), tmp_path / "stable_syncnet.safetensors")
    judge, vae = load_stable_syncnet(tmp_path)
    assert judge.sees_pixels and judge.side == 256 and vae is None
