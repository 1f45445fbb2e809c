"""Training of the lip-sync U-Net: its condition, its noise and its losses (LatentSync, arXiv 2412.09262, sec. 3)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..evaluate.perceptual import load_lpips
from ..evaluate.sync_score import SyncScorer, load_syncnet
from ..face.detect import load_detector
from ..face.masks import keep_mask, read_mask
from ..models.load import LipSyncModel, load_audio_encoder, load_vae
from ..nets.config import UNSEEN
from ..sampling.latents import encode_clips
from ..sampling.sample import LATENT_SCALE
from ..sampling.schedulers import SCHEDULE, make_sampler
from ..settings import Settings
from .config import UNetTraining
from .dataset import UNetClips
from .files import find_file
from .init_weights import choose_trained, frozen_dtype, start_unet, write_weights
from .losses import Supervision, Truth, add_noise, mixed_noise, noise_loss, one_step_estimate
from .task import Samples
from .trepa import load_trepa
from .validate import WholeClip, check_crops, load_syncnet_v2, validate, validate_whole

log = logging.getLogger(__name__)

TIMESTEPS = SCHEDULE["num_train_timesteps"]


@dataclass(frozen=True)
class FrozenNets:
    """The nets that help in training; those that no weighted loss needs are None."""

    vae: nn.Module
    audio_encoder: nn.Module
    judge: SyncScorer | None = None
    lpips: nn.Module | None = None
    trepa: nn.Module | None = None

    @property
    def all(self) -> list[nn.Module]:
        nets = (self.vae, self.audio_encoder, self.judge and self.judge.net, self.lpips, self.trepa)
        return [net for net in nets if net is not None]

    def cast(self, dtype: torch.dtype) -> "FrozenNets":
        """Cast VAE, SyncNet and VideoMAE in place; Whisper and LPIPS stay float32, as in the published program."""
        for net in self.all:
            if net is not self.audio_encoder and net is not self.lpips:
                nn.Module.to(net, dtype=dtype)  # diffusers' own `to` logs about casts
        return self


def load_frozen(config: UNetTraining) -> FrozenNets:
    """The nets in `config.files` that training needs; SyncNet also where only validation uses it."""
    files, weights, dtype = config.files, config.losses, frozen_dtype(config)

    def find(name: str) -> Path:
        return find_file(getattr(files, name), config.data.resolution)

    judge = lpips = trepa = None
    if files.syncnet is not None and (config.uses_syncnet or config.validation.video is not None):
        judge = SyncScorer(*load_syncnet(find("syncnet")))
    if weights.lpips:
        lpips = load_lpips(find("vgg16"))
    if config.uses_videomae:
        trepa = load_trepa(find("videomae"), dtype=dtype)
        trepa.gradient_checkpointing = config.run.gradient_checkpointing
    return FrozenNets(load_vae(find("vae")), load_audio_encoder(find("whisper")), judge, lpips, trepa).cast(dtype)


@dataclass(frozen=True)
class Draws:
    """What is random about the clips of a batch; it follows from their seeds alone."""

    noise: Tensor  # (b, c, f, h, w) float32
    timesteps: Tensor  # (b,) int64, 0 .. 999
    has_audio: Tensor  # (b,) bool, False for clips whose audio is dropped


def draw(seeds: Sequence[int], shape: Sequence[int], a: float | None, audio_dropout: float) -> Draws:
    """Draws on the CPU, each clip's with a generator of its own: a batch is no different from its clips one by one.

    `shape` is that of the latents of one clip, (c, f, h, w), and `a` that of `mixed_noise`. Dropping audio changes
    nothing of the other draws.
    """
    noise, timesteps, has_audio = [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        timesteps.append(torch.randint(TIMESTEPS, (1,), generator=generator))
        has_audio.append(torch.rand(1, generator=generator) >= audio_dropout)
        noise.append(mixed_noise((1, *shape), generator, a))
    return Draws(torch.cat(noise), torch.cat(timesteps), torch.cat(has_audio))


class UNetTask:
    """The U-Net, its clips and its loss; see `task.Task`.

    Frozen nets and samples that are not given are those of `config`.
    """

    def __init__(self, config: UNetTraining, frozen: FrozenNets | None = None, data: Samples | None = None):
        self.config = config
        self.net = start_unet(config)
        trained, parameters = choose_trained(self.net, config.trained_parts)
        log.info("training %s of the U-Net's %s parameters", f"{trained:,}", f"{parameters:,}")
        self.frozen = load_frozen(config) if frozen is None else frozen
        for net in self.frozen.all:
            net.eval().requires_grad_(False)
        self._check_fit()
        self.mask_image = None if config.data.mask is None else read_mask(config.data.mask)
        self.mask = keep_mask(config.data.resolution, self.mask_image)
        wanted = config.validation
        self.validation_settings = Settings(steps=wanted.steps, guidance=wanted.guidance, seed=config.run.seed)
        self.whole_clip = self._prepare_validation()
        if data is None:
            data = UNetClips(config.data, self.frozen.audio_encoder, self.frozen.vae, config.run.seed)
        self.data = data
        self.supervision = Supervision(
            vae=self.frozen.vae,
            judge=self.frozen.judge if config.uses_syncnet else None,
            sync=bool(config.losses.sync),
            lpips=self.frozen.lpips if config.losses.lpips else None,
            trepa=self.frozen.trepa if config.uses_videomae else None,
            motion_by_judge=bool(config.losses.trepa) and not config.uses_videomae,
        )
        self.alphas_cumprod = make_sampler("ddim", 20).alphas_cumprod

    def _prepare_validation(self) -> WholeClip | None:
        """Refuse at once what cannot be validated with; the clip, if it is one that goes the whole way."""
        wanted, side = self.config.validation, self.config.data.resolution
        if wanted.video is None or wanted.audio is None:
            return None
        video, audio = Path(wanted.video), Path(wanted.audio)
        if not wanted.whole:
            check_crops(video, side)
            return None
        detector = load_detector(wanted.detector, model=wanted.detector_model, checkpoints="checkpoints")
        judge = None if wanted.syncnet_v2 is None else load_syncnet_v2(wanted.syncnet_v2)
        return WholeClip(video, audio, detector, side, self.validation_settings, self.mask_image, judge)

    def _check_fit(self) -> None:
        """Refuse nets that do not belong together."""
        net, judge, files = self.net.config, self.frozen.judge, self.config.files
        side, frames = self.config.data.resolution, self.config.data.frames
        if net.motion != "none" and frames > net.max_frames:
            raise InputError(
                f"data.frames is {frames} and the U-Net's motion modules have {net.max_frames} positions: give at most "
                "that, or train without motion modules"
            )
        if (width := self.frozen.audio_encoder.conv1.out_channels) != net.cross_attention_dim:
            raise InputError(
                f"the U-Net takes audio of width {net.cross_attention_dim} and {files.whisper} gives {width}: give the "
                "Whisper of that width (tiny: 384, small: 768), or start from another net"
            )
        if judge is not None and self.config.uses_syncnet and judge.frames != frames:
            raise InputError(
                f"{files.syncnet} judges {judge.frames} frames at once and data.frames is {frames}: give a SyncNet for "
                f"{frames} frames, or the losses that use it the weight 0"
            )
        if judge is not None and not judge.sees_pixels and judge.side != side:
            raise InputError(
                f"{files.syncnet} judges latents of {judge.side} pixels and data.resolution is {side}: give a SyncNet "
                "of latents of that size, or one of pixels"
            )

    @property
    def frozen_nets(self) -> list[nn.Module]:
        return self.frozen.all

    def to(self, device: torch.device) -> None:
        """Move the frozen nets."""
        for net in self.frozen_nets:
            nn.Module.to(net, device)  # diffusers' own `to` logs about casts
        self.mask = self.mask.to(device)

    def loss(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses that have a weight, by their names, and as "loss" their weighted sum.

        Only `net` runs under autocast; the frozen nets run in their own dtype, and what comes out of them is float32.
        """
        device = batch["audio"].device
        with torch.autocast(device.type, enabled=False):
            truth, condition = self.condition(batch)
            latents = truth.latents
            drawn = draw(batch["seed"].tolist(), latents.shape[1:], self.config.mixed_noise, self.config.audio_dropout)
            noise, timesteps = drawn.noise.to(device), drawn.timesteps.to(device)
            audio = batch["audio"] * drawn.has_audio.to(device)[:, None, None, None]
            noisy = add_noise(latents, noise, timesteps, self.alphas_cumprod)
        predicted = net(torch.cat([noisy, condition], dim=1), timesteps, audio)
        with torch.autocast(device.type, enabled=False):
            predicted = predicted.float()
            parts = {}
            if self.config.losses.mse:
                gamma = self.config.snr_gamma
                parts["mse"] = noise_loss(predicted, noise, timesteps, self.alphas_cumprod, gamma)
            if not self.supervision.is_empty:
                estimate = one_step_estimate(noisy, predicted, timesteps, self.alphas_cumprod)
                parts |= self.supervision.losses(estimate, truth)
            total = sum(getattr(self.config.losses, name) * part for name, part in parts.items())
        return {"loss": total} | {name: part.detach() for name, part in parts.items()}

    @torch.no_grad()
    def condition(self, batch: dict[str, Tensor]) -> tuple[Truth, Tensor]:
        """The clips, and what the U-Net sees beside the noise: (b, 1 + 2c, f, h / 8, w / 8).

        That is the mask (1 = keep), the latents of the masked crops and those of the reference frames, in this order.
        """
        pixels, mel = batch.get("pixels"), batch.get("mel")
        if pixels is None:
            latents, masked, reference = (batch[f"{kind}latents"] for kind in ("", "masked_", "reference_"))
        else:
            clips = (pixels, pixels * self.mask, batch["reference_pixels"])
            latents, masked, reference = (encode_clips(self.frozen.vae, clip.float()) for clip in clips)
        side = self.config.data.resolution // LATENT_SCALE
        mask = F.interpolate(self.mask[None], size=(side, side), mode="nearest")[:, :, None]
        mask = mask.expand(len(latents), -1, latents.shape[2], -1, -1)
        return Truth(latents, pixels, mel), torch.cat([mask, masked, reference], dim=1)

    def save(self, state_dict: Mapping[str, Tensor], folder: Path, step: int) -> list[Path]:
        """`latentsync_unet.pt` and `.safetensors`, with the resolution and what the weights do not tell beside them."""
        about = {"global_step": step, "resolution": self.config.data.resolution}
        about |= {name: getattr(self.net.config, name) for name in UNSEEN}
        return write_weights(folder / "latentsync_unet", state_dict, about)

    def validate(self, net: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """`validation-<step>.mp4` in `folder`, and how well its lips fit the sound; {} without `config.validation`."""
        wanted = self.config.validation
        if wanted.video is None or wanted.audio is None:
            return {}
        frozen, source = self.frozen, f"the net after {step} steps"
        model = LipSyncModel(net, frozen.vae, frozen.audio_encoder, self.config.data.resolution, source)
        out = folder / f"validation-{step:08d}.mp4"
        if self.whole_clip is not None:
            return validate_whole(model, self.whole_clip, out, frozen.judge)
        video, audio = Path(wanted.video), Path(wanted.audio)
        return validate(model, video, audio, self.validation_settings, out, frozen.judge, self.mask_image)

    def warning(self, metrics: Mapping[str, float], step: int) -> str | None:
        return None
