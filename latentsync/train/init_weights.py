"""Where training of the U-Net starts from, and which of its parameters are trained."""

import difflib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import FileError, InputError
from ..files import make_folder, replacing
from ..models.folders import find_checkpoints, vae_weights
from ..models.state_dict import read_checkpoint, recognise
from ..nets.config import UNSEEN, Motion, UNetConfig
from ..nets.motion import MotionModule
from ..nets.unet import UNet
from .config import UNetTraining
from .files import find_file

log = logging.getLogger(__name__)

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

    `about` are further entries of the dict, and metadata in JSON.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    plain, safe = (stem.with_name(stem.name + suffix) for suffix in (".pt", ".safetensors"))
    make_folder(stem.parent)
    with replacing(plain) as part:
        torch.save({**about, entry: tensors}, part)
    with replacing(safe) as part:
        save_file(tensors, part, {"format": "pt"} | {name: json.dumps(value) for name, value in about.items()})
    return [plain, safe]


LIP_SYNC, STABLE_DIFFUSION = "a lip-sync U-Net", "a Stable Diffusion U-Net"
SHOWN = 5


def start_unet(config: UNetTraining) -> UNet:
    """The U-Net that training starts with: float32, on the CPU, in training mode, all of it trainable.

    `config.start` names a lip-sync checkpoint, the U-Net of Stable Diffusion 1.5 in diffusers' layout, or a folder that
    holds one of them; without it the net is fresh. Motion modules are made where `config.motion` wants some that the
    checkpoint lacks, and left out where it wants none. What is made follows from `config.run.seed`.
    """
    with seeded(config.run.seed):
        if config.start is None:
            net = UNet(config.net)
            for module in net.modules():
                if isinstance(module, MotionModule):
                    module.zero_init()
            log.info("the U-Net starts fresh, with %s parameters", f"{count_parameters(net)[1]:,}")
            return net
        path = find_start(Path(config.start), config.data.resolution)
        state, about = read_checkpoint(path)
        kind = recognise(state)
        if kind == LIP_SYNC:
            net = _from_lip_sync(state, about, path, config.motion)
        elif kind.startswith(STABLE_DIFFUSION):
            net = _from_stable_diffusion(state, path, config.net)
        else:
            raise InputError(
                f"{path} looks like {kind}: to start from, give latentsync_unet.pt or Stable Diffusion 1.5's "
                "unet/diffusion_pytorch_model.safetensors"
            )
    return net.train().requires_grad_(True)


def choose_trained(net: nn.Module, parts: Sequence[str]) -> tuple[int, int]:
    """Make only the parameters trainable whose name has one of `parts` in it; all of them without `parts`.

    A part is one or more whole elements of a dotted name: "attn2", "motion_modules", "up_blocks.3"; dots around it, as
    the published configurations have them, mean nothing more. Returns what `count_parameters` does.
    """
    parameters, trained = dict(net.named_parameters()), set()
    for part in parts:
        found = {name for name in parameters if f".{part.strip('.')}." in f".{name}."}
        if not found:
            elements = dict.fromkeys(e for name in parameters for e in name.split(".") if not e.isdigit())
            close = difflib.get_close_matches(part, elements, n=SHOWN)
            advice = f"did you mean {' or '.join(close)}?" if close else f"choose from {', '.join(elements)}"
            raise InputError(f"trained_parts has {part!r}, which is in no parameter's name: {advice}")
        trained |= found
    for name, parameter in parameters.items():
        parameter.requires_grad_(not parts or name in trained)
    return count_parameters(net)


def count_parameters(net: nn.Module) -> tuple[int, int]:
    """How many numbers of a net are trained, and how many there are."""
    counts = [(p.numel() * p.requires_grad, p.numel()) for p in net.parameters()]
    return sum(trained for trained, _ in counts), sum(count for _, count in counts)


def find_start(path: Path, resolution: int) -> Path:
    """The file itself, or that in a folder of ours or of diffusers."""
    if not path.is_dir():
        return find_file(path, resolution)
    if (found := find_checkpoints(path).unet) is not None:
        return found
    inner = path / "unet" if (path / "unet").is_dir() else path
    try:
        return vae_weights(inner)  # diffusers gives its files the same names for every net
    except FileError as error:
        raise FileError(
            f"{path} holds neither latentsync_unet.pt nor diffusion_pytorch_model.safetensors: give the file"
        ) from error


def _from_lip_sync(state: Mapping[str, Tensor], about: Mapping[str, str], path: Path, motion: Motion) -> UNet:
    # Without the motion modules of blocks where the net has none, as in the published program. Copies, since training
    # would write into the mapped file's pages otherwise.
    kept = {"none": (), "up": ("up_blocks.",), "all": ("",)}[motion]
    wanted = [name for name in state if "motion_modules." not in name or name.startswith(kept)]
    copies = {name: state[name].to(torch.float32, copy=True) for name in wanted}
    try:
        net = UNet.from_state_dict(copies, about=about, motion=motion)
    except ValueError as error:
        raise InputError(f"{path} looks like {LIP_SYNC} but does not load: {error}") from error
    fresh, left_out = len(net.state_dict()) - len(copies), len(state) - len(copies)
    taken = "the U-Net starts from %s: %d tensors taken, %d fresh, %d left out (motion modules)"
    log.info(taken, path, len(copies), fresh, left_out)
    return net


def _from_stable_diffusion(state: Mapping[str, Tensor], path: Path, shape: UNetConfig) -> UNet:
    """A net with every tensor that fits, and zeros where training from an image model starts at zero.

    Its blocks are those of the file, its inputs (13, not 4), audio width (384 for Whisper tiny, not 768) and motion
    modules those of `shape`.
    """
    there = UNetConfig.from_state_dict(state, {name: str(getattr(shape, name)) for name in UNSEEN})
    blocks = {n: getattr(there, n) for n in ("block_out_channels", "layers_per_block", "block_attention")}
    net = UNet(replace(shape, **blocks))
    expected = net.state_dict()
    fitting = {name: t for name, t in state.items() if name in expected and t.shape == expected[name].shape}
    if 2 * len(fitting) < len(state):
        others = [f"{name} {tuple(t.shape)}" for name, t in state.items() if name not in fitting][:SHOWN]
        raise InputError(
            f"only {len(fitting)} of the {len(state)} tensors in {path} fit the net (not: "
            f"{', '.join(others)}, ...): give the U-Net of Stable Diffusion 1.5"
        )
    net.load_state_dict(fitting, strict=False)
    net.zero_init()
    log.info("the U-Net starts from %s: %d tensors taken, %d fresh", path, len(fitting), len(expected) - len(fitting))
    return net
