"""Small files in the layouts of the published ones, where the presets look for them, and clips to train on."""

from dataclasses import replace
from pathlib import Path

import golden_data
import tiny
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torchvision.models import vgg16
from whisper.model import AudioEncoder

from latentsync.drawn.heads.clip import make_clip
from latentsync.media import VideoWriter
from latentsync.media.sound import write_wav
from latentsync.nets.syncnet import PIXEL_ATTN, EncoderConfig, StableSyncNet, SyncNetConfig
from latentsync.nets.unet import UNet, UNetConfig

AUDIO_WIDTH, LAYERS = 384, 4  # of Whisper tiny
WIDTHS = (32, 32, 64, 64)


def make_stand_ins(folder: Path) -> None:
    """`checkpoints` and `my/clips` in `folder`."""
    torch.manual_seed(0)
    checkpoints = folder / "checkpoints"
    (checkpoints / "whisper").mkdir(parents=True)
    (checkpoints / "auxiliary").mkdir()
    unet = UNet(UNetConfig(WIDTHS, cross_attention_dim=AUDIO_WIDTH)).state_dict()
    torch.save({"global_step": 7, "state_dict": unet}, checkpoints / "latentsync_unet.pt")
    syncnet = StableSyncNet(SyncNetConfig(_narrow(PIXEL_ATTN.visual), _narrow(PIXEL_ATTN.audio))).state_dict()
    torch.save({"global_step": 7, "state_dict": syncnet}, checkpoints / "stable_syncnet.pt")
    tiny.save_vae(checkpoints / "vae")
    encoder = AudioEncoder(80, 1500, AUDIO_WIDTH, 6, LAYERS).state_dict()
    dims = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": AUDIO_WIDTH, "n_audio_head": 6, "n_audio_layer": LAYERS}
    whisper = {"dims": dims, "model_state_dict": {f"encoder.{name}": tensor for name, tensor in encoder.items()}}
    torch.save(whisper, checkpoints / "whisper" / "tiny.pt")
    save_stable_diffusion(checkpoints / "stable-diffusion-v1-5" / "unet")
    features = {f"features.{name}": tensor for name, tensor in vgg16(weights=None).features.half().state_dict().items()}
    torch.save(features, checkpoints / "auxiliary" / "vgg16-397923af.pth")
    shapes = golden_data.json_of("state_dict_keys/videomaev2_vit_giant_tiny")
    videomae = {name: torch.randn(shape) / 10 for name, shape in shapes.items()}
    torch.save({"module": videomae}, checkpoints / "auxiliary" / "vit_g_hybrid_pt_1200e_ssv2_ft.pth")
    write_clip(folder / "my" / "clips" / "clip.mp4", 1, frames=50, side=512)


def _narrow(config: EncoderConfig) -> EncoderConfig:
    *stages, last = (replace(stage, channels=32) for stage in config.stages)
    return EncoderConfig(config.in_channels, (*stages, replace(last, channels=64)))


def save_stable_diffusion(folder: Path) -> Path:
    """A small U-Net of the kind of Stable Diffusion 1.5's, as diffusers saves it; its file."""
    folder.mkdir(parents=True)
    net = UNet2DConditionModel(block_out_channels=WIDTHS, cross_attention_dim=48, attention_head_dim=8)
    weights = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    return folder / "diffusion_pytorch_model.safetensors"


def write_clip(path: Path, seed: int, frames: int = 60, side: int = 64, fps=25, sound: float | None = 1) -> Path:
    """A drawn speaker; `sound` is its length as a part of the pictures', or None."""
    clip, wav = make_clip(seed, frames / 25, side), path.with_suffix(".wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    if sound is not None:
        write_wav(wav, [clip.waveform[: int(sound * len(clip.waveform))]], clip.rate)
    with VideoWriter(path, fps, side, side, preset="ultrafast", audio=None if sound is None else wav) as writer:
        writer.write(clip.frames[:frames])
    wav.unlink(missing_ok=True)
    return path
