"""The golden numbers, and the weights that belong to them.

The environment variable LATENTSYNC_GOLDEN names another directory of golden files, made with another seed.
"""

import importlib.util
import json
import os
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent / "golden"


def directory() -> Path:
    """The directory of the golden files."""
    return Path(os.environ.get("LATENTSYNC_GOLDEN") or HERE)


def json_of(name: str) -> dict:
    """Contents of `<name>.json`, or of `name` if it ends so."""
    return json.loads((directory() / name).with_suffix(".json").read_text(encoding="utf-8"))


def tensors(name: str) -> dict[str, torch.Tensor]:
    """Contents of `<name>.safetensors`, or of `name` if it ends so."""
    return load_file((directory() / name).with_suffix(".safetensors"))


def seed() -> int:
    """The seed that weights and inputs of the golden files were made with."""
    return json_of("audio")["seed"]


@cache
def golden_init():
    """The module that makes the weights."""
    spec = importlib.util.spec_from_file_location("golden_init", HERE / "golden_init.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def state_dict(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights that `model` had when the golden files were made."""
    return golden_init().golden_state_dict(model, seed())
