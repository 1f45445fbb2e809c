"""Files that ask for more than a video or a voice needs: other files, endless memory, endless time."""

import os
import re
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import HEIGHT, WIDTH, encode_audio, encode_video, film, numbers, read_all, tone, write
from scipy.io import wavfile

from latentsync.limits import set_limits
from latentsync.media import VideoReader, index, read_audio
from latentsync.media.audio import AudioReader, load_mono_16k


@pytest.fixture(autouse=True)
def default_limits():
    yield
    set_limits({})


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
LISTS = [
    ("list.m3u8", HLS.format("file:{folder}/private.ts"), "an HLS playlist"),
    ("list.m3u8", HLS.format("private.ts"), "an HLS playlist"),
    ("clip.mp4", HLS.format("private.ts"), "an HLS playlist"),
    ("list.m3u8", HLS.format("http://127.0.0.1:9/a.ts"), "an HLS playlist"),
    ("clip.mp4", "ffconcat version 1.0\nfile private.ts\n", "ffconcat"),
    ("clip.mp4", SDP, "SDP"),
    ("clip.mpd", '<?xml version="1.0"?><MPD><Period/></MPD>', "DASH"),
    ("clip.mp4", "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n", "not a media file"),
]


@pytest.mark.parametrize("name, text, kind", LISTS)
@pytest.mark.parametrize("read", [VideoReader, read_audio])
def test_a_file_that_names_others_is_not_opened(tmp_path, name, text, kind, read):
    encode_video(tmp_path / "private.ts", "libx264", range(9))
    (tmp_path / name).write_text(text.format(folder=tmp_path))
    with pytest.raises(ValueError, match=f"{name} is not readable as .*{kind}"):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["im%d.png", "im?.png", "im{0}.png", "im*.png"])
def test_a_name_never_stands_for_a_sequence_of_pictures(tmp_path, name):
    for file in ("im0.png", name):
        encode_video(tmp_path / "one.mov", "png", [0], pix_fmt="rgb24")
        data = (tmp_path / "one.mov").read_bytes()
        (tmp_path / file).write_bytes(data[data.index(b"\x89PNG") : data.index(b"IEND") + 8])
    assert numbers(read_all(tmp_path / "im0.png")) == [0]
    with pytest.raises(ValueError, match="a sequence of pictures"):
        VideoReader(tmp_path / name)


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I", 8 + sum(map(len, content))) + kind + b"".join(content)


def replace_box(data: bytes, path: list[bytes], new: bytes) -> bytes:
    """The boxes `data` with `new` in place of the one at `path`."""
    out, place = b"", 0
    while place < len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        part = data[place : place + size]
        if kind == path[0]:
            part = new if len(path) == 1 else box(kind, replace_box(part[8:], path[1:], new))
        out, place = out + part, place + size
    return out


def test_a_track_in_another_file_is_not_read(tmp_path):
    """QuickTime's data references: a film that is all header, whose samples lie in a private file."""
    private, film = tmp_path / "private.mov", tmp_path / "film.mov"
    encode_video(private, "libx264", range(5))
    data = private.read_bytes()
    target = str(private).replace("/", ":").encode()
    alias = bytes(10) + bytes(1 + 27) + bytes(12) + bytes([11]) + b"private.mov".ljust(63, b"\0") + bytes(16)
    alias += struct.pack(">hh", 1, 1) + bytes(16)
    alias += struct.pack(">HH", 2, len(target)) + target + bytes(len(target) % 2) + struct.pack(">hH", -1, 0)
    reference = box(b"dref", struct.pack(">II", 0, 1), box(b"alis", bytes(4), alias))
    patched = replace_box(data, [b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"], reference)
    film.write_bytes(box(b"ftyp", b"qt  \0\0\0\0") + patched[patched.index(b"moov") - 4 :])
    with av.open(str(film), options={"enable_drefs": "1", "use_absolute_path": "1"}) as container:
        assert len(list(container.decode(video=0))) == 5  # what FFmpeg could do
    with pytest.raises(ValueError, match="film.mov"):
        VideoReader(film)


@pytest.mark.skipif(os.name != "posix", reason="there are no named pipes here")
def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match="clip.mp4 is a pipe or a device"):
        VideoReader(tmp_path / "clip.mp4")


@pytest.mark.parametrize("count", [1_000_000, 1_000_001])
@pytest.mark.parametrize("where", ["stsz", "udta", "meta", "cmov", "endless", "trun"])
def test_a_table_without_entries_is_not_believed(tmp_path, count, where):
    path = tmp_path / "clip.mp4"
    encode_video(path, "libx264", range(5))
    data = path.read_bytes()
    table = [b"moov", b"trak", b"mdia", b"minf", b"stbl"]
    if where == "trun":
        data += box(b"moof", box(b"traf", box(b"trun", struct.pack(">II", 0, count))))
    else:
        for kind, numbers in ((b"stsz", (0, 1, count)), (b"stsc", (0, 1, 1, count, 1)), (b"stts", (0, 1, count, 1))):
            data = replace_box(data, [*table, kind], box(kind, struct.pack(f">{len(numbers)}I", *numbers)))
    place = data.index(b"moov") - 4
    moov = data[place:]
    if where == "cmov":
        packed = struct.pack(">I", len(moov)) + zlib.compress(moov)
        moov = box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", packed)))
    elif where in ("udta", "meta"):
        moov = box(where.encode(), bytes(4) * (where == "meta"), moov)
    elif where == "endless":  # a size of 0 reaches to the end of the file
        moov = bytes(4) + moov[4:]
    path.write_bytes(data[:place] + moov)
    with pytest.raises(ValueError) as raised:
        VideoReader(path)
    assert ("announces 1000001 frames or samples" in str(raised.value)) == (count > 1_000_000)


def test_edits_that_show_a_film_many_thousand_times_are_not_made_room_for(tmp_path):
    path = tmp_path / "clip.mp4"
    encode_video(path, "mpeg4", range(40), g=40)
    edits = struct.pack(">II", 0, 25_002) + struct.pack(">IIHH", 1000, 0, 1, 0) * 25_002
    path.write_bytes(replace_box(path.read_bytes(), [b"moov", b"trak", b"edts"], box(b"edts", box(b"elst", edits))))
    with pytest.raises(ValueError, match="announces 1000040 frames"):
        VideoReader(path)


def test_many_samples_of_sound_that_are_there_are_taken(tmp_path):
    encode_audio(tmp_path / "voice.mov", "pcm_s16le", tone(25, 48000), 48000)
    assert read_audio(tmp_path / "voice.mov")[0].shape[1] == 25 * 48000


@pytest.mark.parametrize("name, most", [("pixels", HEIGHT * WIDTH), ("frames", 30), ("seconds", 1), ("gap", 0.5)])
def test_a_video_at_a_limit_is_taken_and_above_it_refused(tmp_path, name, most):
    path = tmp_path / "clip.mp4"
    stamps = range(30) if name != "gap" else [0, 1, 16, 17]  # thirtieths of a second
    encode_video(path, "libx264", stamps)
    set_limits({name: most})
    VideoReader(path).close()
    set_limits({name: most * 0.99})
    with pytest.raises(ValueError, match=rf"clip.mp4 has .* --limit {name}="):
        VideoReader(path)


@pytest.mark.parametrize(
    "stamps, match",
    [
        ([0, 600], None),
        ([0, 601], "--limit gap=601"),
        (range(0, 10_800, 599), None),
        (range(0, 11_400, 599), "10800 are taken"),
    ],
)
def test_how_long_a_video_and_its_gaps_may_be(tmp_path, stamps, match):
    path = tmp_path / "slides.mkv"
    encode_video(path, "libx264", stamps, time_base=Fraction(1))
    if match is None:
        VideoReader(path).close()
        return
    with pytest.raises(ValueError, match=match):
        VideoReader(path)


def test_the_limit_of_frames_is_also_that_of_another_rate(tmp_path):
    path = tmp_path / "clip.mp4"
    encode_video(path, "libx264", range(30))
    set_limits({"frames": 100})
    VideoReader(path, fps=100).close()
    with pytest.raises(ValueError, match="has 101 frames"):
        VideoReader(path, fps=101)


def test_pictures_that_grow_on_the_way_are_not_decoded(tmp_path):
    small, large, path = (tmp_path / f"{name}.h264" for name in ("small", "large", "clip"))
    encode_video(small, "libx264", range(5))
    encode_video(large, "libx264", range(5), size=4)
    path.write_bytes(small.read_bytes() + large.read_bytes())
    assert len(read_all(path)) == 10
    set_limits({"pixels": HEIGHT * WIDTH})
    assert 1 <= len(read_all(path)) <= 5


def test_a_large_picture_is_refused_before_there_is_room_made_for_it(tmp_path):
    path = tmp_path / "bomb.png"
    encode_video(tmp_path / "one.mov", "png", [0], pix_fmt="rgb24")
    data = (tmp_path / "one.mov").read_bytes()
    data = bytearray(data[data.index(b"\x89PNG") : data.index(b"IEND") + 8])
    data[16:24] = struct.pack(">II", 20_000, 20_000)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"more than 67108864 pixels .*--limit pixels=N"):
        VideoReader(path)


@pytest.mark.parametrize("read", [read_audio, load_mono_16k])
@pytest.mark.parametrize(
    "rate, channels, match",
    [
        (1, 1, "1 audio samples a second: at least 4000"),
        (3999, 1, "at least 4000"),
        (4000, 1, None),
        (768_000, 1, None),
        (768_001, 1, "--limit audio_rate=768001"),
        (8000, 64, None),
        (8000, 65, "65 audio channels"),
    ],
)
def test_rates_and_channels_of_sound_have_bounds(tmp_path, read, rate, channels, match):
    path = tmp_path / "voice.wav"
    wavfile.write(path, rate, np.full((20_000 // channels, channels), 128, np.uint8))
    if match is None:
        read(path)
        return
    with pytest.raises(ValueError, match=f"voice.wav has .*{match}"):
        read(path)


def gapped(folder: Path, gap: float, every: int) -> Path:
    """Half a second of sound in packets of 20 ms, with `gap` seconds left out before each `every`-th of them."""
    whole, path = folder / "whole.mka", folder / "gap.mka"
    encode_audio(whole, "libopus", tone(0.5, 48000), 48000)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for i, packet in enumerate(p for p in source.demux(audio=0) if p.size):
            packet.stream = stream
            packet.pts = packet.dts = packet.pts + i // every * round(gap * 1000)
            target.mux(packet)
    return path


@pytest.mark.parametrize(
    "gap, every, match",
    [
        (2, 20, None),
        (2.1, 20, r"has 2\.1\d* seconds between .*--limit gap=3"),
        (72_000, 20, "--limit seconds=72001"),
        # None is too long, and together they leave out 24 times the sound there is: 20 times and one long gap may be.
        (0.475, 1, None),
        (0.485, 1, "--limit gap=3"),
    ],
)
def test_a_small_file_with_long_pauses_fills_no_memory(tmp_path, gap, every, match):
    path = gapped(tmp_path, gap, every)
    set_limits({"gap": 2.05} if gap < 9 else {})
    for read in (lambda path: read_audio(path)[0], load_mono_16k):
        if match is None:
            assert read(path).shape[-1] > 2 * 16000
            continue
        with pytest.raises(ValueError, match=match):
            read(path)


def test_sound_ends_at_the_limit_of_seconds(tmp_path, sounds):
    set_limits({"seconds": 1.5})
    read_audio(sounds["16k.wav"])
    set_limits({"seconds": 1.49})
    with pytest.raises(ValueError, match="16k.wav has .*--limit seconds=2"):
        read_audio(sounds["16k.wav"])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_reach_no_encoder(tmp_path, caplog, bad):
    samples = tone(1.0, 16000)
    samples[0, 8000] = bad
    wavfile.write(tmp_path / "voice.wav", 16000, samples[0])
    for read in (lambda path: read_audio(path)[0], load_mono_16k):
        found = read(tmp_path / "voice.wav")
        assert found.abs().max() <= 1 and found.flatten()[8000] == (1 if bad == 1e30 else 0)
    assert len(caplog.records) == (0 if bad == 1e30 else 2)
    with AudioReader(tmp_path / "voice.wav") as reader:
        assert max(chunk.max() for chunk in reader) == pytest.approx(
            8 if bad == 1e30 else np.nanmax(samples[0, :7999]), 0.1
        )
    write(tmp_path / "clip.mp4", 25, audio=tmp_path / "voice.wav")
    assert read_audio(tmp_path / "clip.mp4")[0].shape[1] >= 16000


def test_a_frame_in_more_than_a_thousand_seconds_is_no_video(tmp_path):
    assert index.frame_rate([0, 1000], Fraction(1), []) == (Fraction(1, 1000), True)
    with pytest.raises(ValueError, match="clip.mp4 has a frame every 1001 seconds: at most 1000"):
        index.frame_rate([0, 1001], Fraction(1), [], "clip.mp4")
    path = tmp_path / "slow.mkv"
    encode_video(path, "libx264", [0, 3000], time_base=Fraction(1))
    set_limits({"gap": 1e6})
    with pytest.raises(ValueError, match="slow.mkv has a frame every 3000 seconds"):
        VideoReader(path)


def test_few_frames_over_a_long_time_take_no_longer_than_they_are(tmp_path):
    path = tmp_path / "long.mkv"
    encode_video(path, "mpeg4", range(0, 300_000, 1000), time_base=Fraction(1), rate=1)
    with pytest.raises(ValueError, match="seconds between two"):
        VideoReader(path)
    set_limits({"gap": 1000, "seconds": 1e6, "frames": 1e8})
    with VideoReader(path, fps=240) as reader:
        assert len(reader) == pytest.approx(300_000 * 240, rel=0.01)
        assert numbers(reader[[0, 240_000 + 121, len(reader) - 1]]) == [0, 1, 299 % 64]


def test_the_frame_on_screen_is_exact_for_any_stamps():
    rng = np.random.default_rng(0)
    for base in (Fraction(1, 90000), Fraction(1, 1000), Fraction(1001, 30000)):
        stamps = (rng.integers(1, 5000, 60).cumsum() - 777).tolist()
        found = index.FrameIndex(stamps, stamps[:1], base, stamps[-1] + 100, Fraction(25), False)
        for fps in (Fraction(25), Fraction(30000, 1001), Fraction(1, 7)):
            count = found.count_at(fps)
            assert count == max(1, round((stamps[-1] + 100 - stamps[0]) * base * fps))
            for i in {0, 1, count // 3, count // 2, count - 1}:
                middle = stamps[0] * base + (i + Fraction(1, 2)) / fps
                assert found.shown_at(i, fps) == max(0, sum(stamp * base < middle for stamp in stamps) - 1)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.h264", "film.mkv"])
def test_looking_through_a_file_can_be_cancelled(tmp_path, monkeypatch, name):
    """The latter has more sound than pictures, and that counts, too."""

    class Cancelled(Exception):
        pass

    def progress(phase, done, total):
        seen.append((done, total))
        if len(seen) == 3:
            raise Cancelled

    monkeypatch.setattr(index, "PACKETS_AT_ONCE", 8)
    monkeypatch.setattr(index, "FRAMES_AT_ONCE", 8)
    path, seen = tmp_path / name, []
    if name == "film.mkv":
        film(path, 0.0)
    else:
        encode_video(path, "libx264", range(40))
    with pytest.raises(Cancelled):
        VideoReader(path, progress=progress)
    assert len(seen) == 3 and all(done <= total for done, total in seen)


DAMAGED = [
    (name, how) for name in ("clip.mp4", "clip.mkv", "clip.avi", "film.mkv") for how in ("cut", "burst", "spread")
]
DAMAGED.remove(("film.mkv", "burst"))  # frames are gone from its middle, and that can be a variable rate


@pytest.mark.parametrize("name, how", DAMAGED)
def test_a_damaged_video_is_taken_with_one_warning_that_counts(tmp_path, caplog, name, how):
    path = tmp_path / name
    if name == "film.mkv":
        film(path, 0.0)
    elif name == "clip.avi":
        encode_video(path, "mpeg4", range(60), g=12)
    else:
        write(path, 60, crf=1)
    read_all(path)
    assert not caplog.records
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    if how == "cut":
        del data[6 * len(data) // 10 :]
    elif how == "burst":
        start = len(data) * 2 // 3
        data[start : start + 3000] = rng.bytes(len(data[start : start + 3000]))
    else:
        for place in rng.integers(len(data) // 2, len(data) - 2000, 40):
            data[place] ^= 255
    path.write_bytes(data)
    found = read_all(path)
    (text,) = [record.getMessage() for record in caplog.records]
    lost, total = map(int, re.search(r"is damaged: (\d+) of (\d+) frames lost", text).groups())
    assert path.name in text and 0 < lost < total and total - lost <= len(found) <= total
    if how == "cut":
        assert len(found) < total
        if name != "film.mkv":  # whose sound may have reached further
            assert total == 60 and numbers(found)[: total - lost] == list(range(total - lost))


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv", "webm"])
def test_a_whole_video_whose_sound_is_longer_is_not_called_damaged(tmp_path, caplog, sounds, extension):
    path = tmp_path / f"clip.{extension}"
    write(path, 10, audio=sounds["voice.ogg"], duration=1.5)
    assert len(read_all(path)) == 10 and not caplog.records


@pytest.mark.parametrize(
    "codec, pix_fmt, lost",
    [
        ("ffv1", "yuv444p10le", "10 bits, 4:4:4"),
        ("ffv1", "yuv422p", "4:2:2"),
        ("ffv1", "yuva420p", "alpha"),
        ("ffv1", "gray10le", "10 bits"),
        ("libx264", "yuv420p", None),
    ],
)
def test_what_the_output_cannot_keep_is_said_in_one_line(tmp_path, caplog, codec, pix_fmt, lost):
    path = tmp_path / "clip.mkv"
    encode_video(path, codec, range(2), pix_fmt=pix_fmt)
    with VideoReader(path) as reader:
        reader.warn_of_losses()
    wanted = [f"{path} has {lost}: the result has 8 bits, 4:2:0 and no alpha"]
    assert [record.getMessage() for record in caplog.records] == (wanted if lost else [])


def test_kept_pictures_have_a_limit_in_bytes(tmp_path, monkeypatch):
    from latentsync.media import read

    path = tmp_path / "clip.mp4"
    encode_video(path, "libx264", range(9))
    for most, kept in ((3 * HEIGHT * WIDTH * 4 + 1, 4), (1, 1)):
        monkeypatch.setattr(read, "CACHE_BYTES", most)
        with VideoReader(path) as reader:
            assert len(reader._pictures) == kept
            assert numbers(reader[range(8, -1, -1)]) == list(range(8, -1, -1))


def test_every_file_is_opened_by_the_one_door():
    root = Path(__file__).parents[2]
    lines = [
        (path.name, line)
        for path in [*root.glob("latentsync/**/*.py"), *root.glob("nodes/**/*.py")]
        for line in path.read_text("utf-8").splitlines()
        if "av.open(" in line and '"w"' not in line
    ]
    assert [name for name, _ in lines] == ["source.py"], lines
