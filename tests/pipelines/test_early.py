"""The first frames are finished while the face is still looked for, and are those of a run that looked for it first."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from drawn_clips import make_clip
from media_clips import read_all

from latentsync import threads
from latentsync.audio.whisper import AudioFeatures
from latentsync.face.detect import load_detector
from latentsync.face.landmarks import Face, points_from_box
from latentsync.face.track import STRETCH, TRACK_FIELDS
from latentsync.face.track_file import FaceFile
from latentsync.media import VideoReader
from latentsync.pipelines.lip_sync import LipSyncInput, lip_sync, lip_sync_frames, load_mono_16k, track_or_resume
from latentsync.restore.restorers import Sharpen
from latentsync.restore.superres import SuperRes
from latentsync.settings import EncodingSettings, RestoreSettings, RunSettings, Settings, TrackSettings
from latentsync.threads import behind

FRAMES = 120
FAST = RunSettings(sync=Settings(steps=1, window=16, guidance=1.0))
STEADY = SuperRes(Sharpen(), RestoreSettings(temporal=0.5))
LOOK_AHEAD = STRETCH + 18  # frames that the first stretch of a track depends on


class QuickNets:
    """Stands in for a `LipSyncModel`: what it paints depends on the crops and on what is heard."""

    resolution, max_frames, latent_channels, source, files, audio_encoder = 64, None, 4, "quick", (), None
    device, dtype = torch.device("cpu"), torch.float32

    def encode(self, pictures):
        small = F.avg_pool2d(pictures, 8)
        return torch.cat([small, small.mean(1, keepdim=True)], 1)

    def denoise(self, noisy, t, audio, cache):
        return noisy[:, :4] - noisy[:, -4:] + audio.mean((2, 3))[:, None, :, None, None]

    def decode(self, latents):
        return F.interpolate(latents[:, :3], scale_factor=8, mode="bilinear")


@pytest.fixture
def model(monkeypatch):
    def listen(encoder, wave, fps, length, hard_cut):
        assert len(wave)
        states = torch.randn(300, 5, 8, generator=torch.Generator().manual_seed(0))
        return AudioFeatures(states, fps, length)

    monkeypatch.setattr("latentsync.pipelines.lip_sync.listen", listen)
    return QuickNets()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A short gap, one that fades, and no face at the end."""
    return make_clip(tmp_path_factory.mktemp("clip"), FRAMES, FRAMES / 25, without_face={20, 21, *range(58, 74), 119})


@pytest.fixture(autouse=True)
def no_thread_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) == before


def prepared(reader, clip, model, settings=FAST, detector=None, progress=lambda *_: None, track=None, seconds=None):
    wave = load_mono_16k(clip.audio)
    wave = wave if seconds is None else wave.repeat(3)[: round(16000 * seconds)]
    detector = detector or load_detector("file", model=clip.track)
    return lip_sync_frames(LipSyncInput(reader, 25.0, wave), model, detector, settings, progress, track)


def pictures(result, start=0):
    return torch.cat([window.pictures for window in result.windows(start)])


def take_first(gate, windows):
    """The numbers of all windows; and those of the first, which opens the gate, with how many frames were seen then."""
    first = []

    def taken(window):
        if not first:
            first.extend([window.numbers, len(gate.seen)])
            gate.opened.set()
        return window.numbers

    return list(behind(taken, windows)), tuple(first)


class Scene:
    """The clip's faces, and which frames were looked at; at frame `gate` it waits for `opened`."""

    def __init__(self, clip, gate=None, before=lambda index: None):
        self.file, self.gate, self.before = load_detector("file", model=clip.track), gate, before
        self.opened, self.seen = threading.Event(), []

    def __call__(self, frame, index):
        self.before(index)
        while index == self.gate and not self.opened.wait(0.01):
            threads.check()
        self.seen.append(index)
        return self.file(frame, index)


@pytest.mark.parametrize(
    "changes, seconds",
    [
        ({}, None),
        ({"sync": replace(FAST.sync, overlap=5), "detect_every": 7}, None),
        ({"audio_longer": "pingpong"}, 9.7),
        ({"audio_longer": "loop", "track": TrackSettings(fade=1.0, smoothing=0.2, max_gap=0)}, 6.1),
        ({"superres": STEADY}, 2.8),
        ({"superres": replace(STEADY, ratio=1.5)}, 2.8),
        ({"track": TrackSettings(published=True)}, 2.6),
        ({"track": TrackSettings(smoothing=0, fade=0)}, 0.4),
    ],
    ids=["plain", "overlap, every 7th", "pingpong", "loop", "superres", "larger", "published", "short"],
)
def test_frames_are_those_of_a_run_that_knew_the_track(clip, model, monkeypatch, changes, seconds):
    settings = replace(FAST, **changes)
    detector = replace(load_detector("file", model=clip.track), cuts=[40, 73])
    with VideoReader(clip.video, cache=8) as reader:
        early = prepared(reader, clip, model, settings, detector, seconds=seconds)
        used = LipSyncInput(reader, 25.0, torch.zeros(round(16000 * (seconds or FRAMES / 25)))).used(settings)
        track = track_or_resume(used, 25.0, detector, 64, settings, lambda *_: None)
        late = prepared(reader, clip, model, settings, detector, track=track, seconds=seconds)
        assert early.search and not late.search and not early.track.found.any()
        expected = pictures(late)
        assert torch.equal(pictures(early), expected)
        for name in TRACK_FIELDS:
            assert np.array_equal(getattr(early.track, name), getattr(late.track, name))
        assert early.track.runs() == late.track.runs() and (seconds == 0.4 or len(late.track.runs()) > 1)
        assert torch.equal(pictures(early, 9), expected[9:])  # again, with the track that is there now
        monkeypatch.setattr(threads, "THREADED", False)
        assert torch.equal(pictures(prepared(reader, clip, model, settings, detector, seconds=seconds)), expected)


def test_the_first_window_needs_no_more_than_its_look_ahead(clip, model):
    """34 frames of the track; a window of 16 comes while frame 34 has not been looked at."""
    scene = Scene(clip, gate=LOOK_AHEAD)
    with VideoReader(clip.video) as reader:
        numbers, first = take_first(scene, prepared(reader, clip, model, detector=scene).windows())
        assert first == (range(16), LOOK_AHEAD) and numbers[-1].stop == FRAMES
    assert scene.seen == list(range(FRAMES))


def test_it_comes_within_two_seconds_of_video_where_regions_are_searched_in_threads(clip, model, monkeypatch):
    gate = SimpleNamespace(opened=threading.Event(), seen=[])

    class Everywhere:
        """The same face in every frame, whoever asks."""

        face = Face((86, 44, 154, 136), 0.9, points_from_box((86, 44, 154, 136)))

        def find(self, picture):
            return [self.face]

        def measure(self, picture, faces):
            return faces

        def __call__(self, frame, index):
            raise AssertionError("regions are searched")

    read = VideoReader.__getitem__

    def counted(reader, indices):
        if reader is not source:
            while max(indices) >= 50 and not gate.opened.wait(0.01):
                threads.check()
            gate.seen.extend(indices)
        return read(reader, indices)

    monkeypatch.setattr(VideoReader, "__getitem__", counted)
    with VideoReader(clip.video) as source:
        numbers, first = take_first(gate, prepared(source, clip, model, detector=Everywhere()).windows())
        assert first == (range(16), 50) and gate.seen == list(range(len(gate.seen))) and numbers[-1].stop == FRAMES


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
@pytest.mark.parametrize("gate, phase", [(7, "looking for the face"), (70, "syncing")])
def test_a_cancel_while_the_nets_wait_for_the_face_comes_at_once(clip, model, error, gate, phase):
    """The one who waits tells how far the search is; the search that is not needed ends."""

    def progress(now, done, total):
        told.append((now, done))
        if scene.seen[-1:] == [gate - 1] and now == phase and told.count((now, done)) > 3:
            raise error

    scene, told = Scene(clip, gate=gate), []
    before = sorted(clip.video.parent.iterdir())
    with pytest.raises(error):
        lip_sync(clip.video, clip.audio, clip.video.with_name("out.mp4"), model, scene, FAST, progress=progress)
    assert sorted(clip.video.parent.iterdir()) == before and told[:2] == [("listening", 0), ("looking for the face", 0)]
    assert ("looking for the face", gate) in told if gate == 7 else ("syncing", 32) in told


def test_a_fault_of_the_search_ends_the_run_at_its_next_step(clip, model):
    def fault(index):
        if index == 60:
            raise Stop("in frame 60")

    with VideoReader(clip.video) as reader:
        result = prepared(reader, clip, model, detector=Scene(clip, before=fault))
        with pytest.raises(Stop, match="in frame 60"):
            pictures(result)
        assert not result.search.ended
        result = prepared(reader, clip, model, detector=load_detector("file", model=clip.track))
        windows = result.windows()
        next(windows)
        windows.close()
        assert not result.search.ended and len(pictures(result)) == FRAMES  # another rendering looks again


def test_an_interrupted_run_whose_search_had_not_ended_goes_on(clip, model, monkeypatch, tmp_path):
    call, out, gate = FaceFile.__call__, tmp_path / "out.mp4", [70]

    def gated(self, frame, index):
        while [index] == gate:
            threads.check()
        return call(self, frame, index)

    def stop(phase, done, total):
        if (phase, done) == ("syncing", 32) and gate:
            raise Stop

    monkeypatch.setattr(FaceFile, "__call__", gated)
    monkeypatch.setattr("latentsync.pipelines.resume.PART_FRAMES", 16)

    def run(out, **how):
        detector, settings = load_detector("file", model=clip.track), replace(FAST, encoding=EncodingSettings(crf=0))
        lip_sync(clip.video, clip.audio, out, model, detector, settings, **how)
        return read_all(out)

    with pytest.raises(Stop):
        run(out, resume=True, progress=stop)
    assert {path.stem[:19] for path in tmp_path.glob("*.parts/*")} >= {"000000000-000000016", "plan"}
    assert not list(tmp_path.glob("*.parts/track*"))
    gate.clear()
    told = []
    made = run(out, resume=True, progress=lambda *state: told.append(state))
    assert ("syncing", 16, FRAMES) in told and ("syncing", 0, FRAMES) not in told
    assert torch.equal(made, run(tmp_path / "whole.mp4"))
