import av
import numpy as np
import pytest
import torch
from media_clips import delay, film, numbers, packet_bytes, read_all, stream_seconds, tone, write

from latentsync.media import read_audio

COPIED = [("aac.m4a", "mp4"), ("adts.aac", "mp4"), ("song.mp3", "mp4"), ("voice.ogg", "mp4"), ("alac.m4a", "mov")]
COPIED += [("film.ac3", "mkv"), ("aac.m4a", "mkv"), ("song.mp3", "mkv"), ("16k.wav", "mov"), ("voice.ogg", "webm")]


@pytest.mark.parametrize("name, extension", COPIED)
def test_audio_is_copied_bit_for_bit_and_in_place(tmp_path, sounds, name, extension):
    path = tmp_path / f"clip.{extension}"
    write(path, audio=sounds[name])
    # The header that each packet of an .aac file begins with goes into the container instead.
    header = 7 if name == "adts.aac" else 0
    assert packet_bytes(path, "audio") == [data[header:] for data in packet_bytes(sounds[name], "audio")]
    source, rate = read_audio(sounds[name])
    found, found_rate = read_audio(path)
    assert found_rate == rate
    assert abs(delay(source[0], found[0])) <= rate / 1000
    assert numbers(read_all(path)) == list(range(50))


ENCODED = [("8k.wav", "mp4", "aac"), ("16k.wav", "mp4", "aac"), ("96k.wav", "mp4", "aac"), ("wide.wav", "mp4", "aac")]
ENCODED += [("voice.ogg", "mov", "aac"), ("film.ac3", "webm", "opus"), ("16k.wav", "webm", "opus")]


@pytest.mark.parametrize("name, extension, codec", ENCODED)
def test_other_audio_is_encoded_in_place(tmp_path, sounds, name, extension, codec):
    path = tmp_path / f"clip.{extension}"
    write(path, audio=sounds[name])
    source, rate = read_audio(sounds[name])
    found, found_rate = read_audio(path)
    with av.open(str(path)) as container:
        assert container.streams.audio[0].codec_context.name == codec
    assert found.shape[0] == source.shape[0]
    assert found_rate == (48000 if codec == "opus" else rate)
    if found_rate != rate:
        at = np.arange(round(1.5 * found_rate)) * (rate / found_rate)
        source = torch.from_numpy(np.interp(at, np.arange(source.shape[1]), source[0]))[None]
    assert abs(delay(source[0], found[0])) <= found_rate / 1000


@pytest.mark.parametrize("name", ["aac.m4a", "song.mp3", "voice.ogg", "alac.m4a", "16k.wav"])
@pytest.mark.parametrize("fps, count", [(25, 30), (60, 71)])
def test_longer_audio_is_cut_at_the_last_picture(tmp_path, sounds, name, fps, count):
    path = tmp_path / "clip.mp4"
    write(path, count, fps, audio=sounds[name])
    assert abs(stream_seconds(path, "audio") - stream_seconds(path, "video")) <= 1 / fps


@pytest.mark.parametrize("name", ["aac.m4a", "16k.wav"])
def test_audio_is_cut_at_the_duration(tmp_path, sounds, name):
    path = tmp_path / "clip.mp4"
    write(path, 50, audio=sounds[name], duration=0.8)
    assert abs(stream_seconds(path, "audio") - 0.8) <= 0.012
    assert stream_seconds(path, "video") == 2


@pytest.mark.parametrize("name, half", [("film.ac3", 0.5), ("flac", 0.02)])
def test_a_packet_that_is_mostly_beyond_the_end_is_left_out(tmp_path, sounds, name, half):
    """A copied packet is kept where half of it, or a fiftieth of a second, lies before the end."""
    source = sounds.get(name)
    if name == "flac":  # packets of 0.1 s
        source = tmp_path / "long.flac"
        with av.open(str(source), "w") as container:
            stream = container.add_stream("flac", rate=44100, format="s16", layout="mono")
            stream.codec_context.options = {"frame_size": "4410"}
            frame = av.AudioFrame.from_ndarray((tone(1.5, 44100) * 9000).astype(np.int16), format="s16", layout="mono")
            frame.rate, frame.pts = 44100, 0
            container.mux(stream.encode(frame) + stream.encode(None))
    with av.open(str(source)) as container:
        stamps = [(float(p.pts * p.time_base), float(p.duration * p.time_base)) for p in container.demux() if p.size]
    start, length = stamps[len(stamps) // 2]
    zero = stamps[0][0]
    kept = half if name == "flac" else half * length
    for extra, expected in ((-0.002, len(stamps) // 2), (0.002, len(stamps) // 2 + 1)):
        path = tmp_path / "clip.mkv"
        write(path, 25, audio=source, duration=start - zero + kept + extra)
        assert len(packet_bytes(path, "audio")) == expected


@pytest.mark.parametrize("name", ["aac.m4a", "8k.wav"])
def test_shorter_audio_is_padded_only_if_asked(tmp_path, sounds, name):
    path = tmp_path / "clip.mp4"
    write(path, 100, audio=sounds[name])
    assert abs(stream_seconds(path, "audio") - 1.5) < 0.04
    for duration in (None, 4.0):
        write(path, 100, audio=sounds[name], pad_audio=True, duration=duration)
        assert abs(stream_seconds(path, "audio") - 4) < 0.04
        waveform, rate = read_audio(path)
        assert waveform[:, round(1.6 * rate) :].abs().max() < 1e-3
        assert abs(delay(read_audio(sounds[name])[0][0], waveform[0])) <= rate / 1000


def test_audio_long_enough_is_copied_even_if_it_may_be_padded(tmp_path, sounds):
    path = tmp_path / "clip.mp4"
    write(path, 25, audio=sounds["aac.m4a"], pad_audio=True, duration=1.0)
    source = packet_bytes(sounds["aac.m4a"], "audio")
    found = packet_bytes(path, "audio")
    assert 40 < len(found) < len(source) and found == source[: len(found)]


def test_audio_and_pictures_are_interleaved(tmp_path, sounds):
    path = tmp_path / "clip.mkv"
    write(path, 37, audio=sounds["aac.m4a"], preset="medium")
    with av.open(str(path)) as container:
        times = [p.dts * p.time_base for p in container.demux() if p.dts is not None]
    assert max(a - b for a, b in zip(times, times[1:], strict=False)) < 0.2


def test_audio_may_come_from_the_file_that_is_replaced(tmp_path, sounds):
    path = tmp_path / "clip.mp4"
    write(path, audio=sounds["aac.m4a"])
    before = packet_bytes(path, "audio")
    write(path, audio=path)
    assert packet_bytes(path, "audio") == before


@pytest.mark.parametrize("extension", ["mp4", "mkv", "webm"])
def test_sound_that_starts_late_in_its_film_stays_late(tmp_path, extension):
    samples = film(tmp_path / "film.mp4", 0.3)
    path = tmp_path / f"clip.{extension}"
    write(path, 40, audio=tmp_path / "film.mp4")
    waveform, rate = read_audio(path)
    assert abs(delay(samples[0], waveform[0]) - 0.3 * rate) <= 0.002 * rate
