"""A quick look at latents while they are denoised, without the VAE's decoder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from ..frames import Frames, as_float
from ..models.load import LipSyncModel

SAMPLES = 4  # crops that the colours are fitted to


@dataclass(frozen=True)
class LatentPreview:
    """A linear map from latents to colours, fitted to one clip: it suits any VAE and knows this clip's light.

    Attributes:
        weight: (channels + 1, 3) float32 on the CPU, the last row for a constant.
        spread: standard deviation of the latents it was fitted to.
    """

    weight: Tensor
    spread: float

    @classmethod
    def fit(cls, latents: Tensor, pictures: Tensor) -> "LatentPreview":
        """The best map in the least-squares sense from latents (n, c, h, w) to pictures (n, H, W, 3) in [0, 1]."""
        latents = latents.to("cpu", torch.float32).nan_to_num()
        small = F.interpolate(pictures.to("cpu", torch.float32).movedim(-1, 1), size=latents.shape[-2:], mode="area")
        rows, colours = _rows(latents), small.movedim(1, -1).reshape(-1, 3)
        # gelsd: plain grey crops make the rows depend on each other, and the shortest solution is the one wanted.
        weight = torch.linalg.lstsq(rows, colours, driver="gelsd").solution
        return cls(weight, float(latents.std()))

    def picture(self, latent: Tensor) -> np.ndarray:
        """One frame's latent (c, h, w), however noisy, as uint8 (h, w, 3)."""
        latent = latent.to("cpu", torch.float32).nan_to_num()
        spread = float(latent.std())
        # Some samplers begin with noise many times larger than any picture's latents.
        if spread > self.spread > 0:
            latent = latent * (self.spread / spread)
        colours = (_rows(latent[None]) @ self.weight).reshape(*latent.shape[1:], 3)
        return colours.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()


class StepPreviews:
    """The picture of each denoising step's latents; on CUDA that of the step before.

    By then the GPU has begun the next step, and goes on while the CPU waits and draws.
    """

    def __init__(self, preview: LatentPreview):
        self.preview = preview
        self._last: tuple[Tensor, torch.cuda.Event] | None = None

    def __call__(self, latent: Tensor) -> np.ndarray | None:
        """uint8 (h, w, 3) of one frame's latent (c, h, w); None where there is no step before."""
        if latent.device.type != "cuda":
            return self.preview.picture(latent)
        last, copied = self._last, torch.cuda.Event()
        self._last = latent.to("cpu", non_blocking=True), copied
        copied.record()
        if last is None:
            return None
        latent, copied = last
        copied.synchronize()
        return self.preview.picture(latent)


@torch.no_grad()
def fit_preview(model: LipSyncModel, crops: Frames, frames: Sequence[int]) -> LatentPreview:
    """The preview for a clip's crops ((n, resolution, resolution, 3) each), fitted to a few of those numbered `frames`.

    Raises:
        ValueError: `frames` is empty.
    """
    if not frames:
        raise InputError("no frame shows the face: there is nothing to fit a preview to")
    chosen = [frames[i * len(frames) // SAMPLES] for i in range(SAMPLES)] if len(frames) > SAMPLES else list(frames)
    pictures = as_float(crops[chosen])
    # One at a time, which always fits where the run itself does.
    latents = torch.cat([model.encode(one).cpu() for one in (pictures.movedim(-1, 1) * 2 - 1).split(1)])
    return LatentPreview.fit(latents, pictures)


def _rows(latents: Tensor) -> Tensor:
    """(n, c, h, w) as (n * h * w, c + 1), the last column ones."""
    rows = latents.movedim(1, -1).flatten(0, 2)
    return torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
