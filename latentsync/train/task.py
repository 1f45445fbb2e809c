"""What the training loop needs to know about a thing that is trained."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn


class Samples(Protocol):
    """Training samples, numbered from 0 without end, all with the same keys and shapes.

    Everything random about sample n follows from the run's seed and n; "seed" is an int64 scalar for further draws.
    A method `fill(progress)`, if there is one, computes what is cached and is called before the first sample.
    """

    def __getitem__(self, n: int) -> dict[str, Tensor]: ...


class Task:
    """One kind of training: a net, its data and its loss."""

    net: nn.Module  # float32; its parameters that require gradients are trained
    data: Samples
    frozen_nets: Sequence[nn.Module] = ()  # that help to train it or to make its data

    def to(self, device: torch.device) -> None:
        """Move the frozen nets; the loop moves `net`."""
        for net in self.frozen_nets:
            nn.Module.to(net, device)  # diffusers' own `to` logs about casts

    def loss(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Scalars, each a mean over the batch: "loss" is minimised, the others are its parts and other metrics.

        The keys are the same at every step. `net` may be wrapped for several GPUs; runs under autocast.
        """
        raise NotImplementedError

    def save(self, state_dict: Mapping[str, Tensor], folder: Path, step: int) -> list[Path]:
        """Write weights of `net` in the published layout, as .pt and as .safetensors; returns the files."""
        raise NotImplementedError

    def validate(self, net: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Metrics of `net`, unwrapped and in eval mode, on held-out data; `folder` exists and is for clips."""
        return {}

    def warning(self, metrics: Mapping[str, float], step: int) -> str | None:
        """A sentence for the person who watches, if a line of the log looks wrong."""
        return None


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """`net` in evaluation mode in the block, and as it was after it."""
    training = net.training
    net.eval()
    try:
        yield
    finally:
        net.train(training)
