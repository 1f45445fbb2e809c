"""The commands of the documentation's table for those who come from another program, each run on stand-in files."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
import tiny
from drawn_clips import HEIGHT, WIDTH, make_clip

from latentsync.commands.main import main
from latentsync.media import VideoReader, VideoWriter

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Coming from another program")[1].split("\n## ")[0]
COMMANDS = re.findall(r"`python -m latentsync ([^`]+)`", SECTION)
FRAMES = 36  # of which the published FVD takes the last 16


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The files that the commands name, with a tiny model that works at 64 pixels, and beside them a track file."""
    folder = tmp_path_factory.mktemp("coming_from")
    for name in ("drawn", "raw"):
        (folder / name).mkdir()
    clip = make_clip(folder / "drawn", frames=FRAMES, seconds=FRAMES / 25)
    with VideoReader(clip.video) as reader:
        with VideoWriter(folder / "raw" / "clip.mp4", 25, HEIGHT, WIDTH, audio=clip.audio) as writer:
            writer.write(reader[range(FRAMES)])
    for name in "assets/demo1_video input output video_out results/a results/b sources/c sources/d".split():
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(clip.video, folder / f"{name}.mp4")
    for name in ("assets/demo1_audio.wav", "voice.wav"):
        shutil.copy(clip.audio, folder / name)
    shutil.copy(clip.track, folder / "clip.json")
    (folder / "configs/unet").mkdir(parents=True)
    (folder / "configs/unet/stage2_512.yaml").write_text("data: {resolution: 64, num_frames: 16}\nmodel: {}\n")
    (folder / "old.json").write_text('{"nodes": [{"id": 1, "type": "LatentSyncNode", "widgets_values": [7, "fixed"]}]}')
    tiny.make_checkpoints(folder / "checkpoints", resolution=128)
    return folder


# What stands in for a detector, a GPU and weights that are not there. The last of two options counts.
STAND_INS = {
    "run": ["--detector", "file", "--detector_model", "clip.json", "--inference_steps", "1", "--device", "cpu"],
    "ui": ["--port", "0", "--device", "cpu"],
    "train": ["--show"],
    "prepare": [*"--detector file --detector_model . --skip cuts,sync,quality --workers 0 --min_seconds 1".split()],
    "convert_workflow": [],
    "evaluate": ["--random_weights", "--device", "cpu", "--detector", "file", "--detector_model", "clip.json"],
}


def test_the_table_has_every_kind_of_command():
    assert {command.split()[0] for command in COMMANDS} == STAND_INS.keys() and len(COMMANDS) == 11


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_table_works(files, command, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(shutil.copytree(files, tmp_path / "here"))
    argv = shlex.split(command)
    argv += STAND_INS[argv[0]]
    if "--superres" in argv:
        argv += ["--superres", "sharpen"]
    if argv[0] == "ui":
        serve_nothing(monkeypatch)
    code = main(argv)
    said = capsys.readouterr()
    if argv[0] == "evaluate":  # 1: weights of a metric that has no random ones are missing
        metric = argv[argv.index("--metric") + 1]
        assert code == (metric == "sync") and metric in said.out.lower(), said
        return
    assert code == 0, said
    if argv[0] == "run":
        larger = 2 if "--superres" in argv else 1
        with VideoReader(argv[argv.index("--video_out_path") + 1]) as reader:
            assert (len(reader), reader.height, reader.width) == (FRAMES, larger * HEIGHT, larger * WIDTH)
    elif argv[0] == "train":
        assert "clips: my/clips" in said.out
    elif argv[0] == "prepare":
        assert "1 clips" in said.out, said
    elif argv[0] == "convert_workflow":
        assert "LatentSyncFrames" in Path("new.json").read_text()
    else:
        assert "http://stand.in" in said.out


def serve_nothing(monkeypatch):
    """The page is built and not served, and Ctrl-C comes at once."""
    pytest.importorskip("gradio")
    from latentsync.commands import ui as cli
    from latentsync.ui import page

    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "launch", lambda *_, **__: "http://stand.in")
    monkeypatch.setattr(cli.time, "sleep", interrupted)
