"""VideoMAE v2 features against the published program's, and the names and shapes of its checkpoint."""

import sys

import golden_data
import numpy as np
import pytest
import torch

from latentsync.train import trepa
from latentsync.train.trepa import VideoMAE, load_trepa, published_name, read_config, trepa_loss


@pytest.fixture(scope="module", autouse=True)
def narrow_nets_have_the_golden_number_of_heads():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(trepa.HEADS, 48, golden_data.json_of("trepa")["num_heads"])
        yield


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    """The golden weights under the names of the published checkpoint."""
    array = golden_data.golden_init().golden_array
    shapes = golden_data.json_of("state_dict_keys/videomaev2_vit_giant_tiny")
    return {name: torch.from_numpy(array(name, tuple(shape), golden_data.seed())) for name, shape in shapes.items()}


@pytest.fixture(scope="module")
def net(weights) -> VideoMAE:
    return VideoMAE.from_state_dict(weights)


def clip(tag: int) -> torch.Tensor:
    rng = np.random.default_rng([golden_data.seed(), 1000 + tag])
    return torch.from_numpy(rng.standard_normal((1, 3, 16, 64, 64), dtype=np.float32) * np.float32(0.5))


def test_same_numbers_as_the_published_program(net):
    golden = golden_data.tensors("trepa")
    a, b = clip(13), clip(14)
    with torch.inference_mode():
        assert (net(a) - golden["features_a"]).abs().max() < 1e-5
        assert (net(b) - golden["features_b"]).abs().max() < 1e-5
        assert trepa_loss(net, a, b).item() == pytest.approx(golden["loss"].item(), rel=1e-3)


@pytest.mark.parametrize(("width", "heads"), [(384, 6), (768, 12), (1024, 16), (1280, 16), (1408, 16)])
def test_shapes_come_from_the_weights_and_heads_are_those_of_published_widths(width, heads):
    shapes = {"patch_embed.proj.weight": (width, 3, 2, 14, 14)}
    shapes |= {f"blocks.{i}.mlp.fc1.weight": (4 * width, width) for i in range(3)}
    read = read_config({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert (read.hidden_size, read.num_hidden_layers, read.num_attention_heads) == (width, 3, heads)
    assert (read.intermediate_size, read.patch_size, read.tubelet_size, read.num_frames) == (4 * width, 14, 2, 16)


def test_every_weight_is_used_and_the_position_table_is_real(weights, net):
    assert not any(tensor.is_meta for tensor in [*net.parameters(), *net.buffers()])
    used = sum(p.numel() for p in net.parameters())
    assert used == sum(t.numel() for name, t in weights.items() if not name.startswith("head."))
    assert not any(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize(("old", "new"), [("q_bias", "query.bias"), ("v_bias", "value.bias")])
def test_names_of_older_transformers_are_known(old, new):
    block = "backbone.encoder.layer.3.attention.attention."
    assert published_name(block + old) == published_name(block + new) == (f"blocks.3.attn.{old}", None)


def test_checkpointing_keeps_less_and_gives_the_same_gradients(net):
    gradients, kept = [], []
    for enable in (lambda: None, net.enable_gradient_checkpointing):
        enable()
        predicted, target, sizes = clip(13).requires_grad_(), clip(14).requires_grad_(), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            loss = trepa_loss(net, predicted, target)
        kept.append(sum(sizes))
        loss.backward()
        assert target.grad is None
        gradients.append(predicted.grad)
    net.eval()
    assert gradients[0].isfinite().all() and gradients[0].abs().sum(dim=(0, 1, 3, 4)).min() > 0
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-12)
    assert kept[1] < 0.8 * kept[0]


def test_the_features_see_the_order_of_frames_and_values_cut_to_their_range(net):
    with torch.inference_mode():
        moving, bright = clip(13), torch.ones(1, 3, 16, 32, 32)
        still = moving[:, :, :1].expand(-1, -1, 16, -1, -1)
        assert torch.allclose(net(still), net(still.flip(2)), atol=1e-6)
        assert not torch.allclose(net(moving), net(moving.flip(2)), atol=1e-4)
        torch.testing.assert_close(net(3 * bright), net(bright))
        assert net(moving.half()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"give \(b, 3, 16, h, w\)"):
        net(torch.zeros(1, 3, 8, 64, 64))


def test_files_load_in_the_wanted_dtype(tmp_path, weights, net):
    torch.save({"module": {name: tensor.half() for name, tensor in weights.items()}}, tmp_path / "vit.pth")
    loaded = load_trepa(tmp_path / "vit.pth")
    assert next(loaded.parameters()).dtype == torch.float32
    with torch.inference_mode():
        assert (loaded(clip(13)) - net(clip(13))).abs().max() < 1e-3


def test_what_cannot_be_loaded_is_named(tmp_path, monkeypatch, weights):
    wrong = weights | {"blocks.0.attn.qkv.weight": torch.zeros(96, 48), "blocks.0.attn.k_bias": torch.zeros(48)}
    del wrong["blocks.1.attn.q_bias"]
    message = (
        r"1 missing \(blocks.1.attn.q_bias \(48,\)\); 1 unexpected \(blocks.0.attn.k_bias \(48,\)\); "
        r"1 of the wrong shape \(blocks.0.attn.qkv.weight \(96, 48\), expected \(144, 48\)\)"
    )
    with pytest.raises(ValueError, match=message):
        VideoMAE.from_state_dict(wrong)
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "vgg.pth")
    with pytest.raises(ValueError, match="vgg.pth .*looks? like a VGG, not a VideoMAE v2"):
        load_trepa(tmp_path / "vgg.pth")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match="pip install transformers"):
        VideoMAE.from_state_dict(weights)
