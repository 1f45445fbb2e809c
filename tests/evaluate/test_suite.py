"""Whole sets of videos, what is kept of an interrupted one, the page, and what SyncNets and hyperIQA are shown."""

import csv
import json
import math
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from drawn_clips import make_clip, picture
from evaluating import run, write_video
from flicker_net import Flicker
from media_clips import encode_audio, tone

from latentsync.evaluate import run as evaluation
from latentsync.evaluate.image_metrics import quality_metric
from latentsync.evaluate.metrics import FrameMean, MetricValue
from latentsync.evaluate.moments import Moment, worst_moments
from latentsync.evaluate.pair import OpenPair, Pair
from latentsync.evaluate.report import Report, VideoReport
from latentsync.evaluate.settings import EvaluateSettings
from latentsync.evaluate.suite import find_suite
from latentsync.evaluate.tools import Tools
from latentsync.files import JsonLines
from latentsync.nets.hyperiqa import HyperIQA
from latentsync.progress import no_progress

SIDE = 24


@pytest.fixture
def suite(tmp_path):
    """Three results, one of them of other words, and two sources."""
    random = np.random.default_rng(0)
    for name in ("sources/a", "sources/b", "results/a", "results/a__b", "results/b"):
        pictures = random.integers(0, 256, (17, SIDE, SIDE, 3), dtype=np.uint8)
        write_video((tmp_path / name).with_suffix(".mp4"), list(pictures))
    return tmp_path


def pairs_of(suite):
    results, sources = suite / "results", suite / "sources"
    names = (("a", "a"), ("a__b", "a"), ("b", "b"))
    return [Pair(results / f"{made}.mp4", sources / f"{true}.mp4") for made, true in names]


def test_a_suite_is_two_folders_or_a_table_or_what_batch_wrote(suite):
    pairs = pairs_of(suite)
    assert find_suite(suite) == pairs
    assert {pair.language for pair in find_suite(suite, "en")} == {"en"}
    with JsonLines(suite / "manifest.jsonl") as manifest:
        for status in ("failed", "done", "done"):
            manifest.append({"status": status, "output": str(pairs[0].video), "video": str(pairs[0].reference)})
        manifest.append({"status": "failed", "output": "none.mp4", "video": "none.mp4"})
    with (suite / "manifest.jsonl").open("ab") as file:
        file.write(b'[1]\n{"status": "done", "output": 1}\n{"status": "done"}\n\xff\n{half')
    assert find_suite(suite) == pairs[:1]
    table = suite / "suite.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        rows = [["video", "reference", "language"], ["results/a.mp4", "sources/a.mp4", "de"], ["results/b.mp4", "", ""]]
        csv.writer(file).writerows(rows)
    assert find_suite(suite, "en") == [replace(pairs[0], language="de"), Pair(pairs[2].video, None, "en")]
    for text, sentence in (
        ("video,beauty\na.mp4,1\n", "give video, reference, language"),
        ("video\nnone.mp4\n", "there is no video .*none.mp4"),
        ("video\n", "has no videos"),
        ('video\n"a', "is not CSV text"),
    ):
        table.write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=sentence):
            find_suite(suite)
    table.unlink()
    (suite / "manifest.jsonl").unlink()
    write_video(suite / "results" / "c__a.mp4", [np.zeros((SIDE, SIDE, 3), np.uint8)])
    with pytest.raises(ValueError, match="has no video of c__a.mp4: call it a.mp4 or a__b.mp4"):
        find_suite(suite)
    for folder, sentence in ((suite / "results", "is no suite: it needs suite.csv"), (suite / "none", "is no folder")):
        with pytest.raises(ValueError, match=sentence):
            find_suite(folder)


@pytest.fixture
def measured(monkeypatch):
    """The names of the videos that were measured; FID and FVD are of colours."""
    names, measure = [], evaluation.measure
    monkeypatch.setattr(
        evaluation, "measure", lambda pair, *more: names.append(pair.paths.video.name) or measure(pair, *more)
    )
    monkeypatch.setattr("latentsync.evaluate.tools.load_inception", lambda *where: lambda x: x[:, 0, 0].double())
    return names


def test_an_interrupted_suite_goes_on_and_ends_as_one_that_was_not(suite, measured, capsys, monkeypatch):
    what = ["--suite", suite, "--metric", "fid", "psnr", "fvd", "--random_weights", "--json", suite / "out.json"]
    update = FrameMean.update

    def interrupted(self, numbers, *pictures):
        if measured[-1] == "a__b.mp4":
            raise KeyboardInterrupt
        update(self, numbers, *pictures)

    with monkeypatch.context() as patch:
        patch.setattr(FrameMean, "update", interrupted)
        code, _, err = run(capsys, *what)
    assert code == 130 and "1 of 3 videos are done; run the same command again to go on" in err
    assert not (suite / "out.json").exists()
    code, out, _ = run(capsys, *what, "--html", suite / "out.html")
    assert code == 0 and measured.count("a.mp4") == 3  # once as a result, and as the source of two
    content = json.loads((suite / "out.json").read_text())
    rows = [line for line in out.splitlines() if line.startswith("| ")]
    assert rows[0] == "| video | frames | PSNR ↑ | FID ↓ | FVD ↓ |" and rows[2].startswith("| **all** | 51 |")
    page = (suite / "out.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 3 and "<td>a__b.mp4</td>" in page

    measured.clear()
    assert run(capsys, *what)[1] == out and measured == []  # all is there
    for file in ("evaluation.jsonl", "evaluation.npz"):
        (suite / file).unlink()
    assert run(capsys, *what)[1] == out
    assert json.loads((suite / "out.json").read_text()) == content  # bit for bit

    measured.clear()
    write_video(suite / "results" / "a.mp4", [np.zeros((SIDE, SIDE, 3), np.uint8)] * 17)
    run(capsys, *what)
    assert {"a.mp4", "a__b.mp4", "b.mp4"} <= set(measured)  # its frames cannot be taken out of the sums
    measured.clear()
    fewer = [*what[:2], "--metric", "psnr", "--checkpoints", suite / "weights"]
    for file in ("none", "vgg16-397923af.pth"):  # with other weights figures are others
        (suite / "weights").mkdir(exist_ok=True)
        (suite / "weights" / file).touch()
        measured.clear()
        run(capsys, *fewer)
        assert measured.count("a__b.mp4") == 1
    measured.clear()
    write_video(suite / "results" / "a.mp4", [np.full((SIDE, SIDE, 3), 9, np.uint8)] * 17)
    run(capsys, *fewer)
    assert measured[0] == "a.mp4" and "b.mp4" not in measured  # there are no sums
    for damaged in (b"nonsense", (suite / "evaluation.npz").read_bytes()[:-9]):
        (suite / "evaluation.npz").write_bytes(damaged)
        code, _, err = run(capsys, *fewer)
        assert code == 2 and "evaluation.npz is damaged" in err


def test_a_video_that_cannot_be_read_is_a_row_and_the_paper_s_metrics_are_the_default(suite, capsys):
    (suite / "results" / "a.mp4").write_bytes(b"no video")
    code, out, _ = run(capsys, "--suite", suite, "--checkpoints", suite / "none", "--json", suite / "out.json")
    titles = "FID ↓ | SSIM ↑ | Sync-C ↑ | Sync-D ↓ | LMD ↓ | FVD ↓"
    assert code == 1 and f"| video | frames | {titles} |" in out and "of a.mp4: " in out and "| **source** |" in out
    videos = json.loads((suite / "out.json").read_text())["videos"]
    assert [video["figures"]["ssim"] is None for video in videos] == [True, False, False]
    for wrong, sentence in (
        (["--suite", suite, "--video_path", "a.mp4"], "--suite names its videos itself"),
        (["--video_path", suite / "results"], "no metric is given"),
        (["--suite", suite, "--html", suite / "sources" / "a.mp4"], "is also an input"),
    ):
        code, _, err = run(capsys, *wrong)
        assert code == 2 and sentence in err


HOSTILE = '<img src="http://x/" onerror=alert(1)>&.mp4'


def hostile_report(tmp_path) -> Report:
    curve = np.array([1.0, np.nan, math.inf, 0.25])
    times = np.array([0.1, 0.2, 0.3, 0.4])
    values = {"psnr": MetricValue(math.inf, curve), "stable_sync": MetricValue(0.5, curve, times)}
    source = VideoReport(["stable_sync"], tmp_path / "s.mp4", None, 4, 25.0, {"stable_sync": values["stable_sync"]})
    moments = [Moment(3, 0.12, {"psnr": 0.25}, "AAAA")]
    video = VideoReport(
        ["psnr", "stable_sync"], tmp_path / HOSTILE, tmp_path / HOSTILE, 4, 25.0, values, {"ssim": HOSTILE},
        [HOSTILE], HOSTILE, "silent", "h264/aac", source, moments,
    )  # fmt: skip
    return Report(["psnr", "stable_sync"], "frame", videos=[video])


def test_the_page_is_one_file_that_loads_nothing_and_escapes_what_it_shows(tmp_path, monkeypatch):
    report = hostile_report(tmp_path)
    report.write_page(tmp_path / "out.html", by_group=True)
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "&lt;img src=" in page and "<img src=" not in page and "<script" not in page
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'(?:src|href)="([^"]*)', page))
    assert page.count('src="data:') == 2 and "default-src &#39;none&#39;" not in page and "default-src 'none'" in page
    assert "0.12 s, frame 3" in page and "<td>source</td>" in page and "0.500" in page
    before = page
    monkeypatch.setattr("latentsync.evaluate.report.chart", lambda *what: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write_page(tmp_path / "out.html")
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == before and len(list(tmp_path.iterdir())) == 1


def test_moments_are_the_frames_where_metrics_are_worst():
    curve = np.array([np.nan, 3.0, 1.0, 2.0, 9.0, 5.0])
    values = {name: MetricValue(0.0, np.roll(curve, k)) for k, name in enumerate(("psnr", "seam", "ssim", "flicker"))}
    values |= {"lip_dynamics": MetricValue(0.0, curve), "sync_c": MetricValue(1.0), "lpips": MetricValue(0.0, curve)}
    values["stable_sync"] = MetricValue(0.0, curve, np.arange(6) / 50)
    pair = SimpleNamespace(video=torch.zeros(6, 30, 40, 3, dtype=torch.uint8), reference=None, fps=25.0, count=6)
    found = {moment.frame: moment.values for moment in worst_moments(pair, values)}
    assert found == {1: {"flicker": 9, "stable_sync": 1}, 2: {"psnr": 1}, 4: {"ssim": 1, "lpips": 9}, 5: {"seam": 9}}
    many = {name: MetricValue(0.0, -np.eye(6)[k]) for k, name in enumerate(("psnr", "ssim", "ms_ssim", "identity"))}
    many |= {name: MetricValue(0.0, np.eye(6)[k]) for k, name in ((4, "lpips"), (5, "seam"))}
    assert len(worst_moments(pair, many)) == 6
    more = many | {"flicker": MetricValue(0.0, np.eye(7)[6])}
    assert len(worst_moments(SimpleNamespace(**vars(pair) | {"count": 7}), more)) == 6


def test_a_row_keeps_all_of_a_video(tmp_path):
    video = hostile_report(tmp_path).videos[0]
    again = VideoReport.from_row(json.loads(json.dumps(video.row(), allow_nan=False)))
    assert again.row() == video.row() and again.video == video.video and again.source.reference is None
    assert again.values["psnr"].value == math.inf and again.moments == video.moments
    for name in video.values:
        assert np.array_equal(again.values[name].curve, video.values[name].curve, equal_nan=True)


def test_groups_are_by_sound_and_language_and_the_source_counts_once():
    def video(name: str, sound: str, language: str, psnr: float) -> VideoReport:
        found = VideoReport(["psnr"], name, "s.mp4", 4, 25.0, {"psnr": MetricValue(psnr)})
        found.source = VideoReport(["psnr"], "s.mp4", None, 4, 25.0, {"psnr": MetricValue(7.0)})
        return replace(found, sound=sound, language=language)

    videos = [video("a", "matched", "de", 10), video("b", "mismatched", "de", 20), video("c", "mismatched", "", 30)]
    rows = Report(["psnr"], "frame", videos=videos).table(by_group=True)
    assert [(row[0], row[1], row[-1]) for row in rows[1:]] == [
        ("sound: matched", "4", "10.00"),
        ("sound: mismatched", "8", "25.00"),
        ("language: unknown", "4", "30.00"),
        ("language: de", "8", "15.00"),
        ("all", "12", "20.00"),
        ("source", "4", "7.00"),
    ]


def test_sync_is_judged_on_the_frames_as_they_are_or_through_one_codec(tmp_path, monkeypatch):
    made = make_clip(tmp_path, frames=30, seconds=1.2)
    encode_audio(tmp_path / "voice.wav", "pcm_s16le", tone(1.2, 16000), 16000)
    frames = [picture(i) for i in range(30)]
    for name in ("a.mp4", "b.webm"):
        write_video(tmp_path / name, frames, audio=tmp_path / "voice.wav")
    shown = {}
    monkeypatch.setattr(Tools, "syncnet_v2", Flicker())
    for codec in ("raw", "h264"):
        settings = EvaluateSettings(detector="file", detector_model=made.track, device="cpu", sync_codec=codec)
        with OpenPair(Pair(tmp_path / "a.mp4"), Tools(settings), no_progress) as pair:
            judged, wave = pair.judged
            shown[codec] = judged[list(range(30))], wave
            assert len(judged) == 30 and abs(len(wave) - 19200) < 1600
            assert torch.equal(pair.video[[3]], shown["raw"][0][3:4])
        both = [Pair(tmp_path / name) for name in ("a.mp4", "b.webm")]
        note = evaluation.evaluate(both, ["sync_c"], settings).notes[-1]
        assert (
            "(h264/aac, vp9/opus), with which" if codec == "raw" else "as h264 and AAC (they are h264/aac, "
        ) in note
    error = (shown["raw"][0].float() - shown["h264"][0].float()).abs()
    assert 0 < error.mean() < 2 and not torch.equal(shown["raw"][1], shown["h264"][1])


def test_quality_is_what_hyperiqa_says_of_the_middle_of_the_face(tmp_path):
    pytest.importorskip("torchvision")
    net = HyperIQA()
    net.load_state_dict(tiny.weights(net))
    made = make_clip(tmp_path, frames=2, seconds=0.08)
    settings = EvaluateSettings(detector="file", detector_model=made.track, device="cpu", checkpoints=tmp_path)
    (tmp_path / "auxiliary").mkdir()
    torch.save(net.state_dict(), tmp_path / "auxiliary" / "koniq_pretrained.pkl")
    found = evaluation.evaluate([Pair(made.video)], ["quality"], settings).videos[0].values["quality"]
    with OpenPair(Pair(made.video), Tools(settings), no_progress) as pair:
        crops = pair.crops(pair.video)[[0, 1]]
    with torch.inference_mode():
        expected = net.eval()(crops[:, 16:240, 16:240].permute(0, 3, 1, 2))
    assert np.allclose(found.curve, expected.numpy(), rtol=1e-3)
    with pytest.raises(ValueError, match="quality needs pictures of at least 224 x 224 and got 223 x 224"):
        quality_metric(net).update([0], torch.zeros(1, 224, 223, 3), None)


def test_csim_is_by_facexlib_where_its_file_is(tmp_path):
    arch = pytest.importorskip("facexlib.recognition.arcface_arch")
    net = arch.Backbone(50, 0.6, "ir_se").eval()
    net.load_state_dict(tiny.weights(net))
    made = make_clip(tmp_path, frames=2, seconds=0.08)
    other = write_video(tmp_path / "other.mp4", [255 - picture(i) for i in range(2)])
    how = EvaluateSettings(detector="file", detector_model=made.track, device="cpu", checkpoints=tmp_path)
    (tmp_path / "auxiliary").mkdir()
    file = tmp_path / "auxiliary" / "recognition_arcface_ir_se50.pth"
    torch.save(net.state_dict(), file)
    same, turned = (evaluation.evaluate([Pair(made.video, true)], ["identity"], how) for true in (made.video, other))
    assert same.videos[0].values["identity"].value == pytest.approx(1, abs=1e-4)
    assert turned.videos[0].values["identity"].value < 0.999
    assert same.all_notes == ["CSIM is by facexlib's ArcFace embedding"]
    torch.save({"a": torch.zeros(1)}, file)
    damaged = evaluation.evaluate([Pair(made.video, made.video)], ["identity"], how)
    assert "the weights do not fit the ArcFace net" in damaged.missing[0]
