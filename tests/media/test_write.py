import errno
import os
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from media_clips import HEIGHT, WIDTH, clip, numbers, read_all, stamps, write

from latentsync.frames import as_float
from latentsync.media import Colour, VideoReader, VideoWriter, join, read_audio

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("extension", ["mp4", "m4v", "mov", "mkv", "webm"])
def test_frames_come_back_in_every_container(tmp_path, extension):
    path = tmp_path / f"clip.{extension}"
    frames = clip(40)
    with VideoWriter(path, 25, HEIGHT, WIDTH) as writer:
        writer.write(frames[:3])
        writer.write(as_float(frames[3:]))
        assert not path.exists()
    assert os.listdir(tmp_path) == [path.name]
    with VideoReader(path) as reader:
        assert (len(reader), reader.fps, reader.colour) == (40, 25, Colour(1, 1, 1, 1))
    found = read_all(path)
    assert numbers(found) == list(range(40))
    assert (found.float() - frames).abs().mean() < 3


@pytest.mark.parametrize("fps", [24, 29.97, Fraction(30000, 1001), 12.5, 60])
def test_frame_i_is_shown_at_i_by_fps(tmp_path, fps):
    path = tmp_path / "clip.mp4"
    write(path, 33, fps)
    with VideoReader(path) as reader:
        assert reader.fps == Fraction(fps).limit_denominator(1001)
        assert stamps(path) == [i / reader.fps for i in range(33)]


def test_odd_sizes_repeat_the_border(tmp_path):
    path = tmp_path / "odd.mp4"
    y, x = torch.meshgrid(torch.linspace(0, 1, 45), torch.linspace(0, 1, 55), indexing="ij")
    frames = torch.stack([y, x, 1 - y], dim=-1)[None]
    with VideoWriter(path, 25, 45, 55, crf=1) as writer:
        writer.write(frames)
    found = as_float(read_all(path))
    assert found.shape == (1, 46, 56, 3)
    wanted = frames[:, [*range(45), 44]][:, :, [*range(55), 54]]
    assert (found - wanted).abs().max() < 0.03


def test_the_file_does_not_depend_on_what_memory_held(tmp_path):
    # With AVX-512 x264's did; glibc fills what it hands out with the complement of the byte.
    code = """
import sys, torch
from latentsync.media import VideoWriter
y, x, t = torch.meshgrid(torch.arange(180), torch.arange(240), torch.arange(40), indexing="ij")
grey = 128 + 90 * torch.sin((x + 3 * t) / 9) * torch.sin((y - 2 * t) / 7)
with VideoWriter(sys.argv[1], 25, 180, 240) as writer:
    writer.write(grey.permute(2, 0, 1)[..., None].expand(-1, -1, -1, 3).to(torch.uint8))
"""
    files = [tmp_path / f"{fill}.mp4" for fill in (1, 85)]
    for path in files:
        environment = {**os.environ, "MALLOC_PERTURB_": path.stem}
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=True, env=environment)
    assert files[0].read_bytes() == files[1].read_bytes()


def test_untagged_or_rgb_colours_become_what_readers_assume(tmp_path):
    for height, matrix in ((96, 6), (720, 1)):
        for colour in (Colour(), Colour(range=2, matrix=0, primaries=1, transfer=13)):
            path = tmp_path / "clip.mp4"
            with VideoWriter(path, 25, height, 64, colour=colour, preset="ultrafast") as writer:
                writer.write(torch.full((1, height, 64, 3), 0.5))
            with VideoReader(path) as reader:
                assert reader.colour == colour._replace(range=colour.range or 1, matrix=matrix)


def test_index_comes_first_and_pixels_keep_their_aspect(tmp_path):
    path = tmp_path / "clip.mp4"
    write(path, 5, sample_aspect_ratio=Fraction(4, 3))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with VideoReader(path) as reader:
        assert reader.sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize(
    "name", ["a b.mp4", 'it\'s "so" 100%d.mp4', "12:30.mp4", "唇形同步.mp4", "😀 emoji.mkv", "-i.mp4"]
)
def test_names_of_all_kinds(tmp_path, monkeypatch, sounds, name):
    monkeypatch.chdir(tmp_path)
    sound = "sound " + name.rsplit(".", 1)[0] + ".m4a"
    Path(sound).write_bytes(sounds["aac.m4a"].read_bytes())
    write(name, 4, audio=sound)
    join([name, name], "joined " + name)
    assert numbers(read_all("joined " + name)) == [0, 1, 2, 3] * 2
    assert read_audio(name)[0].shape[0] == 2
    assert sorted(os.listdir()) == sorted([name, sound, "joined " + name])


class Stop(BaseException):
    pass


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stop, RuntimeError])
@pytest.mark.parametrize("old", [None, b"an older film"])
def test_an_exception_leaves_no_trace(tmp_path, sounds, error, old):
    path = tmp_path / "clip.mp4"
    if old is not None:
        path.write_bytes(old)
    with pytest.raises(error), VideoWriter(path, 25, HEIGHT, WIDTH, audio=sounds["aac.m4a"]) as writer:
        writer.write(clip(60))
        assert len(list(tmp_path.glob(f"clip.mp4.{os.getpid()}.*.part"))) == 1
        raise error
    assert os.listdir(tmp_path) == ([] if old is None else ["clip.mp4"])
    assert old is None or path.read_bytes() == old


def test_bad_input_is_named(tmp_path, sounds):
    path = tmp_path / "clip.mp4"
    cases = [
        ({"path": tmp_path / "clip.xyz"}, ".mp4, .m4v, .mov, .mkv, .webm"),
        ({"path": tmp_path / "clip"}, "clip: its name must end in"),
        ({"fps": 0}, "fps is 0"),
        ({"height": 0}, "0 x 96"),
        ({"crf": 60}, "crf is 60"),
        ({"preset": "best"}, "preset is 'best'"),
        ({"audio": __file__}, "not readable as audio"),
        ({"audio": sounds["16k.wav"], "duration": float("nan")}, "duration is nan"),
    ]
    good = {"path": path, "fps": 25, "height": HEIGHT, "width": WIDTH}
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            VideoWriter(**{**good, **change})
    with pytest.raises(ValueError, match="none.wav"):
        VideoWriter(**good, audio=tmp_path / "none.wav")
    for frames in (torch.zeros(1, 60, WIDTH, 3), torch.zeros(HEIGHT, WIDTH, 3), torch.zeros(1, HEIGHT, WIDTH, 4)):
        with pytest.raises(ValueError, match=r"give \(n, 64, 96, 3\)"), VideoWriter(**good) as writer:
            writer.write(frames)
    with pytest.raises(ValueError, match="int32"), VideoWriter(**good) as writer:
        writer.write(torch.zeros(1, HEIGHT, WIDTH, 3, dtype=torch.int32))
    with pytest.raises(ValueError, match="no frames"), VideoWriter(**good):
        pass
    with pytest.raises(ValueError, match="closed"):
        writer.write(clip(1))
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(ValueError, match="create its folder first"):
        VideoWriter(tmp_path / "none" / "clip.mp4", 25, HEIGHT, WIDTH)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(ValueError, match="folder.mp4"):
        VideoWriter(tmp_path / "folder.mp4", 25, HEIGHT, WIDTH)
    if os.geteuid() != 0:
        (tmp_path / "folder.mp4").chmod(0o500)
        with pytest.raises(PermissionError, match="may write to"):
            VideoWriter(tmp_path / "folder.mp4" / "clip.mp4", 25, HEIGHT, WIDTH)


def write_noise(path) -> None:
    noise = torch.rand(40, 128, 128, 3, generator=torch.Generator().manual_seed(0))
    with VideoWriter(path, 25, 128, 128, crf=4, preset="ultrafast") as writer:
        for frame in noise.split(1):
            writer.write(frame)


LIMITED = """
import os, resource, sys
sys.path[:0] = ["tests", "tests/media"]
from test_write import write_noise
for limit in map(int, sys.argv[2:]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_noise(sys.argv[1])
    except OSError as error:
        print(error)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="no limits on file sizes here")
def test_a_limit_on_file_sizes_is_named_and_leaves_no_trace(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"an older film")
    # In the header, among the frames, and among the last of them, which are written on closing.
    limits = ["10", "60000", "800000"]
    command = [sys.executable, "-c", LIMITED, str(path), *limits]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    way_out = "choose a drive that takes larger files, or lift the limit on file sizes"
    message = f"cannot write {path} (File too large): {way_out}"
    assert result.stdout.splitlines() == [message] * 3
    assert os.listdir(tmp_path) == ["clip.mp4"] and path.read_bytes() == b"an older film"


def test_a_full_drive_is_named_and_leaves_no_trace(tmp_path):
    mount = tmp_path / "drive"
    mount.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mount)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting is not permitted here")
    try:
        (mount / "filler").write_bytes(bytes(300_000))
        part = tmp_path / "part.mp4"
        write_noise(part)
        for attempt in (lambda: write_noise(mount / "clip.mp4"), lambda: join([part], mount / "clip.mp4")):
            with pytest.raises(ValueError, match="cannot write .*clip.mp4 .*: free some space") as raised:
                attempt()
            assert raised.value.errno == errno.ENOSPC
            assert os.listdir(mount) == ["filler"]
    finally:
        subprocess.run(["umount", str(mount)], check=True)
