import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from latentsync.audio import pauses
from latentsync.audio.pauses import CHUNK, Pauses
from latentsync.drawn.heads.speech import make_speech, speak

RATE = 1000 / 32  # frames per second: a frame is as long as a chunk


def sound(*chunks: tuple[int, float]) -> torch.Tensor:
    """So many chunks of a tone with this amplitude, and so on."""
    return torch.cat([level * torch.sin(torch.arange(count * CHUNK) * 0.2) for count, level in chunks])


@pytest.fixture
def by_loudness(monkeypatch):
    monkeypatch.setattr(pauses, "packaged", lambda: None)


@pytest.mark.parametrize("silero", [True, False])
@pytest.mark.parametrize("seed", [3, 4])
def test_the_pauses_of_a_voice_are_found(seed, silero, monkeypatch):
    """1.2 s of silence before and after 1.5 s of syllables; what is less than 0.4 s is none."""
    if not silero:
        monkeypatch.setattr(pauses, "packaged", lambda: None)
    elif pauses.packaged() is None:
        pytest.skip("silero-vad is not installed")
    threads, known = torch.get_num_threads(), "silero_vad" in sys.modules
    phones = [p for p in make_speech(seed, 1.5).phones if p.name != "_"]
    shifted = [replace(p, start=p.start + 1.2, end=p.end + 1.2) for p in phones]
    found = Pauses(speak(shifted, 4.0, seed).waveform, 25.0, 110).quiet
    assert torch.get_num_threads() == threads and ("silero_vad" in sys.modules) == known
    begin, end = shifted[0].start * 25, shifted[-1].end * 25
    spoken = np.flatnonzero(~found)
    assert begin - 3 <= spoken[0] <= begin + 3 and end - 3 <= spoken[-1] <= end + 6
    assert len(spoken) == spoken[-1] - spoken[0] + 1 and found[-10:].all()


def test_a_pause_is_longer_than_400_ms_and_is_left_and_entered_in_160(by_loudness):
    """12 chunks are 384 ms, 13 are 416."""
    found = Pauses(sound((20, 0.5), (12, 0), (20, 0.5), (13, 0), (20, 0.5)), RATE, 85)
    assert np.flatnonzero(found.quiet).tolist() == list(range(52, 65))
    ramp = np.arange(1, 6) / 6
    np.testing.assert_allclose(found.shares[52:65], [*ramp[::-1], 0, 0, 0, *ramp], rtol=1e-6)
    assert (np.delete(found.shares, range(52, 65)) == 1).all()
    at_ends = Pauses(sound((20, 0), (20, 0.5)), RATE, 60)  # which outlast the sound
    np.testing.assert_allclose(at_ends.shares, [*[0] * 15, *ramp, *[1] * 20, *ramp[::-1], *[0] * 15], rtol=1e-6)


@pytest.mark.parametrize("level, quiet", [(0.5 * 10 ** (-29.5 / 20), False), (0.5 * 10 ** (-30.5 / 20), True)])
def test_30_db_below_the_voice_is_silence(by_loudness, level, quiet):
    assert Pauses(sound((40, 0.5), (40, level), (40, 0.5)), RATE, 120).quiet.any() == quiet
    assert Pauses(sound((40, level)), RATE, 40).quiet.any() == False  # noqa: E712 - the loudest there is
    hiss = np.sqrt(2) * 10 ** (-60 / 20)
    assert Pauses(sound((40, 1.02 * hiss)), RATE, 40).quiet.any() == False  # noqa: E712
    assert Pauses(sound((40, 0.98 * hiss)), RATE, 40).quiet.all()
