"""Whole runs on real talking heads, found by YuNet, with a small random net."""

import wave
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from media_clips import stream_seconds
from real_clips import media_file

from latentsync.face.detect import load_detector
from latentsync.face.geometry import corners, region
from latentsync.frames import FrameView
from latentsync.media import VideoReader, VideoWriter, read_audio
from latentsync.models.load import load_model
from latentsync.pipelines.lip_sync import lip_sync, track_or_resume
from latentsync.settings import RunSettings, Settings, TrackSettings

SECONDS = 0.8
SETTINGS = RunSettings(sync=Settings(steps=1, guidance=1.0), track=TrackSettings(), detect_every=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(tiny.make_checkpoints(tmp_path_factory.mktemp("checkpoints") / "1", resolution=64))


@pytest.fixture
def voice(tmp_path):
    samples, rate = read_audio(media_file("demo1_audio.wav"))
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((samples[0, : int(SECONDS * rate)] * 32767).to(torch.int16).numpy().tobytes())
    return tmp_path / "voice.wav"


@pytest.mark.parametrize("name, fps", [("demo1_video.mp4", 25), ("demo3_video.mp4", 30)])
def test_a_real_clip_speaks_and_the_rest_is_untouched(tmp_path, monkeypatch, model, voice, name, fps):
    detector = load_detector("yunet", model=media_file("face_detection_yunet.onnx"))
    written: list[torch.Tensor] = []  # the frames before encoding
    real = VideoWriter.write
    monkeypatch.setattr(VideoWriter, "write", lambda self, frames: (written.append(frames.clone()), real(self, frames)))
    summary = lip_sync(media_file(name), voice, tmp_path / "out.mp4", model, detector, SETTINGS)
    count = round(SECONDS * fps)
    assert summary.frames == summary.frames_with_face == count and summary.fps == fps
    with VideoReader(tmp_path / "out.mp4") as result:
        assert (len(result), result.fps, result.height, result.width) == (count, fps, 1920, 1080)
        encoded = result[[0, count - 1]].float()
    for kind in ("video", "audio"):
        assert abs(stream_seconds(tmp_path / "out.mp4", kind) - SECONDS) < 1 / fps
    heard, given = read_audio(tmp_path / "out.mp4")[0][0], read_audio(voice)[0][0]
    count_heard = min(len(heard), len(given))
    assert np.corrcoef(heard[:count_heard], given[:count_heard])[0, 1] > 0.98
    frames = torch.cat(written)
    with VideoReader(media_file(name)) as source:
        original = source[range(count)]
        track = track_or_resume(FrameView(source, range(count)), float(fps), detector, 64, SETTINGS, lambda *_: None)
    for i in range(count):
        outside = torch.ones(1920, 1080, dtype=torch.bool)
        outside[region(corners(track.matrices[i], 64), 1920, 1080, margin=0)] = False
        assert torch.equal(frames[i][outside], original[i][outside])
        assert not torch.equal(frames[i], original[i])
    assert (encoded - frames[[0, count - 1]].float()).abs().mean() < 3


def test_published_mode_runs_at_25_frames_a_second(tmp_path, model, voice):
    detector = load_detector("yunet", model=media_file("face_detection_yunet.onnx"))
    settings = replace(SETTINGS.as_published(), detect_every=1)
    summary = lip_sync(media_file("demo3_video.mp4"), voice, tmp_path / "out.mp4", model, detector, settings)
    assert (summary.frames, summary.fps) == (round(SECONDS * 25), 25)
