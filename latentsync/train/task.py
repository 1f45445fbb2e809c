"""What the training loop needs to know of a thing that is trained, and the table of such things."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..errors import InputError


class Samples(Protocol):
    """Training samples, numbered from 0 without end.

    Everything random about sample n follows from the run's seed and n, so that order, workers, processes and resuming
    change nothing. All samples have the same keys and shapes; "seed" is an int64 scalar for further draws.
    There may be a method `fill(progress)`, which computes what is cached; it is called before the first sample.
    """

    def __getitem__(self, n: int) -> dict[str, Tensor]: ...


class Task(Protocol):
    """One kind of training: a net, its data and its loss.

    net: what is trained: those of its parameters that require gradients. In float32; no frozen net is part of it.
    data: the samples.
    frozen_nets: that help to train it, or to make its data.
    """

    net: nn.Module
    data: Samples
    frozen_nets: Sequence[nn.Module]

    def to(self, device: torch.device) -> None:
        """Move frozen nets; `net` is moved by the loop."""

    def loss(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars, each a mean over the batch: "loss" is minimised, the others are its parts and other figures.

        The keys are the same at every step. `net` may be wrapped for several GPUs; runs under autocast.
        """

    def save(self, state_dict: Mapping[str, Tensor], folder: Path, step: int) -> list[Path]:
        """Write weights of `net` in the published layout, as .pt and as .safetensors; returns the files."""

    def validate(self, net: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Figures of `net`, which is unwrapped and in eval mode, on held-out data; {} without any.

        `folder` is for pictures and clips; it is there.
        """

    def remark(self, figures: Mapping[str, float], step: int) -> str | None:
        """Called with every line of the log: a sentence where someone who watches should know something."""


# What can be trained: the dataclass of its configuration, and the task that is built from one. Each is a module of
# this package, imported when it is used, and a name in it.
TASKS = {
    "syncnet": (".config:SyncNetTraining", ".syncnet:SyncNetTask"),
    "unet": (".config:UNetTraining", ".unet:UNetTask"),
    "vae": ("..drawn.train.vae:VAETraining", "..drawn.train.vae:VAETask"),
    "audio_encoder": (
        "..drawn.train.audio_encoder:AudioEncoderTraining",
        "..drawn.train.audio_encoder:AudioEncoderTask",
    ),
}


def config_of(name: str) -> type:
    """The dataclass that configures the task `name`.

    Raises:
        ValueError: there is no such task.
    """
    if name not in TASKS:
        raise InputError(f"{name!r} cannot be trained: choose one of {', '.join(TASKS)}")
    return _named(TASKS[name][0])


def build_task(name: str, config: Any) -> Task:
    """The task `name` for a configuration of its kind."""
    return _named(TASKS[name][1])(config)


def _named(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module, __package__), attribute)
