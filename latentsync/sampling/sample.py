"""Condition, denoise, decode: from aligned crops and audio features to crops whose mouth speaks the audio.

Inside this file pictures are (f, 3, h, w) in [-1, 1] and latents (b, c, f, h, w); outside they are crops in [0, 1].
Windows are independent of each other given the seed, so a run can start at any frame and gives the same pixels
streamed or whole (LatentSync, arXiv 2412.09262).
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange

from ..audio.whisper import AudioFeatures
from ..errors import InputError
from ..face.masks import keep_mask
from ..frames import Frames, as_float
from ..models.load import LipSyncModel
from ..settings import Settings
from ..threads import Ahead
from .schedulers import make_sampler

log = logging.getLogger(__name__)

LATENT_SCALE = 8  # pixels per latent pixel
PIXELS_AT_ONCE = 16 * 256 * 256  # through the VAE: 16 frames at 256, 4 at 512

StepCallback = Callable[[int, int, torch.Tensor], None]
# Asked with a number of frames, at least the (start, stop) of the runs among them: one that goes on may be cut there.
Runs = Callable[[int], Sequence[tuple[int, int]]]


@dataclass
class BatchSizes:
    """What was found to fit into memory, kept for the whole of a run: pixels at once through the VAE, and whether
    both halves of the guidance go through the U-Net together."""

    pixels: int = PIXELS_AT_ONCE
    batch_cfg: bool = True


def windows(start: int, stop: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """(first, end) of the windows that cover the frames start .. stop - 1.

    Without overlap the last is shorter, as published; with overlap it is moved back to full length.
    """
    spans = []
    for first in range(start, stop, window - overlap):
        if overlap:
            first = max(start, min(first, stop - window))
        spans.append((first, min(first + window, stop)))
        if spans[-1][1] == stop:
            break
    return spans


def window_size(model: LipSyncModel, settings: Settings) -> tuple[int, int]:
    """Frames of a window and of the overlap that `sync` uses: those of `settings`, as far as the net takes them."""
    size = min(settings.window, model.max_frames or settings.window)
    return size, min(settings.overlap, size - 1)


def initial_noise(model: LipSyncModel, seed: int) -> torch.Tensor:
    """(1, 4, 1, h / 8, w / 8) float32: the noise that every frame of a clip starts from.

    Drawn on the CPU, so that a seed means the same noise on every device.
    """
    side = model.resolution // LATENT_SCALE
    return torch.randn(1, model.latent_channels, 1, side, side, generator=torch.Generator().manual_seed(seed))


def sync(
    model: LipSyncModel,
    crops: Frames,
    audio: AudioFeatures,
    settings: Settings | None = None,
    runs: Runs | None = None,
    start: int = 0,
    on_step: StepCallback | None = None,
    mask_image: np.ndarray | None = None,
    on_wait: Callable[[], None] | None = None,
) -> Iterator[torch.Tensor]:
    """Crops whose mouth speaks the audio, in order, a stretch of frames at a time.

    Args:
        model: the nets.
        crops: aligned crops, [indices] -> (n, resolution, resolution, 3) in [0, 1].
        audio: features at the same frame rate; frames after its end hear its last sound.
        settings: see `Settings`.
        runs: the stretches to work on; other crops pass through. No window crosses from one into the next. It is
            asked, in a thread, for no more than the next two windows depend on. All frames if None.
        start: first frame to give, to go on with an interrupted run; the pixels are those of a whole run.
        on_step: called as (step, steps, latents (1, 4, f, h, w)) after each denoising step; what it raises ends
            the run.
        mask_image: what the net repaints, see `masks`.

    Yields:
        (n, resolution, resolution, 3) float32 in [0, 1] (see `Settings.clamp`), together len(crops) - start frames.

    Raises:
        InputError: the net gave values that are not finite.
    """
    settings = settings or Settings()
    size, overlap = window_size(model, settings)
    if size < settings.window:
        log.warning("window is %d frames and this net takes at most %d: using %d", settings.window, size, size)
    noise, mask = initial_noise(model, settings.seed), keep_mask(model.resolution, mask_image)
    sizes = BatchSizes()
    spans = plan(len(crops), runs or (lambda stop: [(0, stop)]), start, size, overlap)
    cropped = ((span, as_float(crops[list(range(*span[:2]))]).cpu()) for span in spans)
    pending = torch.empty(0)
    with Ahead(cropped, waiting=on_wait) as given:
        for (first, end, following, in_run), pictures in given:
            if not in_run:
                yield pictures
                continue
            heard = audio[list(range(first, end))]
            pictures = pictures.permute(0, 3, 1, 2) * 2 - 1
            fresh = synced_window(model, pictures, heard, noise, settings, on_step, sizes, mask)
            _check_finite(fresh, first, end, model)
            fresh = ((fresh + 1) / 2).permute(0, 2, 3, 1)
            fresh = fresh.clamp(0, 1) if settings.clamp else fresh
            if len(pending):
                fresh[: len(pending)] = _cross_fade(pending, fresh[: len(pending)])
            ready, pending = fresh[: following - first], fresh[following - first :]
            if following > start:
                yield ready[max(0, start - first) :]


def plan(count: int, runs: Runs, start: int, size: int, overlap: int) -> Iterator[tuple[int, int, int, bool]]:
    """(first, end, first of the next one or the run's end, whether it is of a run) of what `sync` works on in turn.

    The windows of a run are those of `windows`; `runs` is asked no further than the next one depends on.
    """
    done, nominal = start, 0  # frames that are given; where the next window would begin in a run without end
    while done < count:
        known = min(count, done + (2 * size if overlap else size))
        run_start, run_stop = next((run for run in runs(known) if run[1] > done), (known, known))
        if run_start > done:
            end = min(run_start, done + size)
            yield done, end, end, False
            done = end
            continue
        nominal = run_start if run_start == done else max(nominal, run_start)
        while nominal + size <= start:
            nominal += size - overlap
        # With overlap the last window is moved back to full length.
        first, following = (
            max(run_start, min(place, run_stop - size)) if overlap else place
            for place in (nominal, nominal + size - overlap)
        )
        end = min(first + size, run_stop)
        nominal, done = nominal + size - overlap, run_stop if end == run_stop else following
        yield first, end, done, True


def _cross_fade(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    weight = (torch.arange(len(old), dtype=torch.float32) + 1) / (len(old) + 1)
    return torch.lerp(old, new, weight[:, None, None, None])


def _check_finite(pictures: torch.Tensor, first: int, end: int, model: LipSyncModel) -> None:
    if not torch.isfinite(pictures).all():
        kind = str(model.dtype).removeprefix("torch.")
        raise InputError(
            f"the net gave NaN or infinite values in frames {first}..{end - 1} ({kind}, {model.source}): "
            + (
                "the checkpoint is damaged, download it again"
                if kind == "float32"
                else "compute in float32 (--dtype float32; in ComfyUI precision fp32)"
            )
        )


@torch.no_grad()
def synced_window(
    model: LipSyncModel,
    pictures: torch.Tensor,
    audio: torch.Tensor,
    noise: torch.Tensor,
    settings: Settings,
    on_step: StepCallback | None = None,
    sizes: BatchSizes | None = None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """One window: pictures (f, 3, h, w) in [-1, 1] and audio (f, 50, width) to (f, 3, h, w) float32 on the CPU.

    The repainted region comes from the net and is not clamped; the rest is `pictures`, bit for bit where the mask
    is 1. `noise` is that of `initial_noise`, `mask` that of `keep_mask`; None is the published one.
    """
    sizes = sizes or BatchSizes()
    mask = keep_mask(model.resolution) if mask is None else mask
    condition = encode_condition(model, pictures, mask, sizes)
    latents = denoise(model, condition, audio, noise, settings, on_step, sizes)
    decoded = _in_batches(lambda batch: model.decode(batch).cpu(), model, latents[0].transpose(0, 1), sizes)
    return decoded * (1 - mask) + pictures.to("cpu", torch.float32) * mask


def encode_condition(
    model: LipSyncModel, pictures: torch.Tensor, mask: torch.Tensor, sizes: BatchSizes
) -> torch.Tensor:
    """The `concat_condition` of one window's pictures (f, 3, h, w), which are its reference frames too."""
    encoded = (_in_batches(model.encode, model, x, sizes) for x in (pictures * mask, pictures))
    masked, reference = (rearrange(x, "f c h w -> 1 c f h w") for x in encoded)
    return concat_condition(mask, masked, reference).to(model.device, model.dtype)


def concat_condition(mask: torch.Tensor, masked: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """What the U-Net sees beside the noise, in sampling and in training: (b, 1 + 2c, f, h / 8, w / 8).

    That is the mask (1, h, w), 1 = keep, then the latents (b, c, f, h / 8, w / 8) of the masked crops and those of the
    reference frames.
    """
    small = F.interpolate(mask[None], size=masked.shape[-2:], mode="nearest")[:, :, None]
    small = small.expand(len(masked), -1, masked.shape[2], -1, -1)
    return torch.cat([small.to(masked), masked, reference], dim=1)


def _in_batches(
    net: Callable[[torch.Tensor], torch.Tensor], model: LipSyncModel, x: torch.Tensor, sizes: BatchSizes
) -> torch.Tensor:
    """`net`, a part of the VAE, over the frames of `x`, as many at once as fit into memory."""
    done: list[torch.Tensor] = []
    while (first := sum(map(len, done))) < len(x):
        batch = x[first : first + max(1, sizes.pixels // model.resolution**2)]
        size = len(batch)
        try:
            done.append(net(batch))
            continue
        except RuntimeError as error:
            if size == 1 or not out_of_memory(error):
                raise
        # Outside the except block, which would keep the failed call's tensors alive.
        sizes.pixels = size // 2 * model.resolution**2
        log.warning("out of memory in the VAE: going on with %d frames at once", size // 2)
    return torch.cat(done)


def out_of_memory(error: BaseException) -> bool:
    """Whether a device's memory or the machine's is full; of the devices only CUDA has an exception of its own."""
    said = str(error)
    full = "out of memory" in said or "allocate memory" in said  # MPS; the CPU
    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or full


def denoise(
    model: LipSyncModel,
    condition: torch.Tensor,
    audio: torch.Tensor,
    noise: torch.Tensor,
    settings: Settings,
    on_step: StepCallback | None,
    sizes: BatchSizes,
) -> torch.Tensor:
    """Latents (1, 4, f, h, w) float32 of one window, from the shared `noise` and the `condition`.

    The sampler works in float32; only the U-Net runs in the model's dtype.
    """
    sampler = make_sampler(settings.sampler, settings.steps)
    steps = sampler.timesteps.tolist()
    latents = noise.to(model.device).expand(-1, -1, condition.shape[2], -1, -1) * sampler.init_noise_sigma
    cond = audio[None].to(model.device, model.dtype)
    cache: list[torch.Tensor] | None = [] if settings.deep_cache > 1 else None
    for k, t in enumerate(sampler.timesteps):
        if cache and k % settings.deep_cache == 0:
            cache.clear()
        guided = settings.guidance != 1 and settings.guidance_start <= k / len(steps) < settings.guidance_end
        scaled = sampler.scale_model_input(latents, t).to(model.dtype)
        noisy = torch.cat([scaled, condition], dim=1)
        epsilon = predict(model, noisy, t, cond, settings.guidance if guided else 1.0, sizes, cache)
        latents = sampler.step(epsilon.float(), t, latents).prev_sample
        if on_step is not None:
            on_step(k + 1, len(steps), latents)
    return latents


def predict(
    model: LipSyncModel,
    noisy: torch.Tensor,
    t: torch.Tensor,
    audio: torch.Tensor,
    guidance: float,
    sizes: BatchSizes,
    cache: list[torch.Tensor] | None = None,
) -> torch.Tensor:
    """Predicted noise with classifier-free guidance: uncond + guidance * (cond - uncond), uncond hearing zeros.

    `cache` holds the U-Net's deep features of the last full step: uncond and cond, or cond alone where there was no
    guidance. Empty, or without a half that is needed now, it is filled by a full step; None: every step is full.
    """
    if guidance == 1:
        if cache:
            del cache[:-1]  # guidance has ended: the uncond half is not needed again
        return model.denoise(noisy, t, audio, cache)
    if cache and len(cache) < 2:
        cache.clear()
    uncond = cond = None
    if sizes.batch_cfg:
        try:
            both = model.denoise(noisy.repeat(2, 1, 1, 1, 1), t, torch.cat([torch.zeros_like(audio), audio]), cache)
            uncond, cond = both.chunk(2)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
    if uncond is None:
        if sizes.batch_cfg:
            log.warning("out of memory in the U-Net: guidance goes in two passes from here on")
        sizes.batch_cfg = False
        halves = [None, None] if cache is None else [cache[:1], cache[1:]]
        uncond = model.denoise(noisy, t, torch.zeros_like(audio), halves[0])
        cond = model.denoise(noisy, t, audio, halves[1])
        if cache is not None:
            cache[:] = halves[0] + halves[1]
    return uncond + guidance * (cond - uncond)
