"""A running average of the weights, which is often better than the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """An exponential moving average of the trained parameters of a net.

    After n updates the average moves by 1 - min(decay, (1 + n) / (10 + n)) towards the weights: the start, which is far
    from where training ends, is soon forgotten.

    Args:
        net: its parameters that require gradients are averaged, in float32 and on their device.
        decay: between 0 and 1; 0.9999 averages over about 10,000 steps.
    """

    def __init__(self, net: nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.average = {
            name: parameter.detach().float().clone()
            for name, parameter in net.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Call after every step of the optimizer, with the net that it was made of."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        parameters = dict(net.named_parameters())
        for name, average in self.average.items():
            average.lerp_(parameters[name].float(), 1 - decay)

    @contextmanager
    def in_place(self, net: nn.Module) -> Iterator[None]:
        """In a `with` block `net` has the averaged weights."""
        self._exchange(net)
        try:
            yield
        finally:
            self._exchange(net)

    @torch.no_grad()
    def _exchange(self, net: nn.Module) -> None:
        parameters = dict(net.named_parameters())
        for name, average in self.average.items():
            weights = parameters[name].detach().clone()
            parameters[name].copy_(average)
            average.copy_(weights)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages, and how many updates they have seen."""
        return self.average | {"updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take on what `state_dict` gave.

        Raises:
            ValueError: it belongs to other parameters.
        """
        if {*state} != {*self.average, "updates"}:
            raise ValueError("the saved average of the weights is of other parameters than those trained now")
        self.updates = int(state["updates"])
        for name, average in self.average.items():
            average.copy_(state[name])
