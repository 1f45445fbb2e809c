"""The command prepare: what it takes and what it prints."""

import argparse
from dataclasses import asdict

import pytest
from raw_videos import SIZE, read_manifest, write_track, write_video

from latentsync.commands.prepare import add_prepare
from latentsync.drawn.heads.clip import make_clip
from latentsync.media import VideoReader
from latentsync.prepare.settings import PrepareSettings


def command(*argv: object) -> None:
    parser = argparse.ArgumentParser()
    add_prepare(parser.add_subparsers())
    arguments = parser.parse_args(["prepare", *map(str, argv)])
    arguments.command(arguments)


def test_videos_become_clips(tmp_path, capsys):
    clip = make_clip(7, 1.0, SIZE)
    write_video(tmp_path / "raw" / "a video.mp4", [clip])
    write_track(tmp_path / "tracks" / "a video.json", [clip])
    options = ["--detector", "file", "--detector_model", tmp_path / "tracks", "--workers", 0, "--resolution", 64]
    options += ["--skip", "sync,quality,cuts", "--min_seconds", 1, "--max_seconds", 2, "--keep_work"]
    command("--input_dir", tmp_path / "raw", "--output_dir", tmp_path / "data", *options)
    out = capsys.readouterr()
    assert "stage" in out.out and "1 clips" in out.out and "align" in out.err and "1/1" in out.err
    (line,) = read_manifest(tmp_path / "data")
    assert line["clip"].startswith("clips/a_video-") and (tmp_path / "data" / line["clip"]).is_file()
    assert (tmp_path / "data" / "work" / "align").is_dir()


def test_defaults_are_those_of_the_library():
    parser = argparse.ArgumentParser()
    add_prepare(parser.add_subparsers())
    arguments = vars(parser.parse_args(["prepare", "--output_dir", "data"]))
    settings = asdict(PrepareSettings())
    shared = settings.keys() & arguments.keys() - {"skip", "also"}
    assert len(shared) == 7 and {name: arguments[name] for name in shared} == {name: settings[name] for name in shared}


def test_drawn_clips(tmp_path, capsys):
    options = "--synthetic 2 --seconds 0.2 --seed 5 --resolution 64 --workers 0"
    command("--output_dir", tmp_path, *options.split())
    assert "2 drawn clips of 64 pixels" in capsys.readouterr().out
    clips = sorted((tmp_path / "clips").iterdir())
    assert [clip.name for clip in clips] == ["clip_000005.mp4", "clip_000006.mp4"]
    with VideoReader(clips[0]) as video:
        assert (len(video), video.width) == (5, 64)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("", "either --input_dir"),
        ("--input_dir . --synthetic 2", "either --input_dir"),
        ("--input_dir . --workers -1", "workers is -1"),
        ("--input_dir . --skip sync,beauty", "'beauty'"),
        ("--input_dir .", "lies in the input folder"),
        ("--synthetic 2 --variety 3", "variety is 3"),
    ],
)
def test_bad_options_are_one_sentence(options, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=sentence):
        command("--output_dir", "data", *options.split())
    assert not (tmp_path / "data").exists()
