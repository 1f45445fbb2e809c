"""Training of the lip-sync U-Net: its condition, its noise and its losses (LatentSync, arXiv 2412.09262, sec. 3)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from ..models.state_dict import load_state_dict
from ..nets.config import UNSEEN
from ..nets.syncnet_v2 import SyncNetV2
from ..sampling.latents import decode_clips, encode_clips
from ..sampling.sample import concat_condition
from ..sampling.schedulers import SCHEDULE, make_sampler
from ..settings import Settings
from .config import UNetTraining
from .dataset import UNetClips
from .files import find_file
from .init_weights import choose_trained, frozen_dtype, start_unet, write_weights
from .losses import lpips_loss, mixed_noise, noise_loss, one_step_estimate, sync_loss
from .task import Samples, Task
from .trepa import load_trepa, trepa_loss
from .validate import WholeClip, check_crops, validate, validate_whole

log = logging.getLogger(__name__)

TIMESTEPS = SCHEDULE["num_train_timesteps"]


@dataclass(frozen=True)
class FrozenNets:
    """The nets that help in training; those that no weighted loss needs are None."""

    vae: nn.Module
    audio_encoder: nn.Module
    syncnet: SyncScorer | None = None
    lpips: nn.Module | None = None
    trepa: nn.Module | None = None

    @property
    def all(self) -> list[nn.Module]:
        nets = (self.vae, self.audio_encoder, self.syncnet and self.syncnet.net, self.lpips, self.trepa)
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

    syncnet = lpips = trepa = None
    if files.syncnet is not None and (config.uses_syncnet or config.validation.video is not None):
        syncnet = SyncScorer(*load_syncnet(find("syncnet")))
    if weights.lpips:
        lpips = load_lpips(find("vgg16"))
    if config.uses_videomae:
        trepa = load_trepa(find("videomae"), dtype=dtype)
    return FrozenNets(load_vae(find("vae")), load_audio_encoder(find("whisper")), syncnet, lpips, trepa).cast(dtype)


def draw(
    seeds: Sequence[int], shape: Sequence[int], a: float | None, audio_dropout: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What is random about the clips of a batch, on the CPU and for each clip from its own seed alone.

    The noise (b, c, f, h, w) for latents of `shape` (c, f, h, w), see `mixed_noise`; time steps (b,); and has_audio
    (b,), False for clips whose audio is dropped, which changes nothing of the other draws.
    """
    noise, timesteps, has_audio = [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        timesteps.append(torch.randint(TIMESTEPS, (1,), generator=generator))
        has_audio.append(torch.rand(1, generator=generator) >= audio_dropout)
        noise.append(mixed_noise((1, *shape), generator, a))
    return torch.cat(noise), torch.cat(timesteps), torch.cat(has_audio)


class UNetTask(Task):
    """The U-Net, its clips and its loss. Frozen nets and samples that are not given are those of `config`."""

    def __init__(self, config: UNetTraining, frozen: FrozenNets | None = None, data: Samples | None = None):
        self.config = config
        self.net = start_unet(config)
        trained, parameters = choose_trained(self.net, config.trained_parts)
        log.info("training %s of the U-Net's %s parameters", f"{trained:,}", f"{parameters:,}")
        self.frozen = load_frozen(config) if frozen is None else frozen
        self.frozen_nets = self.frozen.all
        for net in self.frozen_nets:
            net.eval().requires_grad_(False)
        if self.frozen.trepa is not None and config.run.gradient_checkpointing:
            self.frozen.trepa.enable_gradient_checkpointing()  # after eval, which would turn it off
        # Refuses an encoder of another width than the net's.
        self.model = LipSyncModel(self.net, self.frozen.vae, self.frozen.audio_encoder, config.data.resolution)
        self._check_fit()
        self.mask_image = None if config.data.mask is None else read_mask(config.data.mask)
        self.mask = keep_mask(config.data.resolution, self.mask_image)
        wanted = config.validation
        self.validation_settings = Settings(steps=wanted.steps, guidance=wanted.guidance, seed=config.run.seed)
        self.whole_clip = self._prepare_validation()
        self.data = data
        if data is None:
            self.data = UNetClips(config.data, self.frozen.audio_encoder, self.frozen.vae, config.run.seed)
        self.sampler = make_sampler("ddim", 20)

    def _prepare_validation(self) -> WholeClip | None:
        """Refuse at once what cannot be validated with; the clip, if it is one that goes the whole way."""
        wanted, side = self.config.validation, self.config.data.resolution
        if wanted.video is None:
            return None
        video, audio = Path(wanted.video), Path(wanted.audio)
        if not wanted.whole:
            check_crops(video, side)
            return None
        detector = load_detector(wanted.detector, model=wanted.detector_model, checkpoints="checkpoints")
        syncnet_v2 = None
        if wanted.syncnet_v2 is not None:
            syncnet_v2 = SyncNetV2.from_state_dict(load_state_dict(wanted.syncnet_v2), dtype=torch.float32)
        return WholeClip(video, audio, detector, side, self.validation_settings, self.mask_image, syncnet_v2)

    def _check_fit(self) -> None:
        """Refuse nets that do not belong together."""
        net, syncnet, files = self.net.config, self.frozen.syncnet, self.config.files
        side, frames = self.config.data.resolution, self.config.data.frames
        if net.motion != "none" and frames > net.max_frames:
            raise InputError(
                f"data.frames is {frames} and the U-Net's motion modules have {net.max_frames} positions: give at most "
                "that, or train without motion modules"
            )
        if syncnet is not None and self.config.uses_syncnet and syncnet.frames != frames:
            raise InputError(
                f"{files.syncnet} judges {syncnet.frames} frames at once and data.frames is {frames}: give a SyncNet "
                f"for {frames} frames, or the losses that use it the weight 0"
            )
        if syncnet is not None and not syncnet.sees_pixels and syncnet.side != side:
            raise InputError(
                f"{files.syncnet} judges latents of {syncnet.side} pixels and data.resolution is {side}: give a "
                "SyncNet of latents of that size, or one of pixels"
            )

    def to(self, device: torch.device) -> None:
        super().to(device)
        self.mask = self.mask.to(device)

    def loss(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses that have a weight, by their names, and as "loss" their weighted sum.

        Only `net` runs under autocast; the frozen nets run in their own dtype, and what comes out of them is float32.
        """
        device, weights = batch["audio"].device, self.config.losses
        with torch.autocast(device.type, enabled=False):
            latents, condition = self.encode(batch)
            drawn = draw(batch["seed"].tolist(), latents.shape[1:], self.config.mixed_noise, self.config.audio_dropout)
            noise, timesteps, has_audio = (tensor.to(device) for tensor in drawn)
            audio = batch["audio"] * has_audio[:, None, None, None]
            noisy = self.sampler.add_noise(latents, noise, timesteps)
        predicted = net(torch.cat([noisy, condition], dim=1), timesteps, audio)
        with torch.autocast(device.type, enabled=False):
            predicted, parts, abar = predicted.float(), {}, self.sampler.alphas_cumprod
            if weights.mse:
                parts["mse"] = noise_loss(predicted, noise, timesteps, abar, self.config.snr_gamma)
            if weights.sync or weights.lpips or weights.trepa:
                estimate = one_step_estimate(noisy, predicted, timesteps, abar)
                parts |= self.supervision(estimate, latents, batch)
            total = sum(getattr(weights, name) * part for name, part in parts.items())
        return {"loss": total} | {name: part.detach() for name, part in parts.items()}

    @torch.no_grad()
    def encode(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Latents of the clips (b, c, f, h / 8, w / 8), and the condition: see `concat_condition`."""
        if "pixels" in batch:
            clips = (batch["pixels"], batch["pixels"] * self.mask, batch["reference_pixels"])
            latents, masked, reference = (encode_clips(self.frozen.vae, clip.float()) for clip in clips)
        else:
            latents, masked, reference = (batch[f"{kind}latents"] for kind in ("", "masked_", "reference_"))
        return latents, concat_condition(self.mask, masked, reference)

    def supervision(self, estimate: Tensor, latents: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The weighted of "sync", "lpips" and "trepa" on the one-step estimate, to which gradients flow.

        Where pixels are compared and the sample came as latents, what they decode to stands for its pixels.
        """
        config, weights, frozen, parts = self.config, self.config.losses, self.frozen, {}
        syncnet = frozen.syncnet
        judged_in_pixels = config.uses_syncnet and syncnet.sees_pixels
        if judged_in_pixels or weights.lpips or config.uses_videomae:
            decoded = decode_clips(frozen.vae, estimate)
            if weights.lpips or weights.trepa:
                with torch.no_grad():
                    target = batch["pixels"] if "pixels" in batch else decode_clips(frozen.vae, latents)
        if config.uses_syncnet:
            seen = syncnet.embed_video(decoded if judged_in_pixels else estimate)
            if weights.sync:
                parts["sync"] = sync_loss(seen, syncnet.embed_audio(batch["mel"]), 1.0)
            if weights.trepa and not config.uses_videomae:  # for small models
                with torch.no_grad():
                    wanted = syncnet.embed_video(target if judged_in_pixels else latents)
                parts["trepa"] = F.mse_loss(seen, wanted)
        if weights.lpips:
            parts["lpips"] = lpips_loss(frozen.lpips, decoded, target)
        if config.uses_videomae:
            parts["trepa"] = trepa_loss(frozen.trepa, decoded, target)
        return parts

    def save(self, state_dict: Mapping[str, Tensor], folder: Path, step: int) -> list[Path]:
        """`latentsync_unet.pt` and `.safetensors`, with the resolution and what the weights do not tell beside them."""
        about = {"global_step": step, "resolution": self.config.data.resolution}
        about |= {name: getattr(self.net.config, name) for name in UNSEEN}
        return write_weights(folder / "latentsync_unet", state_dict, about)

    def validate(self, net: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """`validation-<step>.mp4` in `folder`, and how well its lips fit the sound; {} without `config.validation`."""
        wanted = self.config.validation
        if wanted.video is None:
            return {}
        model = replace(self.model, unet=net, source=f"the net after {step} steps")
        out, syncnet = folder / f"validation-{step:08d}.mp4", self.frozen.syncnet
        if self.whole_clip is not None:
            return validate_whole(model, self.whole_clip, out, syncnet)
        video, audio = Path(wanted.video), Path(wanted.audio)
        return validate(model, video, audio, self.validation_settings, out, syncnet, self.mask_image)
