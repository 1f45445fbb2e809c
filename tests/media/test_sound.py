import wave

import av
import numpy as np
import pytest
import torch
from media_clips import delay, encode_audio, encode_video, film, tone
from real_clips import media_file

from latentsync.media import read_audio

LOSSLESS = [
    ("8k.wav", "pcm_u8", 8000, "mono"),
    ("16k.wav", "pcm_s16le", 16000, "mono"),
    ("24bit.wav", "pcm_s24le", 96000, "stereo"),
    ("float.wav", "pcm_f32le", 48000, "7.1"),
    ("quad.wav", "pcm_s16le", 48000, "quad"),
    ("song.flac", "flac", 48000, "5.1"),
    ("song.m4a", "alac", 44100, "stereo"),
]
LOSSY = [
    ("aac.m4a", "aac", 44100, "stereo"),
    ("wide.m4a", "aac", 48000, "7.1"),
    ("song.mp3", "libmp3lame", 44100, "stereo"),
    ("voice.ogg", "libopus", 48000, "mono"),
    ("voice.mka", "libopus", 48000, "stereo"),
]


@pytest.mark.parametrize("name, codec, rate, layout", LOSSLESS)
def test_lossless_audio_is_read_to_the_sample(tmp_path, name, codec, rate, layout):
    samples = tone(0.7, rate, av.AudioLayout(layout).nb_channels)
    encode_audio(tmp_path / name, codec, samples, rate, layout)
    waveform, found = read_audio(tmp_path / name)
    assert found == rate and waveform.dtype == torch.float32 and waveform.is_contiguous()
    assert waveform.shape == samples.shape
    step = 2.0**-7 if codec == "pcm_u8" else 2.0**-15
    assert np.abs(waveform.numpy() - samples).max() <= 1.01 * step


@pytest.mark.parametrize("name, codec, rate, layout", LOSSY)
def test_lossy_audio_is_in_its_place(tmp_path, name, codec, rate, layout):
    channels = av.AudioLayout(layout).nb_channels
    samples = tone(0.7, rate, channels)
    encode_audio(tmp_path / name, codec, samples, rate, layout)
    waveform, found = read_audio(tmp_path / name)
    assert found == rate and waveform.shape[0] == channels
    # A lossy codec may fill up its last packet.
    assert 0 <= waveform.shape[1] - samples.shape[1] < 2048
    assert waveform.abs().max() <= 1
    assert all(abs(delay(samples[c], waveform[c])) <= 1 for c in range(min(3, channels)))


def test_wav_without_channel_places(tmp_path):
    samples = (np.random.default_rng(0).uniform(-1, 1, (1000, 3)) * 32767).astype("<i2")
    with wave.open(str(tmp_path / "three.wav"), "wb") as file:
        file.setnchannels(3), file.setsampwidth(2), file.setframerate(22050)
        file.writeframes(samples.tobytes())
    waveform, rate = read_audio(tmp_path / "three.wav")
    assert rate == 22050
    assert np.array_equal((waveform.numpy() * 32768).round().astype("<i2"), samples.T)


@pytest.mark.parametrize("sound_from, pictures_from", [(0.3, 0.0), (0.0, 0.25)])
def test_sample_0_is_heard_with_the_first_picture(tmp_path, sound_from, pictures_from):
    samples = film(tmp_path / "film.mkv", sound_from, pictures_from)
    waveform, rate = read_audio(tmp_path / "film.mkv")
    late, cut = round(sound_from * rate), round(pictures_from * rate)
    wanted = np.pad(samples[0], (late, 0))[cut:]
    assert waveform.shape[1] == len(wanted) and not waveform[0, :late].any()
    assert np.abs(waveform[0].numpy() - wanted).max() < 1e-3


def test_left_out_silence_is_put_back(tmp_path):
    """Codecs with discontinuous transmission skip the packets of silence."""
    whole, gapped = tmp_path / "whole.mka", tmp_path / "gapped.mka"
    samples = tone(1.0, 48000)
    encode_audio(whole, "flac", samples, 48000)
    with av.open(str(whole)) as source, av.open(str(gapped), "w") as target:
        stream = target.add_stream_from_template(source.streams.audio[0])
        for i, packet in enumerate(p for p in source.demux(audio=0) if p.size):
            if i not in (3, 4, 5):
                packet.stream = stream
                target.mux(packet)
    waveform, _ = read_audio(gapped)
    size = 4608
    wanted = samples[0].copy()
    wanted[3 * size : 6 * size] = 0
    # Matroska's stamps are whole milliseconds.
    assert waveform.shape[1] == pytest.approx(48000, abs=48)
    assert abs(delay(wanted[6 * size :], waveform[0, 6 * size :])) <= 48
    assert np.abs(waveform[0, : 6 * size - 48].numpy() - wanted[: 6 * size - 48]).max() < 1e-3


def test_unfit_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="none.wav"):
        read_audio(tmp_path / "none.wav")
    (tmp_path / "text.wav").write_text("la la la")
    with pytest.raises(ValueError, match="text.wav is not readable as audio"):
        read_audio(tmp_path / "text.wav")
    encode_video(tmp_path / "silent.mp4", "libx264", range(3))
    with pytest.raises(ValueError, match="silent.mp4 has no audio track"):
        read_audio(tmp_path / "silent.mp4")
    with wave.open(str(tmp_path / "empty.wav"), "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(16000)
    with pytest.raises(ValueError, match="empty.wav has no samples"):
        read_audio(tmp_path / "empty.wav")


def test_real_clips():
    waveform, rate = read_audio(media_file("demo1_audio.wav"))
    assert rate == 16000 and waveform.shape == (1, 153600)
    waveform, rate = read_audio(media_file("demo1_video.mp4"))
    assert rate == 44100 and waveform.shape[0] == 2 and abs(waveform.shape[1] / rate - 10) < 0.04
