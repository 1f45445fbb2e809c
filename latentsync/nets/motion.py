"""Motion modules: the transformers over time that stage 2 of LatentSync (arXiv 2412.09262) adds.

Their layout is that of AnimateDiff (arXiv 2307.04725).
"""

import numpy as np
import torch
from einops import rearrange
from torch import nn

from .layers import Attention, FeedForward, Parts, Recomputed


def position_table(max_frames: int, width: int) -> torch.Tensor:
    """(1, max_frames, width) float32: sines of the frame number on even columns, cosines on odd ones."""
    frame = np.arange(max_frames, dtype=np.float32)[:, None]
    angles = frame * np.exp(np.arange(0, width, 2, dtype=np.float32) * np.float32(-np.log(10000) / width))
    return torch.from_numpy(np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(1, max_frames, width))


class PositionTable(nn.Module):
    """Adds frame positions to x (n, frames, width)."""

    def __init__(self, max_frames: int, width: int):
        super().__init__()
        table = torch.empty(1, max_frames, width)
        # A net that is to be filled from a file has no memory yet, and the sizes are the file's.
        self.register_buffer("pe", table if table.is_meta else table.copy_(position_table(max_frames, width)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # `to`: under partial offload the table may lie on another device, or in another dtype, than the input.
        return x + self.pe[:, : x.shape[1]].to(x)


class TemporalAttention(Attention):
    """Self-attention over frames; queries, keys and values all carry the positions."""

    def __init__(self, width: int, max_frames: int, parts: Parts):
        super().__init__(width, width, parts)
        self.pos_encoder = PositionTable(max_frames, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(self.pos_encoder(x))


class TemporalBlock(nn.Module):
    """Two self-attentions over frames and a feed-forward; each residual."""

    def __init__(self, width: int, max_frames: int, parts: Parts):
        super().__init__()
        self.attention_blocks = nn.ModuleList(TemporalAttention(width, max_frames, parts) for _ in range(2))
        self.norms = nn.ModuleList(parts.operations.LayerNorm(width) for _ in range(2))
        self.ff = FeedForward(width, parts)
        self.ff_norm = parts.operations.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attention(norm(x))
        return x + self.ff(self.ff_norm(x))


class TemporalTransformer(nn.Module):
    """A transformer over the frames of each latent pixel; x is ((b f), c, h, w)."""

    def __init__(self, channels: int, max_frames: int, parts: Parts):
        super().__init__()
        self.norm = parts.operations.GroupNorm(parts.groups, channels, eps=1e-6)
        self.proj_in = parts.operations.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels, max_frames, parts)])
        self.proj_out = parts.operations.Linear(channels, channels)

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        h, w = x.shape[-2:]
        tokens = rearrange(self.norm(x), "(b f) c h w -> (b h w) f c", f=frames)
        tokens = self.proj_out(self.transformer_blocks[0](self.proj_in(tokens)))
        return x + rearrange(tokens, "(b h w) f c -> (b f) c h w", h=h, w=w)


class MotionModule(Recomputed):
    """The temporal transformer that follows a layer of the U-Net, under the name the checkpoints give it."""

    def __init__(self, channels: int, max_frames: int, parts: Parts):
        super().__init__()
        self.channels = channels
        self.temporal_transformer = TemporalTransformer(channels, max_frames, parts)

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        return self.temporal_transformer(x, frames)

    def zero_init(self) -> None:
        """Make the module the identity: a U-Net that gets new motion modules then starts from what it computed."""
        nn.init.zeros_(self.temporal_transformer.proj_out.weight)
        nn.init.zeros_(self.temporal_transformer.proj_out.bias)
