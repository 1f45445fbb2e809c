"""The tasks that train a small VAE and a small audio encoder, and the drawn corpus that they learn from."""

import json
from dataclasses import replace

import pytest
import torch
from small_nets import losses_of
from torch.utils.data import default_collate

from latentsync.audio.whisper import hidden_states, log_mel
from latentsync.drawn.heads.clip import make_clip
from latentsync.drawn.heads.corpus import CorpusSettings, align_clip, write_corpus
from latentsync.drawn.heads.speech import make_speech
from latentsync.drawn.train import audio_encoder
from latentsync.drawn.train.audio_encoder import AudioEncoderTask, AudioEncoderTraining, SpeechSamples
from latentsync.drawn.train.vae import PictureParts, VAEShape, VAETask, VAETraining
from latentsync.errors import InputError
from latentsync.media import VideoReader, read_audio
from latentsync.models.load import load_audio_encoder, load_vae
from latentsync.models.state_dict import read_checkpoint
from latentsync.train.config import DataConfig, RunConfig, build

SMALL = CorpusSettings(clips=2, seconds=0.6, resolution=64, size=96)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, SMALL)
    return folder


def vae_config(clips, **changes) -> VAETraining:
    data = DataConfig(clips=str(clips), resolution=64, workers=0)
    shape = VAEShape((8, 8, 8, 16), 1, 4, 4)
    return VAETraining(RunConfig(batch_size=2), data, net=shape, every=2, pictures=2, part=32, **changes)


def learn(task, steps: int) -> list[float]:
    return losses_of(task, default_collate([task.data[n] for n in range(2)]), steps, 2e-3)


def mode(vae, pictures: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return vae.encode(pictures).latent_dist.mode()


def test_a_corpus_is_the_drawn_clips_aligned(clips):
    paths = sorted(clips.iterdir())
    assert [path.name for path in paths] == ["clip_000000.mp4", "clip_000001.mp4"]
    clip = make_clip(1, SMALL.seconds, SMALL.size)
    with VideoReader(paths[1]) as reader:
        assert (len(reader), reader.fps, reader.height, reader.width) == (15, 25, 64, 64)
        assert (reader[range(15)].float() / 255 - align_clip(clip, 64)).abs().mean() < 0.02
    wave, rate = read_audio(paths[1])
    assert rate == 16000
    expected = make_speech(1, SMALL.seconds).waveform
    heard = torch.as_tensor(wave).reshape(-1)[: len(expected)]
    assert torch.corrcoef(torch.stack([heard, expected]))[0, 1] > 0.95  # AAC, and not a sample late
    before, seen = {path: path.stat().st_mtime_ns for path in paths}, []
    write_corpus(clips, SMALL, progress=lambda *state: seen.append(state))  # goes on where it was
    assert seen == [("drawing", 2, 2)] and {path: path.stat().st_mtime_ns for path in clips.iterdir()} == before


def test_picture_parts_follow_from_seed_and_number(clips):
    one, other = PictureParts(vae_config(clips)), PictureParts(vae_config(clips))
    pixels = one[3]["pixels"]
    assert pixels.shape == (2, 3, 32, 32) and pixels.abs().max() <= 1
    other[0]
    assert torch.equal(pixels, other[3]["pixels"]) and not torch.equal(pixels, one[5]["pixels"])


def test_the_vae_learns_and_loads_with_latents_of_variance_one(clips, tmp_path):
    task = VAETask(vae_config(clips))
    losses = learn(task, 12)
    assert losses[-1] < 0.8 * losses[0]
    assert all(file.is_file() for file in task.save(task.net.state_dict(), tmp_path, 12))
    vae, pictures = load_vae(tmp_path / "vae"), torch.cat([task.data[n]["pixels"] for n in range(16)])
    latents = mode(vae, pictures)
    assert torch.equal(latents, mode(task.net.eval(), pictures)) and latents.shape[1:] == (4, 4, 4)
    assert float((latents * vae.config.scaling_factor).std()) == pytest.approx(1, abs=1e-3)


def test_training_the_decoder_alone_keeps_the_latents(clips, tmp_path):
    first = VAETask(vae_config(clips))
    first.save(first.net.state_dict(), tmp_path / "first", 0)
    task = VAETask(vae_config(clips, start=str(tmp_path / "first" / "vae"), decoder_only=True))
    learn(task, 2)
    task.save(task.net.state_dict(), tmp_path / "second", 2)
    before, after = (load_vae(tmp_path / name / "vae") for name in ("first", "second"))
    latents = mode(before, task.data[0]["pixels"])
    assert torch.equal(latents, mode(after, task.data[0]["pixels"]))
    with torch.no_grad():
        assert not torch.equal(before.decode(latents).sample, after.decode(latents).sample)
    assert before.config.scaling_factor == after.config.scaling_factor


def test_the_vaes_loss_is_that_of_its_samples_one_by_one(clips):
    task = VAETask(vae_config(clips, edges=0.0))
    with torch.no_grad():
        pixels = [task.loss(task.net, default_collate([task.data[n]]))["pixels"] for n in (0, 1)]
        both = task.loss(task.net, default_collate([task.data[n] for n in (0, 1)]))["pixels"]
    assert float(both) == pytest.approx(float(sum(pixels)) / 2, rel=1e-5)


def audio_config(**changes) -> AudioEncoderTraining:
    return AudioEncoderTraining(
        RunConfig(batch_size=2), net=audio_encoder.AudioEncoderShape(16, 2, 2), speeches=2, **changes
    )


@pytest.fixture(scope="module")
def audio_task():
    return AudioEncoderTask(audio_config(validation_samples=1))


def test_speech_samples_have_the_mouth_of_every_frame(audio_task):
    sample = audio_task.data[0]
    assert sample["mel"].shape == (80, 3000) and sample["shapes"].shape == (750, 6)
    inside = int(sample["inside"].sum())
    assert sample["inside"][:inside].all() and 100 <= inside <= 750
    assert not sample["mel"][:, 4 * inside :].any() and not sample["shapes"][inside:].any()
    again = SpeechSamples(audio_task.config)
    again[1]
    assert torch.equal(again[0]["mel"], sample["mel"])
    assert not torch.equal(again[0]["mel"], again[2]["mel"])  # the same speech in another room


def test_unchanged_speech_is_what_whisper_hears(audio_task):
    sample = SpeechSamples(audio_task.config, augment=False, first=5)[0]
    frames = int(sample["inside"].sum())
    mels = [log_mel(make_speech(seed, frames / 25).waveform) for seed in (5, 6)]
    assert any(torch.equal(sample["mel"][:, : 4 * frames], mel[:, : 4 * frames]) for mel in mels)


def test_the_listeners_states_are_those_of_the_running_model(audio_task, tmp_path):
    mel = audio_task.data[0]["mel"]
    with torch.no_grad():
        states = audio_task.net.states(mel[None])[0]
    assert torch.allclose(states, hidden_states(audio_task.net.encoder, mel), atol=1e-5)
    _, safe = files = audio_task.save(audio_task.net.state_dict(), tmp_path, 7)
    tensors, about = read_checkpoint(safe)
    assert json.loads(about["dims"])["n_audio_layer"] == 2 and all(name.startswith("encoder.") for name in tensors)
    for file in files:
        encoder = load_audio_encoder(file)
        assert encoder.blocks[0].attn.n_head == 2
        assert torch.equal(hidden_states(encoder, mel), hidden_states(audio_task.net.encoder, mel))


def test_the_audio_encoder_learns(audio_task):
    losses = learn(audio_task, 6)
    assert losses[-1] < losses[0]
    audio_task.net.eval()
    figures = audio_task.validate(audio_task.net, None, 6)
    assert set(figures) == {f"{part}_by_{way}" for part in ("opening", "width") for way in ("mean", "attention")}
    assert all(-1 <= value <= 1 for value in figures.values())


def test_an_audio_encoder_goes_on_from_another(audio_task, tmp_path):
    _, start = audio_task.save(audio_task.net.state_dict(), tmp_path, 3)
    task = AudioEncoderTask(audio_config(start=str(start), variety=1.0))
    learned = audio_task.net.encoder.state_dict()
    assert all(torch.equal(tensor, learned[name]) for name, tensor in task.net.encoder.state_dict().items())
    assert not torch.equal(task.data[0]["shapes"], AudioEncoderTask(audio_config()).data[0]["shapes"])
    with pytest.raises(ValueError, match="audio encoder that starts from"):
        AudioEncoderTask(replace(audio_config(start=str(start)), net=audio_encoder.AudioEncoderShape(32, 2, 2)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(SMALL, clips=0), "clips is 0"),
        (lambda: replace(SMALL, seed=-1), "seed -1"),
        (lambda: replace(SMALL, seconds=0.0), "seconds is 0"),
        (lambda: replace(SMALL, resolution=100), "resolution is 100"),
        (lambda: build(VAETraining, {"part": 30}), "part is 30: it should be a multiple of 8"),
        (lambda: build(VAETraining, {"part": 512}), "part is 512"),
        (lambda: build(VAETraining, {"decoder_only": True}), "start is null"),
        (lambda: build(VAETraining, {"net": {"block_out_channels": [8, 12, 16, 16], "groups": 8}}), "channels has 12"),
        (lambda: build(AudioEncoderTraining, {"net": {"n_state": 30}}), "n_state is 30"),
        (lambda: build(AudioEncoderTraining, {"tilt": -1}), "tilt is -1: it should be greater"),
        (lambda: build(AudioEncoderTraining, {"variety": 2}), "variety is 2: it should be less"),
    ],
)
def test_what_cannot_be_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()
