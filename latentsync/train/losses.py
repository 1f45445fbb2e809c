"""Noise and losses of U-Net training: LatentSync, arXiv 2412.09262, sec. 3. TREPA has a module of its own.

Clips are (b, c, f, h, w) here; decoded frames are in [-1, 1].
"""

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

# Cosines stay this far from 0 and 1 in the logarithm, which bounds its slope by 1e4: float16 ends at 65504.
COSINE_MARGIN = 1e-4


def mixed_noise(shape: Sequence[int], generator: torch.Generator, a: float | None = 1.0) -> Tensor:
    """Unit normal noise of which all frames of a clip share a part ("mixed" noise, PYoCo, arXiv 2305.10474).

    The shared part has variance a^2 / (1 + a^2), which is also the correlation between two frames; None shares all of
    it (arXiv 2308.09716). `shape` is (b, c, f, h, w); the generator is of the CPU, so that a seed gives the same noise
    on every device.
    """
    b, c, _, h, w = shape
    shared = torch.randn((b, c, 1, h, w), generator=generator)
    if a is None:
        return shared.expand(tuple(shape)).contiguous()
    independent = torch.randn(tuple(shape), generator=generator)
    return (a * shared + independent) / (1 + a**2) ** 0.5


def one_step_estimate(noisy: Tensor, predicted_noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor) -> Tensor:
    """The clean latents that a noise prediction stands for (DDPM, arXiv 2006.11239, eq. 4, solved for x_0), float32.

    Latents and noise are (b, c, f, h, w), time steps (b,) in 0 .. 999, and `alphas_cumprod` is abar of every time step.
    """
    abar = alphas_cumprod.to(noisy.device)[timesteps].reshape(-1, 1, 1, 1, 1)
    return (noisy - (1 - abar).sqrt() * predicted_noise) / abar.sqrt()


def noise_loss(
    predicted: Tensor, noise: Tensor, timesteps: Tensor, alphas_cumprod: Tensor, snr_gamma: float | None = None
) -> Tensor:
    """Mean squared error of a noise prediction, with tensors as in `one_step_estimate`.

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

    Computed in float32; the loss and its gradients are finite for every cosine. It is ln 2 for a net that always says
    0.5. Embeddings are (b, d), of unit length and non-negative; `target`, (b,) or one number, is 1 for frames and audio
    of the same place and 0 for those of different places.
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
    middle = predicted.shape[3] // 2
    halves = (rearrange(clips[..., middle:, :].float(), "b c f h w -> (b f) c h w") for clips in (predicted, target))
    with torch.autocast(predicted.device.type, enabled=False):
        return net(*halves).mean()
