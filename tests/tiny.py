"""A complete checkpoints folder of a few megabytes, with the random weights of the golden files."""

import json
from dataclasses import replace
from pathlib import Path

import golden_data
import torch
from safetensors.torch import save_file

from latentsync.models.folders import write_sidecar
from latentsync.nets.unet import UNet, UNetConfig


def unet_config(motion: bool = True) -> UNetConfig:
    """The U-Net of the golden files, from the published program's configuration."""
    values = golden_data.json_of("unet_tiny")
    return UNetConfig(
        block_out_channels=tuple(values["block_out_channels"]),
        layers_per_block=values["layers_per_block"],
        cross_attention_dim=values["cross_attention_dim"],
        in_channels=values["in_channels"],
        out_channels=values["out_channels"],
        block_attention=tuple(kind.startswith("CrossAttn") for kind in values["down_block_types"]),
        motion="all" if motion else "none",
        max_frames=values["motion_module_kwargs"]["temporal_position_encoding_max_len"],
        n_head=values["attention_head_dim"],
        groups=values["norm_num_groups"],
    )


def small_unet_config() -> UNetConfig:
    """A smaller one, for what takes long with every layer; it has all kinds of them."""
    sizes = {"block_out_channels": (32, 64), "block_attention": (True, False), "layers_per_block": 1}
    return replace(unet_config(), **sizes)


def vae():
    """The VAE of the golden files, unfilled."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**golden_data.json_of("denoise")["vae"])


def audio_encoder():
    """The Whisper encoder of the golden files, unfilled."""
    from whisper.model import AudioEncoder

    dims = golden_data.json_of("audio")["dims"]
    return AudioEncoder(*(dims[f"n_{name}"] for name in ("mels", *(f"audio_{p}" for p in _AUDIO_DIMS))))


_AUDIO_DIMS = ("ctx", "state", "head", "layer")


def weights(model: torch.nn.Module, seed: int | None = None) -> dict[str, torch.Tensor]:
    """Random weights by name; without a seed those of the golden files."""
    return golden_data.golden_init().golden_state_dict(model, golden_data.seed() if seed is None else seed)


def make_checkpoints(
    folder: str | Path, seed: int | None = None, *, resolution: int = 128, motion: bool = True, version: str = "1.6"
) -> Path:
    """Writes U-Net, Whisper and VAE as the published files are written, and says the resolution beside them."""
    folder = Path(folder)
    (folder / "whisper").mkdir(parents=True)
    torch.save(
        {"global_step": 7, "state_dict": weights(UNet(unet_config(motion)), seed)}, folder / "latentsync_unet.pt"
    )
    encoder = {f"encoder.{key}": value for key, value in weights(audio_encoder(), seed).items()}
    decoder = {"decoder.token_embedding.weight": torch.zeros(16, 8)}
    dims = golden_data.json_of("audio")["dims"]
    torch.save({"dims": dims, "model_state_dict": encoder | decoder}, folder / "whisper" / "tiny.pt")
    save_vae(folder / "vae", seed)
    write_sidecar(folder, version=version, resolution=resolution)
    return folder


def save_vae(folder: Path, seed: int | None = None) -> None:
    """The VAE as diffusers saves it."""
    folder.mkdir(parents=True)
    model = vae()
    golden = golden_data.json_of("denoise")
    config = dict(model.config) | {key: golden[key] for key in ("scaling_factor", "shift_factor")}
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"} | config), encoding="utf-8")
    save_file(weights(model, seed), folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
