"""U-Net training: the presets at reduced size through the real loop, and what must hold of the loss."""

from dataclasses import replace
from pathlib import Path

import cv2
import drawn_clips
import numpy as np
import pytest
import tiny
import torch
from small_nets import PIXEL_FACTORS, Looker, frozen_nets, losses_of, narrow_syncnet
from stand_ins import write_clip

from latentsync.audio.syncnet import mel_columns
from latentsync.evaluate.perceptual import load_lpips
from latentsync.evaluate.sync_score import SyncScorer
from latentsync.face.masks import keep_mask
from latentsync.media import VideoReader, VideoWriter
from latentsync.models.load import LipSyncModel, load_unet
from latentsync.models.state_dict import load_state_dict, read_metadata
from latentsync.sampling.latents import decode_clips, encode_clips
from latentsync.sampling.sample import BatchSizes, encode_condition
from latentsync.train.config import UNetTraining, load_config
from latentsync.train.dataset import UNetClips
from latentsync.train.loop import Log, read_log, train
from latentsync.train.unet import FrozenNets, UNetTask, draw, load_frozen

# torchvision about the way in which lpips calls it.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated since 0.13:UserWarning")

SIDE = 64
NET = ["net.block_out_channels=[32, 32, 64, 64]", "net.cross_attention_dim=32"]
FILES = [f"files.{name}=unused" for name in ("vae", "whisper", "syncnet", "vgg16", "videomae")]
RUN = ["run.precision=no", "run.device=cpu", "run.log_every=1", "data.workers=0", "data.cache=null", "start=null"]
QUICK = [*NET, *FILES, *RUN, f"data.resolution={SIDE}", "run.batch_size=1", "run.accumulate=1"]
ALL_LOSSES = {"mse": 2, "sync": 0.5, "lpips": 0.1, "trepa": 10}


@pytest.fixture(scope="module")
def frozen() -> FrozenNets:
    return frozen_nets()


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """A folder with one clip of a drawn speaker."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", 1, frames=50).parent


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    return samples(2)


def samples(count: int, frames: int = 16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = dict.fromkeys(("pixels", "reference_pixels"), (count, 3, frames, SIDE, SIDE))
    shapes |= {"audio": (count, frames, 50, 32), "mel": (count, 1, 80, mel_columns(frames))}
    drawn = {name: torch.randn(shape, generator=generator).clamp(-1, 1) for name, shape in shapes.items()}
    return drawn | {"seed": 11 + torch.arange(count)}


def small_task(frozen: FrozenNets, *overrides: str, **losses: float) -> UNetTask:
    """A task on a small fresh net, without clips."""
    weights = [f"losses.{name}={weight}" for name, weight in losses.items()]
    config = load_config(UNetTraining, "stage1", [*QUICK, *weights, *overrides])
    task = UNetTask(config, frozen, data=[])
    task.net.load_state_dict(tiny.weights(task.net))
    return task


@pytest.mark.parametrize("preset", ["stage1", "stage2", "stage2_efficient"])
def test_presets_train_and_resume(preset, clips, frozen, tmp_path, monkeypatch):
    monkeypatch.setattr(Log, "draw", lambda self: None)  # takes longer than training
    options = [*QUICK, f"data.clips={clips}", f"data.cache={clips / 'cache'}"]
    options += ["run.max_steps=2", "run.save_every=1", "run.validate_every=0"]
    config = load_config(UNetTraining, preset, [*options, f"run.output={tmp_path / 'a'}"])
    task = UNetTask(config, frozen)
    begin = {name: tensor.clone() for name, tensor in task.net.state_dict().items()}
    weights = load_state_dict(train(task, config) / "latentsync_unet.safetensors")
    whole = read_log(tmp_path / "a" / "log.jsonl")[-1]
    wanted = {name for name in ALL_LOSSES if getattr(config.losses, name)}
    assert wanted == ALL_LOSSES.keys() & whole.keys()
    for name, tensor in weights.items():
        if not any(part in name for part in config.trained_parts or [""]):
            assert torch.equal(tensor, begin[name]), name

    again = replace(config, run=replace(config.run, output=str(tmp_path / "b")))
    resumed = train(UNetTask(again, frozen), again, resume=tmp_path / "a" / "step-00000001")
    assert read_log(tmp_path / "b" / "log.jsonl")[-1]["loss"] == whole["loss"]
    resumed = load_state_dict(resumed / "latentsync_unet.safetensors")
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in weights.items())


def test_saved_weights_are_what_a_model_is_made_of(frozen, tmp_path):
    task = small_task(frozen, "motion=up", "net.n_head=4", "net.groups=16")
    plain, safe = task.save(task.net.state_dict(), tmp_path, 12)
    assert (plain.name, safe.name) == ("latentsync_unet.pt", "latentsync_unet.safetensors")
    assert torch.load(plain, weights_only=True)["global_step"] == 12
    assert read_metadata(safe)["resolution"] == str(SIDE)
    for loaded in map(load_unet, (plain, safe)):
        assert loaded.config == task.config.net
        found = loaded.state_dict()
        assert all(torch.equal(found[name], tensor) for name, tensor in task.net.state_dict().items())


def test_a_batch_is_its_samples_and_the_loss_the_weighted_sum(frozen, batch):
    parts = "trained_parts=[motion_modules, attn2]"
    task = small_task(frozen, "motion=up", parts, "audio_dropout=0.5", **ALL_LOSSES)
    both = task.loss(task.net, batch)
    torch.testing.assert_close(both["loss"], sum(weight * both[name] for name, weight in ALL_LOSSES.items()))
    with torch.no_grad():
        single = [task.loss(task.net, {name: t[k : k + 1] for name, t in batch.items()}) for k in range(2)]
    assert both.keys() == {"loss", *ALL_LOSSES}
    for name, value in both.items():
        assert value.item() == pytest.approx((single[0][name] + single[1][name]).item() / 2, rel=1e-4)
    both["loss"].backward()
    for name, parameter in task.net.named_parameters():
        trained = "motion_modules" in name or ".attn2." in name
        assert (parameter.grad is not None) == trained, name
    assert all(p.grad.isfinite().all() for p in task.net.parameters() if p.grad is not None)
    assert all(p.grad is None for net in frozen.all for p in net.parameters())


def test_latents_give_the_loss_of_their_pixels(frozen, batch):
    """The latents are made as inference makes its condition."""
    task = small_task(frozen, mse=1, sync=0.05)
    model = LipSyncModel(task.net, frozen.vae, frozen.audio_encoder, SIDE)

    def encoded(name: str) -> torch.Tensor:
        films = batch[name].transpose(1, 2)
        return torch.cat([encode_condition(model, film, keep_mask(SIDE), BatchSizes()) for film in films])

    target, reference = encoded("pixels"), encoded("reference_pixels")
    latents = {name: batch[name] for name in ("audio", "mel", "seed")}
    latents |= {"latents": target[:, 5:], "masked_latents": target[:, 1:5], "reference_latents": reference[:, 5:]}
    with torch.no_grad():
        from_latents, from_pixels = (task.loss(task.net, samples) for samples in (latents, batch))
        condition = task.encode(batch)[1]
    torch.testing.assert_close(from_latents, from_pixels, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(condition, torch.cat([target[:, :5], reference[:, 5:]], dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sync", "lpips", "trepa"])
def test_each_loss_on_the_estimate_moves_the_net(frozen, name):
    nets = replace(frozen, lpips=load_lpips(None)) if name == "lpips" else frozen
    task = small_task(nets, mse=0, **{name: 1})
    parts = task.loss(task.net, samples(1))
    assert parts.keys() == {"loss", name}
    parts["loss"].backward()
    assert task.net.conv_in.weight.grad.abs().sum() > 0


def test_small_models_are_judged_in_the_space_of_their_syncnet(frozen, monkeypatch):
    decoded = []
    monkeypatch.setattr("latentsync.train.unet.decode_clips", lambda *clip: decoded.append(1) or decode_clips(*clip))
    latent = replace(frozen, syncnet=SyncScorer(narrow_syncnet(4, [2, 2, 2]), SIDE))
    for nets, sync, count in ((latent, 1, 0), (frozen, 0, 1)):
        task = small_task(nets, "trepa_encoder=syncnet", mse=0, sync=sync, trepa=1)
        parts = task.loss(task.net, samples(1))
        parts["loss"].backward()
        assert parts["trepa"] > 0 and task.net.conv_in.weight.grad.abs().sum() > 0
        assert len(decoded) == count


def test_the_truth_itself_costs_nothing(frozen, batch):
    task = small_task(frozen, mse=1, lpips=1, trepa=1)
    latents = encode_clips(frozen.vae, batch["pixels"])
    with torch.no_grad():
        losses = task.supervision(latents, latents, {})
        wrong = task.supervision(latents + 1, latents, {})
    assert losses["lpips"] == 0 and losses["trepa"] == 0
    assert wrong["lpips"] > 0 and wrong["trepa"] > 0


def test_the_frozen_video_encoder_computes_its_activations_again(frozen):
    backbone = small_task(frozen, "run.gradient_checkpointing=true", trepa=1).frozen.trepa.backbone
    assert backbone.is_gradient_checkpointing and backbone.training  # in which alone transformers does so


def test_other_numbers_of_frames_train_with_a_syncnet_of_as_many(frozen):
    nets = replace(frozen, syncnet=SyncScorer(narrow_syncnet(3, PIXEL_FACTORS, frames=25), SIDE))
    task = small_task(nets, "data.frames=25", "motion=up", "net.max_frames=32", sync=1)
    parts = task.loss(task.net, samples(1, frames=25))
    assert parts["sync"] > 0 and parts["loss"].isfinite()


def test_nets_that_do_not_belong_together_are_refused(frozen, clips):
    latent = replace(frozen, syncnet=SyncScorer(narrow_syncnet(4, [2, 2, 2]), 256))
    longer = replace(frozen, syncnet=SyncScorer(narrow_syncnet(3, PIXEL_FACTORS, frames=25), SIDE))
    for nets, options, message in (
        (frozen, ["net.cross_attention_dim=64"], "takes audio of width 64 and this Whisper encoder gives 32"),
        (latent, [], "judges latents of 256 pixels and data.resolution is 64"),
        (longer, [], "unused judges 25 frames at once and data.frames is 16: give a SyncNet for 16"),
        (longer, ["data.frames=25", "motion=up"], "data.frames is 25 and the U-Net's motion modules have 24 positions"),
    ):
        with pytest.raises(ValueError, match=message):
            small_task(nets, *options, sync=1)
    with pytest.raises(ValueError, match="data.workers is 2 and data.cache is null"):
        UNetTask(load_config(UNetTraining, "stage1", [*QUICK, f"data.clips={clips}", "data.workers=2"]), frozen)


def test_a_mask_image_is_what_is_blank_in_samples_and_condition(frozen, batch, clips, tmp_path):
    picture = np.full((32, 32), 255, np.uint8)
    picture[16:, 8:24] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), picture)
    option, mask = f"data.mask={tmp_path / 'mask.png'}", keep_mask(SIDE, picture)
    task = small_task(frozen, option)
    condition = task.encode(batch)[1]
    assert torch.equal(condition[0, 0, 0], mask[0, ::8, ::8]) and 0.7 < mask.mean() < 0.8
    blank = encode_clips(frozen.vae, batch["pixels"] * mask)
    torch.testing.assert_close(condition[:, 1:5], blank)
    options = [*QUICK, f"data.clips={clips}", f"data.cache={tmp_path}", "data.cache_latents=true", option]
    data = UNetClips(load_config(UNetTraining, "stage1", options).data, frozen.audio_encoder, frozen.vae)
    shown, first = data.pictures(data.clips[0]), data[0]["masked_latents"][:, 0]
    crops = (shown[range(len(shown))].permute(3, 0, 1, 2)[None] / 127.5 - 1) * mask
    assert (encode_clips(frozen.vae, crops)[0] - first[:, None]).abs().amax(dim=(0, 2, 3)).min() < 1e-2


@pytest.mark.parametrize("whole", [True, False])
def test_a_task_validates_crops_and_whole_videos(whole, frozen, tmp_path, monkeypatch):
    monkeypatch.setattr("latentsync.train.unet.load_state_dict", lambda path: {})
    monkeypatch.setattr("latentsync.train.unet.SyncNetV2.from_state_dict", lambda *_, **__: Looker())
    clip = drawn_clips.make_clip(tmp_path, frames=20, seconds=0.8)
    if not whole:
        with VideoWriter(clip.video, 25, SIDE, SIDE, preset="ultrafast") as writer:
            writer.write(torch.rand(20, SIDE, SIDE, 3))
    options = [f"validation.video={clip.video}", f"validation.audio={clip.audio}", "validation.steps=1"]
    if whole:
        options += ["validation.whole=true", f"validation.detector_model={clip.track}", "validation.syncnet_v2=unused"]
    task = small_task(frozen, *options)
    metrics = task.validate(task.net, tmp_path, 7)
    assert metrics.keys() == {"sync", "sync_offset"} | ({"sync_c", "sync_d", "sync_v2_offset"} if whole else set())
    with VideoReader(tmp_path / "validation-00000007.mp4") as reader:
        assert len(reader) == 20 and reader.width == (drawn_clips.WIDTH if whole else SIDE)


def test_one_batch_can_be_learned(frozen):
    config = load_config(UNetTraining, "stage1", [*QUICK, "motion=up", "data.frames=2"])
    losses = losses_of(UNetTask(config, frozen, data=[]), samples(1, frames=2), 6, 1e-2)
    assert losses[-1] < 0.6 * losses[0]


def test_draws_follow_from_the_seeds_alone():
    one, other = draw([5, 9], (4, 16, 8, 8), 1.0, 0.0), draw([9, 5], (4, 16, 8, 8), 1.0, 0.999)
    assert torch.equal(one[0], other[0].flip(0)) and torch.equal(one[1], other[1].flip(0))
    assert one[2].all() and not other[2].any()
    _, timesteps, has_audio = draw(range(2000), (1, 1, 1, 1), 0.0, 0.1)
    assert timesteps.min() < 10 and timesteps.max() > 989 and 450 < timesteps.float().mean() < 550
    assert 0.86 < has_audio.float().mean() < 0.94


def test_dropped_audio_is_silence_for_the_net(frozen, batch):
    deaf = small_task(frozen, "audio_dropout=0.999")
    with torch.no_grad():
        dropped = deaf.loss(deaf.net, batch)["mse"]
        silent = small_task(frozen).loss(deaf.net, batch | {"audio": torch.zeros_like(batch["audio"])})["mse"]
        heard = small_task(frozen).loss(deaf.net, batch)["mse"]
    assert dropped == silent and dropped != heard


def test_decoding_piece_by_piece_has_the_gradients_of_the_whole(frozen, monkeypatch):
    latents = torch.randn(1, 4, 5, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weights = torch.randn(1, 3, 5, 64, 64, generator=torch.Generator().manual_seed(1))
    (decode_clips(frozen.vae, latents) * weights).sum().backward()
    whole, latents.grad = latents.grad, None
    monkeypatch.setattr("latentsync.sampling.latents.PIXELS_WITH_GRADIENTS", 2 * 64 * 64)
    (decode_clips(frozen.vae, latents) * weights).sum().backward()
    torch.testing.assert_close(latents.grad, whole, rtol=1e-4, atol=1e-5)


def test_nets_are_loaded_where_a_loss_needs_them_and_in_the_precision_of_the_run(tmp_path):
    folder = tiny.make_checkpoints(tmp_path / "checkpoints", resolution=SIDE)
    options = [*QUICK, f"files.vae={folder / 'vae'}", f"files.whisper={folder / 'whisper' / 'tiny.pt'}"]
    for precision, dtype in (("no", torch.float32), ("bf16", torch.bfloat16)):
        loaded = load_frozen(load_config(UNetTraining, "stage1", [*options, f"run.precision={precision}"]))
        assert (loaded.syncnet, loaded.lpips, loaded.trepa) == (None, None, None) and loaded.vae.dtype == dtype
        assert loaded.audio_encoder.conv1.weight.dtype == torch.float32
    with pytest.raises(ValueError, match="unused"):
        load_frozen(load_config(UNetTraining, "stage1", [*options, "losses.sync=1"]))


def test_frozen_nets_in_half_precision(batch, clips, tmp_path):
    """On the CPU in bfloat16: the losses stay float32 and near those of float32, and validation goes on."""
    options = ["run.precision=bf16", f"validation.video={clips / 'clip.mp4'}", "validation.steps=1"]
    options += [f"validation.audio={clips / 'clip.mp4'}"]
    weights = {"mse": 1, "sync": 1e-4, "lpips": 0.1, "trepa": 10}  # a random SyncNet magnifies what is rounded
    exact = small_task(frozen_nets(), *options, **weights)
    half = small_task(frozen_nets().cast(torch.bfloat16), *options, "frozen_half=true", **weights)
    kept = [net for net in half.frozen.all if next(net.parameters()).dtype == torch.float32]
    assert kept == [half.frozen.audio_encoder, half.frozen.lpips]
    wanted, found = exact.loss(exact.net, batch), half.loss(half.net, batch)
    assert wanted.keys() == found.keys()
    for name, part in found.items():
        assert part.dtype == torch.float32 and part.item() == pytest.approx(wanted[name].item(), rel=0.1), name
        part.requires_grad and (part + wanted[name]).backward()
    gradients = [torch.cat([p.grad.flatten() for p in task.net.parameters()]) for task in (exact, half)]
    assert torch.cosine_similarity(*gradients, dim=0) > 0.95
    with torch.no_grad():
        assert 0 <= half.validate(half.net.eval(), tmp_path, 1)["sync"] <= 1
