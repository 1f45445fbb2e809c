"""Condition, denoise, decode: from aligned crops and audio features to crops whose mouth speaks the audio.

Inside this file pictures are (f, 3, h, w) in [-1, 1] and latents (b, c, f, h, w); outside they are crops in [0, 1].
Windows are independent of each other given the seed, so a run can start at any frame and gives the same pixels
streamed or whole (LatentSync, arXiv 2412.09262).
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange

from ..audio.whisper import AudioFeatures
from ..errors import InputError
from ..face.masks import keep_mask
from ..face.track import Runs
from ..frames import Frames, as_float, for_net
from ..models.load import LipSyncModel
from ..settings import Settings
from ..threads import Ahead
from .schedulers import make_sampler

log = logging.getLogger(__name__)

LATENT_SCALE = 8  # pixels per latent pixel
PIXELS_AT_ONCE = 16 * 256 * 256  # through the VAE: 16 frames at 256, 4 at 512
PIXELS_KEPT = 512 * 512 * 512  # of crops whose latents are kept: 38 MB in half precision

StepCallback = Callable[[int, int, torch.Tensor], None]


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
    source: Callable[[int], Hashable] | None = None,
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
        on_step: called as (step, steps, latents (1, 4, f, h, w)) after each denoising step, with what the net takes
            the window's latents to be without noise; what it raises ends the run.
        mask_image: what the net repaints, see `masks`.
        source: tells what a crop is cut from. Crops of the same source are the same, and a window whose sources have
            been seen lately is not encoded again.

    Yields:
        (n, resolution, resolution, 3) float32 in [0, 1] (see `Settings.clamp`), together len(crops) - start frames.

    Raises:
        InputError: the net gave values that are not finite.
    """
    settings = settings or Settings()
    size, overlap = window_size(model, settings)
    if size < settings.window:
        log.warning("window is %d frames and this net takes at most %d: using %d", settings.window, size, size)
    noise = upload(initial_noise(model, settings.seed), model.device)
    mask = upload(keep_mask(model.resolution, mask_image), model.device)
    sizes = BatchSizes()
    conditions = Conditions(model, mask, sizes)
    spans = plan(len(crops), runs or (lambda stop: [(0, stop)]), start, size, overlap)
    cropped = ((span, as_float(crops[list(range(*span[:2]))])) for span in spans)
    cropped = ((span, pinned(for_net(x) if span[-1] else x, model.device)) for span, x in cropped)
    pending = torch.empty(0)
    with Ahead(cropped, waiting=on_wait) as given:
        for (first, end, following, in_run), pictures in given:
            if not in_run:
                yield pictures
                continue
            numbers = range(first, end)
            pictures = upload(pictures, model.device)
            condition = conditions(pictures, None if source is None else [source(i) for i in numbers])
            heard = audio[list(numbers)]
            fresh = synced_window(model, pictures, heard, noise, settings, on_step, sizes, mask, condition)
            _check_finite(fresh, first, end, model)
            fresh = fresh.add_(1).div_(2).permute(0, 2, 3, 1)
            fresh = (fresh.clamp_(0, 1) if settings.clamp else fresh).cpu()
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
    if not pictures.sum().isfinite():
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
    condition: torch.Tensor | None = None,
) -> torch.Tensor:
    """One window: pictures (f, 3, h, w) in [-1, 1] and audio (f, 50, width) to (f, 3, h, w) float32.

    The repainted region comes from the net and is not clamped; the rest is `pictures`, bit for bit where the mask
    is 1. `noise` is that of `initial_noise`, `mask` that of `keep_mask`, None is the published one, and `condition`
    that of `encode_condition`.
    """
    sizes = sizes or BatchSizes()
    mask = keep_mask(model.resolution) if mask is None else mask
    pictures, mask = (upload(x, model.device) for x in (pictures, mask))
    if condition is None:
        condition = encode_condition(model, pictures, mask, sizes)
    latents = denoise(model, condition, audio, noise, settings, on_step, sizes)
    return decode_window(model, latents, pictures, mask, sizes)


def decode_window(
    model: LipSyncModel, latents: torch.Tensor, pictures: torch.Tensor, mask: torch.Tensor, sizes: BatchSizes
) -> torch.Tensor:
    """The pictures (f, 3, h, w) of latents (1, 4, f, h / 8, w / 8); as in `pictures` where the mask is 1."""
    decoded = _in_batches(model.decode, model, latents[0].transpose(0, 1), sizes)
    mask = mask.to(decoded)  # the VAE of a ComfyUI socket decodes to the CPU
    return decoded.mul_(1 - mask).add_(pictures.to(decoded) * mask)


def encode_condition(
    model: LipSyncModel, pictures: torch.Tensor, mask: torch.Tensor, sizes: BatchSizes
) -> torch.Tensor:
    """The `concat_condition` of one window's pictures (f, 3, h, w), which are its reference frames too."""
    encoded = (_in_batches(model.encode, model, x, sizes) for x in (pictures * mask, pictures))
    masked, reference = (rearrange(x, "f c h w -> 1 c f h w") for x in encoded)
    return concat_condition(mask, masked, reference).to(model.device, model.dtype)


class Conditions:
    """`encode_condition` window by window, where frames may come again: a clip played back and forth, a still one.

    A window is encoded whole or not at all, because a GPU may round otherwise in a batch of another size.
    """

    def __init__(self, model: LipSyncModel, mask: torch.Tensor, sizes: BatchSizes):
        self.model, self.mask, self.sizes = model, mask, sizes
        self._kept: dict[Hashable, torch.Tensor] = {}  # the last used last

    @torch.no_grad()
    def __call__(self, pictures: torch.Tensor, sources: Sequence[Hashable] | None) -> torch.Tensor:
        """The condition of pictures (f, 3, h, w) that are cut from `sources`."""
        if sources is not None and all(source in self._kept for source in sources):
            frames = [self._kept[source] for source in sources]
            condition = torch.stack(frames, dim=2)
        else:
            condition = encode_condition(self.model, pictures, self.mask, self.sizes)
            frames = [frame.clone() for frame in condition.unbind(2)]  # views would keep the whole window
        for source, frame in zip(sources or (), frames, strict=False):
            self._kept.pop(source, None)
            self._kept[source] = frame
        while len(self._kept) > PIXELS_KEPT // self.model.resolution**2:
            del self._kept[next(iter(self._kept))]
        return condition


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
    return torch.cat(done) if len(done) > 1 else done[0]


def pinned(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`x`, in memory that CUDA copies from while the CPU goes on if that is where it is to go."""
    return x.pin_memory() if device.type == "cuda" and x.device.type == "cpu" else x


def upload(x: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`x` on `device`, without waiting for CUDA."""
    return pinned(x, device).to(device, non_blocking=device.type == "cuda")


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
    # Once as numbers for the sampler and once on the device for the net: a step neither reads nor sends any.
    steps, times = sampler.timesteps.tolist(), upload(sampler.timesteps.float(), model.device)
    latents = upload(noise, model.device).expand(-1, -1, condition.shape[2], -1, -1) * sampler.init_noise_sigma
    cond = upload(audio[None], model.device).to(model.dtype)
    cache: list[torch.Tensor] | None = [] if settings.deep_cache > 1 else None
    once = settings.uncond == "once" and settings.guidance != 1
    for k, t in enumerate(steps):
        if cache and k % settings.deep_cache == 0:
            cache.clear()
        guided = settings.guidance != 1 and settings.guidance_start <= k / len(steps) < settings.guidance_end
        scaled = sampler.scale_model_input(latents, t).to(model.dtype)
        noisy = torch.cat([scaled, condition], dim=1)
        epsilon = predict(model, noisy, times[k], cond, settings.guidance if guided and not once else 1.0, sizes, cache)
        if once and k == 0:
            # The noise is every frame's, so that what one frame makes of silence stands for the others too.
            middle = slice(noisy.shape[2] // 2, noisy.shape[2] // 2 + 1)
            effect = epsilon - model.denoise(noisy[:, :, middle], times[k], torch.zeros_like(cond[:, middle]))
        if once and guided:
            epsilon = epsilon + (settings.guidance - 1) * effect
        taken = sampler.step(epsilon.float(), t, latents)
        latents = taken.prev_sample
        if on_step is not None:
            # Multi-step samplers keep it with those of the steps before.
            clean = taken.pred_original_sample if "pred_original_sample" in taken else sampler.model_outputs[-1]
            on_step(k + 1, len(steps), clean)
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
