"""Noise and losses of U-Net training: LatentSync, arXiv 2412.09262, sec. 3.

Clips are (b, c, f, h, w) here; decoded frames are in [-1, 1]. TREPA has a module of its own.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor, nn

from ..nets.loading import assign, check_state_dict
from ..weights import load_state_dict, recognise

# Cosines stay this far from 0 and 1 in the logarithm, which bounds its slope by 1e4: float16 ends at 65504.
_COSINE_MARGIN = 1e-4


def mixed_noise(shape: Sequence[int], generator: torch.Generator, a: float | None = 1.0) -> Tensor:
    """Unit normal noise of which all frames of a clip share a part ("mixed" noise, PYoCo, arXiv 2305.10474).

    Args:
        shape: (b, c, f, h, w).
        generator: of the CPU, so that a seed gives the same noise on every device.
        a: the shared part has variance a^2 / (1 + a^2), which is also the correlation between two frames;
            >= 0. None: all of it is shared (arXiv 2308.09716).

    Returns:
        float32 on the CPU.

    Raises:
        ValueError: a shape without five axes, or a negative `a`.
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

    Args:
        latents, noise: (b, c, f, h, w).
        timesteps: (b,) integers, one of 0 .. 999 for each clip.
        alphas_cumprod: abar of every time step, (1000,), on any device.

    Returns:
        The shape of `latents`, float32 or wider.
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
    """Mean squared error of a noise prediction, which may count less where there is little noise.

    Args:
        predicted, noise: (b, c, f, h, w).
        timesteps, alphas_cumprod: as in `add_noise`.
        snr_gamma: a clip counts min(snr, snr_gamma) / snr, with the ratio snr of signal to noise at its time step
            (min-SNR, arXiv 2303.09556): the less, the more training is about what cannot be seen through the noise.
            None weighs all alike, as published.
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

    Args:
        vision, audio: (b, d), of unit length and non-negative, so that the cosine lies in [0, 1].
        target: (b,) or one number: 1 for frames and audio of the same place, 0 for those of different places.

    Returns:
        The mean over the batch: ln 2 for a net that always says 0.5.

    Raises:
        ValueError: the embeddings differ in shape.
    """
    if vision.ndim != 2 or vision.shape != audio.shape:
        raise ValueError(f"embeddings are {tuple(vision.shape)} and {tuple(audio.shape)}: give two of the same (b, d)")
    cosine = (vision.float() * audio.float()).sum(dim=1)
    # The bound is added as a constant: clamping alone would cut off the gradient where it is needed most.
    inner = cosine + (cosine.clamp(_COSINE_MARGIN, 1 - _COSINE_MARGIN) - cosine).detach()
    # Not F.binary_cross_entropy, which refuses to run under autocast.
    return -(target * inner.log() + (1 - target) * (1 - inner).log()).mean()


def lpips_loss(net: nn.Module, predicted: Tensor, target: Tensor) -> Tensor:
    """LPIPS distance between the lower halves of frames, where the mouth is: the mean over clips and frames.

    Computed in float32 also under autocast, because squared VGG features leave the range of float16.

    Args:
        net: from `load_lpips`.
        predicted, target: (b, 3, f, h, w) in [-1, 1]; a half must be at least 16 x 16.
    """
    if predicted.ndim != 5 or predicted.shape != target.shape:
        raise ValueError(f"clips are {tuple(predicted.shape)} and {tuple(target.shape)}: give two of (b, 3, f, h, w)")
    with torch.autocast(predicted.device.type, enabled=False):
        return net(_lower_halves(predicted), _lower_halves(target)).mean()


def _lower_halves(clips: Tensor) -> Tensor:
    return rearrange(clips[..., clips.shape[3] // 2 :, :].float(), "b c f h w -> (b f) c h w")


def load_lpips(path: str | Path | None = None, *, random_weights: bool = False) -> nn.Module:
    """The LPIPS distance (lpips.LPIPS with its VGG 16 heads, version 0.1), frozen, float32, on the CPU.

    Args:
        path: torchvision's VGG 16, `vgg16-397923af.pth`; its classifier is not used. Nothing is ever downloaded.
        random_weights: leave VGG at random weights instead, to try a training program out without the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, or neither a file nor random weights, or both.
        ImportError: the lpips package is missing.
    """
    if (path is None) != random_weights:
        raise ValueError(
            f"LPIPS got the file {path} and random_weights={random_weights}: give either the path of "
            "vgg16-397923af.pth or random_weights=True"
        )
    try:
        import lpips
    except ImportError as error:
        raise ImportError("the LPIPS loss needs the lpips package: pip install lpips") from error

    with torch.device("meta"):  # VGG's classifier, nine tenths of its weights, is never made
        net = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    heads = load_state_dict(Path(lpips.__file__).parent / "weights" / "v0.1" / "vgg.pth")
    assign(net.lins, {name.removeprefix("lin"): tensor for name, tensor in heads.items()})
    assign(net.net, _random_vgg(net.net) if path is None else _read_vgg(path, net.net), torch.float32)
    return net.eval().requires_grad_(False)


def _read_vgg(path: str | Path, slices: nn.Module) -> dict[str, Tensor]:
    """The weights in torchvision's file under the names of lpips, which cuts VGG into `slices`.

    The layers keep their numbers: slice3.10.weight is features.10.weight.
    """
    weights = load_state_dict(path)
    names = {name: f"features.{name.split('.', 1)[1]}" for name in slices.state_dict()}
    features = {name: tensor for name, tensor in weights.items() if not name.startswith("classifier.")}
    try:
        check_state_dict({names[name]: t for name, t in slices.state_dict().items()}, features, "VGG 16")
    except ValueError as error:
        raise ValueError(f"{path} looks like {recognise(weights)}: {error}") from error
    return {name: features[source] for name, source in names.items()}


def _random_vgg(slices: nn.Module) -> dict[str, Tensor]:
    """Weights that keep the size of the signal from layer to layer, and biases of zero."""
    shapes = {name: tensor.shape for name, tensor in slices.state_dict().items()}
    return {
        name: torch.zeros(shape) if len(shape) == 1 else nn.init.kaiming_normal_(torch.empty(shape))
        for name, shape in shapes.items()
    }
