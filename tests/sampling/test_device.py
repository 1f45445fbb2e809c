"""What a GPU would wait for, on fake tensors: they have a device and no content."""

import pytest
import tiny
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from latentsync.audio.whisper import AudioFeatures
from latentsync.models.load import LipSyncModel
from latentsync.nets.unet import UNet
from latentsync.sampling import sample, schedulers
from latentsync.sampling.schedulers import make_sampler
from latentsync.settings import Settings

aten = torch.ops.aten


class Transfers(TorchDispatchMode):
    """Operations in the block for which the CPU waits, and tensors that go to the GPU."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []
        self.sent: list[Tensor] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = function._overloadpacket
        given = [tensor.device.type for tensor in tree_leaves(args) if isinstance(tensor, Tensor)]
        if packet is aten._local_scalar_dense:
            self.waits += ["item"] * ("cuda" in given)
            return 1  # fake tensors have no content
        out = function(*args, **kwargs)
        if packet is aten._linalg_check_errors and "cuda" in given:
            self.waits.append("linalg")
        if packet in (aten._to_copy, aten.copy_) and {*given, out.device.type} == {"cpu", "cuda"}:
            asynchronous = kwargs.get("non_blocking") or args[2:] == (True,)
            self.waits += [str(function)] * (not asynchronous)
            self.sent += args[:1] * (out.device.type == "cuda")
        return out


def clip(frames: int) -> tuple[Tensor, AudioFeatures]:
    rng = torch.Generator().manual_seed(3)
    crops = torch.rand(frames, 64, 64, 3, generator=rng)
    return crops, AudioFeatures(torch.randn(50, 5, 32, generator=rng), 25.0, frames)


def small_model() -> LipSyncModel:
    nets = [UNet(tiny.small_unet_config()), tiny.vae(), tiny.audio_encoder()]
    for net in nets:
        net.load_state_dict(tiny.weights(net))
    return LipSyncModel(*(net.eval().requires_grad_(False) for net in nets), resolution=64)


@pytest.mark.parametrize(
    "sampler, changes",
    [("ddim", {}), ("dpm++", {"deep_cache": 2}), ("unipc", {"guidance_end": 0.5}), ("euler", {"overlap": 1})],
)
def test_no_step_waits_for_the_gpu(sampler, changes, monkeypatch):
    """A window waits once to see whether all is finite and once for the result; what goes up is pinned."""

    def real_sampler(*args):
        with unset_fake_temporarily():
            return make_sampler(*args)

    weights, pinned = schedulers._weights, []

    def real_weights(*args):  # of a sampler on the CPU
        with unset_fake_temporarily():
            return weights(*args)

    monkeypatch.setattr(schedulers, "_weights", real_weights)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    monkeypatch.setattr(sample, "make_sampler", real_sampler)
    monkeypatch.setattr("latentsync.threads.THREADED", False)
    crops, audio = clip(7)
    settings = Settings(steps=3, window=4, sampler=sampler, **changes)
    model, at_steps = small_model(), []
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to("cuda")
    with FakeTensorMode(allow_non_fake_inputs=True), Transfers() as seen:
        for _ in sample.sync(model, crops, audio, settings, on_step=lambda *_: at_steps.append(len(seen.waits))):
            pass
    assert at_steps == [0] * 3 + [2] * 3 and seen.waits == ["item", "aten._to_copy.default"] * 2
    assert seen.sent and all(any(tensor is one for one in pinned) for tensor in seen.sent)


@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_unipc_with_weights_from_the_cpu_is_that_of_diffusers(steps):
    import diffusers

    from latentsync.sampling.schedulers import SCHEDULE

    theirs = diffusers.UniPCMultistepScheduler(**SCHEDULE)
    theirs.set_timesteps(steps)
    ours = make_sampler("unipc", steps)
    x = y = torch.randn(1, 4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for t in theirs.timesteps:
        x = ours.step(torch.tanh(x + 0.1), int(t), x).prev_sample
        y = theirs.step(torch.tanh(y + 0.1), t, y).prev_sample
    assert torch.allclose(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_channels_are_last_on_cuda_alone(device):
    model = small_model()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to(device)
        layers = [m for net in (model.unet, model.vae) for m in net.modules() if isinstance(m, nn.Conv2d)]
        last = [m.weight.is_contiguous(memory_format=torch.channels_last) for m in layers if m.kernel_size == (3, 3)]
    assert set(last) == {device == "cuda"}


def test_channels_last_give_the_same_frames():
    model, (crops, audio) = small_model(), clip(7)
    settings = Settings(steps=2, window=4)
    plain = torch.cat(list(sample.sync(model, crops, audio, settings)))
    for net in (model.unet, model.vae):
        nn.Module.to(net, memory_format=torch.channels_last)
    assert (torch.cat(list(sample.sync(model, crops, audio, settings))) - plain).abs().max() < 1e-4
