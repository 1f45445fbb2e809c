"""Whole runs with a small random net on clips of a drawn face."""

from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from drawn_clips import HEIGHT, WIDTH, make_clip
from media_clips import encode_audio, packet_bytes, stream_seconds, tone

from latentsync.audio import whisper as audio
from latentsync.face.detect import load_detector
from latentsync.face.detect.insightface import InsightFace
from latentsync.face.geometry import apply, crop_matrix
from latentsync.face.landmarks import Face
from latentsync.face.masks import _polygon_mask
from latentsync.frames import FrameView
from latentsync.media import VideoReader, read_audio
from latentsync.models.load import load_model
from latentsync.pipelines.lip_sync import (
    LipSyncInput,
    LipSyncResult,
    RunSettings,
    frame_map,
    lip_sync,
    lip_sync_frames,
    listen,
    load_mono_16k,
    track_or_resume,
    watch,
)
from latentsync.progress import no_progress
from latentsync.restore.restorers import Sharpen
from latentsync.restore.superres import SuperRes
from latentsync.settings import BlendSettings, RestoreSettings, Settings, TrackSettings

FAST = RunSettings(sync=Settings(steps=1, window=8, guidance=1.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(tiny.make_checkpoints(tmp_path_factory.mktemp("checkpoints") / "1", resolution=64))


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path)


def run(clip, model, out=None, settings=FAST, **kwargs):
    out = out or clip.video.with_name("out.mp4")
    detector = load_detector("file", model=clip.track)
    return lip_sync(clip.video, clip.audio, out, model, detector, settings, **kwargs)


def test_a_video_and_a_voice_go_in_and_the_finished_video_comes_out(clip, model):
    summary = run(clip, model)
    with VideoReader(clip.video) as source, VideoReader(summary.path) as result:
        assert (len(result), result.fps, result.height, result.width) == (40, 25, HEIGHT, WIDTH)
        before, after = source[range(40)].float(), result[range(40)].float()
    assert summary.frames == summary.frames_with_face == 40 and summary.fps == 25
    assert abs(stream_seconds(summary.path, "video") - 1.6) < 1 / 25
    assert abs(stream_seconds(summary.path, "audio") - 1.6) < 1 / 25
    changed = (after - before).abs().mean((0, 3))
    assert changed[:40].mean() < 3 and changed[95:120, 100:140].mean() > 15  # the wall is kept, the mouth is not
    assert {p.name for p in clip.video.parent.iterdir()} == {"clip.mp4", "voice.wav", "track.json", "out.mp4"}


def streamed(reader, clip, model, settings, index_map, start=0):
    track = track_or_resume(reader, 25.0, load_detector("file", model=clip.track), 64, settings, lambda *_: None).take(
        index_map
    )
    features = audio.encode_audio(model.audio_encoder, *read_audio(clip.audio), 25.0)
    frames = FrameView(reader, index_map)
    made = LipSyncResult(model, frames, 25.0, track, lambda: features, False, settings, no_progress)
    return [window.pictures for window in made.windows(start)]


@pytest.mark.parametrize("overlap", [0, 3])
def test_streamed_equals_whole_and_untouched_pixels_are_equal(clip, model, overlap):
    settings = replace(FAST, sync=replace(FAST.sync, overlap=overlap))
    order = list(range(40)) + list(range(38, 20, -1))
    with VideoReader(clip.video, cache=8) as reader:
        pieces = streamed(reader, clip, model, settings, order)
        whole = reader[range(40)]
        assert max(map(len, pieces)) <= 8
        result = torch.cat(pieces)
        assert torch.equal(torch.cat(streamed(whole, clip, model, settings, order)), result)
        assert torch.equal(torch.cat(streamed(reader, clip, model, settings, order, start=29)), result[29:])
    # Far from the face and above the mouth nothing changes, before encoding.
    assert torch.equal(result[:, :, :40], whole[order][:, :, :40])
    assert torch.equal(result[:, :60], whole[order][:, :60])
    assert not torch.equal(result, whole[order])


def test_a_take_in_memory_speaks_as_the_file_does(clip, model):
    with VideoReader(clip.video) as reader:
        made = [
            lip_sync_frames(
                LipSyncInput(frames, 25.0, load_mono_16k(clip.audio)),
                model, load_detector("file", model=clip.track), FAST,
                lambda *_: None,
            )
            for frames in (reader, reader[range(40)])
        ]  # fmt: skip
        streamed, whole = (torch.cat([w.pictures for w in spoken.windows()]) for spoken in made)
    assert torch.equal(streamed, whole) and len(made[0]) == len(made[0].track) == 40 and not made[0].outlasts


@pytest.mark.parametrize("overlap, restored", [(0, False), (3, True)])
def test_progress_moves_with_each_denoising_step_and_never_back(clip, model, overlap, restored):
    """From the first step on, so that the time left is known in the first window."""
    seen = []
    superres = SuperRes(Sharpen(), RestoreSettings(batch=3)) if restored else None
    settings = replace(FAST, sync=replace(FAST.sync, steps=4, overlap=overlap), superres=superres)
    with VideoReader(clip.video) as reader:
        take = LipSyncInput(reader, 25.0, load_mono_16k(clip.audio))
        detector = load_detector("file", model=clip.track)
        list(lip_sync_frames(take, model, detector, settings, lambda *state: seen.append(state)).windows())
    done = [done for phase, done, total in seen if phase == "syncing" and total == 40]
    assert done[:5] == [0, 2, 4, 6, 8] and done == sorted(done) and done[-1] == 40


def test_frames_that_outlast_the_sound_hear_silence(clip, model):
    settings = replace(FAST, audio_shorter="silent")
    wave = load_mono_16k(clip.audio)[:8000]
    with VideoReader(clip.video) as reader:
        made = lip_sync_frames(
            LipSyncInput(reader, 25.0, wave), model, load_detector("file", model=clip.track), settings, lambda *_: None
        )
    assert len(made) == 40 and made.outlasts
    heard_features = listen(model.audio_encoder, wave, 25.0, 40)
    padded = audio.encode_audio(model.audio_encoder, torch.nn.functional.pad(wave, (0, 17_600)), 16_000, 25.0)
    assert len(heard_features) == 40 and torch.equal(heard_features.states, padded.states)


def test_frames_without_a_face_are_bit_identical(tmp_path, model):
    clip = make_clip(tmp_path, frames=60, seconds=2.4, without_face=range(20, 45))
    with VideoReader(clip.video) as reader:
        result = torch.cat(streamed(reader, clip, model, FAST, range(60)))
        source = reader[range(60)]
    same = [torch.equal(a, b) for a, b in zip(result, source, strict=True)]
    assert same == [20 <= i < 45 for i in range(60)]
    change = (result.float() - source.float()).abs().mean((1, 2, 3))
    assert change[19] < change[17] < change[14] and change[45] < change[47] < change[50]


@pytest.mark.parametrize(
    "seconds, options, expected",
    [
        (0.8, {}, list(range(20))),
        (0.8, {"audio_shorter": "silent"}, list(range(40))),
        (2.0, {}, list(range(40)) + list(range(38, 28, -1))),
        (2.0, {"audio_longer": "loop"}, list(range(40)) + list(range(10))),
        (2.0, {"audio_longer": "hold"}, list(range(40)) + [39] * 10),
        (2.0, {"audio_longer": "stop"}, list(range(40))),
    ],
)
def test_audio_longer_or_shorter_than_the_video(tmp_path, model, seconds, options, expected):
    settings = replace(FAST, **options)
    assert frame_map(40, seconds * 25, settings) == expected
    clip = make_clip(tmp_path, seconds=seconds)
    summary = run(clip, model, settings=settings)
    assert summary.frames == len(expected)
    for kind in ("video", "audio"):
        assert abs(stream_seconds(summary.path, kind) - len(expected) / 25) < 1 / 25


def test_frame_rate_is_kept_or_changed(tmp_path, model):
    clip = make_clip(tmp_path, frames=30, seconds=1.0, fps=30)
    assert (run(clip, model).frames, run(clip, model, settings=replace(FAST, fps=25.0)).frames) == (30, 25)
    with VideoReader(clip.video.with_name("out.mp4")) as reader:
        assert reader.fps == 25


def test_a_track_file_speaks_for_its_time_at_another_frame_rate(tmp_path, model):
    clip = make_clip(tmp_path, frames=60, seconds=2.0, fps=30, without_face=range(30, 60))
    assert run(clip, model, settings=replace(FAST, fps=15.0)).frames_with_face == 15


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".webm"])
def test_other_containers(tmp_path, model, suffix):
    clip = make_clip(tmp_path, frames=10, seconds=0.4)
    assert run(clip, model, out=tmp_path / f"out{suffix}").frames == 10


@pytest.mark.parametrize(
    "count, once, twice",
    [
        (1, [0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]),
        (2, [0, 1, 0, 1, 0, 1, 0], [0, 1, 1, 0, 0, 1, 1]),
        (3, [0, 1, 2, 1, 0, 1, 2], [0, 1, 2, 2, 1, 0, 0]),
        (7, [0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_pingpong_shows_the_turning_frames_twice_as_published(count, once, twice):
    assert frame_map(count, 7, RunSettings()) == once
    assert frame_map(count, 7, RunSettings().as_published()) == twice


def test_published_settings_run(tmp_path, model):
    clip = make_clip(tmp_path, frames=20, seconds=1.0)
    summary = run(clip, model, settings=FAST.as_published())
    assert summary.frames == 25 and summary.fps == 25


def test_published_settings_take_guidance_below_1_as_off_and_keep_the_rest():
    settings = RunSettings(sync=Settings(guidance=0.5, overlap=4, deep_cache=3)).as_published().sync
    assert settings == Settings(guidance=1.0, overlap=0, deep_cache=3, clamp=False)
    assert RunSettings().as_published().sync.guidance == 1.5


@pytest.mark.parametrize("published", [False, True])
def test_published_settings_use_insightface_their_way_and_know_no_cuts(published):
    class Detector(InsightFace):
        def __init__(self):
            pass

        def __call__(self, frame, index=0):
            return [Face((0.0, 0.0, 50.0, 80.0), 0.6, np.zeros((3, 2)))]

        def published(self, frame, index=0):
            return [Face((0.0, 0.0, 49.0, 80.0), 0.8, np.ones((3, 2)))] + self(frame)

    dark, light = torch.rand(2, 90, 90, 3, generator=torch.Generator().manual_seed(0)) * 0.5 + torch.tensor(
        [0.0, 0.5]
    ).reshape(2, 1, 1, 1)
    frames = torch.stack([dark, dark, light, light])
    seen = list(watch(frames, 25.0, Detector(), TrackSettings(published=published), 1, lambda *_: None))
    assert [detection.cut for detection in seen] == [False, False, not published, False]
    assert [len(detection.faces) for detection in seen] == [1] * 4  # 49 pixels are too few there
    assert seen[0].faces[0].score == 0.6


class Stop(Exception):
    pass


def stop_at(phase, frame, error=Stop):
    def progress(now, done, total):
        if now == phase and done >= frame:
            raise error

    return progress


@pytest.mark.parametrize("phase, frame", [("looking for the face", 0), ("listening", 0), ("syncing", 16)])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_an_interrupted_run_leaves_nothing(clip, model, phase, frame, error):
    before = {p.name: p.stat().st_mtime_ns for p in clip.video.parent.iterdir()}
    with pytest.raises(error):
        run(clip, model, progress=stop_at(phase, frame, error))
    assert {p.name: p.stat().st_mtime_ns for p in clip.video.parent.iterdir()} == before


@pytest.mark.parametrize("frames", [11.4, 11.5, 11.9])
def test_a_part_of_a_frame_is_no_reason_to_encode_the_voice_again(tmp_path, model, frames):
    clip = make_clip(tmp_path, frames=20)
    voice = tmp_path / "voice.m4a"
    encode_audio(voice, "aac", tone(frames / 25, 16000), 16000)
    run(replace(clip, audio=voice), model)
    given, copied = packet_bytes(voice, "audio"), packet_bytes(tmp_path / "out.mp4", "audio")
    assert copied == given[: len(copied)] and len(copied) >= len(given) - 1


def test_a_small_or_flat_face_of_a_track_file_counts(tmp_path, model):
    """What a person marked is a face, whatever a detector's limits say."""
    clip = make_clip(tmp_path, frames=6, seconds=0.24)
    boxes = ",".join(f'{{"frame": {i}, "box": [100, 80, 150, 102], "score": 0.1}}' for i in range(6))
    head = '"format": "latentsync-track", "version": 1, "fps": 25, "width": 240, "height": 180, "frames": 6'
    clip.track.write_text(f'{{{head}, "faces": [{boxes}]}}')
    assert run(clip, model).frames_with_face == 6


def test_random_numbers_outside_are_not_touched(clip, model):
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    run(clip, model)
    assert torch.equal(before[0], torch.get_rng_state()) and np.array_equal(before[1], np.random.get_state()[1])


def mask_image(rows: slice, columns: slice) -> np.ndarray:
    image = np.full((256, 256), 255, np.uint8)
    image[rows, columns] = 0
    return image


@pytest.mark.parametrize(
    "more",
    [{}, {"blend": BlendSettings(match_colour=True)}, {"superres": SuperRes(Sharpen(), RestoreSettings(strength=1))}],
    ids=["plain", "match_colour", "superres"],
)
def test_a_mask_image_is_where_everything_of_a_run_happens(clip, model, more):
    low, high = np.array([60, 80]), np.array([130, 150])  # x, y in a crop of 256, half above the published region
    settings = replace(FAST, **more)
    own = replace(settings, mask_image=mask_image(slice(low[1], high[1]), slice(low[0], high[0])))
    with VideoReader(clip.video) as reader:
        source, frames = reader[range(8)], range(8)
        usual, result = (torch.cat(streamed(reader, clip, model, s, frames)) for s in (settings, own))
        same = torch.cat(streamed(reader, clip, model, replace(settings, mask_image=_polygon_mask()), frames))
        detector = load_detector("file", model=clip.track)
        track = track_or_resume(reader, 25.0, detector, 64, settings, lambda *_: None)
    assert torch.equal(same, usual) and not torch.equal(result, usual)
    for i in frames:
        rows, columns = np.nonzero((result[i] != source[i]).any(-1).numpy())
        assert len(rows)
        places = 4 * apply(crop_matrix(track.matrices[i], 64), np.stack([columns, rows], axis=1))
        assert (places > low - 10).all() and (places < high + 10).all()
