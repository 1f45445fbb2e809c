"""GPU memory of a training step, counted without a GPU: it runs on fake tensors, which have sizes and no content."""

import copy
import itertools
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from .init_weights import DTYPES
from .task import Task


@dataclass(frozen=True)
class Memory:
    """Bytes at the highest point of a step."""

    weights: int  # of the net that is trained, float32
    gradients: int  # of its trained weights
    optimizer: int
    frozen: int  # weights of the other nets
    activations: int  # and all the rest: half-precision weights, temporaries of the optimizer, the batch

    @property
    def total(self) -> int:
        return sum(asdict(self).values())

    def __str__(self) -> str:
        parts = ", ".join(f"{name} {size / 1e9:.1f}" for name, size in asdict(self).items())
        return f"{self.total / 1e9:.1f} GB ({parts})"


def estimate_memory(task: Task, sample: Mapping[str, Tensor], config: Any) -> Memory | None:
    """What one step of `task` takes on one GPU; None if the shapes in its loss depend on what is in the batch.

    Without what CUDA, cuDNN and the averages of `run.ema` take, and the gaps in the allocator's memory. The nets may be
    on any device, also on meta, and stay as they are. Of the sample only shapes and dtypes count.
    """
    size, dtype = config.run.batch_size, DTYPES[config.run.precision]
    seeds, mode = torch.zeros(size, dtype=torch.int64), FakeTensorMode(allow_non_fake_inputs=True)
    fake, memo = copy.copy(task), {}  # with fake tensors on the CPU for those of its nets
    fake.data = None
    with mode:
        for tensor in itertools.chain.from_iterable(map(_tensors, (task.net, *task.frozen_nets))):
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
            memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
    fake = copy.deepcopy(fake, memo)
    trained = [parameter for parameter in fake.net.parameters() if parameter.requires_grad]
    with mode, LiveBytes() as live, suppress(DynamicOutputShapeException):
        batch = {name: torch.empty(size, *tensor.shape, dtype=tensor.dtype) for name, tensor in sample.items()}
        batch["seed"] = seeds  # the one tensor whose content is looked at
        # As the loop does it on CUDA, where AdamW works on all weights at once.
        optimizer = torch.optim.AdamW(trained, lr=config.optimizer.learning_rate, foreach=True)
        for _ in range(min(2, config.run.accumulate)):  # the second meets the gradients of the first
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                loss = fake.loss(fake.net, batch)["loss"]
            loss.backward()
            del loss
        before_step, live.peak = live.peak, live.now
        optimizer.step()
        states = _size(t for state in optimizer.state.values() for t in state.values())
        gradients, weights = _size(trained), _size(_tensors(task.net))
        frozen = sum(_size(_tensors(net)) for net in task.frozen_nets)
        highest = max(before_step + states, live.peak)
        return Memory(weights, gradients, states, frozen, highest - gradients - states)
    return None


class LiveBytes(TorchDispatchMode):
    """Counts the storages that operations make in the block: `now` of those that are still there, `peak` the most.

    Those of one kind of device alone if `device` names it.
    """

    def __init__(self, device: str | None = None):
        super().__init__()
        self._device = device
        self.now = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {id(t.untyped_storage()) for t in tree_iter((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **(kwargs or {}))
        for tensor in [t for t in tree_iter(result) if isinstance(t, Tensor)]:
            if self._device not in (None, tensor.device.type):
                continue
            storage = tensor.untyped_storage()
            if id(storage) not in given and id(storage) not in self._seen:
                self._seen.add(id(storage))
                weakref.finalize(storage, self._gone, id(storage), storage.nbytes())
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
        return result

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size


def _tensors(net: nn.Module) -> Iterator[Tensor]:
    return itertools.chain(net.parameters(), net.buffers())


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
