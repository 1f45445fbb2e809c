"""Sound in files of 16 kHz: the samples that belong to the frames, and no others."""

import av
import numpy as np
import pytest
import torch
from media_clips import encode_audio, tone

from latentsync.audio.whisper import resample, to_mono
from latentsync.media import audio, read_audio
from latentsync.media.audio import AudioReader
from latentsync.media.sound import read_wav, write_flac, write_wav
from latentsync.prepare.read import shots, split
from latentsync.prepare.settings import PrepareSettings


@pytest.mark.parametrize("rate, layout", [(16000, "mono"), (44100, "stereo"), (48000, "mono"), (22050, "mono")])
def test_sound_resampled_in_blocks_is_that_of_the_whole(tmp_path, monkeypatch, rate, layout):
    monkeypatch.setattr(audio, "BLOCK", 2)
    path = tmp_path / "voice.wav"
    encode_audio(path, "pcm_s16le", tone(7.3, rate, 1 + (layout == "stereo")), rate, layout)
    with AudioReader(path) as reader:
        blocks = list(audio.blocks_16k(reader, rate))
    whole = resample(to_mono(read_audio(path)[0]), rate)
    assert len(blocks) == 4 and torch.equal(torch.cat(blocks), whole)


def test_files_are_as_long_as_the_pictures_and_silent_beyond_the_sound(tmp_path):
    out, wave = tmp_path / "out.wav", torch.from_numpy(tone(1.0, 16000)[0])
    whole = np.pad(np.rint(wave.numpy() * 32767), (0, 8000))
    for count in (8000, 24000, None):
        peak = write_wav(out, [wave[:0], *wave.split(3000)], 16000, count)
        expected = whole[: count or 16000]
        assert np.array_equal(read_wav(out, 0, len(expected)), expected)
        assert not read_wav(out, len(expected), 9).any() and peak == pytest.approx(wave[:count].abs().max())
    for start in (-900, -300, 0, 15900, 16000, 30000):
        inside = [expected[i] if 0 <= i < 16000 else 0 for i in range(start, start + 500)]
        assert read_wav(out, start, 500).tolist() == inside


def test_flac_keeps_every_sample(tmp_path):
    samples = np.random.default_rng(0).integers(-32768, 32768, 30000).astype(np.int16)
    write_flac(tmp_path / "a.flac", samples)
    with av.open(str(tmp_path / "a.flac")) as container:
        assert container.streams.audio[0].codec_context.name == "flac"
    assert np.array_equal(read_audio(tmp_path / "a.flac")[0][0].numpy() * 32768, samples)


def test_shots_are_cut_evenly_into_as_few_clips_as_fit():
    settings = PrepareSettings(min_seconds=5, max_seconds=10)
    assert shots(300, [0, 120, 300]) == [(0, 120), (120, 300)] and shots(5, []) == [(0, 5)]
    assert split(0, 124, settings) == [] and split(7, 132, settings) == [(7, 132)]
    assert split(0, 251, settings) == [(0, 125), (125, 251)]
    for frames in (125, 250, 251, 499, 500, 501, 7777):
        clips = split(10, 10 + frames, settings)
        lengths = [stop - start for start, stop in clips]
        assert 125 <= min(lengths) and max(lengths) <= 250 and max(lengths) - min(lengths) <= 1
        assert clips[0][0] == 10 and clips[-1][1] == 10 + frames and len(clips) == -(-frames // 250)
        assert all(a[1] == b[0] for a, b in zip(clips[:-1], clips[1:], strict=True))
