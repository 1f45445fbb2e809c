"""Several audio tracks in one."""

import numpy as np
import pytest
from media_clips import clip, encode_audio, tone

from latentsync.media import VideoReader, VideoWriter, read_audio
from latentsync.media.mix import BLOCK, MixedAudio

RATE = 16_000


def wav(folder, name, samples, rate=RATE, layout="mono"):
    encode_audio(folder / name, "pcm_f32le", samples, rate, layout)
    return folder / name


def mixed(*paths):
    with MixedAudio(paths) as mix:
        return np.concatenate(list(mix), axis=1), mix.rate


def test_the_mix_is_the_sum_as_long_as_the_longest_in_whatever_blocks(tmp_path):
    """Over several blocks, the tracks ending within one and on its border."""
    parts = [0.4 * tone(seconds, RATE) for seconds in (5.0, BLOCK / RATE, 9.3)]
    out, rate = mixed(*(wav(tmp_path, f"{i}.wav", part) for i, part in enumerate(parts)))
    expected = sum(np.pad(part, ((0, 0), (0, parts[2].shape[1] - part.shape[1]))) for part in parts)
    assert rate == RATE and out.shape == expected.shape
    assert np.abs(out - expected).max() < 1e-6


@pytest.mark.parametrize("level, peak", [(0.49, 0.98), (0.8, 1.0)])
def test_what_would_clip_is_quieter_as_a_whole_and_nothing_else_is(tmp_path, level, peak):
    loud = np.full((1, 100_000), level, np.float32)
    loud[:, :50_000] /= 4
    out, _ = mixed(wav(tmp_path, "a.wav", loud), wav(tmp_path, "b.wav", loud))
    assert out.max() == pytest.approx(peak, abs=1e-6) and out[0, 0] == pytest.approx(peak / 4, abs=1e-6)


def test_rates_and_channels_differ(tmp_path):
    """The higher rate; stereo as soon as one is, with mono in the middle and more channels mixed down to it."""
    t = np.arange(24_000) / 24_000
    mono = (0.3 * np.sin(2 * np.pi * 200 * t))[None].astype(np.float32)
    stereo = np.stack([0.2 * np.ones(48_000), np.zeros(48_000)]).astype(np.float32)
    six = 0.06 * np.eye(6, dtype=np.float32)[:, :1] * np.ones(48_000, np.float32)
    paths = wav(tmp_path, "m.wav", mono, 24_000), wav(tmp_path, "s.wav", stereo, 48_000, "stereo")
    out, rate = mixed(*paths, wav(tmp_path, "6.wav", six, 48_000, "5.1"))
    voice = 0.3 * np.sin(2 * np.pi * 200 * np.arange(48_000) / 48_000)
    assert rate == 48_000 and out.shape == (2, 48_000)
    inside = slice(200, -200)  # the resampler fades at the ends
    assert np.abs(out[0] - 0.2 - voice - 0.01)[inside].max() < 2e-3
    assert np.abs(out[1] - voice - 0.01)[inside].max() < 2e-3


def test_a_video_gets_the_mix_padded_or_cut(tmp_path):
    paths = [wav(tmp_path, f"{i}.wav", 0.2 * tone(seconds, RATE)) for i, seconds in enumerate((0.5, 0.8))]
    for pad, duration, seconds in ((True, 1.2, 1.2), (False, 0.6, 0.6), (False, 1.2, 0.8)):
        with VideoWriter(tmp_path / "out.mp4", 25, 64, 96, audio=paths, duration=duration, pad_audio=pad) as writer:
            writer.write(clip(30))
        with VideoReader(tmp_path / "out.mp4") as reader:
            assert len(reader) == 30
        wave, _ = read_audio(tmp_path / "out.mp4")
        assert wave.shape[1] / RATE == pytest.approx(seconds, abs=1024 / RATE)


def test_a_file_without_sound_is_named(tmp_path):
    with VideoWriter(tmp_path / "mute.mp4", 25, 64, 96) as writer:
        writer.write(clip(3))
    with pytest.raises(ValueError, match="mute.mp4.*no audio"):
        MixedAudio([wav(tmp_path, "a.wav", tone(0.2, RATE)), tmp_path / "mute.mp4"])
