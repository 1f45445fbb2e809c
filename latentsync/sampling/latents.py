"""Clips through the frozen VAE, a few pictures at a time: (b, 3, f, h, w) in [-1, 1] and latents, both float32.

The VAE may be in half precision, and computes in it.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..models.load import decode_latents, encode_pictures
from .sample import LATENT_SCALE, PIXELS_AT_ONCE

# With gradients the decoder keeps about 1.2 GB for each 256 x 256 picture in its part of the backward pass.
PIXELS_WITH_GRADIENTS = 2 * 256 * 256


@torch.no_grad()
def encode_clips(vae: nn.Module, clips: Tensor) -> Tensor:
    """Latents (b, c, f, h / 8, w / 8) of clips (b, 3, f, h, w); see `encode_pictures`."""
    pictures = rearrange(clips, "b c f h w -> (b f) c h w")
    parts = [encode_pictures(vae, batch) for batch in _batches(pictures, PIXELS_AT_ONCE)]
    return rearrange(torch.cat(parts), "(b f) c h w -> b c f h w", b=len(clips))


def decode_clips(vae: nn.Module, latents: Tensor) -> Tensor:
    """Clips (b, 3, f, 8h, 8w), about [-1, 1] and not clamped, of latents (b, c, f, h, w).

    Gradients flow to `latents` if they are wanted; then activations are computed again in the backward pass, a few
    pictures at a time, because all of them at once would fill the GPU.
    """
    gradients = torch.is_grad_enabled() and latents.requires_grad
    pixels = (PIXELS_WITH_GRADIENTS if gradients else PIXELS_AT_ONCE) // LATENT_SCALE**2
    parts = [
        checkpoint(decode_latents, vae, batch, use_reentrant=False) if gradients else decode_latents(vae, batch)
        for batch in _batches(rearrange(latents, "b c f h w -> (b f) c h w"), pixels)
    ]
    return rearrange(torch.cat(parts), "(b f) c h w -> b c f h w", b=len(latents))


def _batches(pictures: Tensor, pixels: int) -> tuple[Tensor, ...]:
    return pictures.split(max(1, pixels // (pictures.shape[-2] * pictures.shape[-1])))
