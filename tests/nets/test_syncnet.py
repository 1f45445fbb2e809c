"""StableSyncNet against the published program's numbers and names, and what must hold of any such net."""

import hashlib
from dataclasses import replace

import golden_data
import pytest
import torch

from latentsync.audio.syncnet import mel_columns
from latentsync.nets.syncnet import SHIPPED, EncoderConfig, StableSyncNet, Stage, SyncNetConfig

SMALL = SyncNetConfig(
    visual=EncoderConfig.from_table(6, (32, 64, 64, 32, 32, 64), (2, 2, 2, 1, 2, 2), (0, 0, 1, 1, 0, 0)),
    audio=EncoderConfig.from_table(1, (32, 32, 32, 32, 64, 64), ((2, 1), 2, 2, 2, 2, (2, 3)), (0, 0, 0, 0, 0, 1)),
)
FRAME_SIZES = {"16_pixel_attn": (128, 256), "16_pixel": (128, 256), "16_latent": (32, 32), "25_pixel": (128, 256)}


@pytest.fixture(scope="module")
def small():
    return StableSyncNet.from_state_dict(golden_data.state_dict(StableSyncNet(SMALL)))


def inputs(batch: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.randn(batch, *shape, generator=generator) for shape in ((6, 32, 32), (1, 80, 52)))


def test_same_numbers_as_the_published_program():
    published = golden_data.json_of("syncnet_stable")
    config = SyncNetConfig(*(EncoderConfig.from_table(**published[f"{kind}_encoder"]) for kind in ("visual", "audio")))
    net = StableSyncNet.from_state_dict(golden_data.state_dict(StableSyncNet(config)))
    golden = golden_data.tensors("syncnet_stable")
    with torch.inference_mode():
        vision, audio = net(golden_data.normals(3, (2, 48, 128, 256), 0.5), golden["mel_windows"])
    assert net.config == config
    assert (vision - golden["vision"]).abs().max() <= 1e-4 and (audio - golden["audio"]).abs().max() <= 1e-4


@pytest.mark.parametrize("name", SHIPPED)
def test_published_names_and_shapes(name):
    with torch.device("meta"):
        state = StableSyncNet(SHIPPED[name]).state_dict()
    assert SyncNetConfig.from_state_dict(state) == SHIPPED[name]
    shapes = {name: list(tensor.shape) for name, tensor in state.items()}
    if name == "25_pixel":  # the digest of the published class with the published configuration
        lines = "\n".join(f"{name} {shape}" for name, shape in sorted(shapes.items()))
        assert (len(state), hashlib.sha256(lines.encode()).hexdigest()[:16]) == (162, "a6406d45d4a76c93")
    else:
        assert shapes == golden_data.json_of(f"state_dict_keys/stable_syncnet_{name}")


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_encoders_end_in_one_pixel_and_narrow_ones_are_read_off_too(name):
    def narrow(encoder):
        return EncoderConfig(encoder.in_channels, tuple(replace(stage, channels=64) for stage in encoder.stages))

    shipped = SHIPPED[name]
    net = StableSyncNet(SyncNetConfig(narrow(shipped.visual), narrow(shipped.audio), shipped.frames))
    assert SyncNetConfig.from_state_dict(net.state_dict()) == net.config
    frames = torch.zeros(1, shipped.visual.in_channels, *FRAME_SIZES[name])
    with torch.inference_mode():
        vision, audio = net(frames, torch.zeros(1, 1, 80, mel_columns(shipped.frames)))
    assert vision.shape == audio.shape == (1, 64) and mel_columns(shipped.frames) == {16: 52, 25: 80}[shipped.frames]


def test_embeddings_are_unit_vectors_without_negative_entries_whatever_else_is_in_the_batch(small):
    frames, mel = inputs()
    with torch.inference_mode():
        for together, alone in zip(small(frames, mel), small(frames[1:2], mel[1:2]), strict=True):
            assert torch.allclose(together.norm(dim=1), torch.ones(3)) and together.min() >= 0
            assert (together[1:2] - alone).abs().max() < 1e-5


def test_hyper_parameters_come_back_from_a_state_dict_without_a_copy(small):
    weights = small.state_dict()
    again = StableSyncNet.from_state_dict(weights)
    assert again.config == SMALL
    assert all(tensor.data_ptr() == weights[name].data_ptr() for name, tensor in again.state_dict().items())


def test_a_net_unlike_the_shipped_ones_needs_its_config():
    config = replace(SMALL, visual=EncoderConfig(6, (Stage(32), Stage(64))))
    weights = golden_data.state_dict(StableSyncNet(config))
    with pytest.raises(ValueError, match=r"for 16 frames has 2 stages and divides in \[0, 1\].*give its config"):
        StableSyncNet.from_state_dict(weights)
    assert StableSyncNet.from_state_dict(weights, config=config).config == config


def test_dropout_works_in_training_only(small):
    config = SyncNetConfig(*(replace(encoder, dropout=0.5) for encoder in (SMALL.visual, SMALL.audio)))
    net = StableSyncNet.from_state_dict(small.state_dict(), config=config)
    with torch.inference_mode():
        plain = small(*inputs())
        assert all(map(torch.equal, net(*inputs()), plain))
        assert not any(map(torch.equal, net.train()(*inputs()), plain))


def test_gradient_checkpointing_keeps_less_and_changes_no_gradient():
    def gradients(checkpointing: bool) -> tuple[int, list[torch.Tensor]]:
        net = StableSyncNet.from_state_dict(golden_data.state_dict(StableSyncNet(SMALL)))
        net.gradient_checkpointing = checkpointing
        assert net.gradient_checkpointing == checkpointing
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
            vision, audio = net(*inputs(batch=1))
        (vision * audio).sum().backward()
        return sum(kept), [parameter.grad for parameter in net.parameters()]

    (most, expected), (least, found) = gradients(False), gradients(True)
    assert least < most / 2
    assert all((a - b).abs().max() <= 1e-6 for a, b in zip(found, expected, strict=True))


def test_16_bit_weights_give_float32_embeddings(small):
    """As near to float32 as rounding explains: the same net in float32 whose layers each round their outputs."""
    net = StableSyncNet.from_state_dict(small.state_dict(), dtype=torch.bfloat16)
    rounded = StableSyncNet.from_state_dict(net.state_dict(), dtype=torch.float32)
    for module in rounded.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, __, output: output.bfloat16().float())
    exact = [x.bfloat16().float() for x in inputs()]
    with torch.inference_mode():
        rough, simulated, plain = net(*(x.bfloat16() for x in inputs())), rounded(*exact), small(*exact)
    for a, b, c in zip(rough, simulated, plain, strict=True):
        assert a.dtype == torch.float32 and torch.allclose(a.norm(dim=1), torch.ones(3))
        assert (a - c).norm(dim=1).max() <= 4 * (b - c).norm(dim=1).max()


@pytest.mark.parametrize("foreign", [{}, {"state_dict": {}}, {"visual_encoder.down_blocks.0.conv1.weight": 3}])
def test_foreign_weights_are_refused(foreign):
    with pytest.raises(ValueError, match="not the complete weights of a StableSyncNet"):
        StableSyncNet.from_state_dict(foreign)


def test_inputs_of_another_size_are_refused(small):
    with pytest.raises(ValueError, match="in the sizes that this SyncNet was trained on"):
        small(torch.zeros(3, 6, 64, 64), inputs()[1])


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (((32, 64), (2,), (0, 0)), r"\(2, 1, 2\) entries"),
        (((32, 40), (2, 2), (0, 0)), "40 channels"),
        (((32,), ((2, 0),), (0,)), r"factor \(2, 0\)"),
        (((), (), ()), "0 stages: give 1 to 64"),
        (((32,) * 65, (1,) * 65, (0,) * 65), "65 stages"),
        (((2**16 + 32,), (2,), (0,)), "65568 channels"),
    ],
)
def test_bad_tables_are_refused(table, words):
    with pytest.raises(ValueError, match=words):
        EncoderConfig.from_table(1, *table)
    EncoderConfig.from_table(1, (2**16,) * 64, (1,) * 64, (0,) * 64)
