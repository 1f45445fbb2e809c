"""The demo: what it writes, that its figures are those of the pictures, and that its drawings show what they should."""

import numpy as np
import pytest
import torch
from embedded_weights import make_embedded, packaged
from media_clips import stream_seconds
from pictures import read_png

from latentsync.commands.main import build_parser, main
from latentsync.drawn import demo
from latentsync.drawn.demo import SIZE, check_request, make_scene, measure, picture_sheet, run_demo, write_scene
from latentsync.drawn.heads.corpus import track_clip
from latentsync.errors import FileError, InputError
from latentsync.face.track_file import read_track_file
from latentsync.media import VideoReader, read_audio
from latentsync.models.embedded import EMBEDDED, load_embedded
from latentsync.models.load import load_model
from latentsync.settings import QUALITIES, Settings

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
    monkeypatch.setattr(demo, "EMBEDDED", tmp_path)


def test_everything_is_written_and_said(model, tmp_path):
    phases, out = set(), tmp_path / "out"
    made = run_demo(out, model, 900_004, 1.0, QUICK, progress=lambda phase, done, total: phases.add(phase))
    assert {p.name for p in out.iterdir()} == FILES and {p.name for p in tmp_path.iterdir()} == {"out"}
    assert {"drawing", "looking for the face", "syncing"} <= phases
    with VideoReader(out / "result.mp4") as reader:
        assert (len(reader), reader.height, reader.width, reader.fps) == (25, SIZE, SIZE, 25)
    assert abs(stream_seconds(out / "result.mp4", "audio") - 1.0) < 0.05
    said = str(made)
    for words in ("correlation ", "best lag ", "correlation with the old audio ", "PSNR of the mouth ", " dB"):
        assert words in said
    assert all(str(out / name) in said for name in FILES) and made.sync is None
    assert said.endswith("again.mp4 --inference_steps 1 --guidance_scale 1.0")
    curve = read_png(out / "curve.png")
    assert curve.shape == (520, 1280, 3)
    loudness = torch.tensor((176, 196, 222))
    assert ((curve.int() - loudness).abs().amax(-1) < 4).sum() > 500


def test_the_files_are_those_of_the_scene(scene, tmp_path):
    video, audio, track = write_scene(scene, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {video.name, audio.name, track.name}
    with VideoReader(video) as reader:
        assert (reader[range(len(reader))].float() - scene.source.frames.float()).abs().mean() < 3
    own, rate = read_audio(video)
    assert (read_audio(audio)[0][0] - scene.truth.waveform).abs().max() < 1e-3
    level = np.corrcoef(own[0, : len(scene.source.waveform)], scene.source.waveform[: own.shape[1]])[0, 1]
    assert rate == scene.source.rate and level > 0.9
    faces = read_track_file(track)
    for i in (0, 20, 39):
        face = faces(scene.source.frames[i].numpy(), i)[0]
        assert np.abs(face.points - scene.source.landmarks[i]).max() < 1e-2


def test_the_truth_is_judged_true_and_the_source_is_judged_old(scene):
    assert len(scene.source.frames) == len(scene.truth.frames) == 40
    assert np.array_equal(scene.source.landmarks, scene.truth.landmarks)
    track = track_clip(scene.source, 128)
    true, opening = measure(scene, scene.truth.frames, track)
    assert true.correlation > 0.97 and true.lag == 0 and true.psnr == float("inf") and true.ssim > 0.999
    assert np.abs(opening - scene.truth.opening).mean() < 0.05
    old = measure(scene, scene.source.frames, track)[0]
    assert old.old_correlation > 0.97 > 0.5 > old.correlation and old.psnr < 30
    late = measure(scene, scene.truth.frames[[0, 0, *range(38)]], track)[0]
    assert late.lag == 2


def test_the_sheet_shows_its_pictures_side_by_side(scene):
    frames = [torch.full_like(scene.source.frames, level) for level in (40, 120, 200)]
    shown = demo.replace(scene, source=demo.replace(scene.source, frames=frames[0]))
    shown = demo.replace(shown, truth=demo.replace(scene.truth, frames=frames[2]))
    sheet = picture_sheet(shown, frames[1], track_clip(scene.source, 64))
    rows, tile = (40, 120, 200) * 2, demo.TILE
    for level in set(rows):
        count = 9 * sum((tile * (tile if k < 3 else round(tile * 0.75))) for k, r in enumerate(rows) if r == level)
        assert (sheet == level).all(-1).sum() > 0.9 * count
    first = [int(np.flatnonzero((sheet == level).all(-1).sum(1) > 9 * tile - 1)[0]) for level in (40, 120, 200)]
    assert np.diff(first).tolist() == [tile + demo.GAP] * 2


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
        run_demo(out, model, 900_004, 1.0, QUICK, progress=stop)
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "result.mp4"]
    assert (out / "result.mp4").read_bytes() == b"older"


@pytest.mark.parametrize(
    ("out", "seed", "seconds", "error", "message"),
    [
        ("out", 0, 0.99, InputError, "seconds is 0.99: give a length from 1 to 60"),
        ("out", 0, 60.01, InputError, "seconds is 60.01"),
        ("out", 0, float("nan"), InputError, "seconds is nan"),
        ("out", -1, 4, InputError, "seed is -1"),
        ("file", 0, 4, FileError, "file is a file"),
        ("no/out", 0, 4, FileError, "does not exist"),
    ],
)
def test_what_cannot_be_drawn_or_written_is_refused_first(tmp_path, out, seed, seconds, error, message):
    (tmp_path / "file").write_bytes(b"")
    for allowed in (1, 60):
        check_request(tmp_path / "out", 0, allowed)
    with pytest.raises(error, match=message):
        check_request(tmp_path / out, seed, seconds)


def test_the_command_has_the_promised_options():
    given = build_parser().parse_args("demo --out x --seed 5 --seconds 2 --guidance_scale 2 --device cpu".split())
    assert (given.out, given.seed, given.seconds, given.guidance_scale) == ("x", 5, 2.0, 2.0)
    default = build_parser().parse_args(["demo"])
    values = (default.out, default.seconds, default.quality, default.inference_steps, default.guidance_scale)
    assert values == ("latentsync_demo", 4, "fast", None, None)


def test_the_seed_of_the_head_is_not_that_of_the_noise(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(demo, "run_demo", lambda *given, **_: seen.append((given[2], given[4])))
    main(["demo", "--out", str(tmp_path / "x"), "--seed", "5", "--inference_steps", "3", "--device", "cpu"])
    assert seen == [(5, Settings(**QUALITIES["fast"] | {"steps": 3}))]


@packaged
def test_the_packaged_model_passes_its_own_demo(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "EMBEDDED", EMBEDDED)
    made = run_demo(tmp_path / "out", load_embedded("cpu"), 900_004, 1.28, Settings(steps=8))
    assert made.correlation > 0.7 > made.old_correlation and abs(made.lag) <= 1 and made.psnr > 18
    assert made.sync is None or made.sync[0] > made.sync[1]
    assert torch.is_grad_enabled()
