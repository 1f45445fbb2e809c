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


@pytest.mark.parametrize("silence, starts", [("source", [23, 41]), ("still", [20, 29, 35, 49])])
def test_streamed_and_resumed_frames_are_those_of_the_whole(clip, model, silence, starts):
    whole = pictures(clip, model, silence)
    assert torch.equal(pictures(clip, model, silence, known=False), whole)
    for start in starts:
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
    # But for the crops that are held, one before and one after the frames without the face.
    assert np.flatnonzero(changed).min() == 20 and np.flatnonzero(changed).max() == 51
    assert not changed[36:40].any() and changed[20:36].sum() == 15 and changed[40:52].sum() == 11


def quiet_from(start, stop, count=24):
    """Pauses with fades of two frames."""
    rests = Pauses(torch.zeros(16000), 12.5, count)
    rests.quiet[:] = False
    rests.quiet[start:stop] = True
    rests.shares = np.where(rests.quiet, 0, 1.0)
    for edge, values in ((start, (2 / 3, 1 / 3)), (stop - 2, (1 / 3, 2 / 3))):
        rests.shares[edge : edge + 2] = values
    return rests


@pytest.mark.parametrize("size", [1, 3, 24])
def test_the_most_closed_mouth_is_held_through_a_run_of_the_track(size):
    """Crops of one brightness each, the dark ones wide open; a new shot begins with frame 18."""
    levels = [0, 1, 2, 9, 8, 5, 4, 3, 3, 3, 3, 2, 6, 3, 3, 3, 9, 9, 7, 8, 8, 9, 9, 0]
    rests = quiet_from(3, 22)
    track = FaceTrack(np.ones((24, 2, 3)), np.ones(24), np.ones(24), np.arange(24) == 18, 4)
    faded = [9.0, 9 - 1 / 3]
    expected = [0, 1, 2, *faded, *[9.0] * 13, 8, 8, 8, 8 + 2 / 3, 9, 0]
    still = StillMouth(rests, track)
    for start, first in ((0, 0), (2, 2), (3, 3), (4, 3), (17, 3), (18, 18), (21, 18), (22, 22), (23, 23)):
        assert still.first(start) == first
        crops = torch.tensor(levels[first:], dtype=torch.float32)[:, None, None, None].expand(-1, 4, 4, 3)
        shown = torch.cat(list(still(crops.split(size), first)))[:, 0, 0, 0]
        assert shown.tolist() == pytest.approx(expected[first:])


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
