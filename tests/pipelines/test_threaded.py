"""Whole runs with their threads: the frames of a run without, faults and cancels in every stage, nothing left."""

import threading
from dataclasses import replace

import pytest
import tiny
import torch
from drawn_clips import make_clip
from media_clips import read_all

from latentsync import threads
from latentsync.audio import whisper
from latentsync.face.blend import Blender
from latentsync.face.detect import load_detector
from latentsync.face.track_file import FaceFile
from latentsync.frames import SharedFrames
from latentsync.media import VideoReader, VideoWriter
from latentsync.models.load import LipSyncModel, load_model
from latentsync.pipelines import lip_sync as pipeline
from latentsync.pipelines.lip_sync import lip_sync
from latentsync.pipelines.restore_video import restore_video
from latentsync.restore.restorers import Sharpen
from latentsync.restore.superres import SuperRes
from latentsync.settings import BlendSettings, RestoreSettings, RunSettings, Settings

FAST = RunSettings(sync=Settings(steps=2, window=8, guidance=1.0))
SHARPER = replace(FAST, superres=SuperRes(Sharpen(), RestoreSettings(batch=3), 1.5))
FRAMES = 60  # of which the face is missing in some


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(tiny.make_checkpoints(tmp_path_factory.mktemp("checkpoints") / "1", resolution=64))


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path, FRAMES, seconds=2.8, without_face=range(20, 45))


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def run(clip, model, settings=FAST, name="out.mp4", **more):
    """`lip_sync`, or `restore_video` where there is no model."""
    out, detector = clip.video.with_name(name), load_detector("file", model=clip.track)
    if model is None:
        return restore_video(clip.video, out, detector, settings, resolution=64, **more)
    return lip_sync(clip.video, clip.audio, out, model, detector, settings, **more)


@pytest.mark.parametrize(
    "settings",
    [
        FAST,
        replace(
            FAST, sync=Settings(steps=2, window=8, guidance=1.0, overlap=5), blend=BlendSettings(match_colour=True)
        ),
        FAST.as_published(),
        SHARPER,
        None,
    ],
    ids=["plain", "overlap", "published", "superres", "restore"],
)
def test_the_frames_are_those_of_a_run_without_threads(clip, model, monkeypatch, settings):
    given = (None, SHARPER) if settings is None else (model, settings)
    with torch.inference_mode(settings is FAST):
        threaded = read_all(run(clip, *given).path)
    monkeypatch.setattr(threads, "THREADED", False)
    alone = read_all(run(clip, *given, name="alone.mp4").path)
    assert torch.equal(threaded, alone)


def test_each_frame_is_read_once_for_the_nets_and_the_blending_and_few_are_kept(clip, model, monkeypatch):
    asked, kept = [], []
    read = VideoReader.__getitem__

    def counted(reader, indices):
        if reader is source:  # the search has a reader of its own
            asked.extend(indices)
        return read(reader, indices)

    take = SharedFrames.__getitem__

    def taken(shared, indices):
        kept.append(len(shared._kept))
        return take(shared, indices)

    monkeypatch.setattr(SharedFrames, "__getitem__", taken)
    detector = load_detector("file", model=clip.track)
    with VideoReader(clip.video) as source:
        given = pipeline.LipSyncInput(source, 25.0, pipeline.load_mono_16k(clip.audio))
        made = pipeline.lip_sync_frames(given, model, detector, replace(FAST, audio_longer="stop"), lambda *_: None)
        monkeypatch.setattr(VideoReader, "__getitem__", counted)
        assert sum(len(window.pictures) for window in made.windows()) == FRAMES
    assert asked == list(range(FRAMES))
    assert len(kept) > 6 and max(kept) <= 4 * FAST.sync.window


class Fault(Exception):
    pass


# What each stage calls, and in which thread: the first is the caller's.
STAGES = {
    "search": (FaceFile, "__call__", False),
    "decode": (VideoReader, "__getitem__", False),
    "crop": (pipeline.CropsAhead, "__getitem__", False),
    "nets": (LipSyncModel, "denoise", True),
    "blend": (Blender, "__call__", False),
    "encode": (VideoWriter, "write", False),
}


@pytest.mark.parametrize("error, resume", [(Fault, False), (KeyboardInterrupt, True)])
@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_in_any_stage_ends_the_run_and_leaves_nothing(clip, model, monkeypatch, stage, error, resume):
    owner, name, in_caller = STAGES[stage]
    function, where = getattr(owner, name), []
    before = [path.name for path in clip.video.parent.iterdir()]

    def faulty(self, *args):
        if stage != "decode" or self._capacity > 1:  # the search has a reader of its own
            where.append(threading.current_thread())
        if len(where) == 3:
            raise error("on purpose")
        return function(self, *args)

    monkeypatch.setattr(owner, name, faulty)
    with pytest.raises(error, match="on purpose|goes on from frame|starts anew") as caught:
        run(clip, model, resume=resume)
    assert (where[0] is threading.main_thread()) == in_caller
    if not resume:  # else it has words of its own
        assert "faulty" in {entry.name for entry in caught.traceback}
    # Parts stay where something is whole: a part, or the track, which is found meanwhile.
    left = {path.name for path in clip.video.parent.iterdir()} - set(before)
    assert left <= {"out.mp4.parts"} if resume and stage != "search" else not left
    assert not list(clip.video.parent.glob("**/*.part"))


def test_the_sound_is_heard_while_the_face_is_searched(clip, model, monkeypatch):
    searching, listen, read = threading.Event(), pipeline.listen, VideoReader.__getitem__

    def reading(reader, indices):
        searching.set()
        return read(reader, indices)

    def heard(*args):
        assert searching.wait(60)
        return listen(*args)

    monkeypatch.setattr(VideoReader, "__getitem__", reading)
    monkeypatch.setattr(pipeline, "listen", heard)
    run(clip, model)


def test_a_fault_in_the_search_ends_the_listening_at_its_next_segment(model, monkeypatch):
    heard, hidden_states = [], whisper.hidden_states

    def segment(*args):
        heard.append(args)
        assert threads._local.workers[0].stopped.wait(60)
        return hidden_states(*args)

    def detector(frame, index):
        raise Fault("no face")

    monkeypatch.setattr(whisper, "hidden_states", segment)
    # Of 8 segments.
    take = pipeline.LipSyncInput(torch.zeros(FRAMES, 64, 64, 3), 25.0, torch.zeros(16_000 * 200))
    result = pipeline.lip_sync_frames(take, model, detector, FAST, lambda *_: None)
    with pytest.raises(Fault, match="no face"):
        next(result.windows())
    assert len(heard) <= 1


def test_a_fault_behind_comes_at_the_next_denoising_step(clip, model, monkeypatch):
    failed, steps = threading.Event(), []

    def write(*_):
        failed.set()
        raise Fault("the disk is full")

    def step(phase, done, total):
        if failed.is_set():
            steps.append(done)

    monkeypatch.setattr(VideoWriter, "write", write)
    denoise = LipSyncModel.denoise

    def waiting(self, *args):
        # Behind are the blending, one window, and the encoder: it has begun by the third window.
        assert len(calls) < 6 or failed.wait(60)
        calls.append(1)
        return denoise(self, *args)

    calls = []
    monkeypatch.setattr(LipSyncModel, "denoise", waiting)
    with pytest.raises(Fault, match="disk is full"):
        run(clip, model, progress=step)
    assert len(calls) <= 8


def test_nets_that_enlarge_run_in_the_caller_s_thread(clip, monkeypatch):
    class Upscaler:
        name, path = "double", None

        def __call__(self, picture):
            where.add(threading.current_thread())
            return picture.repeat_interleave(2, 0).repeat_interleave(2, 1)

    where = set()
    run(clip, None, replace(SHARPER, superres=SuperRes(Sharpen(), RestoreSettings(), 2, Upscaler())))
    assert where == {threading.main_thread()}
