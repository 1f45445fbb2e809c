"""The offset of clips whose sound is a known number of frames away."""

import numpy as np
import pytest
import torch
from clock import Clock, rising_pictures, rising_sound
from flicker_net import FRAMES, Flicker, pictures, sound

from latentsync.evaluate.sound import stable_syncnet, syncnet_v2
from latentsync.prepare.sync_filter import MouthViews, mouth_views
from latentsync.speech import syncnet_mel

BOX = (22.0, 20.0, 42.0, 40.0)  # whose view lies inside the picture


def heard(late: int) -> torch.Tensor:
    return torch.from_numpy(sound(late).astype(np.float32) / 32768)


@pytest.mark.parametrize("late", [-5, 0, 3])
def test_syncnet_v2_finds_the_shift(late):
    figures = syncnet_v2(Flicker(), pictures(), np.array([BOX] * FRAMES), heard(late), 25.0)
    assert figures["sync_offset"].value == -late
    assert figures["sync_c"].value > 10 and 0 <= figures["sync_d"].value < 15


def test_syncnet_v2_sees_25_frames_a_second():
    twice = pictures().repeat_interleave(2, dim=0)
    figures = syncnet_v2(Flicker(), twice, np.array([BOX] * 2 * FRAMES), heard(2), 50.0)
    assert figures["sync_offset"].value == -2


@pytest.mark.parametrize("late", [-4, 0, 6])
def test_stable_syncnet_finds_the_shift(late):
    wave, frames = rising_sound(48), rising_pictures(48, late)
    figures = stable_syncnet(Clock(syncnet_mel(wave), 48), None, frames, wave, 25.0)
    assert figures["stable_offset"].value == late
    assert figures["stable_sync"].value == pytest.approx(np.cos(late / 20), abs=0.03)
    assert len(figures["stable_sync"].curve) == (48 - 16) // 4 + 1
    assert figures["stable_sync"].times[:2].tolist() == [8 / 25, 12 / 25]


def test_views_made_one_by_one_are_those_of_the_whole_clip():
    random = np.random.default_rng(0)
    frames = torch.from_numpy(random.integers(0, 256, (18, 60, 80, 3), dtype=np.uint8))
    boxes = np.array([[20.0, 15, 50, 50]]) + random.uniform(-3, 3, (18, 4))
    views, whole = MouthViews(frames, boxes), mouth_views(frames, boxes)
    assert len(views) == 18 and torch.equal(torch.cat([views[i : i + 1] for i in range(18)]), whole)
    assert torch.equal(views[14:30], whole[14:])
