"""Where training of the U-Net starts from, and which parameters are trained."""

import logging

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from stand_ins import save_stable_diffusion

from latentsync.nets.unet import UNet
from latentsync.train.config import UNetTraining, build
from latentsync.train.init_weights import choose_trained, start_unet

NET = {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 32}


def config(motion: str = "none", start=None, seed: int = 3, **net) -> UNetTraining:
    values = {"motion": motion, "start": None if start is None else str(start), "run": {"seed": seed}}
    return build(UNetTraining, values | {"net": NET | net})


def save_unet(path, motion: bool) -> dict[str, torch.Tensor]:
    weights = tiny.weights(UNet(tiny.unet_config(motion)))
    torch.save({"global_step": 7, "state_dict": weights}, path)
    return weights


@pytest.fixture(scope="module")
def image_model(tmp_path_factory) -> dict[str, torch.Tensor]:
    """A small net of the kind of Stable Diffusion 1.5's, as diffusers builds it."""
    torch.manual_seed(0)
    return load_file(save_stable_diffusion(tmp_path_factory.mktemp("sd") / "unet"))


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 13, 2, 8, 8), (1, 2, 50, 32)
    sample, audio = (torch.randn(shape, generator=generator) for shape in shapes)
    return sample, torch.tensor([500]), audio


def test_a_fresh_net_follows_from_the_seed_and_leaves_other_random_numbers_alone():
    before = torch.get_rng_state()
    one, two, other = (start_unet(config("all", seed=seed)).state_dict() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["conv_in.weight"], other["conv_in.weight"])


def test_motion_modules_are_added_and_change_nothing_yet(tmp_path):
    weights = save_unet(tmp_path / "latentsync_unet.pt", motion=False)
    before = UNet.from_state_dict(weights)
    for start in (tmp_path / "latentsync_unet.pt", tmp_path):
        net = start_unet(config("up", start))
        assert net.training and net.config.motion == "up"
        with torch.no_grad():
            torch.testing.assert_close(net(*inputs()), before(*inputs()))
    again = start_unet(config("up", tmp_path)).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in net.state_dict().items())


def test_training_does_not_write_into_the_checkpoint(tmp_path):
    weights = save_unet(tmp_path / "unet.pt", motion=True)
    net = start_unet(config("all", tmp_path / "unet.pt"))
    for parameter in net.parameters():
        parameter.data.zero_()
    saved = torch.load(tmp_path / "unet.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(saved[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("motion", ["none", "up"])
def test_motion_modules_that_are_not_wanted_are_left_out(motion, tmp_path, caplog):
    weights = save_unet(tmp_path / "unet.pt", motion=True)
    with caplog.at_level(logging.INFO, "latentsync.train.init_weights"):
        net = start_unet(config(motion, tmp_path / "unet.pt"))
    found = net.state_dict()
    assert net.config.motion == motion and all(torch.equal(weights[name], found[name]) for name in found)
    assert f"{len(weights) - len(found)} left out" in caplog.text and len(found) < len(weights)


def test_an_image_model_gives_every_tensor_that_fits(tmp_path, image_model, caplog):
    (tmp_path / "unet").mkdir()
    file = tmp_path / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor.half() for name, tensor in image_model.items()}, file)
    with caplog.at_level(logging.INFO, "latentsync.train.init_weights"):
        nets = [start_unet(config("all", start)).state_dict() for start in (file, tmp_path, tmp_path / "unet")]
    net, fresh = nets[0], 0
    for name, tensor in image_model.items():
        if name.startswith(("conv_in.", "conv_out.")):
            assert not net[name].any()
        elif ".attn2.to_k." in name or ".attn2.to_v." in name:
            assert net[name].shape[1] == 32 and net[name].any()
            fresh += 1
        else:
            assert torch.equal(net[name], tensor.half().float()), name
    assert all(not net[name].any() for name in net if name.endswith("temporal_transformer.proj_out.weight"))
    assert all(torch.equal(net[name], other[name]) for other in nets[1:] for name in net)
    taken = len(image_model) - fresh - 1
    assert f"{taken} tensors taken, {len(net) - taken} fresh" in caplog.text


def test_an_image_model_brings_its_widths_along_and_must_fit(tmp_path, image_model):
    save_file(image_model, tmp_path / "sd.safetensors")
    net = start_unet(config("up", tmp_path / "sd.safetensors", block_out_channels=[320, 640, 1280, 1280]))
    assert net.config.block_out_channels == (32, 32, 64, 64) and net.config.motion == "up"
    other = {f"adapter.{k}": torch.zeros(1) for k in range(len(image_model) + 9)}
    save_file(image_model | other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"only \d+ of the \d+ tensors .* fit the net \(not: adapter"):
        start_unet(config("none", tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vae.pt", "vae.pt looks like a VAE: to start from, give"),
        ("nowhere.pt", "nowhere"),
        ("empty", "empty holds neither latentsync_unet.pt nor"),
    ],
)
def test_other_files_are_named(name, message, tmp_path):
    torch.save({"encoder.conv_in.weight": torch.zeros(1)}, tmp_path / "vae.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message):
        start_unet(config(start=tmp_path / name))


def test_parts_are_whole_elements_of_names():
    net = UNet(tiny.unet_config())
    trained, everything = choose_trained(net, ["attn2", "motion_modules."])
    names = {name for name, p in net.named_parameters() if p.requires_grad}
    assert names == {n for n, _ in net.named_parameters() if ".attn2." in n or ".motion_modules." in n}
    assert trained == sum(p.numel() for p in net.parameters() if p.requires_grad) < everything
    assert choose_trained(net, []) == (everything, everything)
    assert choose_trained(net, ["up_blocks.3"])[0] == sum(p.numel() for p in net.up_blocks[3].parameters())


@pytest.mark.parametrize(
    ("part", "advice"),
    [("motion_module", "did you mean motion_modules?"), ("attn", "attn2 or attn1"), ("whisper", "choose from .*attn2")],
)
def test_a_part_that_is_nowhere_is_refused(part, advice):
    with pytest.raises(ValueError, match=f"trained_parts has '{part}', which is in no parameter's name: .*{advice}"):
        choose_trained(UNet(tiny.unet_config()), ["attn2", part])
