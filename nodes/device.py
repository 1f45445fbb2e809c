"""The device for nets that are not models of ComfyUI's memory management: lent for one node's work, then given back."""

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management as mm
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle


@contextmanager
def on_device(net: nn.Module, memory_required: int) -> Iterator[torch.device]:
    """`net` on the device in the block and on the CPU after it, as ComfyUI does it with upscale models.

    ComfyUI makes room for the weights and `memory_required` bytes beside them. Before every convolution a cancel is
    looked for: one face takes a large net on a CPU many seconds.
    """
    device = mm.get_torch_device()
    mm.free_memory(mm.module_size(net) + memory_required, device)
    hooks = make_interruptible(net)
    try:
        nn.Module.to(net, device)  # diffusers' own `to` logs about casts
        yield device
    finally:
        for hook in hooks:
            hook.remove()
        nn.Module.to(net, "cpu")


def make_interruptible(net: nn.Module) -> list[RemovableHandle]:
    """Look for the user's cancel before every convolution: one step of a large net on a CPU takes many seconds.

    Returns the hooks that do it.
    """
    layers = [module for module in net.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d))]
    return [layer.register_forward_pre_hook(_look) for layer in layers]


def _look(*_) -> None:
    mm.throw_exception_if_processing_interrupted()
