"""The sync figures of clips whose sound is a known number of frames away, their report and their chart."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from clock import Clock, rising_pictures, rising_sound
from embedded_weights import packaged
from flicker_net import FRAMES, Flicker, pictures, sound
from safetensors.torch import save_file
from small_nets import narrow_syncnet

from latentsync.audio.syncnet import syncnet_mel
from latentsync.errors import FileError, InputError
from latentsync.evaluate.sync_report import chart, describe, mouth_metrics, unsteadiness
from latentsync.evaluate.sync_score import (
    MouthViews,
    SyncCurve,
    at_25,
    load_stable_syncnet,
    load_syncnet,
    running_median,
    stable_syncnet,
    sync_curve,
    syncnet_v2,
)
from latentsync.face.align import AlignedFaces
from latentsync.face.detect import load_detector
from latentsync.face.masks import keep_mask
from latentsync.media import VideoReader
from latentsync.media.audio import load_mono_16k
from latentsync.models.embedded import EMBEDDED
from latentsync.models.samples import find_sample
from latentsync.pipelines.lip_sync import track_or_resume
from latentsync.settings import RunSettings

COUNT = 60  # frames of the clips that the clock judges


@pytest.mark.parametrize(("late", "fps"), [(-5, 25), (0, 25), (3, 25), (2, 50)])
def test_syncnet_v2_finds_the_shift_at_25_frames_a_second(late, fps):
    frames = pictures().repeat_interleave(fps // 25, dim=0)
    boxes = np.array([(22.0, 20.0, 42.0, 40.0)] * len(frames))  # whose view lies inside the picture
    wave = torch.from_numpy(sound(late).astype(np.float32) / 32768)
    figures = syncnet_v2(Flicker(), frames, boxes, wave, float(fps))
    assert figures["sync_offset"].value == -late and len(frames) == FRAMES * fps // 25
    assert figures["sync_c"].value > 10 and 0 <= figures["sync_d"].value < 15


def test_views_made_one_by_one_are_those_of_the_whole_clip():
    random = np.random.default_rng(0)
    frames = torch.from_numpy(random.integers(0, 256, (18, 60, 80, 3), dtype=np.uint8))
    views = MouthViews(frames, np.array([[20.0, 15, 50, 50]]) + random.uniform(-3, 3, (18, 4)))
    whole = views[:]
    assert len(views) == 18 and torch.equal(torch.cat([views[i : i + 1] for i in range(18)]), whole)
    assert torch.equal(views[14:30], whole[14:])
    spikes = [running_median(np.repeat([0.0, 1, 0], (20, length, 20))).max() for length in (6, 7)]
    assert spikes == [0, 1]  # over 13 frames


@packaged
def test_the_embedded_syncnet_follows_sound_that_is_moved():
    sample = find_sample("short clip")
    syncnet, vae = load_stable_syncnet(EMBEDDED)
    wave, offsets = load_mono_16k(sample.video), {}
    with VideoReader(sample.video, cache=20) as frames:
        detector = load_detector("file", model=sample.track)
        track = track_or_resume(frames, 25.0, detector, syncnet.side, RunSettings(), lambda *_: None)
        crops = AlignedFaces(frames, track.matrices, track.found, track.resolution)
        for late in (0, 3):
            moved = torch.roll(wave, late * 640)
            offsets[late] = stable_syncnet(syncnet, vae, crops, moved, 25.0)["stable_offset"].value
    assert abs(offsets[0]) <= 1 and offsets[3] == offsets[0] - 3


def judged(late: int = 0, fps: float = 25.0, at_once: int = 16) -> SyncCurve:
    wave, frames = rising_sound(COUNT), rising_pictures(COUNT, late)
    if fps != 25:
        frames = frames[[min(round(i * 25 / fps), COUNT - 1) for i in range(round(COUNT * fps / 25))]]
    return sync_curve(Clock(syncnet_mel(wave), COUNT, at_once), None, frames, wave, fps)


@pytest.mark.parametrize(("late", "at_once"), [(0, 16), (4, 16), (-7, 16), (4, 25)])
def test_the_curve_peaks_where_the_mouth_is_late_by(late, at_once):
    curve = judged(late, at_once=at_once)
    assert curve.offset == late and list(curve.offsets) == list(range(-10, 11))
    assert curve.confidence == pytest.approx(np.cos(late / 20), abs=0.02)
    assert curve.margin == pytest.approx(np.nanmax(curve.cosines) - np.nanmedian(curve.cosines)) and curve.margin > 0
    assert len(curve.over_time) == (COUNT - at_once) // 4 + 1
    assert curve.middles[:2].tolist() == [at_once / 50, at_once / 50 + 4 / 25]
    assert curve.over_time.mean() == pytest.approx(curve.confidence)
    wave = rising_sound(COUNT)
    clock = Clock(syncnet_mel(wave), COUNT, at_once)
    metrics = stable_syncnet(clock, None, rising_pictures(COUNT, late), wave, 25.0)
    assert (metrics["stable_sync"].value, metrics["stable_offset"].value) == (curve.confidence, late)
    assert np.allclose(metrics["stable_sync"].curve, curve.over_time)


@pytest.mark.parametrize("fps", [12.5, 30.0, 50.0])
def test_other_frame_rates_are_judged_at_25(fps):
    assert abs(judged(3, fps).offset - 3) <= 1 and judged(0, fps).confidence > 0.95
    middles = [i * fps / 25 for i in (0.5, 1.5, 2.5, 3.5)]  # of the first frames on screen
    assert at_25(torch.zeros(COUNT, 1), fps).index_map[:4] == [int(middle) for middle in middles]


def test_a_clip_that_barely_suffices_has_no_figures_for_far_offsets_and_a_shorter_one_is_refused():
    wave = rising_sound(17)
    curve = sync_curve(Clock(syncnet_mel(wave), 17), None, rising_pictures(17), wave)
    assert np.isfinite(curve.cosines).sum() == 2 and curve.offset in (0, -1)
    assert chart(curve, "short").shape == (480, 1280, 3)
    wave = rising_sound(20)
    clock = Clock(syncnet_mel(wave), 20)
    with pytest.raises(ValueError, match="has 15 frames at 25 frames per second: SyncNet judges 16"):
        sync_curve(clock, None, rising_pictures(15), wave)
    with pytest.raises(ValueError, match="has 8 frames at 25"):
        sync_curve(clock, None, rising_pictures(15), wave, 50.0)
    for fps in (0, -25.0, math.nan):
        with pytest.raises(ValueError, match="fps is"):
            sync_curve(clock, None, rising_pictures(20), wave, fps)


def test_the_report_says_what_was_found_and_the_chart_marks_the_best_offset():
    curve = judged(4)
    text = describe(curve, "a clock", unsteady=1.234)
    assert text.startswith("judged by a clock\nconfidence 0.98") and "unsteadiness" in text and "1.23 levels" in text
    assert "best offset +4: the mouth is late by 4 frames" in text and "in step" in describe(judged(), "a clock")
    assert "early by 7" in describe(judged(-7), "a clock")

    def place(curve):
        """The middle column of the bar in the colour of the best offset."""
        picture = chart(curve, "clock").astype(int)
        return np.flatnonzero((np.abs(picture - (46, 134, 110)).max(-1) < 8).sum(0) > 100).mean()

    first, next_one, third = (place(replace(curve, cosines=np.roll(curve.cosines, k))) for k in (0, 1, 3))
    assert next_one - first > 15 and third - first == pytest.approx(3 * (next_one - first), abs=2)


def test_the_reference_is_compared_at_the_mouth_only_and_without_one_there_is_unsteadiness():
    truth = torch.rand(5, 64, 64, 3, generator=torch.Generator().manual_seed(0)) * 0.5
    other = truth.clone()
    other[:, keep_mask(64)[0] >= 0.5] = 1.0
    same = mouth_metrics(other, truth)
    assert same["psnr"] == math.inf and same["flicker"] == 0
    worse = mouth_metrics(truth + 0.1, truth)
    assert worse["psnr"] == pytest.approx(20, abs=1e-3) and worse["ssim"] < 1
    text = describe(judged(), "a clock", worse)
    assert "PSNR 20.0 dB, SSIM" in text and "unsteadiness" not in text
    with pytest.raises(ValueError, match="crops are 4 frames of 64 x 64 and the reference 5 frames of 64 x 64"):
        mouth_metrics(truth[:4], truth)
    still = torch.full((6, 64, 64, 3), 0.5)
    assert unsteadiness(still) == 0 and math.isnan(unsteadiness(still[:2]))
    still[::2] += 0.1
    assert unsteadiness(still) == pytest.approx(51, rel=1e-4)  # 2 * 0.1 of 255 levels


def test_a_folder_without_its_syncnet_says_how_to_get_it_and_one_of_pixels_needs_no_vae(tmp_path):
    with pytest.raises(FileError, match="lacks stable_syncnet: .* --only syncnet"):
        load_stable_syncnet(tmp_path)
    save_file(narrow_syncnet(4, [2, 2, 2, 1, 2, 2]).state_dict(), tmp_path / "stable_syncnet.safetensors")
    with pytest.raises(FileError, match="judges latents and .* lacks the VAE"):
        load_stable_syncnet(tmp_path)
    net = narrow_syncnet(3, [[1, 2], 2, 2, 2, 2, 2, 2, 2])
    save_file(net.state_dict(), tmp_path / "stable_syncnet.safetensors")
    syncnet, vae = load_stable_syncnet(tmp_path)
    assert syncnet.sees_pixels and syncnet.side == 256 and vae is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("resolution", '"big"'), ("resolution", "0"), ("resolution", "1e12"), ("resolution", "[" * 10**5),
        ("resolution", "{"), ("frames", '"x"'), ("frames", "0"), ("frames", "-16"), ("frames", "4"),
        ("tables", "[]"), ("tables", "{}"), ("tables", '{"visual": 1, "audio": 1}'), ("tables", "stages"),
        ("tables", "wide"), ("tables", "factor"),
    ],
)  # fmt: skip
def test_a_syncnet_that_says_nonsense_of_itself_is_refused_in_a_sentence(tmp_path, name, value):
    net = narrow_syncnet(3, [[1, 2], 2, 2, 2, 2, 2, 2, 2])
    tables = {kind: {"in_channels": part.in_channels, "block_out_channels": [s.channels for s in part.stages],
                     "downsample_factors": [s.factor for s in part.stages], "attn_blocks": [0] * len(part.stages)}
              for kind, part in (("visual", net.config.visual), ("audio", net.config.audio))}  # fmt: skip
    about = {"tables": json.dumps(tables), "frames": "16", "resolution": "64"}
    path = tmp_path / "stable_syncnet.safetensors"
    save_file(net.state_dict(), path, about)
    assert load_syncnet(path)[1] == 64
    if value == "stages":
        tables["visual"] |= {key: tables["visual"][key] * 1000 for key in list(tables["visual"])[1:]}
    elif value == "wide":
        tables["visual"]["block_out_channels"][-1] = 2**70
    elif value == "factor":
        tables["visual"]["downsample_factors"][0] = [0, 2]
    save_file(net.state_dict(), path, about | {name: json.dumps(tables) if value.isalpha() else value})
    with pytest.raises(InputError, match="stable_syncnet.safetensors"):
        load_syncnet(path)
