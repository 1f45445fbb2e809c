"""A restoration that was interrupted and went on: the same frames, in the same file, and nothing left beside it."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_clips import HEIGHT, WIDTH, make_clip
from media_clips import packet_bytes, read_all

from latentsync.face.detect import load_detector
from latentsync.face.track import FaceTrack
from latentsync.media import VideoWriter
from latentsync.pipelines.restore_video import restore_video
from latentsync.restore.apply import memory_frames, restore
from latentsync.restore.restorers import FACE_SIDE, Sharpen, load_restorer
from latentsync.restore.superres import SuperRes, blend_restored, restore_frames
from latentsync.settings import BlendSettings, RestoreSettings, RunSettings

FRAMES = 60
GAP = range(24, 48)
SIDE = 64


class Grain:
    """A made-up restorer whose change is large, other in each frame, and hangs on the face alone."""

    name = "grain"

    def __call__(self, faces):
        return torch.stack([self._one(face) for face in faces])

    def _one(self, face):
        generator = torch.Generator().manual_seed(int(face.double().sum() * 1e6) % 2**31)
        coarse = torch.rand(1, 3, 64, 64, generator=generator) - 0.5
        return face + 0.4 * F.interpolate(coarse, FACE_SIDE)[0].permute(1, 2, 0)


STEADY = SuperRes(Grain(), RestoreSettings(1.0, "face", temporal=0.6, batch=3))


@pytest.fixture
def clip(tmp_path):
    """60 frames, those in the middle without the face, and sound."""
    made = make_clip(tmp_path, FRAMES, FRAMES / 25, without_face=GAP)
    with VideoWriter(tmp_path / "sounding.mp4", 25, HEIGHT, WIDTH, audio=made.audio, crf=12) as writer:
        writer.write(read_all(made.video))
    return replace(made, video=tmp_path / "sounding.mp4")


class Stop(Exception):
    pass


def restoring(clip, name, superres=STEADY, stop=None, resume=True, **settings):
    """Without loss, for two runs of the encoder do not always give the same bytes."""
    phases = []

    def progress(phase, done, total):
        phases.append((phase, done))
        if (phase, done) == ("restoring", stop):
            raise Stop

    settings = RunSettings(superres=superres, crf=0, **settings)
    detector, how = load_detector("file", model=clip.track), {"resolution": SIDE, "progress": progress}
    restore_video(clip.video, clip.video.with_name(name), detector, settings, resume=resume, **how)
    return phases


@pytest.mark.parametrize("superres", [STEADY, replace(STEADY, ratio=2)])
def test_an_interrupted_restoration_gives_the_frames_of_an_uninterrupted_one(clip, monkeypatch, superres):
    restoring(clip, "whole.mp4", superres, resume=False)
    monkeypatch.setattr("latentsync.pipelines.resume.PART_FRAMES", 10)
    for stop in (21, 45):
        with pytest.raises(Stop):
            restoring(clip, "cut.mp4", superres, stop)
    folder = clip.video.with_name("cut.mp4.parts")
    parts = [f"{first:09d}-{first + 12:09d}.mp4" for first in (0, 12, 24)]
    assert sorted(p.name for p in folder.iterdir()) == [*parts, "plan.json", "track.npz"]
    phases = restoring(clip, "cut.mp4", superres)
    assert ("restoring", 36) in phases and ("restoring", 0) not in phases
    assert not any(phase == "looking for the face" for phase, _ in phases) and not folder.exists()
    whole, cut = (clip.video.with_name(name) for name in ("whole.mp4", "cut.mp4"))
    assert torch.equal(read_all(whole), read_all(cut)) and not torch.equal(read_all(whole), read_all(clip.video))
    assert packet_bytes(whole, "audio") == packet_bytes(cut, "audio") != []


def test_what_was_interrupted_with_other_files_or_settings_is_refused_by_name(clip, monkeypatch):
    monkeypatch.setattr("latentsync.pipelines.resume.PART_FRAMES", 10)
    with pytest.raises(Stop):
        restoring(clip, "out.mp4", stop=24)
    folder = clip.video.with_name("out.mp4.parts")
    plan = json.loads((folder / "plan.json").read_text())
    assert plan["superres"][0]["nets"] == [["grain", None], None] and plan["resolution"] == SIDE
    weaker = replace(STEADY.settings, strength=0.5)
    for superres in (replace(STEADY, ratio=2), replace(STEADY, restorer=Sharpen()), replace(STEADY, settings=weaker)):
        with pytest.raises(
            ValueError, match="another superres: give it the same again, or delete that folder to start"
        ):
            restoring(clip, "out.mp4", superres)
    with pytest.raises(ValueError, match="another settings"):
        restoring(clip, "out.mp4", blend=BlendSettings(mask_smooth=0.1))
    os.utime(clip.video, (0, 0))
    with pytest.raises(ValueError, match="another video: .* to start anew"):
        restoring(clip, "out.mp4")
    assert sum(p.suffix == ".mp4" for p in folder.iterdir()) == 1


def still_track(length, cut):
    matrix = np.array([[0.5, 0, 0], [0, 0.5, 0]], np.float32)[None].repeat(length, 0)
    weight = np.ones(length, np.float32)
    weight[3] = 0
    return FaceTrack(matrix, weight, weight, np.arange(length) == cut, SIDE)


@pytest.mark.parametrize("temporal, starts", [(0.0, (7,)), (0.3, (1, 4, 12, 29, 30)), (1.0, (25,))])
def test_frames_do_not_depend_on_where_the_restoration_begins(temporal, starts):
    """The picture stands still, so that the temporal blend keeps all that it may."""
    track = still_track(30, cut=10)
    frames = (torch.rand(1, 96, 96, 3).repeat(30, 1, 1, 1) * 200 + torch.arange(30)[:, None, None, None] % 5).byte()
    superres = SuperRes(Grain(), RestoreSettings(1.0, "face", temporal, batch=3))
    whole = torch.cat(list(restore_frames(frames, track, superres)))
    alone = torch.cat(list(restore_frames(frames, track, SuperRes(Grain(), replace(superres.settings, temporal=0.0)))))
    assert torch.equal(whole, alone) == (temporal == 0) and torch.equal(whole[3], frames[3])
    for start in starts:
        late = list(restore_frames(frames, track, superres, start=start))
        assert torch.equal(torch.cat([whole[:start], *late]), whole)


def test_synced_frames_do_not_depend_on_it_either():
    track, superres = still_track(30, cut=10), SuperRes(Grain(), RestoreSettings(1.0, "face", 0.4))
    frames = torch.full((30, 96, 96, 3), 128, dtype=torch.uint8)
    crops = torch.rand(1, SIDE, SIDE, 3).repeat(30, 1, 1, 1) + torch.arange(30)[:, None, None, None] % 5 / 500
    whole = torch.cat(list(blend_restored(frames, track, [crops], superres, BlendSettings())))
    for start in (5, 28):
        first = superres.first(track, start)
        assert first == {5: 4, 28: 21}[start]
        late = torch.cat(list(blend_restored(frames, track, [crops[first:]], superres, BlendSettings(), first)))
        assert torch.equal(late[start - first :], whole[start:])


def test_what_came_long_before_is_forgotten_to_half_a_level():
    crops = torch.full((1, SIDE, SIDE, 3), 0.5).repeat(20, 1, 1, 1)
    settings = RestoreSettings(1.0, "face", temporal=0.5, batch=1)
    assert memory_frames(settings) == 8

    class First:
        """Changes the first frame alone."""

        name, calls = "first", 0

        def __call__(self, faces):
            self.calls += 1
            spots = F.interpolate(torch.rand(1, 3, 64, 64) - 0.5, FACE_SIDE).permute(0, 2, 3, 1)
            return faces + spots if self.calls == 1 else faces

    out = torch.cat(list(restore([crops], First(), None, settings)))
    change = (out - crops).abs().amax(dim=(1, 2, 3)) * 255
    assert change[0] > 50 and (change[1:8] > 0.1).all()
    assert (change[8:16] < 0.5).all() and (change[16:] == 0).all()


def test_a_net_s_last_bits_do_not_depend_on_it_either(tmp_path):
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    torch.save(Compact(num_in_ch=3, num_out_ch=3, num_feat=4, num_conv=1, upscale=1).state_dict(), tmp_path / "net.pth")
    superres = SuperRes(load_restorer(tmp_path / "net.pth"), RestoreSettings(1.0, "face", temporal=0.2))
    frames, track = torch.randint(0, 256, (14, 96, 96, 3), dtype=torch.uint8), still_track(14, cut=9)
    whole = torch.cat(list(restore_frames(frames, track, superres)))
    assert not torch.equal(whole, frames)
    for start in (5, 13):
        assert torch.equal(torch.cat(list(restore_frames(frames, track, superres, start=start))), whole[start:])


# --- a process that ends in the middle ---

COMMAND = """
import sys
import latentsync.pipelines.resume
from latentsync.commands.main import main
latentsync.pipelines.resume.PART_FRAMES = 10
sys.exit(main(sys.argv[1:]))
"""


def started(clip, out):
    options = {"video_path": clip.video, "video_out_path": out, "detector": "file", "detector_model": clip.track}
    options |= {"superres": "sharpen", "device": "cpu", "resolution": SIDE, "crf": 0}
    arguments = [sys.executable, "-c", COMMAND, "restore", "--resume", *(f"--{k}={v}" for k, v in options.items())]
    return subprocess.Popen(arguments, cwd=Path(__file__).parents[2], stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("way", ["SIGKILL", "SIGINT", "SIGTERM"])
def test_a_killed_process_goes_on_and_leaves_nothing(clip, tmp_path, way):
    before = sorted(p.name for p in tmp_path.iterdir())
    out, folder = tmp_path / "out.mp4", tmp_path / "out.mp4.parts"
    process = started(clip, out)
    deadline = time.monotonic() + 120
    while not list(folder.glob("*-*.mp4")) or not list(folder.glob("unfinished.mp4.*.part")):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.001)
    process.send_signal(getattr(signal, way))
    words = process.communicate()[1]
    assert process.returncode == (-signal.SIGKILL if way == "SIGKILL" else 130)
    assert ("the same command goes on from here" in words) == (way != "SIGKILL")
    left = [p.name for p in folder.iterdir()]
    assert not out.exists() and "track.npz" in left
    assert any(name.endswith(".part") for name in left) == (way == "SIGKILL")
    again = started(clip, out)
    assert again.communicate() and again.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*before, "out.mp4"])
    whole = started(clip, tmp_path / "whole.mp4")
    assert whole.communicate() and whole.returncode == 0
    assert torch.equal(read_all(out), read_all(tmp_path / "whole.mp4"))
