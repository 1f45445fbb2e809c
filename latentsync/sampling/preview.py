"""A quick look at a window that is being denoised."""

import torch
from torch import Tensor

from ..frames import as_float, as_uint8
from ..models.load import LipSyncModel
from .sample import BatchSizes, decode_window


@torch.no_grad()
def preview(model: LipSyncModel, latents: Tensor, crop: Tensor, mask: Tensor) -> Tensor:
    """The middle one of a window's latents (1, 4, f, h, w), laid into its crop (r, r, 3): uint8, on the CPU."""
    middle = latents.shape[2] // 2
    pictures = as_float(crop[None]).permute(0, 3, 1, 2) * 2 - 1
    shown = decode_window(model, latents[:, :, middle : middle + 1], pictures, mask, BatchSizes())
    return as_uint8((shown[0].permute(1, 2, 0) + 1) / 2).cpu()
