"""The hyper-parameters of the U-Net, and how they are read off a state dict."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch

from ..errors import InputError
from .loading import MAX_BLOCKS, MAX_WIDTH, axis_size

Motion = Literal["none", "up", "all"]
_size = partial(axis_size, net="LatentSync U-Net", file="latentsync_unet.pt")
# Hyper-parameters that no name or shape tells: files of nets with other numbers than 8 and 32 have them as metadata.
UNSEEN = ("n_head", "groups")


@dataclass(frozen=True)
class UNetConfig:
    """Shape of the U-Net; the defaults are those of the published LatentSync 1.5 and 1.6 weights."""

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)  # of the down blocks; the up blocks reverse them
    layers_per_block: int = 2  # of a down block; an up block has one more
    cross_attention_dim: int = 384  # width of the audio rows: 384 with Whisper tiny, 768 with Whisper small
    in_channels: int = 13  # noisy latent 4, mask 1, masked-crop latent 4, reference latent 4
    out_channels: int = 4  # epsilon
    block_attention: tuple[bool, ...] = (True, True, True, False)  # which down blocks have spatial transformers
    motion: Motion = "all"  # modules in no block (stage 1), in the up blocks, or in every down and up block
    max_frames: int = 24  # length of the position tables, and so of the longest window with motion modules
    n_head: int = 8
    groups: int = 32

    def __post_init__(self):
        if len(self.block_out_channels) != len(self.block_attention):
            raise InputError(
                f"block_attention has {len(self.block_attention)} entries and block_out_channels has "
                f"{len(self.block_out_channels)}: give one of each for every down block"
            )
        if not (1 <= len(self.block_out_channels) <= MAX_BLOCKS and 1 <= self.layers_per_block <= MAX_BLOCKS):
            raise InputError(
                f"the net has {len(self.block_out_channels)} down blocks of {self.layers_per_block} layers: "
                f"give 1 to {MAX_BLOCKS} of each"
            )
        if self.n_head < 1 or self.groups < 1:
            raise InputError(f"the net has {self.n_head} heads and {self.groups} groups: give at least one of each")
        if self.motion not in get_args(Motion):
            raise InputError(f"motion is {self.motion!r}: choose one of {', '.join(get_args(Motion))}")
        for width in self.block_out_channels:
            if not 1 <= width <= MAX_WIDTH or width % self.groups or width % self.n_head:
                raise InputError(
                    f"block_out_channels has {width}: give multiples of the {self.groups} groups and of the "
                    f"{self.n_head} heads, up to {MAX_WIDTH}"
                )

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, torch.Tensor], about: Mapping[str, str] | None = None
    ) -> "UNetConfig":
        """Reads off what names and shapes tell, and `n_head` and `groups` off `about`, the file's metadata."""
        names = state_dict.keys()
        blocks = range(_count(names, r"down_blocks\.(\d+)\."))
        modules = {name.partition(".")[0] for name in names if ".motion_modules." in name}
        motion: Motion = "all" if "down_blocks" in modules else "up" if "up_blocks" in modules else "none"
        unseen = {name: about[name] for name in UNSEEN if about and name in about}
        for name, value in unseen.items():
            if not re.fullmatch(r"[0-9]{1,5}", str(value)):
                raise InputError(f"the file's metadata has {name} = {value[:40]!r}: a whole number is needed there")
            unseen[name] = int(value)
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
            **unseen,
        )


def _count(names, pattern: str) -> int:
    """Number of different list indices that `pattern` captures; a hole among them is left to the check of all names."""
    return len({found[1] for name in names if (found := re.match(pattern, name))})
