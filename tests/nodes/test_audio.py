import re
from pathlib import Path

import pytest
import torch
from heads import head, track_face, unchanged

RATE = 16_000


def match(pack, images, audio, audio_longer="pingpong", audio_shorter="stop", fps=25.0, track=None, **inputs):
    inputs |= {"audio_longer": audio_longer, "audio_shorter": audio_shorter, "fps": fps, "track": track}
    return pack.run("LatentSyncMatchLength", images=images, audio=audio, **inputs)


def numbered(count: int) -> torch.Tensor:
    return torch.arange(count, dtype=torch.float32)[:, None, None, None].expand(count, 3, 5, 3) / count


def sound(seconds: float, rate: int = RATE, channels: int = 2) -> dict:
    t = torch.arange(round(seconds * rate)) / rate
    return {"waveform": (0.3 * torch.sin(500 * t + 40 * t**2)).expand(1, channels, -1), "sample_rate": rate}


@pytest.mark.parametrize(
    ("mode", "numbers"),
    [
        ("pingpong", [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]),
        ("loop", [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]),
        ("hold", [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]),
    ],
)
def test_longer_sound_is_filled_with_frames(pack, mode, numbers):
    images, audio = numbered(4), sound(0.41)
    with unchanged(images, audio["waveform"]):
        out = match(pack, images, audio, audio_longer=mode)
    assert torch.equal(out[0], images[numbers]) and out[1] is audio and out[2] is None and out[3] == 10


def test_longer_sound_can_be_cut_and_shorter_sound_followed_by_silence(pack):
    images, audio = numbered(20), sound(1.2, 44_100)
    cut = match(pack, images, audio, audio_longer="stop")
    assert cut[0] is images and cut[3] == 20
    assert torch.equal(cut[1]["waveform"], audio["waveform"][..., : round(0.8 * 44_100)])
    short = sound(0.4, 44_100)
    silent = match(pack, images, short, audio_shorter="silent")
    assert silent[0] is images and silent[1]["waveform"].shape == (1, 2, round(0.8 * 44_100))
    heard = short["waveform"].shape[-1]
    assert torch.equal(silent[1]["waveform"][..., :heard], short["waveform"])
    assert not silent[1]["waveform"][..., heard:].any()
    stopped = match(pack, images, short)
    assert torch.equal(stopped[0], images[:10]) and stopped[1] is short


# What VideoLengthAdjuster makes of frames and seconds of sound with 0.2 s of silent padding: frame numbers.
ADJUSTED = {
    ("normal", 20, 0.4): range(15),
    ("normal", 4, 0.4): range(4),
    ("pingpong", 20, 0.4): range(20),
    ("pingpong", 4, 0.2): [0, 1, 2, 3, 2, 1, 0, 1, 2, 3],
    ("loop_to_audio", 20, 0.4): range(15),
    ("loop_to_audio", 4, 0.2): [0, 1, 2, 3, 0, 1, 2, 3, 0, 1],
}


@pytest.mark.parametrize("mode, count, seconds", ADJUSTED)
def test_settings_that_readme_names_for_the_old_node_give_its_frames_and_its_silence(pack, mode, count, seconds):
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"mode `{mode}` \| .*`audio_longer` `(\w+)`, `audio_shorter` `(\w+)` \|", readme)
    images, audio = numbered(count), sound(seconds)
    with unchanged(images, audio["waveform"]):
        out = match(pack, images, audio, *row.groups(), silent_padding=0.2)
    assert torch.equal(out[0], images[list(ADJUSTED[mode, count, seconds])])
    heard, wave = audio["waveform"].shape[-1], out[1]["waveform"]
    assert wave.shape[-1] == out[3] * RATE // 25
    assert torch.equal(wave[..., :heard], audio["waveform"][..., : wave.shape[-1]]) and not wave[..., heard:].any()


def test_sound_shorter_than_a_frame_keeps_one(pack):
    out = match(pack, numbered(3), sound(0.01))
    assert out[3] == len(out[0]) == 1


def test_track_goes_along(pack):
    source = head(pack)
    track = track_face(pack, source)[0]
    out = match(pack, source.images, sound(0.8), track=track)
    index = [*range(12), *range(10, 2, -1)]
    assert (out[2].track.matrices == track.track.matrices[index]).all()
    assert out[2].faces == [track.faces[i] for i in index] and out[2].fps == track.fps
    with pytest.raises(ValueError, match="covers 12 frames and the clip has 11: track this clip again"):
        match(pack, source.images[:11], sound(0.8), track=track)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"audio_longer": "mirror"}, "audio_longer is 'mirror': choose one of pingpong"),
        ({"audio_shorter": "loop"}, "audio_shorter is 'loop'"),
        ({"fps": 0}, "fps is 0"),
        ({"audio": None}, "no audio: connect"),
        ({"silent_padding": -1}, "silent_padding is -1"),
        ({"silent_padding": float("nan")}, "silent_padding is nan"),
        ({"silent_padding": float("inf")}, "silent_padding is inf"),
    ],
)
def test_settings_that_cannot_be_are_refused(pack, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        match(pack, **{"images": numbered(3), "audio": sound(1)} | value)


def encode(pack, model, audio, **inputs):
    return pack.run("LatentSyncEncodeAudio", **{"model": model, "audio": audio, "fps": 25.0} | inputs)[0]


def test_sound_ends_in_silence_before_more_frames(pack, model):
    audio = sound(0.4, channels=1)
    longer = {"waveform": torch.nn.functional.pad(audio["waveform"], (0, 9_600)), "sample_rate": RATE}
    features = encode(pack, model, audio, images=numbered(25))
    assert len(features) == 25 and torch.equal(features.states, encode(pack, model, longer).states)
    # Sound that goes on after the frames is heard to its end, which changes what is heard before.
    assert len(encode(pack, model, audio, images=numbered(4))) == len(encode(pack, model, audio)) == 10


def test_listening_can_be_cancelled(pack, model):
    import comfy.model_management as mm

    encoder = model.loaded_audio_encoder()
    hook = encoder.blocks[0].register_forward_pre_hook(lambda *_: mm.interrupt_current_processing())
    try:
        with pytest.raises(mm.InterruptProcessingException):
            encode(pack, model, sound(61.0))
    finally:
        hook.remove()
