import logging

import pytest
import torch
from media_clips import HEIGHT, WIDTH, clip, numbers, read_all

from latentsync.media import VideoWriter, codec_for, encoders
from latentsync.media.encoders import VP9, X264, codec_options
from latentsync.settings import PRESETS, EncodingSettings


@pytest.fixture
def hardware(monkeypatch):
    """Of the hardware encoders only Quick Sync works here: x264 plays it."""
    encoders._codec_for.cache_clear()
    monkeypatch.setattr(encoders, "HARDWARE", {"nvenc": "none", "videotoolbox": "libx264rgb", "qsv": "libx264"})
    yield
    encoders._codec_for.cache_clear()


@pytest.mark.parametrize(
    "name, encoder, codec, level, line",
    [
        ("a.mp4", "x264", X264, None, ""),
        ("a.mkv", "qsv", "libx264", logging.INFO, "encoder qsv"),
        ("a.mp4", "auto", "libx264", logging.INFO, "encoder qsv"),
        ("a.mov", "nvenc", X264, logging.WARNING, "nvenc does not work here (this PyAV has none)"),
        # It takes no pictures in YUV.
        ("a.mp4", "videotoolbox", X264, logging.WARNING, "videotoolbox does not work here (Invalid argument)"),
        ("a.webm", "qsv", VP9, logging.WARNING, "encoder libvpx: .webm holds VP9, which qsv does not encode here"),
        ("a.webm", "auto", VP9, None, ""),
    ],
)  # fmt: skip
def test_which_encoder_is_taken(hardware, caplog, name, encoder, codec, level, line):
    caplog.set_level(logging.INFO)
    assert codec_for(name, encoder, HEIGHT, WIDTH) == codec_for(name, encoder, HEIGHT, WIDTH) == codec
    assert [record.levelno for record in caplog.records] == [level] * (level is not None)
    assert line in caplog.text


def test_auto_is_x264_where_no_hardware_works(hardware, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setitem(encoders.HARDWARE, "qsv", "none")
    assert codec_for("a.mp4", "auto", HEIGHT, WIDTH) == X264
    (record,) = caplog.records
    assert record.levelno == logging.INFO and record.getMessage().startswith("encoder x264: nvenc does not work here (")


def test_hardware_that_does_not_take_the_size_is_not_taken(hardware, caplog):
    # x264 refuses this one, as hardware does where its limits are.
    assert codec_for("a.mp4", "qsv", 16, 17000) == X264 and "qsv does not work here" in caplog.text


def test_hardware_gets_pictures_in_its_own_format(hardware, monkeypatch, tmp_path):
    paths = {"yuv420p": tmp_path / "x264.mp4", "nv12": tmp_path / "qsv.mp4"}
    for pixels, path in paths.items():
        monkeypatch.setattr("latentsync.media.write.pixel_format", lambda codec, pixels=pixels: pixels)
        with VideoWriter(path, 25, HEIGHT - 1, WIDTH - 1, encoder="qsv", crf=1) as writer:
            writer.write(clip(5)[:, 1:, 1:])
    ours, theirs = map(read_all, paths.values())
    assert torch.equal(ours, theirs) and numbers(theirs) == [0, 1, 2, 3, 4]
    assert [encoders.pixel_format(codec) for codec in (X264, "h264_nvenc")] == ["nv12", "yuv420p"]


@pytest.mark.parametrize(
    "codec, crf, preset, wanted",
    [
        (X264, 16, "medium", {"crf": "16", "preset": "medium"}),
        (VP9, 20, "medium", {"crf": "20", "cpu-used": "3"}),
        (VP9, 20, "veryslow", {"cpu-used": "0"}),
        ("h264_nvenc", 16, "medium", {"rc": "vbr", "cq": "16", "b": "0", "preset": "p4"}),
        ("h264_nvenc", 0, "ultrafast", {"cq": "1", "preset": "p1"}),
        ("h264_nvenc", 51, "veryslow", {"cq": "51", "preset": "p7"}),
        ("h264_qsv", 0, "ultrafast", {"global_quality": "1", "preset": "veryfast"}),
        ("h264_qsv", 23, "slow", {"global_quality": "23", "preset": "slow"}),
        ("h264_videotoolbox", 0, "fast", {"flags": "+qscale", "global_quality": "11800"}),
        ("h264_videotoolbox", 51, "fast", {"global_quality": "118"}),
    ],
)
def test_what_quality_and_preset_are_to_an_encoder(codec, crf, preset, wanted):
    found = codec_options(codec, EncodingSettings(crf, preset))
    assert {name: found[name] for name in wanted} == wanted
    # Every preset has its place, and better quality never becomes worse.
    numbers = [codec_options(codec, EncodingSettings(crf)) for crf in range(52)]
    (scale,) = {"crf", "cq", "global_quality"} & {*found}
    values = [float(options[scale]) for options in numbers]
    assert sorted(values, reverse=codec == "h264_videotoolbox") == values
    assert len({codec_options(codec, EncodingSettings(16, name)).get("preset") for name in PRESETS}) in (1, 7, 9)
