"""The estimated memory of a step: its parts, what lowers it, and the figures in the presets."""

import re
import sys
from pathlib import Path

import pytest
import torch
from small_nets import frozen_nets
from torch import nn
from toy import ToyTask, configured

from latentsync.train.config import PRESETS, UNetTraining, load_config
from latentsync.train.memory import LiveBytes, Memory, estimate_memory
from latentsync.train.unet import UNetTask

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
import training_memory  # noqa: E402

SMALL = ["net.block_out_channels=[32]", "net.block_attention=[true]", "net.cross_attention_dim=32"]
SMALL += [f"files.{name}=unused" for name in ("vae", "whisper", "syncnet", "vgg16", "videomae")]
SMALL += ["net.layers_per_block=1", "start=null", "data.resolution=64"]


def test_live_bytes_are_those_of_tensors_that_are_still_there():
    x = torch.zeros(1000)
    with LiveBytes() as live:
        y = x + 1
        z = y.view(10, 100)[3:]
        assert live.now == 4000
        y = (z * 2).half()  # the first product is gone, z holds all of its storage
        assert (live.now, live.peak) == (4000 + 1400, 4000 + 2800 + 1400)
        z.add_(1)
        del y, z
        assert live.now == 0
        w = torch.zeros(1000, requires_grad=True)
        w.sin().exp().sum().backward()  # keeps the result of exp for its gradient
        assert live.now == 8000  # w and its gradient


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_parts_of_a_step(accumulate, tmp_path):
    config = configured(tmp_path, net=50_000, accumulate=accumulate, batch_size=1)
    task = ToyTask(config)
    task.frozen_nets = [nn.Linear(10, 10)]
    task.net[0].requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in task.net.state_dict().items()}
    memory = estimate_memory(task, task.data[0], config)
    last = 4 * 50_001
    assert (memory.weights, memory.gradients, memory.frozen) == (last + 4 * 5 * 50_000, last, 440)
    assert memory.optimizer == 2 * last + 2 * 4  # two averages, and the number of steps of each tensor
    # the hidden layer before and after dropout and its mask, or the step's one temporary for each weight
    assert 2 * 4 * 50_000 < memory.activations < 4 * 4 * 50_000 * accumulate
    assert memory.total == sum(vars(memory).values()) and str(memory).startswith("0.0 GB (weights 0.0,")
    assert all(torch.equal(before[name], tensor) for name, tensor in task.net.state_dict().items())
    assert all(parameter.grad is None for parameter in task.net.parameters())


def estimated(*overrides: str) -> Memory:
    config = load_config(UNetTraining, "stage2_efficient", [*SMALL, *overrides])
    task = UNetTask(config, frozen_nets().cast(torch.float16 if config.frozen_half else torch.float32), data=[])
    task.net.gradient_checkpointing = config.run.gradient_checkpointing
    shapes = dict.fromkeys(("pixels", "reference_pixels"), (3, 16, 64, 64)) | {"audio": (16, 50, 32)}
    sample = {name: torch.empty(shape) for name, shape in (shapes | {"mel": (1, 80, 52)}).items()}
    return estimate_memory(task, sample, config)


def test_what_lowers_the_memory_of_the_unet():
    more, less = estimated("frozen_half=false", "run.gradient_checkpointing=false"), estimated()
    assert less.frozen < 0.6 * more.frozen and less.activations < 0.8 * more.activations
    assert less.weights == more.weights and less.gradients < less.weights


def test_a_loss_of_unknown_shape_has_no_estimate(tmp_path):
    class Picky(ToyTask):
        def loss(self, net, batch):
            return {"loss": net(batch["x"][batch["x"][:, 0] > 0]).mean()}

    task = Picky(configured(tmp_path))
    assert estimate_memory(task, task.data[0], task.config) is None


def test_the_presets_say_what_the_benchmark_prints():
    for preset in (*training_memory.PUBLISHED_GB, *training_memory.SYNCNETS):
        header = (PRESETS / f"{preset}.yaml").read_text(encoding="utf-8").splitlines()[0]
        assert re.search(r"estimated: [\d.]+ GB by benchmarks/training_memory.py$", header)
    estimate = training_memory.estimate("syncnet_16_latent").total / 1e9
    stated = (PRESETS / "syncnet_16_latent.yaml").read_text(encoding="utf-8")
    assert float(re.search(r"estimated: ([\d.]+) GB", stated)[1]) == pytest.approx(estimate, abs=0.1)
