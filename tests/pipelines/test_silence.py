"""What a result shows in the pauses of the voice."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from drawn_clips import make_clip
from media_clips import encode_audio, tone

from latentsync.audio import pauses
from latentsync.audio.pauses import Pauses
from latentsync.commands.main import main
from latentsync.face.track import FaceTrack
from latentsync.face.track_file import read_track_file
from latentsync.media import VideoReader
from latentsync.media.audio import load_mono_16k
from latentsync.models.load import load_model
from latentsync.pipelines.lip_sync import LipSyncInput, lip_sync, lip_sync_frames, track_or_resume
from latentsync.pipelines.still import StillMouth
from latentsync.progress import no_progress
from latentsync.settings import RunSettings, Settings, TrackSettings

FAST = RunSettings(sync=Settings(steps=1, window=8), track=TrackSettings(max_gap=0.1))
COUNT, QUIET = 70, range(20, 52)  # whole chunks of 32 ms


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(tiny.make_checkpoints(tmp_path_factory.mktemp("weights") / "c", resolution=64))


@pytest.fixture
def clip(tmp_path, monkeypatch):
    """A voice that pauses in the frames `QUIET`; the face is not in the frames 36 to 39."""
    monkeypatch.setattr(pauses, "packaged", lambda: None)
    clip = make_clip(tmp_path, frames=COUNT, without_face=range(36, 40))
    wave = tone(COUNT / 25, 16000).copy()
    wave[..., QUIET.start * 640 : QUIET.stop * 640] = 0
    encode_audio(clip.audio, "pcm_s16le", wave, 16000)
    return clip


def pictures(clip, model, silence, start=0, known=True):
    settings = replace(FAST, silence=silence)
    with VideoReader(clip.video) as reader:
        take = LipSyncInput(reader, 25.0, load_mono_16k(clip.audio))
        given = read_track_file(clip.track)
        track = track_or_resume(reader, 25.0, given, model.resolution, settings, no_progress) if known else None
        result = lip_sync_frames(take, model, given, settings, no_progress, track)
        return torch.cat([window.pictures for window in result.windows(start)])


def source(clip):
    with VideoReader(clip.video) as reader:
        return reader[range(COUNT)]


def same(a, b):
    return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]


@pytest.mark.parametrize("silence", ["source", "still"])
def test_streamed_and_resumed_frames_are_those_of_the_whole(clip, model, silence):
    whole = pictures(clip, model, silence)
    assert torch.equal(pictures(clip, model, silence, known=False), whole)
    for start in (3, 20, 23, 24, 29, 35, 41, 49, 52, 69):
        assert torch.equal(pictures(clip, model, silence, start), whole[start:]), start


def test_pauses_show_the_source_with_fades(clip, model):
    shown, before = pictures(clip, model, "source"), source(clip)
    untouched = np.array(same(shown, before))
    assert untouched[24:48].all() and not untouched[:24].any() and not untouched[48:].any()
    by_model = pictures(clip, model, "model")

    def share(i):  # of what the model changes
        return ((shown[i].float() - before[i]).abs().sum() / (by_model[i].float() - before[i]).abs().sum()).item()

    # The fade of the face that is lost goes with it; windows begin anew after the pause.
    assert [round(share(i), 1) for i in range(19, 25)] == [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]


def test_pauses_hold_the_mouth_and_leave_the_rest_as_it_was(clip, model):
    shown, by_model = pictures(clip, model, "still"), pictures(clip, model, "model")
    changed = ~np.array(same(shown, by_model))
    # It has come to rest in the fourth frame; after the gap the mouth rests anew, and the last four fade.
    assert np.flatnonzero(changed).tolist() == [*range(24, 36), *range(44, 52)]


@pytest.mark.parametrize("starts", [[0], [5], [7], [9, 13], [12], [16]])
def test_the_mouth_that_rests_is_held_through_a_run_of_the_track(starts):
    """Crops as bright as their number; a new shot begins with frame 12."""
    quiet = np.zeros(20, bool)
    quiet[3:18] = True
    cuts = np.arange(20) == 12
    track = FaceTrack(np.ones((20, 2, 3)), np.ones(20), np.ones(20), cuts, 4)
    rests = Pauses(torch.zeros(16000), 12.5, 20)  # fades of two frames
    rests.quiet, rests.leaving = quiet, np.where(quiet, 0, 1.0)
    rests.leaving[16:18] = 1 / 3, 2 / 3
    expected = [*range(5), *[4.0] * 7, 12, 13, 13, 13, 13 + 3 / 3, 13 + 4 * 2 / 3, 18, 19]
    for start in starts:
        still = StillMouth(rests, track)
        first = still.first(start)
        assert first <= start
        shown = []
        for window in torch.arange(first, 20.0).split(3):
            crops = window[:, None, None, None].expand(-1, 4, 4, 3).clone()
            shown += still(crops, int(window[0]))[:, 0, 0, 0].tolist()
        assert shown[start - first :] == pytest.approx(expected[start:])


def test_published_knows_no_pauses_and_a_plan_knows_what_finds_them(clip, model, tmp_path, capsys, monkeypatch):
    argv = ["run", f"--video_path={clip.video}", f"--audio_path={clip.audio}", "--silence=still", "--published"]
    assert main([*argv, f"--video_out_path={tmp_path / 'out.mp4'}"]) == 2
    assert "silence is still and --published knows no pauses: leave one out" in capsys.readouterr().err
    assert RunSettings(silence="still").as_published().silence == "model"
    given = (
        clip.video,
        clip.audio,
        tmp_path / "out.mp4",
        model,
        read_track_file(clip.track),
        replace(FAST, silence="still"),
    )

    class Stop(Exception):
        pass

    def stop(phase, done, total):
        if phase == "syncing" and done >= 30:
            raise Stop

    with pytest.raises(Stop):
        lip_sync(*given, resume=True, progress=stop)
    monkeypatch.setattr("latentsync.pipelines.lip_sync.packaged", lambda: clip.audio)
    with pytest.raises(ValueError, match="made with another voice activity"):
        lip_sync(*given, resume=True)
