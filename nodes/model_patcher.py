"""A lip-sync model whose nets ComfyUI's memory management moves: on the device while they work, off it when asked."""

import logging
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..latentsync.errors import FileError, InputError
from ..latentsync.files import file_version
from ..latentsync.models.embedded import embedded_folder
from ..latentsync.models.folders import find_checkpoints
from ..latentsync.models.load import (
    Checkpoints,
    LipSyncModel,
    choose_resolution,
    fitting_whisper,
    load_audio_encoder,
    load_unet,
    load_vae,
)
from ..latentsync.sampling.sample import LATENT_SCALE, PIXELS_AT_ONCE
from ..latentsync.settings import TRAINED_WINDOW
from .folders import EMBEDDED_NAME, checkpoints_of, model_files, models_folder
from .inputs import choice
from .runtime import make_interruptible

logger = logging.getLogger(__name__)

PRECISIONS = {"auto": None, "fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
RESOLUTIONS = ("auto", "256", "512")
_DTYPES = [torch.float16, torch.bfloat16, torch.float32]  # best first: trained in half precision

# Most values alive at once per pixel of a frame, weights not counted: summed over the live tensors of the published
# U-Net (1267 M weights) and of sd-vae-ft-mse's decoder, run without data. Both grow in proportion to the pixels.
# DeepCache keeps 5 of the U-Net's.
UNET_VALUES, VAE_VALUES = 130, 768
WORKSPACE = 1.2  # what convolutions and attention need beside

SD_SCALE = 0.18215  # latent = posterior * scale, for every VAE of Stable Diffusion 1


@dataclass(frozen=True)
class ManagedModel:
    """A `LipSyncModel` that computes on ComfyUI's device in `dtype`, wherever its weights lie meanwhile.

    It gives the sampling what that gives. The U-Net's layers take their weights along from the other device where not
    all of it fits; VAE and audio encoder are loaded whole. `on_device` and `loaded_audio_encoder` load; nothing has to
    unload.

    Attributes:
        patchers: "unet", "vae" and "audio": ComfyUI's holders of the nets.
        vae: ComfyUI's VAE of a socket, in place of the model's own; it takes and gives (n, h, w, 3) in [0, 1] and
            finds its batch size and its memory by itself.
    """

    model: LipSyncModel
    patchers: dict[str, Any]
    dtype: torch.dtype
    vae: Any = None

    @property
    def device(self) -> torch.device:
        return self.patchers["unet"].load_device

    resolution = property(attrgetter("model.resolution"))
    source = property(attrgetter("model.source"))
    latent_channels = property(attrgetter("model.latent_channels"))
    max_frames = property(attrgetter("model.max_frames"))
    audio_encoder = property(attrgetter("model.audio_encoder"))

    def encode(self, pictures: Tensor) -> Tensor:
        if self.vae is None:
            return self.model.encode(pictures)
        latents = self.vae.encode((pictures.movedim(1, -1) + 1) / 2)
        self._reload()
        return latents.float() * SD_SCALE

    def denoise(self, noisy: Tensor, t: Tensor, audio: Tensor, cache: list[Tensor] | None = None) -> Tensor:
        return self.model.denoise(noisy, t, audio, cache)

    def decode(self, latents: Tensor) -> Tensor:
        if self.vae is None:
            return self.model.decode(latents)
        pictures = self.vae.decode(latents / SD_SCALE)
        self._reload()
        return pictures.float().movedim(-1, 1) * 2 - 1

    def _reload(self) -> None:
        # ComfyUI may have taken the U-Net off the device to make room for the VAE of the socket.
        mm.load_models_gpu([self.patchers["unet"]])

    def on_device(self, frames: int = TRAINED_WINDOW) -> "ManagedModel":
        """This model with all its nets loaded, and memory left for windows of so many frames."""
        mm.load_models_gpu(list(self.patchers.values()), memory_required=self.memory_required(frames))
        return self

    def loaded_audio_encoder(self) -> nn.Module:
        """The audio encoder, loaded."""
        mm.load_models_gpu([self.patchers["audio"]])
        return self.audio_encoder

    def memory_required(self, frames: int) -> int:
        """Bytes that a window of so many frames takes beside the weights, with guidance."""
        pixels = frames * self.resolution**2
        at_once = min(pixels, max(PIXELS_AT_ONCE, self.resolution**2))
        values = max(2 * pixels * UNET_VALUES, at_once * VAE_VALUES)
        return int(values * self.dtype.itemsize * WORKSPACE)

    def with_vae(self, vae: Any) -> "ManagedModel":
        """This model with the VAE of a socket, whose latents must be those that the U-Net was trained on."""
        channels, scale = getattr(vae, "latent_channels", None), vae.spacial_compression_encode()
        if channels != self.latent_channels or scale != LATENT_SCALE or getattr(vae, "latent_dim", 2) != 2:
            raise InputError(
                f"the VAE makes latents of {channels} channels, {scale} times smaller, and this U-Net takes "
                f"{self.latent_channels} channels, {LATENT_SCALE} times smaller: connect a VAE of Stable Diffusion 1 "
                "(sd-vae-ft-mse), or none"
            )
        own = self.model.vae.config
        if abs(own.scaling_factor - SD_SCALE) > 1e-6 or own.shift_factor:
            raise InputError(f"{self.source} was trained with the VAE that comes with it: disconnect the other VAE")
        patchers = {name: patcher for name, patcher in self.patchers.items() if name != "vae"}
        return replace(self, patchers=patchers, vae=vae)


class Whole(nn.Module):
    """A net for ComfyUI to hold: diffusers' nets have a read-only `device`, which its holder wants to set."""

    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net


class WholePatcher(comfy.model_patcher.ModelPatcher):
    """Holds a net of plain layers, which cannot compute with half of their weights elsewhere: it is all or nothing."""

    def load(self, device_to=None, lowvram_model_memory=0, force_patch_weights=False, full_load=False, **kwargs):
        return super().load(device_to, lowvram_model_memory, force_patch_weights, full_load=True, **kwargs)

    def partially_unload(self, *args, **kwargs) -> int:
        return 0  # ComfyUI then takes the whole net off


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """ComfyUI's choice of attention for (batch, n_head, n, d); on the CPU PyTorch's, as the library's own."""
    if q.device.type == "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    from comfy.ldm.modules.attention import optimized_attention

    heads = q.shape[1]
    # Not its skip_output_reshape, which it forgets where it splits large batches.
    return optimized_attention(q, k, v, heads, skip_reshape=True).unflatten(-1, (heads, -1)).transpose(1, 2)


def model_paths(name: str) -> Checkpoints:
    """The files of the model that a combo calls `name`; whisper and vae may be missing."""
    return find_checkpoints(embedded_folder()) if name == EMBEDDED_NAME else checkpoints_of(name)


def _check_complete(name: str, paths: Checkpoints) -> None:
    if missing := [kind for kind in ("whisper", "vae") if getattr(paths, kind) is None]:
        raise FileError(
            f"{name} needs {' and '.join(missing)}, which {models_folder()} lacks: run the node Download LatentSync "
            "Models, or put whisper/tiny.pt and vae/diffusion_pytorch_model.safetensors there"
        )


def load_managed_model(name: str, precision: str = "auto", resolution: str | int = "auto") -> ManagedModel:
    """The model that a combo calls `name`, off the device until it is used.

    Precision "auto" is ComfyUI's choice for this device; resolution "auto" is what the files say.
    """
    choice("precision", precision, PRECISIONS)
    side = None if resolution == "auto" else int(resolution)
    paths = model_paths(name)
    try:
        # These layers cast their weights to the device and dtype of what they are given: they work wherever they lie.
        unet = load_unet(paths.unet, operations=comfy.ops.manual_cast, attention=attention)
    except InputError as error:
        raise InputError(
            f"{name} is no U-Net of LatentSync: choose another file in Load LatentSync Model, or fetch the published "
            f"one with Download LatentSync Models ({error})"
        ) from error
    _check_complete(name, paths)
    side = choose_resolution(paths, side)
    stored, compute = _dtypes(precision, unet)
    vae = load_vae(paths.vae)
    audio = load_audio_encoder(fitting_whisper(paths.whisper, unet))
    # Not module.to: that of diffusers logs a warning about every cast.
    for net, dtype in ((unet, stored), (vae, compute)):
        nn.Module.to(net, dtype=dtype)
    for net in (unet, vae, audio):
        make_interruptible(net)
    model = LipSyncModel(unet, vae, audio, side, str(paths.unet))
    return ManagedModel(model, _patchers(model), compute)


def default_model() -> ManagedModel:
    """The model of a node that none is connected to: the first in models/latentsync, before those in its folders."""
    files = sorted(model_files(), key=lambda name: (len(Path(name).parts), name))
    if not files:
        raise FileError(
            f"no model is connected and {models_folder()} has none: run the node Download LatentSync Models, or "
            f"connect Load LatentSync Model (its {EMBEDDED_NAME} knows drawn faces only)"
        )
    logger.info("no model is connected: taking %s", files[0])
    return load_managed_model(files[0])


def _dtypes(precision: str, unet: nn.Module) -> tuple[torch.dtype, torch.dtype]:
    """In what the U-Net's weights are kept, and in what it computes."""
    if dtype := PRECISIONS[precision]:
        return dtype, dtype
    device, weights = mm.get_torch_device(), sum(p.numel() for p in unet.parameters())
    stored = mm.unet_dtype(device=device, model_params=weights, supported_dtypes=_DTYPES)
    return stored, mm.unet_manual_cast(stored, device, _DTYPES) or stored


def _patchers(model: LipSyncModel) -> dict[str, Any]:
    # Newer ComfyUI has a patcher of its choice under this name, which it sets after import.
    core = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    device = mm.get_torch_device()
    return {
        "unet": core(model.unet, device, mm.unet_offload_device()),
        "vae": WholePatcher(Whole(model.vae), device, mm.vae_offload_device()),
        "audio": WholePatcher(Whole(model.audio_encoder), device, mm.text_encoder_offload_device()),
    }


def model_fingerprint(name: str) -> list[list]:
    """Path and version of every file of a model, so that a replaced one is loaded again; [] where one is missing."""
    try:
        paths = model_paths(name)
        _check_complete(name, paths)
    except InputError:
        return []
    return [[str(path), file_version(path)] for path in (paths.unet, paths.whisper, paths.vae)]
