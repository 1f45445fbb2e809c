import golden_data
import numpy as np
import pytest
import torch

from latentsync.audio.syncnet import mel_window, mfcc, mfcc_windows, syncnet_mel


def tone(hertz: float, loudness: float = 0.1, samples: int = 16000) -> torch.Tensor:
    return loudness * torch.sin(2 * np.pi * hertz * torch.arange(samples, dtype=torch.float64) / 16000)


def test_mel_is_the_published_one():
    golden = golden_data.tensors("syncnet_stable")
    mel = syncnet_mel(golden_data.wave()[: 3 * 16000])
    assert (mel - golden["mel"]).abs().max() <= 1e-5
    windows = torch.stack([mel[None, :, start : start + 52] for start in (10, 80)])
    assert (windows - golden["mel_windows"]).abs().max() <= 1e-5
    assert torch.equal(mel_window(mel, 25), windows[1])


def test_cepstra_are_the_published_ones():
    samples = (golden_data.wave()[:16000] * 20000).to(torch.int16)
    assert (mfcc(samples) - golden_data.tensors("syncnet_v2")["mfcc"]).abs().max() <= 1e-4


@pytest.mark.parametrize("hertz", [100, 440, 1000, 3000, 7000])
def test_mel_of_a_tone_peaks_where_the_tone_is(hertz):
    def mels(f):
        return f * 3 / 200 if f < 1000 else 15 + 27 * np.log(f / 1000) / np.log(6.4)

    expected = (mels(hertz) - mels(55)) / (mels(7600) - mels(55)) * 81 - 1
    peak = int(syncnet_mel(tone(hertz))[:, 20:60].mean(dim=1).argmax())
    assert abs(peak - expected) < 1.5  # filters at the low end are narrower than the bins of the spectrum


def test_twice_the_sound_is_6_dB_more_mel():
    quiet, loud = syncnet_mel(tone(440, 0.01)), syncnet_mel(tone(440, 0.02))
    inside = (quiet > -4) & (loud < 4)
    assert inside.any()
    assert torch.allclose((loud - quiet)[inside], torch.tensor(0.08 * 20 * np.log10(2)).float(), atol=1e-4)


@pytest.mark.parametrize("frames", [16, 17, 24, 61])
def test_every_16_frames_of_a_clip_have_a_mel_window(frames):
    mel = syncnet_mel(torch.zeros(frames * 640))
    for frame in range(frames - 15):
        assert mel_window(mel, frame).shape == (1, 80, 52)
    for frame in (-1, frames - 15):
        with pytest.raises(ValueError, match=f"frame {frame} needs mel columns"):
            mel_window(mel, frame)


@pytest.mark.parametrize("frames", [6, 7, 25, 60])
def test_mfcc_windows_follow_the_frames(frames):
    cepstra = mfcc(tone(300, samples=frames * 640) * torch.linspace(0, 1, frames * 640))
    windows = mfcc_windows(cepstra)
    assert windows.shape == (frames - 5, 1, 13, 20)
    assert torch.equal(windows[-1, 0], cepstra[:, 4 * (frames - 6) :][:, :20])


def test_silence_and_single_samples_are_finite():
    for samples in (1, 399, 401, 5000):
        silence = torch.zeros(samples)
        assert torch.equal(syncnet_mel(silence), torch.full((80, 1 + samples // 200), -4.0))
        assert torch.isfinite(mfcc(silence)).all()


def test_cepstra_hear_16_bit_integers_cut_off():
    sound = tone(440)
    integers = (sound * 32768).to(torch.int16)
    assert torch.equal(mfcc(integers), mfcc(sound.float()))
    assert torch.equal(mfcc(integers.double() / 32768 + 0.4 / 32768 * integers.sign()), mfcc(integers))
    assert torch.equal(mfcc(torch.full((1000,), -0.9 / 32768)), mfcc(torch.zeros(1000)))
    assert torch.isfinite(mfcc(tone(440, loudness=3))).all()


def test_too_little_sound_for_a_window_is_refused():
    with pytest.raises(ValueError, match=r"\(13, 19\).*at least 20"):
        mfcc_windows(torch.zeros(13, 19))
