"""The golden numbers, and the weights that belong to them.

The environment variable LATENTSYNC_GOLDEN names another directory of golden files, made with another seed.
"""

import importlib.util
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
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


def normals(tag: int, shape: tuple[int, ...], scale: float) -> torch.Tensor:
    """An input that no file holds: float32 normals times `scale`."""
    values = np.random.default_rng([seed(), 1000 + tag]).standard_normal(shape, dtype=np.float32)
    return torch.from_numpy(values * np.float32(scale))


def wave() -> torch.Tensor:
    """The sound of the golden files: a wavering tone, (samples,) float32 at 16 kHz."""
    t = np.arange(int(json_of("audio")["seconds"] * 16000)) / 16000
    tone = 0.4 * np.sin(2 * np.pi * (180 + 40 * np.sin(2 * np.pi * 0.7 * t)) * t)
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * (2.3 + 0.1 * seed()) * t)
    return torch.from_numpy((tone * loudness + 0.05 * np.sin(2 * np.pi * 3100 * t)).astype(np.float32))
