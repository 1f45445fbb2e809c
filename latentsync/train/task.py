"""What the training loop needs to know about a thing that is trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn


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
        """Scalars, each a mean over the batch: "loss" is minimised, the others are its parts and other metrics.

        The keys are the same at every step. `net` may be wrapped for several GPUs; runs under autocast.
        """

    def save(self, state_dict: Mapping[str, Tensor], folder: Path, step: int) -> list[Path]:
        """Write weights of `net` in the published layout, as .pt and as .safetensors; returns the files."""

    def validate(self, net: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Metrics of `net`, which is unwrapped and in eval mode, on held-out data; {} without any.

        `folder` is for pictures and clips; it exists.
        """

    def warning(self, metrics: Mapping[str, float], step: int) -> str | None:
        """Called with every line of the log: a sentence for the person who watches, if something looks wrong."""
