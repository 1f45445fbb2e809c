"""Validation of the U-Net: a readable clip, and figures that tell shifted sound from sound in place."""

import logging

import media_clips
import numpy as np
import pytest
import tiny
import torch
from clock import Clock, rising_pictures, rising_sound
from small_nets import PIXEL_FACTORS, narrow_syncnet

from latentsync.checkpoint import load_model
from latentsync.media import VideoReader, VideoWriter, read_audio
from latentsync.speech import syncnet_mel
from latentsync.sync import Settings
from latentsync.train.estimate import SyncJudge
from latentsync.train.validate import judge_sync, validate

SIDE, FRAMES = 64, 40
QUICK = Settings(steps=1, guidance=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(
        tiny.make_checkpoints(tmp_path_factory.mktemp("m") / "checkpoints"), resolution=SIDE, device="cpu"
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "voice.wav"
    media_clips.encode_audio(path, "pcm_s16le", media_clips.tone(FRAMES / 25, 16000), 16000)
    return path


def make_video(path, side: int = SIDE, fps: int = 25, width: int | None = None):
    with VideoWriter(path, fps, side, width or side, preset="ultrafast") as writer:
        writer.write(torch.rand(20, side, width or side, 3, generator=torch.Generator().manual_seed(0)))
    return path


@pytest.mark.parametrize("late", [0, 3, -5])
def test_the_offset_says_by_how_much_the_mouth_is_late(late):
    wave, pictures = rising_sound(FRAMES), rising_pictures(FRAMES, late)
    figures = judge_sync(Clock(syncnet_mel(wave), FRAMES), None, pictures, wave)
    assert figures["sync_offset"] == late
    assert figures["sync"] == pytest.approx(np.cos(late / 20), abs=0.02)


def test_validation_writes_a_clip_with_its_sound(model, sound, tmp_path):
    judge = SyncJudge(narrow_syncnet(3, PIXEL_FACTORS), SIDE)
    video, out = make_video(tmp_path / "crops.mp4", side=96), tmp_path / "new" / "validation.mp4"
    model.unet.train()
    figures = validate(model, video, sound, QUICK, out, judge)
    assert model.unet.training
    assert figures.keys() == {"sync", "sync_offset"}
    assert 0 <= figures["sync"] <= 1 and -10 <= figures["sync_offset"] <= 10
    with VideoReader(out) as reader:
        assert (len(reader), reader.height, reader.width, reader.fps) == (FRAMES, SIDE, SIDE, 25)
    waveform, rate = read_audio(out)
    assert waveform.shape[1] / rate == pytest.approx(FRAMES / 25, abs=0.1)


def test_without_a_syncnet_it_says_that_figures_are_missing(model, sound, tmp_path, caplog):
    video = make_video(tmp_path / "crops.mp4")
    with caplog.at_level(logging.INFO, "latentsync.train.validate"):
        assert validate(model, video, sound, QUICK, tmp_path / "out.mp4", None) == {}
    assert "out.mp4 has no sync figures: set files.syncnet" in caplog.text


@pytest.mark.parametrize(("side", "fps", "width"), [(SIDE, 30, SIDE), (32, 25, 32), (SIDE, 25, 96)])
def test_clips_that_are_no_crops_are_refused(model, sound, tmp_path, side, fps, width):
    video = make_video(tmp_path / "odd.mp4", side, fps, width)
    with pytest.raises(
        ValueError, match=f"odd.mp4 has {fps} pictures of {width} x {side} a second: .* 25 square crops"
    ):
        validate(model, video, sound, QUICK, tmp_path / "out.mp4", None)
    assert not (tmp_path / "out.mp4").exists()
