"""The preview node: what the browser gets to play."""

import json

import av
import numpy as np
import pytest
import torch
from heads import from_file

from latentsync.media.sound import write_wav


def pictures(count=6, height=120, width=160):
    ramp = torch.linspace(0, 1, width).expand(height, width)
    return torch.stack([torch.stack([ramp, ramp * i / count, 1 - ramp], -1) for i in range(count)])


def tone(seconds, rate=22_050, channels=2):
    wave = 0.3 * torch.sin(torch.arange(int(seconds * rate)) * 0.05)
    return {"waveform": wave.expand(1, channels, -1), "sample_rate": rate}


def payload(output):
    ui = output.ui
    assert ui["animated"] == (True,)
    (shown,) = ui["latentsync_preview"]
    assert ui["images"] == [shown["after"]] and json.dumps(ui)
    return shown


def streams(comfy_folders, file):
    """((height, width), frames, codec, sound's codec or None) of a file as the browser asks for it."""
    path = getattr(comfy_folders, file["type"]) / file["subfolder"] / file["filename"]
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        sound = container.streams.audio[0].codec_context.name if container.streams.audio else None
        return (video.height, video.width), video.frames, video.codec_context.name, sound


@pytest.fixture
def write_video(pack, tmp_path):
    def write(path, sound=True, **options):
        options["audio"] = tmp_path / "tone.wav" if sound else None
        write_wav(tmp_path / "tone.wav", [tone(0.24)["waveform"][0, 0]], 22_050)
        with pack.latentsync.media.VideoWriter(path, 25, 120, 160, **options) as writer:
            writer.write(pictures())
        return path

    return write


def test_frames_become_videos_that_browsers_play(pack, comfy_folders):
    after, before = pictures(), pictures(5, 121, 163)
    shown = payload(pack.run("LatentSyncPreview", after=after, before=before, audio=tone(0.24), fps=25.0))
    assert streams(comfy_folders, shown["after"]) == ((120, 160), 6, "h264", "aac")
    assert streams(comfy_folders, shown["before"]) == ((120, 164), 5, "h264", None)
    assert (shown["fps"], shown["frames"], shown["width"], shown["height"]) == (25.0, 6, 160, 120)
    assert shown["track"] is None and len(list(comfy_folders.temp.iterdir())) == 2


def test_large_frames_are_made_smaller(pack, comfy_folders):
    shown = payload(pack.run("LatentSyncPreview", after=pictures(2, 801, 1601), fps=30.0))
    assert streams(comfy_folders, shown["after"])[0] == (640, 1280) == (shown["height"], shown["width"])


@pytest.mark.parametrize("kind", ["temp", "output", "input"])
def test_a_video_that_is_served_already_is_not_copied(pack, comfy_folders, write_video, kind):
    folder = getattr(comfy_folders, kind) / ".deep er."
    folder.mkdir(parents=True)
    path = write_video(folder / "a clip.mp4")
    shown = payload(pack.run("LatentSyncPreview", after=from_file(path), fps=50.0))
    assert shown["after"] == {"filename": "a clip.mp4", "subfolder": ".deep er.", "type": kind}
    assert (shown["fps"], shown["frames"]) == (25.0, 6)
    assert [p for p in comfy_folders.base.rglob("*.mp4")] == [path]


def test_a_video_from_elsewhere_is_encoded_with_its_sound(pack, comfy_folders, write_video, tmp_path):
    elsewhere = write_video(tmp_path / "clip.mov")
    shown = payload(pack.run("LatentSyncPreview", after=from_file(elsewhere), before=from_file(elsewhere), fps=25.0))
    assert shown["after"]["type"] == "temp"
    assert streams(comfy_folders, shown["after"]) == ((120, 160), 6, "h264", "aac")


@pytest.mark.parametrize(("name", "given"), [("silent.mp4", {"audio": tone(0.24)}), ("clip.mkv", {})])
def test_another_sound_or_container_makes_another_video(pack, comfy_folders, write_video, name, given):
    path = write_video(comfy_folders.output / name, sound=not given)
    shown = payload(pack.run("LatentSyncPreview", after=from_file(path), fps=25.0, **given))
    assert shown["after"]["filename"].endswith(".mp4") and shown["after"]["type"] == "temp"
    assert streams(comfy_folders, shown["after"])[3] == "aac"


def tracked(pack, size, frames=4):
    """A face of which frame 1 has no detection and frame 2 no place; the crop is a square of 40 pixels at (10, 20)."""
    landmarks, faces = pack.latentsync.face.landmarks, pack.latentsync.face.track
    height, width = pack.latentsync.face.geometry.canvas_size(64)
    scale = (width - 1) / 40
    matrix = np.array([[scale, 0, -10 * scale], [0, scale, -20 * scale]], np.float32)
    matrices = np.tile(matrix, (frames, 1, 1))
    weight = np.ones(frames, np.float32)
    weight[2] = 0
    face = landmarks.Face((10.0, 20.0, 50.0, 80.0), 0.9, np.array([[20.0, 40], [40, 40], [30, 60]]))
    seen = [face if i not in (1, 2) else None for i in range(frames)]
    track = faces.FaceTrack(matrices, weight, weight, np.zeros(frames, bool), 64)
    return pack.nodes.sockets.TrackedFace(track, seen, 25.0, size), (10, 20, 50, 20 + 40 * (height - 1) / (width - 1))


def test_the_track_is_in_pixels_of_the_video(pack):
    track, (x1, y1, x2, y2) = tracked(pack, (120, 160))
    shown = payload(pack.run("LatentSyncPreview", after=pictures(6), track=track, fps=25.0))["track"]
    assert [value is None for value in shown["corners"]] == [False, False, True, False, True, True]
    assert [value is None for value in shown["box"]] == [False, True, True, False, True, True]
    assert shown["corners"][0] == pytest.approx([x1, y1, x2, y1, x2, y2, x1, y2], abs=0.1)
    assert shown["box"][0] == [10.0, 20.0, 50.0, 80.0] and shown["points"][0] == [20.0, 40.0, 40.0, 40.0, 30.0, 60.0]


def test_the_track_shrinks_with_the_video_and_ends_with_it(pack):
    track, _ = tracked(pack, (1000, 2560))
    shown = payload(pack.run("LatentSyncPreview", after=pictures(3, 1000, 2560), track=track, fps=25.0))["track"]
    assert {len(values) for values in shown.values()} == {3}
    assert shown["box"][0] == pytest.approx([4.75, 9.75, 24.75, 39.75], abs=0.06)  # (10 + 0.5) / 2 - 0.5
