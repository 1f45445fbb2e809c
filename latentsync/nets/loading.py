"""Strict loading of state dicts, with a message that says what does not fit."""

from collections.abc import Mapping

import torch
from torch import nn

from ..errors import InputError

SHOWN_KEYS = 5
# What a file's names and shapes may ask for, far above any published net: modules take time to make, even without
# memory for their weights.
MAX_BLOCKS, MAX_WIDTH = 64, 1 << 16


def check_state_dict(expected: Mapping[str, torch.Tensor], state_dict: Mapping[str, torch.Tensor], net: str) -> None:
    """Refuse names and shapes other than those of `expected`, whose tensors may be on the meta device.

    The message calls the network `net` and shows the first five faults of each kind.
    """
    faults = {"missing": [], "unexpected": [], "of the wrong shape": [], "of the wrong type": []}
    for name, tensor in expected.items():
        if name not in state_dict:
            faults["missing"].append(f"{name} {_shape(tensor)}")
        elif _shape(state_dict[name]) != _shape(tensor):
            faults["of the wrong shape"].append(f"{name} {_shape(state_dict[name])}, expected {_shape(tensor)}")
        elif tensor.is_floating_point() != state_dict[name].is_floating_point():
            faults["of the wrong type"].append(f"{name} {state_dict[name].dtype}")
    faults["unexpected"] = [f"{name} {_shape(tensor)}" for name, tensor in state_dict.items() if name not in expected]
    shown = {kind: found[:SHOWN_KEYS] + ["..."] * (len(found) > SHOWN_KEYS) for kind, found in faults.items()}
    told = "; ".join(f"{len(faults[kind])} {kind} ({'; '.join(names)})" for kind, names in shown.items() if names)
    if told:
        raise InputError(f"the weights do not fit the {net}: {told}: give a complete, unmodified checkpoint of it")


def assign(
    net: nn.Module,
    state_dict: Mapping[str, torch.Tensor],
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> None:
    """Put checked tensors into `net`, which may be on the meta device.

    The net shares memory with `state_dict` wherever dtype and device already fit (None: as they are).
    """
    net.load_state_dict({name: t.to(device=device, dtype=dtype) for name, t in state_dict.items()}, assign=True)


def load_foreign(net: nn.Module, state_dict: Mapping[str, torch.Tensor], file: object, title: str, wanted: str) -> None:
    """Put the tensors of `file` into a net of another package, which may be on the meta device; `wanted` fits it."""
    try:
        net.load_state_dict(state_dict, assign=next(net.parameters()).is_meta)
    except RuntimeError as error:
        first = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()[:200]
        raise InputError(f"{file}: does not fit {title} ({first}); give {wanted}") from error


def axis_size(state_dict: Mapping[str, torch.Tensor], name: str, axis: int, net: str, file: str) -> int:
    """Length of an axis of the tensor that a hyper-parameter of `net` is read off."""
    tensor = state_dict.get(name)
    if isinstance(tensor, torch.Tensor) and tensor.ndim > axis and tensor.numel():
        return tensor.shape[axis]
    first = ", ".join(list(state_dict)[:SHOWN_KEYS]) or "none"
    raise InputError(
        f"not the complete weights of a {net}: no usable {name} among {len(state_dict)} keys ({first}): give the inner "
        f"state dict of {file}"
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
        """The net with these weights, strictly loaded, in eval mode; see `assign` for dtype and device.

        Only the batch counters of batch norms, which evaluation has no use for, may be missing (PyTorch before 0.4.1).
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
