"""What the mouth does and keeps of its source: curves by hand, drawn heads whose true mouth is known, and SyncNets."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from embedded_weights import packaged
from flicker_net import FRAMES, Flicker, pictures, sound

from latentsync.drawn.demo import SIZE, make_scene
from latentsync.drawn.heads.clip import render
from latentsync.drawn.heads.corpus import detections, write_clip
from latentsync.drawn.heads.speaker import make_speaker
from latentsync.drawn.heads.speech import speak
from latentsync.evaluate.curves import kind_of_sound, loudness, pauses, slope
from latentsync.evaluate.faces import Identity, Lips, SeenFaces
from latentsync.evaluate.metrics import chosen_metrics, windows
from latentsync.evaluate.pair import Pair
from latentsync.evaluate.run import evaluate
from latentsync.evaluate.settings import EvaluateSettings
from latentsync.evaluate.sync_score import NO_SOURCE, syncnet_v2
from latentsync.face.geometry import canvas_size
from latentsync.face.landmarks import Face, points_from_box
from latentsync.face.track import FaceTrack
from latentsync.face.track_file import write_track_file
from latentsync.models.embedded import EMBEDDED


def voice(*levels: tuple[float, int]) -> torch.Tensor:
    """Stretches of a tone at 16 kHz: (dB of full scale, frames of 1/25 s)."""
    parts = [10 ** (level / 20) * math.sqrt(2) * torch.ones(frames * 640) for level, frames in levels]
    gain = torch.cat(parts)
    return gain * torch.sin(torch.arange(len(gain)) * 0.2)


def test_loudness_is_in_db_of_full_scale_and_what_has_no_sound_is_silent():
    assert loudness(voice((-20, 5)), 8, 25).round(1).tolist() == [-20] * 5 + [-60] * 3
    assert loudness(voice((-20, 5)), 4, 20).round(1).tolist() == [-20] * 4


@pytest.mark.parametrize(
    ("level", "frames", "quiet"),
    [(-51, 8, 8), (-51, 7, 0), (-49, 8, 0), (-51, 9, 9)],
    ids=["pause", "short", "loud", "9"],
)
def test_a_pause_is_40_db_below_the_voice_for_three_tenths_of_a_second(level, frames, quiet):
    found = pauses(voice((-10, 20), (level, frames), (-10, 20)), 40 + frames, 25)
    assert found.sum() == quiet and found[20 : 20 + quiet].all()
    assert pauses(torch.zeros(6400), 10, 25).all() and not pauses(voice((-10, 10)), 10, 25).any()
    assert pauses(voice((-10, 20), (-51, 6), (-10, 20)), 36, 20).sum() == 0  # 0.24 s at 20 frames a second


def test_sound_is_silent_matched_or_mismatched():
    random = np.random.default_rng(0)
    one, other = (voice(*((level, 2) for level in random.uniform(-50, -5, 40))) for _ in range(2))
    assert kind_of_sound(0.3 * one + 0.001 * other, one, 80, 25) == "matched"
    assert kind_of_sound(other, one, 80, 25) == "mismatched"
    assert kind_of_sound(0 * one, one, 80, 25) == "silent" == kind_of_sound(one[:0], one, 80, 25)
    a, b = np.linalg.qr(np.column_stack([np.ones(80), *random.standard_normal((2, 80))]))[0][:, 1:].T * 40 - 30
    for share, kind in ((0.88, "mismatched"), (0.92, "matched")):  # correlations of the loudness
        mixed = share * (a + 30) + math.sqrt(1 - share**2) * (b + 30) - 30
        assert kind_of_sound(*(voice(*((level, 1) for level in curve)) for curve in (mixed, a)), 80, 25) == kind


def test_the_slope_is_the_share_of_the_movement_whatever_moves_beside_it():
    random = np.random.default_rng(0)
    source, own = random.standard_normal((2, 400))
    own -= slope(own, source) * (source - source.mean())
    for share in (0, 0.25, 1):
        assert slope(7 + share * source + own, source) == pytest.approx(share)


PERCENT = 100 / canvas_size(100)[0]  # of a crop's side, of a pixel in its canvas


def lips_of(openings: np.ndarray, true: np.ndarray | None, wave: torch.Tensor) -> tuple[dict, int]:
    """The metrics of lips that are so many pixels high, by landmarks, and how many pictures were looked at."""
    box, asked = (20.0, 20.0, 80.0, 90.0), []

    def describe(picture: np.ndarray) -> list[tuple[Face, np.ndarray]]:
        asked.append(picture)
        points = np.full((106, 2), 50.0)
        points[52:72, 1] += np.linspace(0, picture[0, 0, 0] / 2, 20)
        return [(Face(box, 0.9, points_from_box(box)), points)]

    count = len(openings)
    clips = [
        None if heights is None else torch.from_numpy(np.rint(2 * heights).astype(np.uint8))[:, None, None, None]
        for heights in (openings, true)
    ]
    made, truth = (None if clip is None else clip.expand(-1, 100, 100, 3) for clip in clips)
    track = FaceTrack(np.eye(2, 3)[None].repeat(count, 0), np.ones(count), np.ones(count), np.zeros(count, bool), 100)
    seen = SeenFaces(np.array([box] * count), describe)
    metrics = [Lips(seen, track, 25.0, lambda: wave)] + [Identity(seen)] * (truth is not None)
    for numbers in windows(made, [(0, count)]):
        for metric in metrics:
            metric.update(numbers, made[numbers], None if truth is None else truth[numbers])
    return metrics[0].compute(), len(asked)


def test_lips_are_measured_in_percent_of_the_face_and_each_picture_is_looked_at_once():
    source = np.array([10, 20, 10, 20, 10, 20] * 10)
    wave = voice((-10, 30), (-55, 20), (-10, 10))
    still = np.where(np.arange(60) // 20 == 1, 12.0, source)
    half, asked = lips_of(source / 2, source, wave)
    assert asked == 120 and half["lip_dynamics"].value == pytest.approx(2.5 * PERCENT)
    assert half["lip_leak"].value == half["lip_match"].value == pytest.approx(0.5)
    assert half["silent_lips"].value == pytest.approx(2.5 * PERCENT)
    assert np.flatnonzero(np.isfinite(half["silent_lips"].curve)).tolist() == list(range(30, 50))
    assert lips_of(still, source, voice((-10, 20), (-55, 20), (-10, 20)))[0]["silent_lips"].value == 0
    alone = lips_of(source, None, voice((-10, 60)))[0]
    assert "no pause of 0.3 s" in alone["silent_lips"] and "does not move" in alone["lip_leak"]
    for moved, told in ((30, True), (3, False)):  # deviations of 0.23 and 0.1 percent
        barely = np.where(np.arange(60) < moved, 10.5, 10)
        assert isinstance(lips_of(source, barely, wave)[0]["lip_leak"], str) != told
    with pytest.raises(ValueError, match="the lips are in fewer than 2 frames"):
        lips_of(source[:1], None, wave)


def test_the_sound_of_the_source_is_judged_beside_the_own():
    boxes, frames = np.array([(22.0, 20.0, 42.0, 40.0)] * FRAMES), pictures()
    own, other = (torch.from_numpy(sound(0, seed).astype(np.float32) / 32768) for seed in (0, 1))
    right, copied = (syncnet_v2(Flicker(), frames, boxes, *waves) for waves in ((own, 25.0, other), (other, 25.0, own)))
    assert right["sync_c"].value == copied["leak_c"].value > 3 * right["leak_c"].value
    assert right["leak_c"].value == copied["sync_c"].value
    for none in (None, own[:640]):
        found = syncnet_v2(Flicker(), frames, boxes, own, 25.0, none)
        assert found["leak_c"] == NO_SOURCE and found["sync_c"].value == right["sync_c"].value


@packaged
def test_copied_synced_and_silent_mouths_of_a_drawn_head_are_told_apart(tmp_path):
    seed, seconds = 900_005, 3.0
    scene = make_scene(seed, seconds)
    source, truth = scene.source, scene.truth
    shut = render(make_speaker(seed), speak([], seconds, seed), SIZE, seed)
    quiet = replace(truth, waveform=truth.waveform * 0)
    write_clip(tmp_path / "source.mp4", source.frames, source)
    write_track_file(tmp_path / "track.json", detections(source), SIZE, SIZE, source.fps)
    how = {"detector": "file", "detector_model": tmp_path / "track.json", "syncnet": EMBEDDED, "device": "cpu"}
    found = {}
    for name, frames, clip in (
        ("copied", source.frames, truth),
        ("synced", truth.frames, truth),
        ("matched", source.frames, source),
        ("copied in silence", source.frames, quiet),
        ("shut", shut.frames, quiet),
    ):
        write_clip(tmp_path / f"{name}.mp4", frames, clip)
        names = chosen_metrics(["lips"] + ["stable_sync", "stable_leak"] * (name in ("copied", "synced")))
        pair = Pair(tmp_path / f"{name}.mp4", tmp_path / "source.mp4")
        video = evaluate([pair], names, EvaluateSettings(**how)).videos[0]
        found[name] = video.figures() | {"sound": video.sound}
    copied, synced, matched, leaking, still = found.values()
    assert [video["sound"] for video in found.values()] == ["mismatched"] * 2 + ["matched"] + ["silent"] * 2
    assert copied["lip_leak"] == pytest.approx(1, abs=0.02) and abs(synced["lip_leak"]) < 0.3
    assert copied["stable_leak"] > copied["stable_sync"] + 0.3 and synced["stable_sync"] > synced["stable_leak"] + 0.3
    assert matched["lip_match"] == pytest.approx(1, abs=0.02) and "lip_leak" not in matched
    assert leaking["lip_leak"] == pytest.approx(1, abs=0.02) and abs(still["lip_leak"]) < 0.05
    assert still["silent_lips"] < 0.1 < 0.5 < leaking["silent_lips"]
    assert still["lip_dynamics"] < 0.2 < 1 < synced["lip_dynamics"]
