"""The hyper-parameters of the U-Net, and how they are read off a state dict."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from ..errors import InputError

Motion = Literal["none", "up", "all"]
UNSEEN = ("n_head", "groups")  # hyper-parameters that no name or shape tells


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the U-Net; the defaults are those of the published LatentSync 1.5 and 1.6 weights.

    block_out_channels: width of each down block; the up blocks have them in reverse order.
    layers_per_block: layers of a down block; an up block has one more.
    cross_attention_dim: width of the audio rows (384 with Whisper tiny, 768 with Whisper small).
    in_channels: noisy latent 4, mask 1, masked-crop latent 4, reference latent 4.
    out_channels: epsilon.
    block_attention: which down blocks have spatial transformers; the up blocks have them in reverse order.
    motion: where motion modules stand: nowhere (stage 1), in the up blocks, or in every down and up block.
    max_frames: length of the position tables, and so of the longest window of a net with motion modules.
    n_head: heads of every attention. Not visible in the weights: 8 in all published configurations.
    groups: groups of every group norm. Not visible in the weights: 32 in all published configurations. Files of nets
        with other numbers say so in their metadata (`UNSEEN`).
    """

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    cross_attention_dim: int = 384
    in_channels: int = 13
    out_channels: int = 4
    block_attention: tuple[bool, ...] = (True, True, True, False)
    motion: Motion = "all"
    max_frames: int = 24
    n_head: int = 8
    groups: int = 32

    def __post_init__(self):
        if len(self.block_out_channels) != len(self.block_attention):
            raise InputError(
                f"block_attention has {len(self.block_attention)} entries and block_out_channels has "
                f"{len(self.block_out_channels)}: give one of each for every down block"
            )
        if not self.block_out_channels or self.layers_per_block < 1:
            raise InputError(
                f"the net has {len(self.block_out_channels)} down blocks of {self.layers_per_block} layers: "
                "give at least one of each"
            )
        if self.motion not in get_args(Motion):
            raise InputError(f"motion is {self.motion!r}: choose one of {', '.join(get_args(Motion))}")
        for width in self.block_out_channels:
            if width < 1 or width % self.groups or width % self.n_head:
                raise InputError(
                    f"block_out_channels has {width}: give multiples of the {self.groups} groups and of the "
                    f"{self.n_head} heads"
                )

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, torch.Tensor], about: Mapping[str, str] | None = None
    ) -> "UNetConfig":
        """Read every hyper-parameter that names and shapes tell.

        Args:
            about: what the file says beside the weights. `n_head` and `groups` are looked for here, and keep their
                defaults where it does not tell.
        """
        names = state_dict.keys()
        blocks = range(_count(names, r"down_blocks\.(\d+)\."))
        motion: Motion = "none"
        if any(name.startswith("up_blocks.") and ".motion_modules." in name for name in names):
            motion = "up"
        if any(name.startswith("down_blocks.") and ".motion_modules." in name for name in names):
            motion = "all"
        table = next((name for name in names if name.endswith(".pos_encoder.pe")), None)
        audio = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"
        return cls(
            in_channels=_size(state_dict, "conv_in.weight", 1),
            block_out_channels=tuple(_size(state_dict, f"down_blocks.{i}.resnets.0.conv1.weight", 0) for i in blocks),
            layers_per_block=_count(names, r"down_blocks\.0\.resnets\.(\d+)\."),
            cross_attention_dim=_size(state_dict, audio, 1),
            out_channels=_size(state_dict, "conv_out.weight", 0),
            block_attention=tuple(_count(names, rf"down_blocks\.{i}\.attentions\.(\d+)\.") > 0 for i in blocks),
            motion=motion,
            max_frames=cls.max_frames if table is None else _size(state_dict, table, 1),
            **{name: _whole(name, about[name]) for name in UNSEEN if about and name in about},
        )


def _count(names, pattern: str) -> int:
    """Number of different list indices that `pattern` captures; a hole among them is left to the check of all names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})


def _whole(name: str, value: str) -> int:
    if not str(value).isdecimal():
        raise InputError(f"the file's metadata has {name} = {value!r}: a whole number is needed there")
    return int(value)


def _size(state_dict: Mapping[str, torch.Tensor], name: str, axis: int) -> int:
    tensor = state_dict.get(name)
    if isinstance(tensor, torch.Tensor) and tensor.ndim > axis:
        return tensor.shape[axis]
    found = "is missing" if tensor is None else f"has shape {tuple(getattr(tensor, 'shape', ()))}"
    first = ", ".join(list(state_dict)[:5]) or "none"
    raise InputError(
        f"not the complete weights of a LatentSync U-Net: {name} {found} among {len(state_dict)} keys ({first}): "
        "give the inner state dict of latentsync_unet.pt"
    )
