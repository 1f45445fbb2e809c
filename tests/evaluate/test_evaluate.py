"""Whole videos: pairs, regions, what is missing and why, the report, and the command."""

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_clips import HEIGHT, WIDTH, make_clip, picture
from evaluating import run, write_video
from pictures import read_png
from safetensors.torch import save_file
from small_nets import narrow_syncnet

from latentsync.errors import FileError
from latentsync.evaluate.metrics import METRICS, MetricValue, chosen_metrics
from latentsync.evaluate.pair import Mouth, Pair, find_pairs
from latentsync.evaluate.report import Report, VideoReport, chart
from latentsync.evaluate.run import evaluate
from latentsync.evaluate.settings import EvaluateSettings
from latentsync.evaluate.tools import weight_file
from latentsync.media import VideoReader

FRAMES = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A drawn clip with a track file, and beside it the same with other mouths and other walls, a little longer."""
    made = make_clip(tmp_path_factory.mktemp("evaluate"), frames=FRAMES, seconds=FRAMES / 25)
    other = [picture(i) for i in range(FRAMES)]
    for i, frame in enumerate(other):
        x, y = round(120 + 30 * np.sin(i / 15)), round(90 + 8 * np.cos(i / 11))
        frame[y + 16 : y + 28, x - 12 : x + 12] = (40, 160, 60)
    write_video(made.video.with_name("mouth.mp4"), other)
    for frame in other:
        frame[:, :40] //= 2
    write_video(made.video.with_name("wall.mp4"), [*other, *other[:3]])
    return made


def evaluated(clip, metrics, video="clip.mp4", reference=True, **changes):
    """The report on `video` against the clip's own."""
    fixed = {"detector": "file", "detector_model": clip.track, "resolution": 64, "device": "cpu"}
    settings = EvaluateSettings(**fixed | {"checkpoints": clip.video.parent / "none"} | changes)
    return evaluate([Pair(clip.video.with_name(video), clip.video if reference else None)], metrics, settings)


def test_regions_see_what_lies_in_them(clip):
    found = {}
    for region in ("frame", "face", "mouth"):
        for video in ("clip.mp4", "mouth.mp4", "wall.mp4"):
            report = evaluated(clip, ["psnr", "ssim", "flicker"], video, region=region)
            assert not report.missing
            found[video, region] = report.videos[0].figures()
        same = found["clip.mp4", region]
        assert same["psnr"] == math.inf and same["ssim"] == pytest.approx(1) and same["flicker"] == 0
    mouth, wall = ({r: found[v, r]["psnr"] for r in ("frame", "face", "mouth")} for v in ("mouth.mp4", "wall.mp4"))
    assert mouth["mouth"] < mouth["face"] < mouth["frame"]
    assert wall["frame"] < mouth["frame"] - 3 and wall["mouth"] == pytest.approx(mouth["mouth"], abs=0.5)
    crops = torch.rand(1, 256, 256, 3)
    crops.resolution = 256
    assert torch.equal(Mouth(crops)[[0]], crops[:, 96:240, 56:200])


def test_frames_without_the_face_do_not_count(tmp_path):
    made = make_clip(tmp_path, frames=30, seconds=1.2, without_face=range(4, 26))
    values = evaluated(made, ["seam", "psnr"], region="face").videos[0].values
    seam = values["seam"]
    assert np.isfinite(seam.curve).sum() == 8 and np.isnan(seam.curve[4:26]).all() and abs(seam.value) < 20
    assert len(values["psnr"].curve) == 30
    made = make_clip(tmp_path, frames=6, seconds=0.24, without_face=range(6))
    report = evaluated(made, ["psnr", "seam"])
    assert report.videos[0].figures() == {"psnr": math.inf}
    assert "no frame of the clip's 6 shows the face" in report.missing[0]


def test_a_longer_video_is_compared_as_far_as_its_reference_goes(clip):
    report = evaluated(clip, ["psnr"], "wall.mp4")
    assert report.videos[0].frames == FRAMES == len(report.videos[0].values["psnr"].curve)
    assert report.all_notes == [f"wall.mp4 has 11 frames, its reference {FRAMES}: the first {FRAMES} are compared"]


def test_random_weights_run_and_say_that_they_mean_nothing(clip):
    pytest.importorskip("lpips")
    pytest.importorskip("torch_fidelity")
    report = evaluated(clip, ["lpips", "fid", "fvd"], region="face", random_weights=True)
    assert report.videos[0].figures() == {"lpips": 0} and report.pooled["fid"] == pytest.approx(0, abs=1e-6)
    assert report.notes[1:] == ["random weights: the figures of LPIPS, FID, FVD mean nothing"]
    assert report.missing == ["FVD: FVD needs 2 stretches of 16 frames and got 0: give longer or more videos"]
    assert "mean nothing" in report.markdown()


def test_fid_and_fvd_judge_all_videos_together(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    for name in ("made/a.mp4", "made/b.mp4", "true/a.mp4", "true/b.mp4"):
        write_video(tmp_path / name, list(random.integers(0, 256, (17, 32, 32, 3), dtype=np.uint8)))
    monkeypatch.setattr("latentsync.evaluate.tools.load_inception", lambda path, device: lambda x: x[:, 0, 0].double())
    pairs = find_pairs(tmp_path / "made", tmp_path / "true")
    report = evaluate(pairs, ["fid", "fvd"], EvaluateSettings(random_weights=True, device="cpu"))
    assert not report.missing and report.pooled["fid"] > 0 and report.pooled["fvd"] > 0
    assert report.notes[0].startswith("FID is of 34 frames, fewer than the 2048 features")
    assert not report.videos[0].values and "| a.mp4 | 17 | - | - |" in report.markdown()


def test_windows_of_both_videos_are_read_and_never_all_of_them(tmp_path, monkeypatch):
    made = make_clip(tmp_path, frames=40, seconds=1.6)
    asked = []
    read = VideoReader.__getitem__
    monkeypatch.setattr(VideoReader, "__getitem__", lambda self, i: asked.append(len(i)) or read(self, i))
    evaluated(made, ["psnr", "flicker", "seam"])
    assert max(asked) == 16


def test_what_is_missing_says_which_file_and_how_to_get_it(clip):
    wanted = ["psnr", "lpips", "fid", "fvd", "quality", "lmd", "identity", "sync_c", "sync_offset", "stable_sync"]
    report = evaluated(clip, wanted)
    assert set(report.videos[0].values) == {"psnr", "identity"}
    assert "CSIM is by the colours of hair, face and clothes alone" in report.all_notes
    none = clip.video.parent / "none"
    for title, file, group in (
        ("LPIPS", "auxiliary/vgg16-397923af.pth", "auxiliary"),
        ("FID", "auxiliary/weights-inception-2015-12-05-6726825d.pth", "inception"),
        ("FVD", "auxiliary/i3d_torchscript.pt", "auxiliary"),
        ("LMD", "insightface/models/buffalo_l", "insightface"),
        ("quality", "auxiliary/koniq_pretrained.pkl", "auxiliary"),
        ("Sync-C, offset", "auxiliary/syncnet_v2.model", "auxiliary"),
        ("StableSyncNet", "stable_syncnet", "syncnet"),
    ):
        sentence = next(line for line in report.missing if line.startswith(f"{title}: "))
        assert f"{none} lacks {file}" in sentence
        assert f"`python -m latentsync download --checkpoints {none} --only {group}`" in sentence
    without = evaluated(clip, ["psnr", "seam"], reference=False)
    assert without.missing == ["PSNR: needs the true pictures: give --reference, the source video"]
    assert set(without.videos[0].values) == {"seam"}


def test_a_weight_file_is_found_where_the_download_puts_it(tmp_path):
    for name in ("vgg16", "inception", "i3d", "syncnet_v2", "insightface"):
        with pytest.raises(FileError) as error:
            weight_file(tmp_path, name)
        path = tmp_path / re.search(r" lacks (\S+) ", str(error.value))[1]
        (path if name == "insightface" else path.parent).mkdir(parents=True, exist_ok=True)
        (path / "det_10g.onnx" if name == "insightface" else path).touch()
        assert weight_file(tmp_path, name) == path


def test_stable_syncnet_judges_crops_of_its_own_size(tmp_path):
    made = make_clip(tmp_path, frames=20, seconds=0.8)
    write_video(tmp_path / "spoken.mp4", [picture(i) for i in range(20)], audio=made.audio)
    net = narrow_syncnet(3, [[1, 2], 2, 2, 2, 2, 2, 2, 2])
    save_file(net.state_dict(), tmp_path / "stable_syncnet.safetensors")
    report = evaluated(made, chosen_metrics(["stable"]), "spoken.mp4", reference=False, syncnet=tmp_path)
    assert not report.missing and abs(report.videos[0].values["stable_offset"].value) <= 10
    silent = evaluated(made, ["stable_sync"], reference=False, syncnet=tmp_path)
    assert "no audio" in silent.missing[0]


def test_folders_pair_by_name(tmp_path):
    for name in ("made/a.mp4", "made/b.mkv", "made/notes.txt", "true/a.mov", "true/b.mp4", "true/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    made, true = tmp_path / "made", tmp_path / "true"
    assert find_pairs(made, true) == [Pair(made / "a.mp4", true / "a.mov"), Pair(made / "b.mkv", true / "b.mp4")]
    assert find_pairs(made) == [Pair(made / "a.mp4"), Pair(made / "b.mkv")]
    assert find_pairs(made / "a.mp4") == [Pair(made / "a.mp4")]
    with pytest.raises(ValueError, match="has no video named like c.mp4: give each its reference"):
        find_pairs(true, made)
    with pytest.raises(ValueError, match="are a folder and a file"):
        find_pairs(made, true / "a.mov")
    with pytest.raises(FileError, match="there is no video or folder"):
        find_pairs(tmp_path / "nothing.mp4")
    (made / "a.avi").touch()
    with pytest.raises(ValueError, match="keep one video of each name"):
        find_pairs(made, true)


def test_metrics_by_name():
    assert chosen_metrics(["all"]) == [name for name in METRICS if name != "syncnet_accuracy"]
    assert chosen_metrics(["sync", "MS-SSIM", "psnr"]) == ["psnr", "ms_ssim", "sync_c", "sync_d", "sync_offset"]
    with pytest.raises(ValueError, match="no metric is called 'psrn': choose from psnr, ssim"):
        chosen_metrics(["psrn"])
    with pytest.raises(ValueError, match="no metric is given"):
        chosen_metrics([])


def report_of(name: str, **values) -> VideoReport:
    return VideoReport(list(values), Path(name), None, 4, 25.0, values)


def test_a_report_has_means_and_a_chart_with_a_panel_for_each_curve_gaps_and_the_protocol():
    still = MetricValue(math.inf, np.array([math.inf] * 4))  # nothing to draw, and nothing to stumble over
    whole, broken = (MetricValue(1.0, np.array(curve)) for curve in ([0, 1, 1, 2.0], [0, 1, np.nan, 2.0]))
    one, two = (
        chart(report_of("a_$x.mp4", **curves), "own") for curves in ({"psnr": still}, {"psnr": still, "seam": whole})
    )
    assert two.shape[0] - one.shape[0] == 190 and two.shape[1:] == (1280, 3)
    ink = [(chart(report_of("a", seam=metric), "own") != 255).sum() for metric in (whole, broken)]
    assert ink[1] < ink[0]
    assert (chart(report_of("a", seam=whole), "own") != chart(report_of("a", seam=whole), "published"))[:40].any()
    means = [report_of("a", psnr=MetricValue(20.0)), report_of("b", psnr=MetricValue(30.0)), report_of("c")]
    assert Report(["psnr"], "frame", videos=means).overall == {"psnr": 25.0}  # of the videos that have it


def test_the_command_prints_a_table_and_writes_json_and_chart(clip, tmp_path, capsys):
    files = ["--video_path", clip.video, "--reference", clip.video, "--json", tmp_path / "out.json", "--plot"]
    face = ["--detector", "file", "--detector_model", clip.track, "--resolution", 64]
    code, out, _ = run(capsys, *files, *face, "--metric", "psnr", "ssim", "seam")
    assert code == 0 and out.startswith("Protocol: own. ")
    assert re.search(r"\| clip.mp4 \| 8 \| inf \| 1.000 \| -?\d+\.\d{3} \|", out) and "PSNR ↑ | SSIM ↑ | seam ↓" in out
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert content["videos"][0]["figures"]["psnr"] == content["all"]["psnr"] == "inf" and content["missing"] == []
    assert content["protocol"] == "own" and "not comparable" in content["about_protocol"]
    assert content["metrics"]["ssim"]["better"] == "higher" and content["videos"][0]["frames"] == FRAMES
    assert read_png(tmp_path / "clip.metrics.png").shape[1] == 1280
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clip.metrics.png", "out.json"]


def test_the_exit_code_tells_what_is_missing_and_what_was_wrong(clip, tmp_path, capsys):
    code, out, _ = run(capsys, "--video_path", clip.video, "--metric", "psnr", "ssim", "fid")
    assert code == 1 and "missing: PSNR, SSIM, FID: needs the true pictures: give --reference, the source video" in out
    write_video(tmp_path / "small.mp4", [np.zeros((64, 64, 3), np.uint8)] * 3)
    pair = ["--video_path", clip.video, "--reference", tmp_path / "small.mp4"]
    code, _, err = run(capsys, *pair, "--metric", "psnr")
    assert code == 2 and f"pictures of {WIDTH} x {HEIGHT} and" in err and "give videos of one size" in err
    for wrong, sentence in (
        (["--metric", "beauty"], "no metric is called 'beauty'"),
        (["--metric", "psnr", "--resolution", "100"], "resolution is 100"),
        (["--metric", "psnr", "--resolution", "48"], "resolution is 48: give a multiple of 16, 64 or more"),
        (["--metric", "psnr", "--face", "third"], "face is 'third'"),
        (["--metric", "psnr", "--device", "abacus"], "device is 'abacus'"),
        (["--metric", "psnr", "--json", tmp_path / "none" / "out.json"], "there is no folder"),
        (["--metric", "psnr", "--json", clip.video], "is also an input"),
    ):
        code, _, err = run(capsys, *pair, *wrong)
        assert code == 2 and sentence in err
