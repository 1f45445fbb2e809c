import golden_data
import numpy as np
import pytest
import tiny
import torch
from golden_data import tensors

from latentsync.audio.whisper import AudioFeatures, encode_audio, encode_mel, log_mel, resample, segment_starts, to_mono

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def encoder():
    net = tiny.audio_encoder().eval()
    net.load_state_dict(tiny.weights(net))
    return net


@pytest.fixture(scope="module")
def wave():
    return golden_data.wave()


def test_mel_states_and_windows_are_the_published_ones(wave, encoder):
    golden, features = tensors("audio"), encode_audio(encoder, wave, 16000, 25, hard_cut=True)
    assert (log_mel(wave)[:, golden["mel_columns"]] - golden["mel"]).abs().max() <= TOLERANCE
    assert len(features.states) == golden["feature_count"]
    assert (features.states[golden["feature_rows"]] - golden["features"]).abs().max() <= TOLERANCE
    assert (features[golden["window_rows"].tolist()] - golden["windows"]).abs().max() <= TOLERANCE
    start = int(golden["crop_start"])
    assert (features[[start, start + 8, start + 15]] - golden["crop"]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("fps", [12, 23.976, 24, 25, 30, 59.94])
def test_one_window_for_each_frame(encoder, wave, fps):
    features = encode_audio(encoder, wave[: 16000 * 3 + 123], 16000, fps)
    assert len(features) == round((3 + 123 / 16000) * fps)
    assert features[range(len(features))].shape == (len(features), 50, 32)


def test_frames_at_any_rate_hear_the_same_moment():
    states = torch.arange(500.0)[:, None, None].expand(-1, 5, 2)
    for fps in (10, 25, 50):
        windows = AudioFeatures(states, fps, 10 * fps)[[4 * fps]]
        assert windows[0, ::5, 0].tolist() == list(range(196, 206))


def test_segments_up_to_30_s_are_the_same_both_ways(encoder, wave):
    mel = log_mel(wave[: 16000 * 30])
    assert torch.equal(encode_mel(encoder, mel), encode_mel(encoder, mel, hard_cut=True))


def test_no_seam_at_30_s(encoder, wave):
    """A steady tone has steady states, but for what the encoder's position table adds; a hard cut makes them jump."""
    steady = torch.sin(torch.arange(16000 * 45) * (2 * np.pi * 200 / 16000))

    def jump(states):
        steps = (states[1:] - states[:-1]).norm(dim=(1, 2))
        return steps[1498:1501].max() / steps[1400:1490].mean()

    mel = log_mel(steady)
    assert jump(encode_mel(encoder, mel, hard_cut=True)) > 3
    assert jump(encode_mel(encoder, mel)) < 2


@pytest.mark.parametrize("columns", [2, 2999, 3000, 3001, 5499, 5500, 6001, 12345])
def test_segments_cover_the_clip_and_overlap(columns):
    starts = segment_starts(columns, hard_cut=False)
    assert starts[0] == 0 and starts[-1] + 3000 >= columns - 1 and all(s % 2 == 0 for s in starts)
    assert all(b - a <= 2500 for a, b in zip(starts[:-1], starts[1:], strict=True))


def test_long_clip_has_a_state_for_every_20_ms(encoder):
    mel = torch.randn(80, 6789)
    states = encode_mel(encoder, mel)
    assert states.shape == (6789 // 2, 5, 32) and torch.isfinite(states).all()
    assert states.abs().sum(dim=(1, 2)).min() > 0


def test_any_sample_type_is_the_same_sound():
    wave = (np.sin(np.arange(4000) / 7) * 0.5).astype(np.float32)
    expected = torch.from_numpy(wave)
    for given in (
        (wave * 32768).astype(np.int16),
        (wave.astype(np.float64) * 2**31).astype(np.int32),
        wave.astype(np.float64),
        np.stack([wave, wave]),
        np.stack([wave * 0.5, wave * 1.5]),
    ):
        assert (to_mono(given) - expected).abs().max() < 1e-4
    assert (to_mono((wave * 128 + 128).astype(np.uint8)) - expected).abs().max() < 0.01


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_any_rate_is_the_same_sound(rate):
    def tone(r):
        return torch.sin(2 * np.pi * 440 * torch.arange(2 * r) / r)

    out = resample(tone(rate), rate)
    assert len(out) == 32000
    assert (out - tone(16000))[200:-200].abs().max() < 5e-3


@pytest.mark.parametrize(
    "wave, rate, fps, words",
    [
        (torch.zeros(0), 16000, 25, "at least one sample"),
        (torch.zeros(2, 2, 100), 16000, 25, r"\(2, 2, 100\)"),
        (torch.full((1000,), float("nan")), 16000, 25, "NaN"),
        (torch.zeros(100), 16000, 25, "6 ms long"),
        (torch.zeros(16000), 0, 25, "rate is 0"),
        (torch.zeros(16000), 16000, 0, "fps is 0"),
    ],
)
def test_bad_audio_is_refused_in_a_sentence(encoder, wave, rate, fps, words):
    with pytest.raises(ValueError, match=words):
        encode_audio(encoder, wave, rate, fps)
