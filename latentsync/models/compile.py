"""torch.compile for the nets, and the way back where it does not work."""

import logging
from collections.abc import Callable, Sequence

import torch
from torch import nn

logger = logging.getLogger(__name__)


def compile_nets(nets: Sequence[nn.Module], backend: str | Callable = "inductor") -> None:
    """Have `nets` compiled when they are first called, in place.

    A second number of frames is compiled for any number of them: one short window costs one compilation, and the next
    ones none. Where compiling fails (no Triton, no C++ compiler, too new a Python), the log says why, once, and all of
    `nets` go on as they were.
    """
    from torch._dynamo.exc import TorchDynamoException  # imports for seconds

    plain = [net.forward for net in nets]

    def give_up(error: Exception) -> None:
        for net, forward in zip(nets, plain, strict=True):
            net.forward = forward
        reason = getattr(error, "inner_exception", error)
        said = (str(reason).strip() or type(reason).__name__).splitlines()[0]
        logger.warning("torch.compile does not work here (%.200s): going on without it", said)

    def with_way_back(original: Callable, compiled: Callable) -> Callable:
        def forward(*args, **kwargs):
            try:
                return compiled(*args, **kwargs)
            except TorchDynamoException as error:
                give_up(error)
            return original(*args, **kwargs)

        return forward

    try:
        for net, original in zip(nets, plain, strict=True):
            net.forward = with_way_back(original, torch.compile(original, backend=backend))
    except RuntimeError as error:  # what it does not support at all
        give_up(error)
