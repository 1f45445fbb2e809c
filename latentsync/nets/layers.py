"""The blocks of the U-Net that act within frames: residual blocks, spatial transformers and resampling.

Pictures inside are ((b f), c, h, w): convolutions and spatial attention see single frames.
The layout is that of Stable Diffusion 1.5 (arXiv 2112.10752); LatentSync (arXiv 2412.09262) adds the frame axis.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn
from torch.utils.checkpoint import checkpoint

AttentionFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

# CUDA's attention kernels put batch and heads on grid axes that end at 65535. Temporal attention has a batch entry
# for every latent pixel: two clips of 64 x 64 latents and 8 heads are 65536 already.
MAX_ATTENTION_BATCH = 65535


@dataclass(frozen=True)
class Parts:
    """What the blocks are made of.

    `operations` has Conv2d, Linear, GroupNorm and LayerNorm with torch.nn's signatures; `attention` maps q, k and v
    of (batch, n_head, n, d) to the same shape as q.
    """

    operations: Any
    attention: AttentionFunction
    n_head: int
    groups: int


class Recomputed(nn.Module):
    """A block that, with `recompute` set, drops its activations and computes them again in the backward pass."""

    recompute = False

    def __call__(self, *args):
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(super().__call__, *args, use_reentrant=False)
        return super().__call__(*args)


class MadeOfRecomputed(nn.Module):
    """A net with `Recomputed` blocks somewhere in it."""

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether the backward pass computes activations again, block by block, instead of keeping them."""
        return any(module.recompute for module in self.modules() if isinstance(module, Recomputed))

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, enabled: bool) -> None:
        for module in self.modules():
            if isinstance(module, Recomputed):
                module.recompute = enabled


class Attention(nn.Module):
    """Multi-head attention of x (b, n, width) to `context` (b, m, context_width), or to x itself."""

    def __init__(self, width: int, context_width: int, parts: Parts):
        super().__init__()
        self.attention, self.n_head = parts.attention, parts.n_head
        self.to_q = parts.operations.Linear(width, width, bias=False)
        self.to_k = parts.operations.Linear(context_width, width, bias=False)
        self.to_v = parts.operations.Linear(context_width, width, bias=False)
        self.to_out = nn.ModuleList([parts.operations.Linear(width, width)])

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        context = x if context is None else context
        qkv = self.to_q(x), self.to_k(context), self.to_v(context)
        heads = [rearrange(t, "b n (head d) -> b head n d", head=self.n_head) for t in qkv]
        pieces = math.ceil(len(x) * self.n_head / MAX_ATTENTION_BATCH)
        outs = [self.attention(*piece) for piece in zip(*(t.chunk(pieces) for t in heads), strict=True)]
        out = outs[0] if len(outs) == 1 else torch.cat(outs)
        return self.to_out[0](rearrange(out, "b head n d -> b n (head d)"))


class FeedForward(nn.Module):
    """A linear layer of which one half is gated by the exact (erf) GELU of the other, then one back."""

    def __init__(self, width: int, parts: Parts):
        super().__init__()
        gated = nn.Module()
        gated.proj = parts.operations.Linear(width, 8 * width)
        # The checkpoints number the layers 0 and 2: between them stood a dropout of rate 0.
        self.net = nn.ModuleList([gated, nn.Identity(), parts.operations.Linear(4 * width, width)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.net[0].proj(x).chunk(2, dim=-1)
        return self.net[2](value * F.gelu(gate))


class SpatialBlock(nn.Module):
    """Self-attention over the pixels of a frame, attention to its audio rows, feed-forward; each residual."""

    def __init__(self, width: int, audio_width: int, parts: Parts):
        super().__init__()
        self.norm1 = parts.operations.LayerNorm(width)
        self.attn1 = Attention(width, width, parts)
        self.norm2 = parts.operations.LayerNorm(width)
        self.attn2 = Attention(width, audio_width, parts)
        self.ff = FeedForward(width, parts)
        self.norm3 = parts.operations.LayerNorm(width)

    def forward(self, x: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), audio)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(Recomputed):
    """A transformer over the pixels of each frame; x is ((b f), c, h, w), audio ((b f), rows, audio_width)."""

    def __init__(self, channels: int, audio_width: int, parts: Parts):
        super().__init__()
        self.norm = parts.operations.GroupNorm(parts.groups, channels, eps=1e-6)
        self.proj_in = parts.operations.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([SpatialBlock(channels, audio_width, parts)])
        self.proj_out = parts.operations.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        tokens = rearrange(self.proj_in(self.norm(x)), "bf c h w -> bf (h w) c")
        tokens = self.transformer_blocks[0](tokens, audio)
        return x + self.proj_out(rearrange(tokens, "bf (h w) c -> bf c h w", h=x.shape[-2]))


def norm_clips(norm: nn.Module, x: torch.Tensor, frames: int) -> torch.Tensor:
    """Group norm of ((b f), c, h, w) whose statistics run over all frames of a clip, not over single ones."""
    clips = rearrange(x, "(b f) c h w -> b c f h w", f=frames)
    return rearrange(norm(clips), "b c f h w -> (b f) c h w")


class ResnetBlock(Recomputed):
    """Two convolutions with the timestep added between them; x is ((b f), c, h, w), time (b, time_width)."""

    def __init__(self, in_channels: int, channels: int, time_width: int, parts: Parts):
        super().__init__()
        operations = parts.operations
        self.norm1 = operations.GroupNorm(parts.groups, in_channels, eps=1e-5)
        self.conv1 = operations.Conv2d(in_channels, channels, 3, padding=1)
        self.time_emb_proj = operations.Linear(time_width, channels)
        self.norm2 = operations.GroupNorm(parts.groups, channels, eps=1e-5)
        self.conv2 = operations.Conv2d(channels, channels, 3, padding=1)
        self.conv_shortcut = operations.Conv2d(in_channels, channels, 1) if in_channels != channels else None

    def forward(self, x: torch.Tensor, time: torch.Tensor, frames: int) -> torch.Tensor:
        shift = self.time_emb_proj(F.silu(time)).repeat_interleave(frames, dim=0)
        hidden = self.conv1(F.silu(norm_clips(self.norm1, x, frames)))
        hidden = hidden + shift[:, :, None, None]
        hidden = self.conv2(F.silu(norm_clips(self.norm2, hidden, frames)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class Downsample(nn.Module):
    """Half the height and width, by a strided convolution."""

    def __init__(self, channels: int, parts: Parts):
        super().__init__()
        self.conv = parts.operations.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Twice the height and width, by repeating pixels and a convolution."""

    def __init__(self, channels: int, parts: Parts):
        super().__init__()
        self.conv = parts.operations.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Expanding works in every dtype on every device; F.interpolate lacks bfloat16 in some.
        n, c, h, w = x.shape
        return self.conv(x[:, :, :, None, :, None].expand(n, c, h, 2, w, 2).reshape(n, c, 2 * h, 2 * w))


class TimestepEmbedding(nn.Module):
    """Timesteps (b,) -> (b, 4 * width): a sinusoid of `width` columns, then linear, SiLU, linear."""

    def __init__(self, width: int, parts: Parts):
        super().__init__()
        self.width = width
        self.linear_1 = parts.operations.Linear(width, 4 * width)
        self.linear_2 = parts.operations.Linear(4 * width, 4 * width)

    def forward(self, timestep: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        half = self.width // 2
        # float32 whatever the weights are: in 16 bits neighbouring timesteps would coincide.
        columns = torch.arange(half, dtype=torch.float32, device=timestep.device)
        angles = timestep.to(torch.float32)[:, None] * torch.exp(-math.log(10000) / half * columns)
        sinusoid = torch.cat([angles.cos(), angles.sin()], dim=1)
        return self.linear_2(F.silu(self.linear_1(sinusoid.to(dtype))))
