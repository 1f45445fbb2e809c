"""Validation of the U-Net: a readable clip, and metrics that tell shifted sound from sound in place."""

import logging

import drawn_clips
import media_clips
import numpy as np
import pytest
import tiny
import torch
from clock import Clock, rising_pictures, rising_sound
from small_nets import PIXEL_FACTORS, Looker, narrow_syncnet

from latentsync.audio.syncnet import syncnet_mel
from latentsync.evaluate.sync_score import SyncScorer
from latentsync.face.detect import load_detector
from latentsync.face.geometry import fit_similarity
from latentsync.face.landmarks import points_from_box
from latentsync.media import VideoReader, VideoWriter, read_audio
from latentsync.models.load import load_model
from latentsync.pipelines.lip_sync import lip_sync
from latentsync.settings import RunSettings, Settings
from latentsync.train.validate import WholeClip, face_box, sync_metrics, validate, validate_whole

SIDE, FRAMES = 64, 40
QUICK = Settings(steps=1, guidance=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tiny.make_checkpoints(tmp_path_factory.mktemp("model") / "checkpoints")
    return load_model(folder, resolution=SIDE, device="cpu")


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
    metrics = sync_metrics(Clock(syncnet_mel(wave), FRAMES), None, pictures, wave)
    assert metrics["sync_offset"] == late
    assert metrics["sync"] == pytest.approx(np.cos(late / 20), abs=0.02)


def test_validation_writes_a_clip_with_its_sound_and_says_where_metrics_are_missing(model, sound, tmp_path, caplog):
    syncnet = SyncScorer(narrow_syncnet(3, PIXEL_FACTORS), SIDE)
    video, out = make_video(tmp_path / "crops.mp4", side=96), tmp_path / "new" / "validation.mp4"
    model.unet.train()
    metrics = validate(model, video, sound, QUICK, out, syncnet)
    assert model.unet.training
    assert metrics.keys() == {"sync", "sync_offset"} and 0 <= metrics["sync"] <= 1
    with VideoReader(out) as reader:
        assert (len(reader), reader.height, reader.width, reader.fps) == (FRAMES, SIDE, SIDE, 25)
    waveform, rate = read_audio(out)
    assert waveform.shape[1] / rate == pytest.approx(FRAMES / 25, abs=0.1)
    with caplog.at_level(logging.INFO, "latentsync.train.validate"):
        assert validate(model, video, sound, QUICK, tmp_path / "out.mp4", None) == {}
    assert "out.mp4 has no sync metrics: set files.syncnet" in caplog.text


@pytest.mark.parametrize(("side", "fps", "width"), [(SIDE, 30, SIDE), (32, 25, 32), (SIDE, 25, 96)])
def test_clips_that_are_no_crops_are_refused(model, sound, tmp_path, side, fps, width):
    video = make_video(tmp_path / "odd.mp4", side, fps, width)
    message = f"odd.mp4 has {fps} pictures of {width} x {side} a second: .* 25 square crops"
    with pytest.raises(ValueError, match=message):
        validate(model, video, sound, QUICK, tmp_path / "out.mp4", None)
    assert not (tmp_path / "out.mp4").exists()


def test_a_whole_clip_goes_the_way_of_run(model, tmp_path):
    clip = drawn_clips.make_clip(tmp_path, frames=30, seconds=1.2, without_face=range(24, 30))
    detector, looker = load_detector("file", model=clip.track), Looker()
    whole = WholeClip(clip.video, clip.audio, detector, SIDE, QUICK, syncnet_v2=looker)
    metrics = validate_whole(model, whole, tmp_path / "a.mp4", SyncScorer(narrow_syncnet(3, PIXEL_FACTORS), SIDE))
    assert metrics.keys() == {"sync", "sync_offset", "sync_c", "sync_d", "sync_v2_offset"}
    lip_sync(clip.video, clip.audio, tmp_path / "b.mp4", model, detector, RunSettings(sync=QUICK, fps=25.0))
    with VideoReader(tmp_path / "a.mp4") as made, VideoReader(tmp_path / "b.mp4") as run:
        assert torch.equal(made[range(30)], run[range(30)])
    seen = torch.cat(looker.seen)
    assert seen.shape == (24 - 5, 3, 5, 224, 224)  # the frames with the face, five at once
    for (y, x), colour in (((56, 88), (30, 30, 40)), ((56, 136), (30, 30, 40)), ((36, 112), (150, 180, 224))):
        assert (seen[3:-3, :, 0, y, x] - torch.tensor(colour)).abs().max() < 40  # both eyes and the forehead, BGR


def test_the_box_of_a_face_is_the_one_it_was_drawn_in():
    for box in ((60.0, 40.0, 134.0, 140.0), (10.0, 20.0, 232.0, 320.0)):
        matrix = fit_similarity(points_from_box(box), 256)[0]
        assert face_box(matrix, 256) == pytest.approx(box)


def test_a_whole_clip_without_a_face_is_refused_before_training(tmp_path):
    clip = drawn_clips.make_clip(tmp_path, frames=6, seconds=0.24, without_face=range(6))
    with pytest.raises(ValueError, match="no frame of the clip's 6 shows the face"):
        WholeClip(clip.video, clip.audio, load_detector("file", model=clip.track), SIDE, QUICK)
