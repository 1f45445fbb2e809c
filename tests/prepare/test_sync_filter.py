"""The sign and the size of the shift that brings sound and lips together, and what is dropped for it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from flicker_net import FRAMES, Flicker, pictures, sound
from raw_videos import read_manifest, write_track_of

from latentsync.audio.syncnet import SAMPLES_PER_FRAME
from latentsync.evaluate.sync_score import MouthViews, sync_score
from latentsync.media import VideoReader, VideoWriter, read_audio
from latentsync.media.sound import write_wav
from latentsync.nets.syncnet_v2 import SyncNetV2
from latentsync.prepare import filters
from latentsync.prepare.filters import measure_quality
from latentsync.prepare.pipeline import prepare
from latentsync.prepare.settings import PrepareSettings, Tools

BOX = (10.0, 10.0, 50.0, 54.0)


def views(frames: torch.Tensor) -> torch.Tensor:
    return frames.permute(0, 3, 1, 2)


@pytest.mark.parametrize("late", [-6, -1, 0, 2, 15])
def test_sound_that_moves_moves_the_offset(late):
    score = sync_score(Flicker(), views(pictures()), sound(late))
    assert score.offset == -late and score.confidence > 10


@pytest.fixture
def raw(tmp_path):
    (tmp_path / "raw").mkdir()
    sounds = {"early": sound(-5), "in_time": sound(0), "late": sound(3), "very_late": sound(9)}
    for name, samples in (sounds | {"stranger": sound(0, seed=1)}).items():
        wav = tmp_path / "voice.wav"
        write_wav(wav, [torch.from_numpy(samples / np.float32(32767))], 16000)
        with VideoWriter(tmp_path / "raw" / f"{name}.mkv", 25, 64, 64, preset="ultrafast", audio=wav) as writer:
            writer.write(pictures())
        write_track_of(tmp_path / "tracks" / f"{name}.json", [BOX] * FRAMES, 64)
    weights = tmp_path / "checkpoints" / "auxiliary" / "syncnet_v2.model"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"made up")
    return tmp_path


def test_clips_come_out_in_sync(raw, monkeypatch):
    monkeypatch.setattr(filters, "load_net", lambda *_: Flicker())
    settings = PrepareSettings(resolution=64, min_seconds=1, max_seconds=2, min_confidence=10, skip={"quality", "cuts"})
    prepare(raw / "raw", raw / "data", settings, Tools("file", raw / "tracks", raw / "checkpoints"))
    lines = {Path(line["source"]).stem: line for line in read_manifest(raw / "data")}
    offsets = {name: line["figures"]["offset"] for name, line in lines.items() if name != "stranger"}
    assert offsets == {"early": 5, "in_time": 0, "late": -3, "very_late": -9}
    assert lines["stranger"]["reason"] == "low_confidence" and lines["very_late"]["reason"] == "offset"
    for name in ("early", "in_time", "late"):
        with VideoReader(raw / "data" / lines[name]["clip"]) as clip:
            frames = clip[range(len(clip))]
        heard, _ = read_audio(raw / "data" / lines[name]["clip"])
        assert len(frames) == FRAMES and heard.shape[1] == FRAMES * SAMPLES_PER_FRAME
        assert sync_score(Flicker(), views(frames), heard[0]).offset == 0
    # What the source has not, before its beginning or after its end, is silent; all else is the source's, moved.
    early, _ = read_audio(raw / "data" / lines["early"]["clip"])
    moved = 5 * SAMPLES_PER_FRAME
    assert not early[0, :moved].any()
    assert np.abs(early[0, moved:].numpy() * 32768 - sound(-5)[:-moved]).max() <= 1


def test_syncnet_v2_takes_what_it_is_given():
    with torch.device("meta"):
        net = SyncNetV2()
    lips, audio = [], []
    net.lips = lambda frames: lips.append(frames.shape) or torch.zeros(len(frames), 4)
    net.audio = lambda mfcc: audio.append(mfcc.shape) or torch.zeros(len(mfcc), 4)
    net.parameters = lambda: iter([torch.zeros(1)])
    sync_score(net, torch.zeros(28, 3, 224, 224, dtype=torch.uint8), np.zeros(28 * 640, np.int16))
    assert lips == [(16, 3, 5, 224, 224), (7, 3, 5, 224, 224)] and audio == [(16, 1, 13, 20), (7, 1, 13, 20)]
    with pytest.raises(ValueError, match="5 frames with sound: SyncNet v2 needs 6"):
        sync_score(net, torch.zeros(9, 3, 224, 224, dtype=torch.uint8), np.zeros(5 * 640, np.int16))


def test_views_are_the_padded_box_with_the_chin():
    rows, columns = np.mgrid[:300, :400]
    picture = np.stack([columns % 256, rows % 256, np.full_like(rows, 7)], -1).astype(np.uint8)
    boxes = np.array([[140.5, 60.5, 240.5, 220.5]] * 3)  # its half side of 80 makes a view of 224 pixels, unscaled
    view = MouthViews(torch.from_numpy(picture)[None].expand(3, -1, -1, -1), boxes)[:]
    expected = np.full((224, 224, 3), 110, np.uint8)
    left, top = 190 + 1 - 112, 140 + 1 - 80
    expected[: 300 - top] = picture[top : top + 224, left : left + 224][: 300 - top]
    assert view.shape == (3, 3, 224, 224)
    assert np.array_equal(view[1].permute(1, 2, 0).numpy()[:220, :, ::-1], expected[:220])


def test_quality_is_the_mean_of_first_middle_and_last_frame(tmp_path, monkeypatch):
    class Light(Flicker):
        def forward(self, x):
            assert x.shape == (3, 3, 64, 64) and x.dtype == torch.float32 and x.max() <= 1
            return 100 * x.mean(dim=(1, 2, 3))

    monkeypatch.setattr(filters, "load_net", lambda *_: Light())
    light = torch.zeros(9, 64, 64, 3)
    for i, level in ((0, 0.3), (4, 0.6), (8, 0.9)):
        light[i] = level
    with VideoWriter(tmp_path / "clip.mp4", 25, 64, 64) as writer:
        writer.write(light)
    figures = measure_quality(tmp_path / "clip.mp4", tmp_path, None).figures
    assert figures["quality"] == pytest.approx(60, abs=1.5)
