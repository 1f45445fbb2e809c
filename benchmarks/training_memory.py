"""Peak GPU memory of one training step of the full-size U-Net: `python benchmarks/training_memory.py [PRESET ...]`.

Nets have the published sizes and random weights, samples are random, and the step is that of the preset at batch size
1: condition, U-Net, every weighted loss, gradients, AdamW. Needs a CUDA GPU; nothing is read but the package.
"""

import gc
import json
import sys
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from latentsync.nets.syncnet import PIXEL_ATTN, StableSyncNet
from latentsync.train.config import UNetTraining
from latentsync.train.estimate import SyncJudge
from latentsync.train.losses import load_lpips
from latentsync.train.parse import load_config
from latentsync.train.trepa import VideoMAE, VideoMAEConfig
from latentsync.train.unet import FrozenNets, UNetTask

LIMITS_GB = {"stage1": 23, "stage2": 30, "stage2_efficient": 20, "stage1_512": 30, "stage2_512": 55}  # as published
DEFAULT = ("stage2", "stage2_efficient")
STEPS = 3  # the optimizer's state is there from the second on
VIT_G = VideoMAEConfig(width=1408, depth=40, n_head=16, mlp_width=6144, patch=14, tubelet=2, n_frames=16)
WHISPER_TINY = (80, 1500, 384, 6, 4)  # mels, context, width, heads, layers
DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def frozen_nets(config: UNetTraining) -> FrozenNets:
    """The nets that the preset's losses need."""
    from diffusers import AutoencoderKL
    from whisper.model import AudioEncoder

    settings = ROOT / "latentsync" / "assets" / "sd-vae-ft-mse" / "config.json"
    vae = AutoencoderKL.from_config(json.loads(settings.read_text(encoding="utf-8")))
    weights, trepa = config.losses, None
    if weights.trepa:
        trepa = VideoMAE(VIT_G)
        trepa.gradient_checkpointing = config.run.gradient_checkpointing
    return FrozenNets(
        vae=vae,
        audio_encoder=AudioEncoder(*WHISPER_TINY),
        judge=SyncJudge(StableSyncNet(PIXEL_ATTN)) if weights.sync else None,
        lpips=load_lpips(random_weights=True) if weights.lpips else None,
        trepa=trepa,
    )


def random_batch(config: UNetTraining, device: torch.device) -> dict[str, torch.Tensor]:
    frames, side = config.data.frames, config.data.resolution
    shapes = {name: (1, 3, frames, side, side) for name in ("pixels", "reference_pixels")}
    shapes |= {"audio": (1, frames, 50, config.net.cross_attention_dim), "mel": (1, 1, 80, 52)}
    batch = {name: torch.rand(shape, device=device) * 2 - 1 for name, shape in shapes.items()}
    return batch | {"seed": torch.tensor([7])}


def peak_gb(preset: str, device: torch.device) -> tuple[float, float]:
    """(allocated, reserved) at the highest point of a few steps, in 10^9 bytes."""
    unused = [f"files.{name}=unused" for name in ("vae", "whisper", "syncnet", "vgg16", "videomae")]
    config = load_config(UNetTraining, preset, ["start=null", *unused])
    task = UNetTask(config, frozen_nets(config), data=[])
    task.to(device)
    net = task.net.to(device).train()
    net.gradient_checkpointing = config.run.gradient_checkpointing
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.optimizer.learning_rate)
    scaler = torch.amp.GradScaler(device.type, enabled=config.run.precision == "fp16")
    batch = random_batch(config, device)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(STEPS):
        with torch.autocast(device.type, DTYPES[config.run.precision], enabled=config.run.precision != "no"):
            loss = task.loss(net, batch)["loss"]
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(trained, config.optimizer.clip_norm or float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return torch.cuda.max_memory_allocated(device) / 1e9, torch.cuda.max_memory_reserved(device) / 1e9


def main() -> int:
    if not torch.cuda.is_available():
        print("training memory is measured on a CUDA GPU, and this machine has none: nothing was measured")
        return 0
    device, within = torch.device("cuda"), True
    print(f"{torch.cuda.get_device_name(device)}, batch size 1, random weights")
    print(f"{'preset':<18}{'allocated':>12}{'reserved':>12}{'limit':>10}")
    for preset in sys.argv[1:] or DEFAULT:
        allocated, reserved = peak_gb(preset, device)
        limit = LIMITS_GB.get(preset, float("inf"))
        within &= reserved <= limit
        print(f"{preset:<18}{allocated:>9.1f} GB{reserved:>9.1f} GB{limit:>7.0f} GB", flush=True)
        gc.collect()
        torch.cuda.empty_cache()
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
