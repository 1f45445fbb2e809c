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


class TemporalAttention(Attention):
    """Self-attention over frames; queries, keys and values all carry the positions."""

    def __init__(self, width: int, max_frames: int, parts: Parts):
        super().__init__(width, width, parts)
        self.pos_encoder = nn.Module()
        table = torch.empty(1, max_frames, width)
        # A net that is to be filled from a file has no memory yet, and the sizes are the file's.
        self.pos_encoder.register_buffer(
            "pe", table if table.is_meta else table.copy_(position_table(max_frames, width))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # `to`: under partial offload the table may lie on another device, or in another dtype, than the input.
        return super().forward(x + self.pos_encoder.pe[:, : x.shape[1]].to(x))


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


class MotionModule(Recomputed):
    """A transformer over the frames of each latent pixel, which follows a layer of the U-Net; x is ((b f), c, h, w)."""

    def __init__(self, channels: int, max_frames: int, parts: Parts):
        super().__init__()
        self.channels = channels
        self.temporal_transformer = inner = nn.Module()  # as the checkpoints call it
        inner.norm = parts.operations.GroupNorm(parts.groups, channels, eps=1e-6)
        inner.proj_in = parts.operations.Linear(channels, channels)
        inner.transformer_blocks = nn.ModuleList([TemporalBlock(channels, max_frames, parts)])
        inner.proj_out = parts.operations.Linear(channels, channels)

    def forward(self, x: torch.Tensor, frames: int) -> torch.Tensor:
        inner, (h, w) = self.temporal_transformer, x.shape[-2:]
        tokens = rearrange(inner.norm(x), "(b f) c h w -> (b h w) f c", f=frames)
        tokens = inner.proj_out(inner.transformer_blocks[0](inner.proj_in(tokens)))
        return x + rearrange(tokens, "(b h w) f c -> (b f) c h w", h=h, w=w)

    def zero_init(self) -> None:
        """Make the module the identity: a U-Net that gets new motion modules then starts from what it computed."""
        nn.init.zeros_(self.temporal_transformer.proj_out.weight)
        nn.init.zeros_(self.temporal_transformer.proj_out.bias)
