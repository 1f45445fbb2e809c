"""Runs with something in front of the face: there frames stay as they were; one pass, threads and resumed runs."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import tiny
import torch
from drawn_clips import make_clip
from media_clips import read_all

from latentsync import threads
from latentsync.face.detect import load_detector
from latentsync.face.parsing import FaceParser, ParsedOcclusions
from latentsync.media import VideoReader, VideoWriter
from latentsync.models.load import load_model
from latentsync.pipelines.lip_sync import LipSyncInput, lip_sync, lip_sync_frames, track_or_resume
from latentsync.progress import no_progress
from latentsync.restore.restorers import Sharpen
from latentsync.restore.superres import SuperRes
from latentsync.settings import BlendSettings, EncodingSettings, RestoreSettings, RunSettings, Settings

FRAMES = 30
FAST = RunSettings(sync=Settings(steps=1, window=8, guidance=1.0), audio_longer="stop")
SHARPER = replace(FAST, superres=SuperRes(Sharpen(), RestoreSettings(batch=3), 1.0))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(tiny.make_checkpoints(tmp_path_factory.mktemp("checkpoints") / "1", resolution=64))


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path, FRAMES, seconds=1.2)


def hand(shape: tuple[int, int], box) -> torch.Tensor:
    """Masks (FRAMES, h, w) of a hand that passes before the mouth of a face in `box`."""
    masks = np.zeros((FRAMES, *shape), np.float32)
    left, _, right, bottom = box
    for i in range(8, FRAMES):
        x = left + (right - left) * (i - 8) / (FRAMES - 8)
        cv2.ellipse(masks[i], (round(x), round(bottom - 20)), (14, 30), 20, 0, 360, 1, -1)
    return torch.from_numpy(masks)


@pytest.fixture
def masks(clip):
    with VideoReader(clip.video) as reader:
        (face,) = load_detector("file", model=clip.track).at(25.0)(reader[[0]][0].numpy(), 0)
        return hand((reader.height, reader.width), face.box)


class Green(FaceParser):
    """In place of the net: background where a portrait is green, and skin."""

    def __init__(self, path):
        self.path, self.seen = path, 0

    def __call__(self, portrait):
        self.seen += 1
        return (portrait[..., 1] - portrait[..., 0] < 0.3).to(torch.uint8).numpy()


@pytest.fixture
def green(clip, masks):
    """`clip`, with the hand in it, in green."""
    frames = read_all(clip.video)
    frames[masks > 0] = torch.tensor([20, 200, 20], dtype=torch.uint8)
    with VideoWriter(clip.video, 25, *masks.shape[1:], crf=4) as writer:
        writer.write(frames)
    return clip


def rendered(clip, model, settings, masks) -> torch.Tensor:
    detector = load_detector("file", model=clip.track)
    with VideoReader(clip.video) as reader:
        take = LipSyncInput(reader, 25.0, torch.rand(round(1.2 * 16000)) - 0.5, masks)
        result = lip_sync_frames(take, model, detector, settings, no_progress)
        return torch.cat([window.pictures for window in result.windows()])


@pytest.mark.parametrize("settings", [FAST, replace(FAST, sync=Settings(steps=1, window=8, overlap=3)), SHARPER])
def test_a_hand_stays_as_it_was_with_and_without_threads(clip, model, masks, monkeypatch, settings):
    torch.manual_seed(4)
    out = rendered(clip, model, settings, masks)
    source = read_all(clip.video)[: len(out)]
    covered = masks[: len(out)] > 0
    assert (out[covered].int() - source[covered].int()).abs().max() <= 1
    torch.manual_seed(4)
    free = rendered(clip, model, settings, None)
    assert (free[covered] != source[covered]).any()
    assert torch.equal(out[:5], free[:5])  # no hand has come yet, nor is it in their window
    monkeypatch.setattr(threads, "THREADED", False)
    torch.manual_seed(4)
    assert torch.equal(rendered(clip, model, settings, masks), out)


@pytest.mark.parametrize("settings", [FAST, replace(FAST, sync=Settings(steps=1, window=8, overlap=3)), SHARPER])
def test_what_a_parser_finds_while_the_face_is_looked_for_is_what_masks_of_the_whole_clip_say(
    green, model, masks, monkeypatch, settings
):
    parser = Green(green.video)
    torch.manual_seed(4)
    out = rendered(green, model, settings, parser)
    source = read_all(green.video)[: len(out)]
    core = torch.from_numpy(np.stack([cv2.erode(mask, np.ones((3, 3))) for mask in masks[: len(out)].numpy()])) > 0
    assert (out[core].int() - source[core].int()).abs().max() <= 1
    assert parser.seen == len(out)  # each frame once
    with VideoReader(green.video) as reader:
        track = track_of(reader, green, model.resolution)
        parsed = ParsedOcclusions(reader, track, Green(green.video))[range(len(reader))]
    monkeypatch.setattr(threads, "THREADED", False)
    for same in (parser, parsed):
        torch.manual_seed(4)
        assert torch.equal(rendered(green, model, settings, same), out)


def track_of(frames, clip, resolution):
    return track_or_resume(frames, 25.0, load_detector("file", model=clip.track), resolution, FAST, no_progress)


def test_a_parser_goes_with_a_run_and_is_part_of_its_plan(green, model, tmp_path):
    given = green.video, green.audio, tmp_path / "out.mp4", model, load_detector("file", model=green.track)
    weights = tmp_path / "weights.pth"
    weights.write_bytes(b"1")

    def interrupted(phase, done, total):
        if phase == "syncing" and done >= 16:
            raise KeyboardInterrupt

    lossless = replace(FAST, encoding=EncodingSettings(crf=0))
    lip_sync(*given, lossless, occlusion=Green(weights))
    whole = read_all(given[2])
    with pytest.raises(KeyboardInterrupt):
        lip_sync(*given, lossless, occlusion=Green(weights), resume=True, progress=interrupted)
    with pytest.raises(ValueError, match="was made with another occlusion"):
        lip_sync(*given, lossless, occlusion=Green(green.track), resume=True)
    parser = Green(weights)
    lip_sync(*given, lossless, occlusion=parser, resume=True)
    assert torch.equal(read_all(given[2]), whole) and parser.seen < len(whole)


def test_a_mask_video_goes_with_a_run_and_is_part_of_its_plan(clip, model, masks, tmp_path):
    video, out = tmp_path / "hand.mp4", tmp_path / "out.mp4"
    with VideoWriter(video, 25, *masks.shape[1:]) as writer:
        writer.write(masks[..., None].expand(-1, -1, -1, 3))
    given = clip.video, clip.audio, out, model, load_detector("file", model=clip.track)
    lossless = replace(FAST, encoding=EncodingSettings(crf=0))

    def interrupted(phase, done, total):
        if phase == "syncing" and done >= 16:
            raise KeyboardInterrupt

    lip_sync(*given, lossless, occlusion=video)
    whole = read_all(out)
    with pytest.raises(KeyboardInterrupt):
        lip_sync(*given, lossless, occlusion=video, resume=True, progress=interrupted)
    lip_sync(*given, lossless, occlusion=video, resume=True)
    assert torch.equal(read_all(out), whole)
    lip_sync(*given, lossless)
    covered = masks[: len(whole)] > 0
    assert not torch.equal(read_all(out)[covered], whole[covered])


def test_masks_that_do_not_fit_are_refused_before_the_work(clip, model, masks, tmp_path):
    detector, video = load_detector("file", model=clip.track), tmp_path / "hand.mp4"
    with VideoWriter(video, 25, 64, 96) as writer:
        writer.write(torch.zeros(FRAMES, 64, 96, 3))
    with pytest.raises(ValueError, match="hand.mp4 is 96 x 64 and .* is 240 x 180: give a mask of the video's size"):
        lip_sync(clip.video, clip.audio, tmp_path / "out.mp4", model, detector, FAST, occlusion=video)
    with pytest.raises(ValueError, match="there are 5 masks of what is in front of the face for 30 frames"):
        rendered(clip, model, FAST, masks[:5])
    with pytest.raises(ValueError, match="leave out the occlusion"):
        rendered(clip, model, replace(FAST, blend=BlendSettings(published=True)), masks)
