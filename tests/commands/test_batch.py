"""The command batch: what it makes is what `run` makes, once, whatever happens to some of the rows."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from embedded_weights import packaged
from media_clips import encode_audio, tone
from test_commands import ROOT

from latentsync.commands import batch_jobs
from latentsync.commands.main import build_parser, main
from latentsync.face import detect
from latentsync.face.landmarks import Face
from latentsync.face.track_file import read_track_file

pytestmark = packaged
SAMPLE = ROOT / "latentsync" / "assets" / "sample"
QUICK = ["--inference_steps=1", "--guidance-scale=1", "--device=cpu", "--checkpoints=embedded"]
VOICES = {"a": 0.2, "b": 0.36}  # seconds


@pytest.fixture
def jobs(tmp_path):
    """A CSV file of one video with two voices; the video's track file is beside it."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    for suffix in (".mp4", ".faces.json"):
        shutil.copy(SAMPLE / f"short_clip{suffix}", folder / f"clip{suffix}")
    for name, seconds in VOICES.items():
        encode_audio(folder / f"{name}.wav", "pcm_s16le", tone(seconds, 16000), 16000)
    return write(folder, "video,audio,detector-model\nclip.mp4,a.wav,clip.faces.json\nclip.mp4,b.wav,clip.faces.json\n")


def write(folder: Path, text: str) -> Path:
    (folder / "jobs.csv").write_text(text, encoding="utf-8-sig")
    return folder / "jobs.csv"


def command(jobs, *more) -> list[str]:
    return ["batch", str(jobs), f"--out={jobs.parent.parent / 'out'}", *QUICK, *more]


def lines(jobs) -> list[dict]:
    return [json.loads(line) for line in (jobs.parent.parent / "out" / "manifest.jsonl").read_text().splitlines()]


def results(jobs) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((jobs.parent.parent / "out").glob("*.mp4*"))}


@pytest.fixture
def looked(monkeypatch, jobs):
    """Frames in which a detector was asked for faces."""
    frames = []

    def load(name, **named):
        known = read_track_file(jobs.with_name("clip.faces.json"))
        return lambda frame, index: frames.append(index) or known(frame, index)

    for module in (batch_jobs, detect):
        monkeypatch.setattr(module, "load_detector", load)
    return frames


def test_each_face_is_looked_for_once_and_results_are_those_of_run(jobs, looked):
    write(jobs.parent, "video,audio,seed,match_colour\nclip.mp4,a.wav,,\nclip.mp4,b.wav,7,yes\n")
    assert main(command(jobs, "--seed=3")) == 0
    assert looked == list(range(9))  # 0.36 s; the shorter voice needs 5 of these frames
    made = results(jobs)
    assert list(made) == ["clip_a.mp4", "clip_b.mp4"]
    for name, options in (("a", ["--seed=3"]), ("b", ["--seed=7", "--match_colour"])):
        files = [f"--video_path={jobs.with_name('clip.mp4')}", f"--audio_path={jobs.with_name(f'{name}.wav')}"]
        out = jobs.with_name("one.mp4")
        assert main(["run", *files, f"--video_out_path={out}", *QUICK, *options]) == 0
        assert out.read_bytes() == made[f"clip_{name}.mp4"]
    looked.clear()
    assert main(command(jobs, "--seed=4")) == 0  # the row with a seed of its own stays
    assert not looked and [line["row"] for line in lines(jobs)] == ["line 2", "line 3", "line 2"]
    assert results(jobs)["clip_a.mp4"] != made["clip_a.mp4"] and results(jobs)["clip_b.mp4"] == made["clip_b.mp4"]


def test_a_failing_row_stops_no_other_and_is_tried_again(jobs, capsys, monkeypatch):
    good = jobs.with_name("a.wav").read_bytes()
    jobs.with_name("a.wav").write_bytes(b"no sound")
    assert main(command(jobs)) == 1
    assert "1 of 2 rows are done (0 were before), 1 failed" in (text := capsys.readouterr().out)
    assert text.splitlines()[1].startswith(f"line 2: {jobs.with_name('a.wav')} is not readable as audio")
    failed, done = lines(jobs)
    assert (failed["status"], done["status"], done["frames"], done["error"]) == ("failed", "done", 9, None)

    jobs.with_name("a.wav").write_bytes(good)
    monkeypatch.setattr(batch_jobs, "lip_sync", lambda *_, **__: {}["a bug"])
    assert main(command(jobs)) == 1 and "KeyError (a bug)" in capsys.readouterr().out
    assert "Traceback" in lines(jobs)[-1]["traceback"]
    monkeypatch.undo()
    assert main(command(jobs)) == 0 and "2 of 2 rows are done (1 were before)" in capsys.readouterr().out
    (jobs.parent.parent / "out" / "clip_b.mp4").unlink()
    assert main(command(jobs)) == 0 and lines(jobs)[-1]["output"].endswith("clip_b.mp4")


@pytest.mark.parametrize(
    "text, words",
    [
        ("video,audio,sead\nclip.mp4,a.wav,1", "line 1: there is no column 'sead'"),
        ("video,audio,help\nclip.mp4,a.wav,1", "line 1: there is no column 'help'"),
        ("video,audio\nclip.mp4,none.wav", "line 2: there is no file {}/none.wav"),
        ("video,audio\n\nclip.mp4,", "line 3: audio is missing"),
        ("video,audio\nclip.mp4,a.wav,x", "line 2: there are more cells than columns"),
        ("video,audio,crf\nclip.mp4,a.wav,99\nclip.mp4,b.wav,x", "line 2: crf is 99"),
        ("video,audio,crf\nclip.mp4,a.wav,99\nclip.mp4,b.wav,x", "line 3: argument --crf: invalid int value: 'x'"),
        ("video,audio,sr_ratio\nclip.mp4,a.wav,9", "line 2: sr_ratio is 9"),
        ("video,audio,sampler\nclip.mp4,a.wav,best", "line 2: argument --sampler: invalid choice: 'best'"),
        ("video,audio,published\nclip.mp4,a.wav,maybe", "line 2: published is 'maybe': give yes or no"),
        ("video,audio,device\nclip.mp4,a.wav,warp9", "line 2: device is 'warp9'"),
        ("video,audio,detector_model\nclip.mp4,a.wav,none.json", "line 2: none.json: no such track file"),
        ("video,audio,out\nclip.mp4,a.wav,x.txt", "x.txt: its name must end in"),
        ("video,audio,out\nclip.mp4,a.wav,x.mp4\nclip.mp4,b.wav,x.mp4", "also that of line 2"),
        ("video,audio,out\nclip.mp4,a.wav,../jobs/clip.mp4", "also that of the input"),
        ('video,audio\n"clip.mp4,a.wav', "is not CSV text"),
        ("video,audio\n", "has no rows"),
    ],
)
def test_bad_rows_are_told_before_anything_is_done(jobs, capsys, text, words):
    assert main(command(write(jobs.parent, text), f"--detector_model={SAMPLE / 'short_clip.faces.json'}")) == 2
    assert words.format(jobs.parent) in capsys.readouterr().err and not (jobs.parent.parent / "out").exists()


def test_a_row_is_done_again_when_any_file_that_it_reads_has_changed(tmp_path):
    """Weights in a folder are not named by an option, and count all the same."""
    weights = tiny.make_checkpoints(tmp_path / "weights", resolution=64)
    for name in ("GFPGANv1.4.pth", "mask.png", "a.mp4", "a.wav", "track.json"):
        (weights / "GFPGAN").mkdir(exist_ok=True)
        place = weights / "GFPGAN" if name.startswith("GFPGAN") else tmp_path
        shutil.copy(SAMPLE / "short_clip.faces.json", place / name)
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((256, 256), np.uint8))
    (tmp_path / "jobs.csv").write_text("video,audio\na.mp4,a.wav\n")
    options = ["--superres=GFPGAN", "--detector=file", f"--detector_model={tmp_path / 'track.json'}"]
    options += [f"--checkpoints={weights}", f"--mask_image={tmp_path / 'mask.png'}"]
    arguments = build_parser().parse_args(["batch", str(tmp_path / "jobs.csv"), "--out=out", *options])

    def key():
        (row,) = batch_jobs.read_rows(tmp_path / "jobs.csv", tmp_path / "out", arguments)
        return row.key

    first = key()
    assert key() == first
    read = [path for path in (*weights.rglob("*"), *tmp_path.glob("*.*")) if path.is_file() and path.suffix != ".csv"]
    read.remove(weights / "latentsync.json")  # its values are options
    assert len(read) == 9
    for path in read:
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        assert key() != first, path
        first = key()


@pytest.mark.parametrize("damage", ["", "[1]", '{"0": 3}', '{"0": [[1]]}'])
def test_damaged_faces_are_looked_for_again(tmp_path, caplog, damage):
    (tmp_path / "faces.json").write_text(damage)
    face = Face((1.0, 2.0, 3.0, 4.0), 0.5, np.ones((3, 2)))
    for known in (0, 1):
        seen = batch_jobs.Remembered(lambda frame, index: [face], tmp_path / "faces.json")
        assert len(seen.seen) == known and seen(None, 0)[0].box == face.box
        seen.save()
    assert "faces.json is damaged" in caplog.text


def test_voices_of_a_folder_go_to_the_videos_of_their_names(jobs, tmp_path, caplog):
    caplog.set_level("INFO")
    jobs.unlink()
    for video in ("a.mp4", "c.mkv"):
        shutil.copy(jobs.with_name("clip.mp4"), jobs.with_name(video))
    argv = command(jobs.parent, f"--detector_model={jobs.with_name('clip.faces.json')}")
    assert main([argv[0], argv[1], f"--out={tmp_path / 'out'}", *argv[3:]]) == 0
    assert list(results(jobs)) == ["a.mp4"] and "3 videos and voices" in caplog.text


def test_ctrl_c_ends_workers_and_the_same_command_goes_on(jobs):
    encode_audio(jobs.with_name("b.wav"), "pcm_s16le", tone(60, 16000), 16000)
    before = sorted(path.name for path in jobs.parent.iterdir())
    program = [sys.executable, "-m", "latentsync", *command(jobs, "--workers=2")]
    process = subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    out = jobs.parent.parent / "out"
    while not (list(out.glob("*b.mp4.*.part")) and len(list(out.glob("*a.mp4"))) == 1 and lines(jobs)):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    text = process.communicate(timeout=60)[1]
    assert process.returncode == 130 and "1 of 2 rows are done; run the same command again" in text
    assert "Traceback" not in text and not list(out.rglob("*.part"))
    assert sorted(path.name for path in jobs.parent.iterdir()) == before
    encode_audio(jobs.with_name("b.wav"), "pcm_s16le", tone(0.2, 16000), 16000)
    (out / f"clip_b.mp4.{process.pid}.part").write_bytes(b"of a killed worker")
    (out / "manifest.jsonl").open("a").write('{}\n[1]\n3\n{"row": "line 3", "outp')
    assert main(command(jobs)) == 0 and not list(out.rglob("*.part"))
    assert [line.get("row") for line in lines(jobs) if isinstance(line, dict)] == ["line 2", None, "line 3"]


def test_workers_make_the_same_files(jobs):
    made = []
    for how in ([], ["--workers=2"], ["--workers=2", "--executor=ray"] if find_spec("ray") else []):
        assert main(command(jobs, *how)) == 0
        made.append(results(jobs))
        shutil.rmtree(jobs.parent.parent / "out")
    assert made[0] == made[1] == made[2]
