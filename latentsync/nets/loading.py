"""Strict loading of state dicts, with a message that says what does not fit."""

from collections.abc import Mapping

import torch
from torch import nn

from ..errors import InputError

SHOWN_KEYS = 5


def check_state_dict(expected: Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor], net: str) -> None:
    """Compare names and shapes with those of `expected` (a state dict; its tensors may be on the meta device)."""
    missing = [f"{name} {_shape(tensor)}" for name, tensor in expected.items() if name not in state_dict]
    unexpected = [f"{name} {_shape(tensor)}" for name, tensor in state_dict.items() if name not in expected]
    misshapen = [
        f"{name} {_shape(state_dict[name])}, expected {_shape(tensor)}"
        for name, tensor in expected.items()
        if name in state_dict and _shape(state_dict[name]) != _shape(tensor)
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", misshapen))
    faults = [f"{len(found)} {kind} ({_first(found)})" for kind, found in kinds if found]
    if faults:
        raise InputError(
            f"the weights do not fit the {net}: {'; '.join(faults)}: give a complete, unmodified checkpoint of it"
        )


def assign(
    net: nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Put checked tensors into `net`, which may be on the meta device, without a second copy.

    The net shares memory with `state_dict` wherever dtype and device already fit (None: as they are).
    """
    net.load_state_dict(
        {name: tensor.to(device=device, dtype=dtype) for name, tensor in state_dict.items()}, assign=True
    )


class FixedNet(nn.Module):
    """A net of one published shape, called `title` in messages."""

    title: str

    @classmethod
    def from_state_dict(
        cls,
        state_dict: Mapping[str, torch.Tensor],
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        """The net with these weights, strictly loaded, ready to judge (in eval mode).

        Only the batch counters of batch norms may be missing, as in files from before PyTorch 0.4.1: judging has no
        use for them.

        Args:
            dtype, device: of the weights; None leaves them as they are, without a copy.
        """
        with torch.device("meta"):
            net = cls()
        expected = net.state_dict()
        counters = {name: torch.tensor(0) for name in expected if name.endswith("num_batches_tracked")}
        state_dict = counters | dict(state_dict)
        check_state_dict(expected, state_dict, cls.title)
        assign(net, state_dict, dtype, device)
        return net.eval()


def _shape(value: object) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__


def _first(found: list[str]) -> str:
    return "; ".join(found[:SHOWN_KEYS]) + ("; ..." if len(found) > SHOWN_KEYS else "")
