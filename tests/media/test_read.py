import logging
import math
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from media_clips import HEIGHT, WIDTH, clip, encode_video, numbers
from real_clips import media_file

from latentsync.frames import Frames
from latentsync.media import Colour, VideoReader, VideoWriter
from latentsync.media.index import frame_rate

CFR = {
    "h264.mp4": ("libx264", {"g": 12}),
    "open-gop.mp4": ("libx264", {"x264_params": "open-gop=1:keyint=12:bframes=3"}),
    "hevc.mp4": ("libx265", {"x265_params": "keyint=12:open-gop=1:log-level=none"}),
    "h264.mkv": ("libx264", {"g": 12}),
    "h264.ts": ("libx264", {"g": 12}),
    "b-frames.avi": ("libx264", {"g": 12}),
    "mpeg4.avi": ("mpeg4", {"g": 12}),
    "raw.h264": ("libx264", {"g": 12}),
    "vp8.webm": ("libvpx", {"g": 12, "auto_alt_ref": 1, "lag_in_frames": 16, "b": "200k"}),
    "vp9.webm": ("libvpx-vp9", {"g": 12, "auto_alt_ref": 1, "lag_in_frames": 16}),
}


def everything(reader) -> torch.Tensor:
    return reader[range(len(reader))]


@pytest.mark.parametrize("name", CFR)
def test_constant_rate_frame_i_is_frame_i_in_any_order(tmp_path, name):
    path = tmp_path / name
    codec, options = CFR[name]
    encode_video(path, codec, range(60), **options)
    with VideoReader(path) as reader:
        assert isinstance(reader, Frames)
        assert (len(reader), reader.fps, reader.height, reader.width) == (60, 30, HEIGHT, WIDTH)
        assert reader.duration == 2.0
        frames = everything(reader)
        assert frames.dtype == torch.uint8 and numbers(frames) == list(range(60))
    with VideoReader(path, cache=3) as reader:
        for i in np.random.default_rng(0).permutation(60)[:20]:
            assert torch.equal(reader[[i]][0], frames[i]), i


@pytest.mark.parametrize("name", ["clip.gif", "png.mov"])
def test_other_pixel_formats_and_canvases(tmp_path, name):
    path = tmp_path / name
    if name == "clip.gif":
        encode_video(path, "gif", range(0, 80, 4), time_base=Fraction(1, 100), pix_fmt="rgb8")
    else:
        encode_video(path, "png", range(20), pix_fmt="rgba")
    with VideoReader(path) as reader:
        frames = everything(reader)
        assert numbers(frames) == list(range(20)) and frames.shape[-1] == 3
        assert reader.fps == (25 if name == "clip.gif" else 30)
        if name == "png.mov":
            assert torch.equal(frames, clip(20))
    with VideoReader(path, cache=1) as reader:
        for i in (15, 3, 19, 0, 7):
            assert torch.equal(reader[[i]][0], frames[i])


@pytest.mark.parametrize("codec, pix_fmt", [("ffv1", "yuv444p10le"), ("libx264", "yuv420p10le"), ("libx264", "gray")])
def test_deep_and_gray_pictures_become_8_bit_rgb(tmp_path, codec, pix_fmt):
    path = tmp_path / "clip.mkv"
    # Gray pictures are made with the full range, and so tagged.
    encode_video(path, codec, range(4), pix_fmt=pix_fmt, color_range=2 if pix_fmt == "gray" else 0)
    with VideoReader(path) as reader:
        frames = everything(reader)
    wanted = clip(4).float()
    if pix_fmt == "gray":
        wanted = (wanted @ torch.tensor([0.299, 0.587, 0.114]))[..., None].expand(-1, -1, -1, 3)
    assert frames.dtype == torch.uint8
    assert (frames - wanted).abs().mean() < 3


def test_variable_rate_shows_what_is_on_screen(tmp_path):
    path = tmp_path / "vfr.mp4"
    shown = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17]  # in thirtieths of a second
    encode_video(path, "libx264", [s * 100 for s in shown], time_base=Fraction(1, 3000))
    wanted = [max(k for k, s in enumerate(shown) if s <= i) for i in range(18)]
    with VideoReader(path) as reader:
        assert reader.fps == 30
        assert numbers(everything(reader)) == wanted
    with VideoReader(path, fps=60) as reader:
        assert len(reader) == 36 and numbers(everything(reader)) == [n for n in wanted for _ in range(2)]


def test_jitter_below_half_a_frame_changes_nothing(tmp_path):
    path = tmp_path / "phone.mp4"
    stamps = [round(i * 3003 + (i * 7 % 11 - 5) * 60) + 400 for i in range(60)]
    encode_video(path, "libx264", stamps, time_base=Fraction(1, 90000))
    for fps in (None, 29.97, Fraction(30000, 1001)):
        with VideoReader(path, fps=fps) as reader:
            assert abs(reader.fps - 29.97) < 0.1
            assert numbers(everything(reader)) == list(range(60))


@pytest.mark.parametrize("fps", [10, 12.5, 25, 29.97, 50, 60])
def test_a_given_rate_takes_the_frame_in_the_middle_of_each_interval(tmp_path, fps):
    path = tmp_path / "clip.mp4"
    encode_video(path, "libx264", range(60))
    with VideoReader(path, fps=fps) as reader:
        assert len(reader) == round(2 * fps)
        # The last source frame t with t / 30 < (i + 1/2) / fps.
        wanted = [min(59, math.ceil((i + 0.5) * 30 / fps) - 1) for i in range(len(reader))]
        assert numbers(everything(reader)) == wanted


def test_ntsc_rate_survives_millisecond_stamps(tmp_path):
    path = tmp_path / "clip.mkv"
    rate = Fraction(30000, 1001)
    encode_video(path, "libx264", range(50), time_base=1 / rate, rate=rate)
    with VideoReader(path) as reader:
        assert reader.fps == rate and len(reader) == 50


@pytest.mark.parametrize(
    "stamps, hints, expected",
    [
        ([0, 100, 200, 324, 400], [], (10, True)),  # nearer than a quarter of an interval to its place
        ([0, 100, 200, 326, 400], [], (10, False)),
        ([0, 39, 79, 119, 199], [], (25, False)),  # mostly 40 ms, and a dropped frame
        ([0, 1009, 2018, 3027, 5045], [1], (1, False)),  # within 1 % of what the file says is the same
        ([0, 1010, 2020, 3030, 5050], [1], (Fraction(100, 101), False)),
        ([0, 1, 2, 3, 1000], [], (4, False)),  # nobody films 1000 frames/s: the average
        ([7], [], (25, True)),
    ],
)
def test_the_rate_of_stamps_in_milliseconds(stamps, hints, expected):
    assert frame_rate(stamps, Fraction(1, 1000), [Fraction(rate) for rate in hints]) == expected


def test_one_frame_is_never_none(tmp_path):
    path = tmp_path / "one.mp4"
    encode_video(path, "libx264", range(1))
    for fps in (None, 25, 0.01):
        with VideoReader(path, fps=fps) as reader:
            assert len(reader) == 1 and numbers(reader[[0, 0]]) == [0, 0]


def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path):
    path = tmp_path / "edited.mp4"
    encode_video(path, "libx264", range(-10, 40), g=50)
    with VideoReader(path) as reader:
        assert numbers(everything(reader)) == list(range(10, 50))
        assert numbers(reader[[39, 0]]) == [49, 10]


# Rotation by 90 degrees clockwise, 180, 270: ISO/IEC 14496-12, section 8.3.2; the fractions are 16.16 and 2.30.
ONE = 1 << 16
MATRICES = {90: (0, ONE, -ONE, 0), 180: (-ONE, 0, 0, -ONE), 270: (0, -ONE, ONE, 0)}


@pytest.mark.parametrize("degrees", MATRICES)
def test_rotated_video_is_upright(tmp_path, degrees):
    path = tmp_path / "rotated.mp4"
    with VideoWriter(path, 25, HEIGHT, WIDTH, crf=1, sample_aspect_ratio=Fraction(4, 3)) as writer:
        writer.write(clip(3))
    with VideoReader(path) as reader:
        upright = everything(reader)
    a, b, c, d = MATRICES[degrees]
    data = bytearray(path.read_bytes())
    # The matrix stands 40 bytes into a track header of version 0.
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    path.write_bytes(data)
    with VideoReader(path) as reader:
        assert torch.equal(everything(reader), torch.rot90(upright, -degrees // 90, dims=(1, 2)))
        assert (reader.height, reader.width) == ((HEIGHT, WIDTH) if degrees == 180 else (WIDTH, HEIGHT))
        assert reader.sample_aspect_ratio == (Fraction(4, 3) if degrees == 180 else Fraction(3, 4))


@pytest.mark.parametrize("matrix", [1, 6, 9])
@pytest.mark.parametrize("scale", [1, 2])
def test_colours_survive_writing_and_reading(tmp_path, matrix, scale):
    colours = np.random.default_rng(matrix).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = torch.from_numpy(colours.repeat(32, 0).repeat(32, 1))[None]
    path = tmp_path / "colour.mp4"
    tags = Colour(range=scale, matrix=matrix, primaries=matrix, transfer=1)
    with VideoWriter(path, 25, 192, 256, crf=1, colour=tags) as writer:
        writer.write(picture)
    with VideoReader(path) as reader:
        assert reader.colour == tags
        error = (everything(reader).float() - picture)[:, 16::32, 16::32]
    assert error.abs().max() <= 5 and error.abs().mean() < 1 and error.mean().abs() < 0.6


@pytest.mark.parametrize("height, weights", [(718, (0.299, 0.587, 0.114)), (720, (0.2126, 0.7152, 0.0722))])
def test_untagged_video_is_hd_or_sd_by_its_height(tmp_path, height, weights):
    """A pure red of limited range has luma 16 + 219 * weight; the file's own bytes say which matrix is meant."""
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = height, 64, "yuv420p"
        frame = av.VideoFrame(64, height, "yuv420p")
        red, _, blue = weights
        for plane, value in zip(frame.planes, (16 + 219 * red, 128 - 112 * red / (1 - blue), 240), strict=True):
            plane.update(bytes([round(value)]) * plane.buffer_size)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with VideoReader(path) as reader:
        assert reader.colour.matrix == 2
        assert (reader[[0]].float() - torch.tensor([255.0, 0, 0])).abs().max() <= 3


def test_reading_forward_never_seeks_and_backward_is_linear(tmp_path):
    path = tmp_path / "clip.mp4"
    encode_video(path, "libx264", range(60), x264_params="keyint=60:scenecut=0")
    with VideoReader(path, cache=20) as reader:
        for i in range(60):
            reader[[i]]
        assert (reader._decoder.count, reader._decoder.seeks) == (60, 0)
        for i in reversed(range(60)):
            assert numbers(reader[[i]]) == [i]
        # One group of 60: the last 20 are there; reaching 39 takes 40 frames and leaves 20..39; then 20.
        assert reader._decoder.count == 60 + 40 + 20
        assert reader._pictures.shape == (20, HEIGHT, WIDTH, 3)
    with VideoReader(path, cache=1) as reader:
        backward = reader[list(reversed(range(60)))]
        assert numbers(backward) == list(reversed(range(60))) and reader._decoder.count == 60


def test_indices_may_repeat_and_must_exist(tmp_path):
    path = tmp_path / "clip.mp4"
    encode_video(path, "libx264", range(10))
    with VideoReader(path) as reader:
        assert numbers(reader[[3, 3, 9, 0]]) == [3, 3, 9, 0]
        assert reader[[]].shape == (0, HEIGHT, WIDTH, 3)
        for i in (10, -1):
            with pytest.raises(IndexError, match=f"frame {i} .* 0 to 9"):
                reader[[i]]
    with pytest.raises(ValueError, match="closed"):
        reader[[0]]


def test_damage_in_the_middle_repeats_the_last_good_frame_with_one_warning(tmp_path, caplog):
    path = tmp_path / "clip.mov"
    encode_video(path, "png", range(20), pix_fmt="rgb24")
    data = bytearray(path.read_bytes())
    places = [i for i in range(len(data)) if data[i : i + 4] == b"\x89PNG"]
    for k in (5, 6, 7, 19):
        data[places[k] : places[k] + 40] = bytes(40)
    path.write_bytes(data)
    wanted = [4 if i in (5, 6, 7) else 18 if i == 19 else i for i in range(20)]
    with caplog.at_level(logging.WARNING, "latentsync"), VideoReader(path, cache=2) as reader:
        assert numbers(everything(reader)) == wanted
        assert numbers(reader[list(reversed(range(20)))]) == wanted[::-1]
    assert len(caplog.records) == 1 and "frame 5" in caplog.text


def test_nothing_decodable_is_an_error(tmp_path):
    path = tmp_path / "clip.mov"
    encode_video(path, "png", range(3), pix_fmt="rgb24")
    path.write_bytes(path.read_bytes().replace(b"\x89PNG", b"\0\0\0\0"))
    with pytest.raises(ValueError, match="no frame of .*clip.mov can be decoded"):
        VideoReader(path)


def test_unfit_files_are_named(tmp_path):
    (tmp_path / "text.mp4").write_text("not a film\n" * 100)
    (tmp_path / "text.txt").write_text("not a film\n" * 100)
    (tmp_path / "empty.mp4").touch()
    for name in ("text.mp4", "text.txt", "empty.mp4"):
        with pytest.raises(ValueError, match=f"{name} is not readable as video"):
            VideoReader(tmp_path / name)
    with pytest.raises(ValueError, match="none.mp4"):
        VideoReader(tmp_path / "none.mp4")
    with pytest.raises(ValueError, match="is a folder"):
        VideoReader(tmp_path)
    path = tmp_path / "clip.mp4"
    encode_video(path, "libx264", range(1))
    for fps in (0, -25, float("nan"), "fast"):
        with pytest.raises(ValueError, match="fps is"):
            VideoReader(path, fps=fps)
    with pytest.raises(ValueError, match="cache is 0"):
        VideoReader(path, cache=0)


@pytest.mark.parametrize("name, count, fps", [("demo1_video.mp4", 250, 25), ("demo3_video.mp4", 600, 30)])
def test_real_clips(name, count, fps):
    with VideoReader(media_file(name)) as reader:
        assert (len(reader), reader.fps, reader.duration) == (count, fps, count / fps)
        frames = reader[[0, 1]]
        assert frames.shape == (2, reader.height, reader.width, 3) and frames.float().std() > 10


def test_numbered_pictures_can_be_told_apart():
    assert numbers(clip(64)) == list(range(64))
