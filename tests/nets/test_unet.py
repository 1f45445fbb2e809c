"""The U-Net against the published program's numbers and names, and what must hold of any such net."""

import types
from collections import Counter
from dataclasses import replace

import golden_data
import pytest
import tiny
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from latentsync.errors import InputError
from latentsync.nets import layers
from latentsync.nets.unet import UNet, UNetConfig

SMALL = UNetConfig(
    block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=24, block_attention=(True, False)
)


def golden_weights(config: UNetConfig) -> dict[str, torch.Tensor]:
    return golden_data.state_dict(UNet(config))


def inputs(config: UNetConfig, batch=1, frames=3, size=8) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(batch, config.in_channels, frames, size, size, generator=generator)
    audio = torch.randn(batch, frames, 50, config.cross_attention_dim, generator=generator)
    return sample, torch.tensor([500, 20, 999])[:batch], audio


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    """Root mean square of the difference, relative to b."""
    return float((a.double() - b.double()).norm() / b.double().norm())


@pytest.mark.parametrize("motion", [False, True])
def test_same_numbers_as_the_published_program(motion):
    golden = golden_data.tensors("unet_tiny")
    net = UNet.from_state_dict(golden_weights(tiny.unet_config(motion)))
    with torch.inference_mode():
        out = net(golden["sample"], golden["timestep"], golden["audio"])
    assert (out - golden[f"motion_{motion}.out"]).abs().max() <= 5e-5


@pytest.mark.parametrize(("stage", "motion"), [("stage1", "none"), ("stage2", "all"), ("stage2_efficient", "up")])
def test_published_names_and_shapes(stage, motion):
    published = golden_data.json_of(f"state_dict_keys/unet_{stage}")
    with torch.device("meta"):
        net = UNet(UNetConfig(motion=motion))
    assert {name: list(tensor.shape) for name, tensor in net.state_dict().items()} == published
    empty = {name: torch.empty(shape, device="meta") for name, shape in published.items()}
    assert UNetConfig.from_state_dict(empty) == UNetConfig(motion=motion)


@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        replace(SMALL, motion="up", max_frames=32),
        replace(SMALL, motion="none"),
        replace(SMALL, block_out_channels=(64, 32, 96), block_attention=(False, True, True), cross_attention_dim=768),
        replace(SMALL, layers_per_block=3, in_channels=9, out_channels=8, block_attention=(False, False)),
    ],
)
def test_hyper_parameters_come_back_from_a_state_dict(config):
    original = UNet(config)
    weights = original.state_dict()
    net = UNet.from_state_dict(weights)
    assert net.config == config
    assert all(tensor.data_ptr() == weights[name].data_ptr() for name, tensor in net.state_dict().items())  # no copy
    with torch.inference_mode():
        assert torch.equal(net(*inputs(config)), original(*inputs(config)))


def test_loading_names_what_does_not_fit():
    weights = golden_weights(SMALL)
    for i in range(6):
        weights[f"extra.{i}"] = torch.zeros(2, 3)
    del weights["mid_block.resnets.1.conv2.bias"]
    weights["conv_norm_out.bias"] = torch.zeros(7)
    message = (
        r"1 missing \(mid_block.resnets.1.conv2.bias \(64,\)\); 6 unexpected \(extra.0 \(2, 3\); .*extra.4 "
        r"\(2, 3\); ...\); 1 of the wrong shape \(conv_norm_out.bias \(7,\), expected \(32,\)\)"
    )
    with pytest.raises(ValueError, match=message):
        UNet.from_state_dict(weights)


@pytest.mark.parametrize(
    "foreign",
    [
        {},
        {"global_step": 3, "state_dict": {}},
        {"conv_in.weight": torch.zeros(4)},
        {"conv_in.weight": torch.zeros(32, 13, 3, 3)},
    ],
)
def test_another_file_is_not_a_unet(foreign):
    with pytest.raises(ValueError, match="not the complete weights of a LatentSync U-Net"):
        UNet.from_state_dict(foreign)


@pytest.mark.parametrize(
    ("gone", "motion", "missing"),
    [
        ("up_blocks.0.motion_modules.1.", None, 28),  # a hole in the blocks
        ("down_blocks.0.motion_modules.0.temporal_transformer.proj_in.bias", "all", 1),  # a part of what may be absent
    ],
)
def test_incomplete_motion_modules_are_reported_as_missing(gone, motion, missing):
    weights = {name: tensor for name, tensor in golden_weights(SMALL).items() if not name.startswith(gone)}
    with pytest.raises(ValueError, match=f"{missing} missing"):
        UNet.from_state_dict(weights, motion=motion)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block_out_channels": (32, 40)}, "40"),
        ({"block_out_channels": (32,)}, "block_attention has 2"),
        ({"block_out_channels": (), "block_attention": ()}, "0 down blocks"),
        ({"motion": "down"}, "none, up, all"),
        ({"layers_per_block": 65}, "2 down blocks of 65 layers: give 1 to 64"),
        ({"block_out_channels": (32,) * 65, "block_attention": (True,) * 65}, "65 down blocks"),
        ({"block_out_channels": (32, 65568)}, "65568: .* up to 65536"),
        ({"n_head": 0}, "0 heads and 32 groups"),
        ({"groups": 0}, "8 heads and 0 groups"),
    ],
)
def test_impossible_config(change, message):
    with pytest.raises(InputError, match=message):
        replace(SMALL, **change)
    replace(SMALL, block_out_channels=(32,) * 63 + (65536,), block_attention=(True,) * 64, layers_per_block=64)


@pytest.mark.parametrize("value", ["x", "-8", "8.0", "0", "9" * 5000, "\u00b2"])
def test_metadata_that_is_no_number_is_named(value):
    with pytest.raises(InputError, match="groups = |0 groups"):
        UNetConfig.from_state_dict(golden_weights(SMALL), {"n_head": "8", "groups": value})


def test_new_motion_modules_change_nothing_until_trained():
    weights = golden_weights(replace(SMALL, motion="none"))
    net = UNet.from_state_dict(weights, motion="all")
    assert net.config == SMALL
    with torch.inference_mode():
        assert torch.equal(net(*inputs(SMALL)), UNet.from_state_dict(weights)(*inputs(SMALL)))


def test_motion_is_made_only_for_weights_that_fit():
    """Its widths are those that the file's shapes announce: 60,000 channels would take gigabytes."""
    weights = golden_weights(replace(SMALL, motion="none"))
    weights["down_blocks.0.resnets.0.conv1.weight"] = torch.zeros(64_000, 1, 1, 1)
    with pytest.raises(InputError, match="of the wrong shape"):
        UNet.from_state_dict(weights, motion="all")


def test_zero_init_predicts_zero():
    net = UNet(SMALL)
    net.zero_init()
    with torch.inference_mode():
        assert not net(*inputs(SMALL)).any()


def test_clips_of_a_batch_do_not_see_each_other():
    net = UNet.from_state_dict(golden_weights(SMALL))
    sample, timestep, audio = inputs(SMALL, batch=2)
    with torch.inference_mode():
        both = net(sample, timestep, audio)
        alone = torch.cat([net(sample[i : i + 1], int(timestep[i]), audio[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(both, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("motion", "ordered"), [("none", False), ("all", True)])
def test_only_motion_modules_know_the_order_of_frames(motion, ordered):
    net = UNet.from_state_dict(golden_weights(replace(SMALL, motion=motion)))
    sample, timestep, audio = inputs(SMALL)
    with torch.inference_mode():
        forward = net(sample, timestep, audio)
        backward = net(sample.flip(2), timestep, audio.flip(1)).flip(2)
    assert (distance(backward, forward) > 1e-2) == ordered


@pytest.mark.parametrize(("dtype", "bound"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_half_precision_is_near_single_and_keeps_timesteps_apart(dtype, bound):
    weights = golden_weights(SMALL)
    sample, timestep, audio = inputs(SMALL)
    net = UNet.from_state_dict(weights, dtype=dtype)
    with torch.inference_mode():
        out, expected = net(sample.to(dtype), timestep, audio.to(dtype)), UNet.from_state_dict(weights)(*inputs(SMALL))
        assert not torch.equal(net(sample.to(dtype), 997, audio), net(sample.to(dtype), 999, audio))
    assert out.dtype == dtype and distance(out, expected) < bound


def counting_operations(counts: Counter) -> types.SimpleNamespace:
    """Layers that count their calls and cast their weights to the dtype of their input, as ComfyUI's do."""

    def cast(layer, x):
        counts[layer] += 1
        return [tensor if tensor is None else tensor.to(x.dtype) for tensor in (layer.weight, layer.bias)]

    class Conv2d(nn.Conv2d):
        def forward(self, x):
            return self._conv_forward(x, *cast(self, x))

    class Linear(nn.Linear):
        def forward(self, x):
            return F.linear(x, *cast(self, x))

    class GroupNorm(nn.GroupNorm):
        def forward(self, x):
            return F.group_norm(x, self.num_groups, *cast(self, x), self.eps)

    class LayerNorm(nn.LayerNorm):
        def forward(self, x):
            return F.layer_norm(x, self.normalized_shape, *cast(self, x), self.eps)

    return types.SimpleNamespace(Conv2d=Conv2d, Linear=Linear, GroupNorm=GroupNorm, LayerNorm=LayerNorm)


def test_handed_in_layers_and_attention_do_all_the_work():
    counts, shapes = Counter(), []

    def attention(q, k, v):
        shapes.append(q.shape)
        return F.scaled_dot_product_attention(q, k, v)

    weights = {name: tensor.half() for name, tensor in golden_weights(SMALL).items()}
    net = UNet.from_state_dict(weights, operations=counting_operations(counts), attention=attention)
    with torch.inference_mode():
        out = net(*inputs(SMALL))
        expected = UNet.from_state_dict(weights, dtype=torch.float32)(*inputs(SMALL))
    assert counts == {module: 1 for module in net.modules() if list(module.parameters(recurse=False))}
    assert len(shapes) == sum(isinstance(module, layers.Attention) for module in net.modules())
    assert all(shape[1] == SMALL.n_head for shape in shapes)
    assert torch.equal(out, expected)


def test_split_attention_gives_the_same_numbers(monkeypatch):
    batches = []

    def attention(q, k, v):
        batches.append(q.shape[0] * q.shape[1])
        return F.scaled_dot_product_attention(q, k, v)

    net = UNet.from_state_dict(golden_weights(SMALL), attention=attention)
    args = inputs(SMALL)
    with torch.inference_mode():
        whole = net(*args)
        calls, limit = len(batches), 8 * 25
        batches.clear()
        monkeypatch.setattr(layers, "MAX_ATTENTION_BATCH", limit)
        assert torch.equal(net(*args), whole)
    assert max(batches) <= limit and len(batches) > calls


def test_gradient_checkpointing_recomputes_and_gives_the_same_gradients():
    counts = Counter()
    weights = golden_weights(SMALL)
    net = UNet.from_state_dict(weights, operations=counting_operations(counts))
    gradients, calls = [], []
    for enabled in (False, True):
        net.gradient_checkpointing = enabled
        assert net.gradient_checkpointing == enabled
        net.zero_grad()
        counts.clear()
        net(*inputs(SMALL)).square().mean().backward()
        calls.append(counts[net.mid_block.resnets[0].conv1])
        gradients.append({name: p.grad.clone() for name, p in net.named_parameters()})
    assert calls == [1, 2]
    for name, gradient in gradients[0].items():
        assert gradient.any(), name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_deep_features_spare_all_but_the_outermost_layers():
    """As DeepCache's branch 0 has it: conv_in, the last up layer and conv_out see what is new, the rest is kept."""
    net = UNet.from_state_dict(golden_weights(SMALL))
    sample, timestep, audio = inputs(SMALL, batch=2)
    cache, ran = [], set()
    layers_of = {f"up_blocks.1.{kind}.1" for kind in ("resnets", "attentions", "motion_modules")}
    for name, module in net.named_modules():
        if list(module.parameters(recurse=False)):
            module.register_forward_pre_hook(lambda *_, name=name: ran.add(name))
    with torch.inference_mode():
        plain = net(sample, timestep, audio)
        everything = set(ran)
        assert torch.equal(net(sample, timestep, audio, cache), plain)
        assert [tuple(deep.shape) for deep in cache] == [(3, 32, 8, 8)] * 2
        kept = [deep.clone() for deep in cache]
        ran.clear()
        assert torch.equal(net(sample, timestep, audio, cache), plain)
        outermost = ("conv_in", "conv_norm_out", "conv_out", "time_embedding.", *(f"{name}." for name in layers_of))
        assert ran == {name for name in everything if name.startswith(outermost)}
        for changed in ((sample + 1, timestep, audio), (sample, timestep + 9, audio), (sample, timestep, audio + 1)):
            assert not torch.equal(net(*changed, cache), plain)
            assert not torch.equal(net(*changed, cache), net(*changed))
        one = net(sample[1:], timestep[1:], audio[1:], cache[1:])
    torch.testing.assert_close(one, plain[1:], rtol=1e-4, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(cache, kept, strict=True))


def test_deep_features_spare_more_than_half_of_the_published_nets_operations():
    """20 steps with guidance over 16 frames at 256, every third step whole."""
    with torch.device("meta"), torch.inference_mode():
        net, cache, costs = UNet(UNetConfig()), [], []
        for _ in range(2):
            with FlopCounterMode(display=False) as counter:
                net(torch.empty(2, 13, 16, 32, 32), 500, torch.empty(2, 16, 50, 384), cache)
            costs.append(counter.get_total_flops())
    whole, between = costs
    assert 20 * whole / (7 * whole + 13 * between) > 2.4


def test_window_longer_than_the_position_tables():
    net = UNet(SMALL)
    with torch.inference_mode():
        with pytest.raises(ValueError, match="25 frames is longer than the 24 .* smaller window"):
            net(*inputs(SMALL, frames=25, size=2))
        assert net(*inputs(SMALL, frames=24, size=2)).shape == (1, 4, 24, 2, 2)
        no_motion = UNet(replace(SMALL, motion="none"))
        assert no_motion(*inputs(SMALL, frames=25, size=2)).shape == (1, 4, 25, 2, 2)


ACCELERATORS = [("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())]


@pytest.mark.parametrize(
    "device",
    [pytest.param(name, marks=pytest.mark.skipif(not there, reason="no device")) for name, there in ACCELERATORS],
)
def test_accelerator_agrees_with_position_tables_left_behind(device):
    weights, args = golden_weights(SMALL), inputs(SMALL)
    net = UNet.from_state_dict(weights, device=device)
    for module in net.modules():
        if hasattr(module, "pe"):
            module.pe = module.pe.cpu()
    with torch.inference_mode():
        out = net(*(t.to(device) for t in args)).cpu()
        assert distance(out, UNet.from_state_dict(weights)(*args)) < 1e-2
