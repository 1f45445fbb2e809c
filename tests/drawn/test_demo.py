"""The demo: what it writes, that its figures are those of the pictures, and that its drawings show what they should."""

import argparse

import cv2
import numpy as np
import pytest
import torch
from embedded_weights import make_embedded, packaged
from media_clips import stream_seconds
from pictures import read_png

from latentsync.drawn.demo import add_demo, report
from latentsync.drawn.demo.report import measure
from latentsync.drawn.demo.scene import SIZE, make_scene, write_scene
from latentsync.drawn.demo.show import check_request, show
from latentsync.drawn.heads.corpus import track_clip
from latentsync.errors import InputError
from latentsync.evaluate.charts import Canvas, Curve, Panel, curve_chart, picture_sheet
from latentsync.face.track_file import read_track_file
from latentsync.media import VideoReader, read_audio
from latentsync.models.load import load_model
from latentsync.settings import Settings

FILES = {"source.mp4", "audio.wav", "track.json", "result.mp4", "strip.png", "curve.png"}
QUICK = Settings(steps=1, guidance=1.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load_model(make_embedded(tmp_path_factory.mktemp("weights") / "embedded", resolution=64), device="cpu")


@pytest.fixture(scope="module")
def scene():
    return make_scene(900_004, 1.6)


@pytest.fixture(autouse=True)
def no_syncnet(monkeypatch, tmp_path):
    """Random weights are not judged."""
    monkeypatch.setattr(report, "EMBEDDED", tmp_path)


def test_everything_is_written_and_said(model, tmp_path):
    phases = set()
    made = show(tmp_path / "out", model, 900_004, 1.0, QUICK, progress=lambda phase, done, total: phases.add(phase))
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    assert {"drawing", "looking for the face", "syncing"} <= phases
    with VideoReader(tmp_path / "out" / "result.mp4") as reader:
        assert (len(reader), reader.height, reader.width, reader.fps) == (25, SIZE, SIZE, 25)
    assert abs(stream_seconds(tmp_path / "out" / "result.mp4", "audio") - 1.0) < 0.05
    said = str(made)
    for words in ("correlation ", "best lag ", "correlation with the old audio ", "PSNR of the mouth ", " dB"):
        assert words in said
    assert all(str(tmp_path / "out" / name) in said for name in FILES) and made.sync is None
    assert read_png(tmp_path / "out" / "strip.png").shape[1] > 1000 < read_png(tmp_path / "out" / "curve.png").shape[1]


def test_the_files_are_those_of_the_scene(scene, tmp_path):
    video, audio, track = write_scene(scene, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {video.name, audio.name, track.name}
    with VideoReader(video) as reader:
        assert (reader[range(len(reader))].float() - scene.source.frames.float()).abs().mean() < 3
    own, rate = read_audio(video)
    new = read_audio(audio)[0][0]
    assert (new - scene.truth.waveform).abs().max() < 1e-3
    level = np.corrcoef(own[0, : len(scene.source.waveform)], scene.source.waveform[: own.shape[1]])[0, 1]
    assert rate == scene.source.rate and level > 0.9
    faces = read_track_file(track)
    for i in (0, 20, 39):
        face = faces(scene.source.frames[i].numpy(), i)[0]
        assert np.abs(face.points - scene.source.landmarks[i]).max() < 1e-2


def test_both_speeches_have_one_voice_and_other_words(scene):
    assert scene.speech.phones != make_scene(900_005, 1.0).speech.phones
    assert len(scene.source.frames) == len(scene.truth.frames) == 40
    assert np.array_equal(scene.source.landmarks, scene.truth.landmarks)
    assert np.corrcoef(scene.source.opening, scene.truth.opening)[0, 1] < 0.5


def test_the_truth_is_judged_true_and_the_source_is_judged_old(scene):
    track = track_clip(scene.source, 128)
    true, opening = measure(scene, scene.truth.frames, track)
    assert true.correlation > 0.97 and true.lag == 0 and true.psnr == float("inf") and true.ssim > 0.999
    assert np.abs(opening - scene.truth.opening).mean() < 0.05
    old = measure(scene, scene.source.frames, track)[0]
    assert old.old_correlation > 0.97 > 0.5 > old.correlation and old.psnr < 30
    late = measure(scene, scene.truth.frames[[0, 0, *range(38)]], track)[0]
    assert late.lag == 2


class Stop(Exception):
    pass


def test_an_interrupted_demo_leaves_nothing_and_keeps_older_results(model, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.mp4").write_bytes(b"older")

    def stop(phase, done, total):
        if phase == "syncing":
            raise Stop

    with pytest.raises(Stop):
        show(out, model, 900_004, 1.0, QUICK, progress=stop)
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "result.mp4"]
    assert (out / "result.mp4").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("out", "seed", "seconds", "error", "message"),
    [
        ("out", 0, 0.99, InputError, "seconds is 0.99: give a length from 1 to 60"),
        ("out", 0, 60.01, InputError, "seconds is 60.01"),
        ("out", 0, float("nan"), InputError, "seconds is nan"),
        ("out", -1, 4, InputError, "seed is -1"),
        ("file", 0, 4, NotADirectoryError, "file is a file"),
        ("no/out", 0, 4, FileNotFoundError, "does not exist"),
    ],
)
def test_what_cannot_be_drawn_or_written_is_refused_first(tmp_path, out, seed, seconds, error, message):
    (tmp_path / "file").write_bytes(b"")
    for allowed in (1, 60):
        check_request(tmp_path / "out", 0, allowed)
    with pytest.raises(error, match=message):
        check_request(tmp_path / out, seed, seconds)


def test_the_command_has_the_promised_options():
    parser = argparse.ArgumentParser()
    add_demo(parser.add_subparsers())
    given = parser.parse_args("demo --out x --seed 5 --seconds 2 --guidance_scale 2 --device cpu".split())
    assert (given.out, given.seed, given.seconds, given.guidance_scale) == ("x", 5, 2.0, 2.0)
    default = parser.parse_args(["demo"])
    assert (default.out, default.seconds, default.inference_steps, default.guidance_scale) == (
        "latentsync_demo", 4, 20, 1.5,
    )  # fmt: skip


def test_a_curve_is_drawn_where_its_values_are():
    canvas, panel = Canvas(200, 100), Panel(10, 10, 190, 90, seconds=2.0, highest=1.0)
    assert panel.points(np.array([0, 1, 2]), np.array([0, 0.5, 2])).tolist() == [[10, 90], [100, 50], [190, 10]]
    canvas.line(panel.points(np.array([0, 2]), np.array([0.5, 0.5])), (255, 0, 0), width=3)
    picture = canvas.finish()
    assert picture.shape == (100, 200, 3)
    assert picture[49:51, 20:180].tolist() == np.full((2, 160, 3), (255, 0, 0)).tolist()
    assert (picture[:45] == 255).all() and (picture[55:] == 255).all() and (picture[:, :7] == 255).all()


def test_dashes_cover_half_of_a_line():
    whole, dashed = Canvas(300, 20), Canvas(300, 20)
    for canvas, dash in ((whole, 0), (dashed, 10)):
        canvas.line(np.array([[10.0, 10.0], [250.0, 10.0]]), (0, 0, 0), 2, dash)
    ink = [(255.0 - canvas.finish()).sum() for canvas in (whole, dashed)]
    assert 0.45 < ink[1] / ink[0] < 0.65


def test_text_is_as_wide_as_it_says_and_aligned():
    for align, left in ((0.0, 100), (0.5, None), (1.0, None)):
        canvas = Canvas(300, 40)
        width = canvas.text(100, 20, "mouth 0.93", 16, align=align)
        columns = np.flatnonzero((canvas.finish() < 128).any((0, 2)))
        assert columns[0] == pytest.approx(100 - align * width, abs=4) and left in (None, 100)
        assert columns[-1] - columns[0] == pytest.approx(width, abs=5)


def test_a_sheet_shows_its_pictures_unchanged():
    tiles = [np.random.default_rng(k).integers(0, 255, (30, 40, 3), dtype=np.uint8) for k in range(4)]
    sheet = picture_sheet([("a", "one", tiles[:2]), ("b", "two", tiles[2:])], ["0 s", "1 s"], "title")
    places = [cv2.minMaxLoc(cv2.matchTemplate(sheet, tile, cv2.TM_SQDIFF))[2] for tile in tiles]
    for (x, y), tile in zip(places, tiles, strict=True):
        assert np.array_equal(sheet[y : y + 30, x : x + 40], tile)
    (x0, y0), (x1, y1), (x2, y2), _ = places
    assert y0 == y1 < y2 - 29 and x1 - x0 >= 40 and x0 == x2


def test_a_chart_holds_its_curves():
    level = Curve("loudness", np.abs(np.sin(np.arange(30) / 4)), (170, 190, 220))
    chart = curve_chart([Curve("measured", level.values, (214, 69, 65))], level, 25.0, "title")
    assert chart.shape == (520, 1280, 3)
    for colour in ((214, 69, 65), (170, 190, 220)):
        assert (np.abs(chart.astype(int) - colour).max(-1) < 4).sum() > 500


@packaged
def test_the_packaged_model_passes_its_own_demo(tmp_path, monkeypatch):
    from latentsync.models.embedded import EMBEDDED, load_embedded

    monkeypatch.setattr(report, "EMBEDDED", EMBEDDED)
    made = show(tmp_path / "out", load_embedded("cpu"), 900_004, 1.28, Settings(steps=8))
    assert made.correlation > 0.7 > made.old_correlation and abs(made.lag) <= 1 and made.psnr > 18
    assert made.sync is None or made.sync[0] > made.sync[1]
    assert torch.is_grad_enabled()
