"""Noise and losses of U-Net training: LatentSync, arXiv 2412.09262, sec. 3.

Clips are (b, c, f, h, w) here; decoded frames are in [-1, 1]. TREPA has a module of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..evaluate.sync_score import SyncScorer
from ..sampling.latents import decode_clips
from .trepa import trepa_loss

# Cosines stay this far from 0 and 1 in the logarithm, which bounds its slope by 1e4: float16 ends at 65504.
COSINE_MARGIN = 1e-4


def mixed_noise(shape: Sequence[int], generator: torch.Generator, a: float | None = 1.0) -> Tensor:
    """Unit normal noise of which all frames of a clip share a part ("mixed" noise, PYoCo, arXiv 2305.10474).

    Args:
        shape: (b, c, f, h, w).
        generator: of the CPU, so that a seed gives the same noise on every device.
        a: the shared part has variance a^2 / (1 + a^2), which is also the correlation between two frames;
            >= 0. None: all of it is shared (arXiv 2308.09716).
    """
    if len(shape) != 5 or (a is not None and a < 0):
        raise ValueError(f"noise has shape {tuple(shape)} and a = {a}: give (b, c, f, h, w) and a >= 0")
    b, c, _, h, w = shape
    shared = torch.randn((b, c, 1, h, w), generator=generator)
    if a is None:
        return shared.expand(tuple(shape)).contiguous()
    independent = torch.randn(tuple(shape), generator=generator)
    return (a * shared + independent) / (1 + a**2) ** 0.5


def add_noise(latents: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """Latents at their time step: sqrt(abar) * latents + sqrt(1 - abar) * noise (DDPM, arXiv 2006.11239, eq. 4).

    Latents and noise are (b, c, f, h, w), time steps (b,) in 0 .. 999, and `alphas_cumprod` is abar of every time step,
    (1000,). Computed in float32.
    """
    signal, spread = _coefficients(latents, timesteps, alphas_cumprod)
    return signal * latents + spread * noise


def one_step_estimate(noisy: Tensor, predicted_noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The clean latents that a noise prediction stands for: the inverse of `add_noise`, with its shapes and dtypes."""
    signal, spread = _coefficients(noisy, timesteps, alphas_cumprod)
    return (noisy - spread * predicted_noise) / signal


def _coefficients(latents: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(abar) and sqrt(1 - abar) of each clip, in float32 and broadcastable to `latents`."""
    if timesteps.shape != latents.shape[:1]:
        raise ValueError(f"time steps have shape {tuple(timesteps.shape)}: give one for each of {len(latents)} clips")
    abar = alphas_cumprod.to(latents.device, torch.float32)[timesteps.to(latents.device)]
    abar = abar.reshape(-1, *[1] * (latents.ndim - 1))
    return abar.sqrt(), (1 - abar).sqrt()


def noise_loss(
    predicted: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor, snr_gamma: float | None = None
) -> Tensor:
    """Mean squared error of a noise prediction, with tensors as in `add_noise`.

    With `snr_gamma` a clip counts min(snr, snr_gamma) / snr, with the ratio snr of signal to noise at its time step
    (min-SNR, arXiv 2303.09556): the less, the more training is about what cannot be seen through the noise. None weighs
    all alike, as published.
    """
    errors = (predicted - noise).square().flatten(1).mean(dim=1)
    if snr_gamma is not None:
        abar = alphas_cumprod.to(errors)[timesteps.to(errors.device)]
        snr = abar / (1 - abar)
        errors = errors * snr.clamp(max=snr_gamma) / snr
    return errors.mean()


def sync_loss(vision: Tensor, audio: Tensor, target: Tensor | float) -> Tensor:
    """Binary cross-entropy of the cosine between StableSyncNet's embeddings, taken as a probability of being in sync.

    Computed in float32 whatever the dtype of the embeddings; the loss and its gradients are finite for every cosine.
    Its mean over the batch is ln 2 for a net that always says 0.5.

    Args:
        vision, audio: (b, d), of unit length and non-negative, so that the cosine lies in [0, 1].
        target: (b,) or one number: 1 for frames and audio of the same place, 0 for those of different places.
    """
    if vision.ndim != 2 or vision.shape != audio.shape:
        raise ValueError(f"embeddings are {tuple(vision.shape)} and {tuple(audio.shape)}: give two of the same (b, d)")
    cosine = (vision.float() * audio.float()).sum(dim=1)
    # The bound is added as a constant: clamping alone would cut off the gradient where it is needed most.
    inner = cosine + (cosine.clamp(COSINE_MARGIN, 1 - COSINE_MARGIN) - cosine).detach()
    # Not F.binary_cross_entropy, which refuses to run under autocast.
    return -(target * inner.log() + (1 - target) * (1 - inner).log()).mean()


def lpips_loss(net: nn.Module, predicted: Tensor, target: Tensor) -> Tensor:
    """LPIPS distance between the lower halves of clips (b, 3, f, h, w) in [-1, 1], where the mouth is: the mean.

    Computed in float32 also under autocast, because squared VGG features leave the range of float16.
    """
    if predicted.ndim != 5 or predicted.shape != target.shape:
        raise ValueError(f"clips are {tuple(predicted.shape)} and {tuple(target.shape)}: give two of (b, 3, f, h, w)")
    middle = predicted.shape[3] // 2
    halves = (rearrange(clips[..., middle:, :].float(), "b c f h w -> (b f) c h w") for clips in (predicted, target))
    with torch.autocast(predicted.device.type, enabled=False):
        return net(*halves).mean()


@dataclass(frozen=True)
class Truth:
    """What the estimate is compared with; `pixels` is None for samples of latents, `mel` may be without a sync loss."""

    latents: Tensor
    pixels: Tensor | None = None
    mel: Tensor | None = None


@dataclass(frozen=True)
class Supervision:
    """The losses on the estimate that are wanted, by the frozen nets that they need; None: this one is not computed.

    vae: for the nets that see pixels.
    judge: for `sync`, and for TREPA where `motion_by_judge`.
    sync: whether the sound must fit.
    motion_by_judge: TREPA by SyncNet's embeddings of the frames instead of VideoMAE's, for small models.
    """

    vae: nn.Module
    judge: SyncScorer | None = None
    sync: bool = False
    lpips: nn.Module | None = None
    trepa: nn.Module | None = None
    motion_by_judge: bool = False

    @property
    def is_empty(self) -> bool:
        return self.judge is None and self.lpips is None and self.trepa is None

    @property
    def needs_pixels(self) -> bool:
        """Whether the estimate must be decoded."""
        return self.lpips is not None or self.trepa is not None or (self.judge is not None and self.judge.sees_pixels)

    def losses(self, estimate: Tensor, truth: Truth) -> dict[str, Tensor]:
        """The wanted of "sync", "lpips" and "trepa", each the mean over the batch; gradients flow to `estimate`.

        Where the true pixels are wanted and the sample came as latents, their decoded pictures stand for them.
        """
        decoded = decode_clips(self.vae, estimate) if self.needs_pixels else None
        found = {}
        if self.judge is not None:
            seen = self.judge.embed_video(decoded if self.judge.sees_pixels else estimate)
        if self.sync:
            if truth.mel is None:
                raise ValueError(f"the sync loss got samples without mel: train on {self.judge.frames} frames")
            found["sync"] = sync_loss(seen, self.judge.embed_audio(truth.mel), 1.0)
        if self.motion_by_judge:
            with torch.no_grad():
                wanted = self.judge.embed_video(self._pixels(truth) if self.judge.sees_pixels else truth.latents)
            found["trepa"] = F.mse_loss(seen, wanted)
        if self.lpips is not None:
            found["lpips"] = lpips_loss(self.lpips, decoded, self._pixels(truth))
        if self.trepa is not None:
            found["trepa"] = trepa_loss(self.trepa, decoded, self._pixels(truth))
        return found

    @torch.no_grad()
    def _pixels(self, truth: Truth) -> Tensor:
        return decode_clips(self.vae, truth.latents) if truth.pixels is None else truth.pixels
