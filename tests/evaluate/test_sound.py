"""The offset of clips whose sound is a known number of frames away."""

import numpy as np
import pytest
import torch
from clock import Clock, rising_pictures, rising_sound
from embedded_weights import packaged
from flicker_net import FRAMES, Flicker, pictures, sound

from latentsync.audio.syncnet import syncnet_mel
from latentsync.evaluate.sync_score import MouthViews, load_stable_syncnet, stable_syncnet, syncnet_v2
from latentsync.face.align import AlignedFaces
from latentsync.face.detect import load_detector
from latentsync.media import VideoReader
from latentsync.models.embedded import EMBEDDED
from latentsync.models.samples import find_sample
from latentsync.pipelines.lip_sync import load_mono_16k as sound_of
from latentsync.pipelines.lip_sync import track_or_resume
from latentsync.settings import RunSettings

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


@packaged
def test_the_embedded_syncnet_follows_sound_that_is_moved():
    sample = find_sample("talking head")
    judge, vae = load_stable_syncnet(EMBEDDED)
    wave, offsets = sound_of(sample.video), {}
    with VideoReader(sample.video, cache=20) as frames:
        detector = load_detector("file", model=sample.track)
        track = track_or_resume(frames, 25.0, detector, judge.side, RunSettings(), lambda *_: None)
        crops = AlignedFaces(frames, track.matrices, track.found, track.resolution)
        for late in (-4, 0, 3):
            moved = torch.roll(wave, late * 640)
            offsets[late] = stable_syncnet(judge, vae, crops, moved, 25.0)["stable_offset"].value
    assert offsets == {late: offsets[0] - late for late in offsets} and abs(offsets[0]) <= 1


def test_views_made_one_by_one_are_those_of_the_whole_clip():
    random = np.random.default_rng(0)
    frames = torch.from_numpy(random.integers(0, 256, (18, 60, 80, 3), dtype=np.uint8))
    boxes = np.array([[20.0, 15, 50, 50]]) + random.uniform(-3, 3, (18, 4))
    views = MouthViews(frames, boxes)
    whole = views[:]
    assert len(views) == 18 and torch.equal(torch.cat([views[i : i + 1] for i in range(18)]), whole)
    assert torch.equal(views[14:30], whole[14:])
