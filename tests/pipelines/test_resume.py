"""A run that was interrupted and went on: the same frames, in the same file, and nothing left beside it."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from drawn_clips import HEIGHT, WIDTH, make_clip
from grain import Grain
from media_clips import packet_bytes, read_all

from latentsync.face.align import FACE_SIDE
from latentsync.face.detect import load_detector
from latentsync.face.track import FaceTrack
from latentsync.frames import Window
from latentsync.media import VideoWriter
from latentsync.models.load import load_model
from latentsync.pipelines import resume
from latentsync.pipelines.lip_sync import lip_sync
from latentsync.pipelines.restore_video import restore_video
from latentsync.pipelines.resume import Workspace
from latentsync.restore.apply import Restoration, memory_frames
from latentsync.restore.restorers import Sharpen, load_restorer
from latentsync.restore.superres import SuperRes, blend_restored, restore_frames
from latentsync.settings import BlendSettings, EncodingSettings, RestoreSettings, RunSettings, Settings, TrackSettings

FRAMES = 60
GAP = range(24, 48)
SIDE = 64


STEADY = SuperRes(Grain(), RestoreSettings(1.0, "face", temporal=0.6, batch=3))
FAST = Settings(steps=1, window=8, guidance=1.0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return tiny.make_checkpoints(tmp_path_factory.mktemp("weights") / "1", resolution=64)


@pytest.fixture
def clip(tmp_path):
    """60 frames, those in the middle without the face, and sound."""
    made = make_clip(tmp_path, FRAMES, FRAMES / 25, without_face=GAP)
    with VideoWriter(tmp_path / "sounding.mp4", 25, HEIGHT, WIDTH, audio=made.audio, crf=12) as writer:
        writer.write(read_all(made.video))
    return replace(made, video=tmp_path / "sounding.mp4")


@pytest.fixture(autouse=True)
def short_parts(monkeypatch):
    monkeypatch.setattr(resume, "PART_FRAMES", 10)


class Stop(Exception):
    pass


def run(clip, out, *, weights=None, stop=None, resume=True, error=Stop, **settings):
    """The phases of a restoration, or with `weights` of a lip sync; without loss: encoders round as they like."""
    phases = []

    def progress(phase, done, total):
        phases.append((phase, done))
        if (phase, done) == stop:
            raise error

    settings = RunSettings(encoding=EncodingSettings(crf=0), **({"superres": STEADY, "sync": FAST} | settings))
    detector, how = load_detector("file", model=clip.track), {"resume": resume, "progress": progress}
    out = clip.video.with_name(out)
    if weights is None:
        restore_video(clip.video, out, detector, settings, resolution=SIDE, **how)
    else:
        lip_sync(clip.video, clip.audio, out, load_model(weights, device="cpu"), detector, settings, **how)
    return phases


def kept(folder):
    """What an interrupted run left, without the checksums."""
    return sorted(path.name if path.stem == "plan" else path.name.rpartition("-")[0] for path in folder.iterdir())


@pytest.mark.parametrize("superres", [STEADY, replace(STEADY, ratio=2), None], ids=["same size", "larger", "run"])
def test_an_interrupted_run_gives_the_frames_of_an_uninterrupted_one(clip, weights, superres):
    phase, how = ("restoring", {}) if superres else ("syncing", {"weights": weights})
    how["superres"] = superres
    run(clip, "whole.mp4", resume=False, **how)
    for stop in (24, 48):
        with pytest.raises(Stop):
            run(clip, "cut.mp4", stop=(phase, stop), **how)
    folder = clip.video.with_name("cut.mp4.parts")
    # Cut by the first window at 10, 20, ... and where the run was interrupted: nothing that was done is lost.
    ends = (0, 12, 21, 24, 30, 42, 48) if superres else (0, 16, 24, 32, 40, 48)
    parts = [f"{first:09d}-{stop:09d}" for first, stop in pairwise(ends)]
    assert kept(folder) == [*parts, "plan.json", "track"]
    phases = run(clip, "cut.mp4", **how)
    assert (phase, 48) in phases and (phase, 0) not in phases and not folder.exists()
    assert not any(phase == "looking for the face" for phase, _ in phases)
    whole, cut = (clip.video.with_name(name) for name in ("whole.mp4", "cut.mp4"))
    assert torch.equal(read_all(whole), read_all(cut)) and not torch.equal(read_all(whole), read_all(clip.video))
    assert packet_bytes(whole, "audio") == packet_bytes(cut, "audio") != []


@pytest.mark.parametrize(
    "stop, words",
    [(("looking for the face", 7), "starts anew"), (("restoring", 0), "from frame 0"), (("restoring", 9), "frame 9")],
)
def test_ctrl_c_tells_where_the_same_command_goes_on(clip, stop, words):
    with pytest.raises(KeyboardInterrupt, match=f"the same command .*{words}$"):
        run(clip, "out.mp4", stop=stop, error=KeyboardInterrupt)
    assert clip.video.with_name("out.mp4.parts").exists() == (words != "starts anew")


def retouched(path):
    """The file at another time, as if it had been written again."""
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda c, w: {"superres": replace(STEADY, ratio=2)}, "superres"),
        (lambda c, w: {"superres": replace(STEADY, restorer=Sharpen())}, "superres"),
        (lambda c, w: {"superres": replace(STEADY, settings=RestoreSettings(0.5, "face"))}, "superres"),
        (lambda c, w: {"blend": BlendSettings(mask_smooth=0.1)}, "settings"),
        (lambda c, w: {"sync": replace(FAST, seed=1)}, "settings"),
        (lambda c, w: {"mask_image": np.zeros((256, 256), np.uint8)}, "mask image"),
        (lambda c, w: retouched(c.video), "video"),
        (lambda c, w: retouched(c.audio), "audio"),
        (lambda c, w: retouched(c.track), "detector"),
        (lambda c, w: retouched(w / "latentsync_unet.pt"), "model"),
        (lambda c, w: retouched(w / "whisper" / "tiny.pt"), "model"),
        (lambda c, w: retouched(w / "vae" / "diffusion_pytorch_model.safetensors"), "model"),
        (lambda c, w: retouched(w / "vae" / "config.json"), "model"),
    ],
)
def test_what_was_begun_with_other_files_or_settings_is_refused_by_name(clip, weights, change, words):
    with pytest.raises(Stop):
        run(clip, "out.mp4", weights=weights, stop=("syncing", 16))
    folder = clip.video.with_name("out.mp4.parts")
    before = kept(folder)
    with pytest.raises(ValueError, match=f"made with another {words}: give it the same again, or delete that folder"):
        run(clip, "out.mp4", weights=weights, **(change(clip, weights) or {}))
    assert kept(folder) == before and before[:2] == ["000000000-000000008", "plan.json"]


def test_a_moved_file_is_the_same_file(clip, tmp_path):
    with pytest.raises(Stop):
        run(clip, "out.mp4", stop=("restoring", 9))
    moved = replace(clip, video=clip.video.rename(tmp_path / "moved.mp4"))
    assert ("restoring", 9) in run(moved, "out.mp4")


@pytest.mark.parametrize("run_weights", [False, True], ids=["restore", "run"])
def test_where_another_encoder_works_a_run_is_not_gone_on_with(clip, weights, monkeypatch, run_weights):
    how = {"weights": weights} if run_weights else {}
    with pytest.raises(Stop):
        run(clip, "out.mp4", stop=("syncing", 16) if run_weights else ("restoring", 9), **how)
    monkeypatch.setattr("latentsync.pipelines.lip_sync.codec_for", lambda *_: "h264_nvenc")
    with pytest.raises(ValueError, match="made with another codec"):
        run(clip, "out.mp4", **how)


def test_bad_input_leaves_no_folder(clip):
    with pytest.raises(ValueError, match="index:7"):
        run(clip, "out.mp4", track=TrackSettings(which="index:7"))
    assert not clip.video.with_name("out.mp4.parts").exists()


# --- damaged folders ---


def windows(start=0):
    """Four windows of 6 small frames, each of another colour."""
    for first in range(start, 24, 6):
        yield Window(range(first, first + 6), torch.full((6, 32, 32, 3), first * 10, dtype=torch.uint8))


def writer(path):
    return VideoWriter(path, 25, 32, 32, crf=0)


@pytest.fixture
def folder(tmp_path):
    """The folder of an interrupted run: parts up to frame 12, 24."""
    with Workspace(tmp_path / "out.mp4", {"seed": 1}) as work:
        work.keep_track(still_track(24, cut=10))
        work.write(windows(), writer)
    assert kept(work.folder) == ["000000000-000000012", "000000012-000000024", "plan.json", "track"]
    return work.folder


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def swapped(first, second):
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def of_another_run(folder, part):
    """Frames of a run that is the same but for its plan."""
    with Workspace(folder.with_name("other.mp4"), {"seed": 2}) as work:
        work.keep_track(still_track(24, cut=10))
        work.write(windows(), writer)
    part.unlink()
    work.parts[0].rename(folder / work.parts[0].name)


@pytest.mark.parametrize(
    "damage, goes_on",
    [
        (lambda plan, parts, track: plan.write_bytes(b""), 0),
        (lambda plan, parts, track: plan.write_text("{}"), 0),
        (lambda plan, parts, track: plan.write_text("[1, 2]"), 0),
        (lambda plan, parts, track: plan.write_bytes(b'{"seed": \xff'), 0),
        (lambda plan, parts, track: plan.write_text("[" * 100_000), 0),
        (lambda plan, parts, track: plan.unlink(), 0),
        (lambda plan, parts, track: cut(track), 24),
        (lambda plan, parts, track: cut(parts[0]), 0),
        (lambda plan, parts, track: cut(parts[1]), 12),
        (lambda plan, parts, track: parts[1].write_bytes(b""), 12),
        (lambda plan, parts, track: parts[0].unlink(), 0),
        (lambda plan, parts, track: swapped(*parts), 0),
        (lambda plan, parts, track: parts[1].rename(parts[1].with_name(parts[1].name.replace("24-", "30-"))), 12),
        (lambda plan, parts, track: of_another_run(plan.parent, parts[0]), 0),
    ],
)
def test_a_damaged_folder_is_found_at_the_start_and_what_is_whole_is_used(folder, caplog, damage, goes_on):
    damage(folder / "plan.json", sorted(folder.glob("0*.mp4")), *folder.glob("track*"))
    with Workspace(folder.with_name("out.mp4"), {"seed": 1}) as work:
        assert f"{folder} is damaged" in caplog.text and work.frames_done == goes_on
        if work.track is None:
            work.keep_track(still_track(24, cut=10))
        work.write(windows(goes_on), writer)
        assert torch.equal(
            torch.cat([read_all(part) for part in work.parts])[:, 0, 0, 0] // 10, torch.arange(0, 24) // 6 * 6
        )
        work.remove()
    assert not folder.exists()


def test_a_whole_folder_is_taken_as_it_is(folder, caplog):
    (folder / "unfinished.mp4.1.part").write_bytes(b"of a killed run")
    (folder / "notes.txt").write_text("a person's own")
    with Workspace(folder.with_name("out.mp4"), {"seed": 1}) as work:
        assert work.frames_done == 24 and np.array_equal(work.track.cuts, still_track(24, cut=10).cuts)
        assert sorted(p.name for p in folder.glob("*.part")) == [] and not caplog.text
    next(folder.glob("track*")).unlink()
    with Workspace(folder.with_name("out.mp4"), {"seed": 1}) as work:  # the search had not come to its end
        assert work.frames_done == 24 and work.track is None and not caplog.text
        work.remove()
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_a_second_run_on_one_output_says_who_is_at_work(tmp_path):
    with Workspace(tmp_path / "out.mp4", {}):
        words = rf"another run \(process {os.getpid()} on .+\) is at work on .*out.mp4: wait for it, or give another"
        with pytest.raises(ValueError, match=words):
            Workspace(tmp_path / "out.mp4", {})
    assert not list(tmp_path.iterdir())
    Workspace(tmp_path / "out.mp4", {}).__exit__()


def test_a_part_that_cannot_be_written_is_not_kept(tmp_path):
    """The frames that the encoder took before count no more: nobody knows how many reached the file."""
    frames = torch.zeros(4, 32, 32, 3, dtype=torch.uint8)
    bad = [Window(range(4), frames), Window(range(4, 8), frames[:, :16])]
    with Workspace(tmp_path / "out.mp4", {}) as work:
        with pytest.raises(ValueError, match="cannot write frames of shape"):
            work.write((window for window in bad), writer)
        assert not work.parts and sorted(p.name for p in work.folder.iterdir()) == ["run.lock", "run.lock.owner"]
    assert not work.folder.exists()


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
    whole = torch.cat(list(blend_restored(frames, [track], [[crops]], superres, BlendSettings())))
    assert [superres.first(track, start) for start in (10, 12)] == [10, 10]  # never before a cut
    assert replace(superres, settings=RestoreSettings(1.0, "face", 0.0)).first(track, 12) == 12
    for start in (5, 28):
        first = superres.first(track, start)
        assert first == {5: 4, 28: 21}[start]
        late = torch.cat(list(blend_restored(frames, [track], [[crops[first:]]], superres, BlendSettings(), first)))
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

    out = Restoration(First(), crops.shape[2], settings)(crops, 0)
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
    while not list(folder.glob("0*.mp4")) or not list(folder.glob("unfinished.mp4.*.part")):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    process.send_signal(getattr(signal, way))
    words = process.communicate()[1]
    assert process.returncode == (-signal.SIGKILL if way == "SIGKILL" else 130)
    left = sorted(p.name for p in folder.iterdir())
    done = max(int(name[10:19]) for name in left if name.startswith("0"))
    assert not out.exists() and (f"the same command goes on from frame {done}" in words) == (way != "SIGKILL")
    assert any(name.endswith(".part") for name in left) == (way == "SIGKILL")
    again = started(clip, out)
    assert again.communicate() and again.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([*before, "out.mp4"])
    run(clip, "whole.mp4", superres=SuperRes(Sharpen(), ratio=2.0), resume=False)
    assert torch.equal(read_all(out), read_all(tmp_path / "whole.mp4"))
