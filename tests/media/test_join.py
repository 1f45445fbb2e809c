import os
from fractions import Fraction

import pytest
import torch
from media_clips import HEIGHT, WIDTH, clip, encode_video, packet_bytes, read_all, stamps, stream_seconds, write

from latentsync.media import VideoReader, VideoWriter, join


@pytest.mark.parametrize("extension", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("sizes", [[20, 1, 30], [2, 2, 2]])
def test_joined_parts_are_the_whole(tmp_path, sounds, extension, sizes):
    frames, rate = clip(sum(sizes)), Fraction(30000, 1001)
    options = {"preset": "veryfast", "sample_aspect_ratio": Fraction(4, 3)}
    parts = []
    for k, part in enumerate(frames.split(sizes)):
        parts.append(tmp_path / f"part{k}.{extension}")
        with VideoWriter(parts[-1], rate, HEIGHT, WIDTH, **options) as writer:
            writer.write(part)
    whole, joined = tmp_path / f"whole.{extension}", tmp_path / f"joined.{extension}"
    with VideoWriter(whole, rate, HEIGHT, WIDTH, audio=sounds["voice.ogg"], **options) as writer:
        writer.write(frames)
    join(parts, joined, audio=sounds["voice.ogg"])
    assert stamps(joined) == stamps(whole)
    assert torch.equal(read_all(joined), torch.cat([read_all(part) for part in parts]))
    assert packet_bytes(joined, "audio") == packet_bytes(whole, "audio")
    with VideoReader(whole) as a, VideoReader(joined) as b:
        assert (a.colour, a.sample_aspect_ratio) == (b.colour, b.sample_aspect_ratio)
        # PyAV 14 cannot put the rate into the header: six stamps in milliseconds tell it less exactly.
        assert abs(a.fps - b.fps) < 0.1
        assert torch.equal(b[[len(b) - 1, 0]][1], b[[0]][0])


def test_join_pads_and_refuses_what_does_not_fit(tmp_path, sounds):
    write(tmp_path / "a.mp4", 25)
    write(tmp_path / "b.mp4", 25)
    join([tmp_path / "a.mp4", tmp_path / "b.mp4"], tmp_path / "c.mp4", audio=sounds["16k.wav"], pad_audio=True)
    assert stream_seconds(tmp_path / "c.mp4", "audio") == pytest.approx(2, abs=0.04)
    write(tmp_path / "fast.mp4", 5, 50)
    write(tmp_path / "slow.mp4", 5, preset="slow")
    encode_video(tmp_path / "raw.h264", "libx264", range(5))
    before = sorted(os.listdir(tmp_path))
    for name in ("fast.mp4", "slow.mp4"):
        with pytest.raises(ValueError, match=f"cannot join .*{name}"):
            join([tmp_path / "a.mp4", tmp_path / name], tmp_path / "d.mp4")
    with pytest.raises(ValueError, match="no usable time stamps"):
        join([tmp_path / "raw.h264"], tmp_path / "d.mp4")
    with pytest.raises(ValueError, match="no parts"):
        join([], tmp_path / "d.mp4")
    with pytest.raises(ValueError, match="none.mp4"):
        join([tmp_path / "a.mp4", tmp_path / "none.mp4"], tmp_path / "d.mp4")
    assert sorted(os.listdir(tmp_path)) == before
