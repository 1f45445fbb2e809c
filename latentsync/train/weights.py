"""Weights of a net that is trained: fresh ones that follow from a seed, and the files that hold them."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..files import replacing

DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # by `run.precision`


def frozen_dtype(config: Any) -> torch.dtype:
    """Of the frozen nets; `config` has `frozen_half` and `run`."""
    return DTYPES[config.run.precision] if config.frozen_half else torch.float32


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """PyTorch's random numbers on the CPU follow from `seed` in the block, and are as they were after it."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


def write_weights(
    stem: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], entry: str = "state_dict"
) -> list[Path]:
    """Write `stem`.pt, a dict with the tensors as its `entry`, and `stem`.safetensors; returns both files.

    Args:
        stem: the files without their endings; the folder is made.
        about: what stands beside the weights: entries of the dict, and metadata in JSON.

    Raises:
        OSError: they cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    plain, safe = (stem.with_name(stem.name + suffix) for suffix in (".pt", ".safetensors"))
    stem.parent.mkdir(parents=True, exist_ok=True)
    with replacing(plain) as part:
        torch.save({**about, entry: tensors}, part)
    with replacing(safe) as part:
        save_file(tensors, part, {"format": "pt"} | {name: json.dumps(value) for name, value in about.items()})
    return [plain, safe]
