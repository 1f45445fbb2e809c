"""GPU memory of one training step of every preset, at full size: `python benchmarks/training_memory.py [PRESET ...]`.

It is counted on tensors without content (`latentsync.train.memory`), so no GPU is needed, and nothing is read but the
package. Where there is a CUDA GPU, the steps are also taken there, on random weights and samples, and the highest
memory is measured.
"""

import gc
import json
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from torch import nn


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from latentsync.nets.syncnet import PIXEL_ATTN, StableSyncNet
from latentsync.sampling.sample import LATENT_SCALE
from latentsync.train.config import SyncNetTraining, UNetTraining
from latentsync.evaluate.sync_score import SyncScorer
from latentsync.evaluate.perceptual import load_lpips
from latentsync.train.memory import estimate_memory
from latentsync.train.config import load_config
from latentsync.train.syncnet import SyncNetTask
from latentsync.train.trepa import VideoMAE, videomae_config
from latentsync.train.unet import FrozenNets, UNetTask
from latentsync.train.init_weights import DTYPES, frozen_dtype


PUBLISHED_GB = {"stage1": 23, "stage1_512": 30, "stage2": 30, "stage2_efficient": 20, "stage2_512": 55}
SYNCNETS = ("syncnet_16_pixel_attn", "syncnet_16_latent")
STEPS = 3  # the optimizer's state is there from the second on
VIT_G = {"width": 1408, "depth": 40, "n_head": 16, "mlp_width": 6144, "patch": 14, "tubelet": 2}
WHISPER_TINY = (80, 1500, 384, 6, 4)  # mels, context, width, heads, layers


def make_vae(*_) -> nn.Module:
    from diffusers import AutoencoderKL

    settings = ROOT / "latentsync" / "assets" / "sd-vae-ft-mse" / "config.json"
    return AutoencoderKL.from_config(json.loads(settings.read_text(encoding="utf-8"))).requires_grad_(False)


def frozen_nets(config: UNetTraining) -> FrozenNets:
    """The nets that the preset's losses need."""
    from whisper.model import AudioEncoder

    weights = config.losses
    return FrozenNets(
        vae=make_vae(),
        audio_encoder=AudioEncoder(*WHISPER_TINY),
        syncnet=SyncScorer(StableSyncNet(PIXEL_ATTN)) if weights.sync else None,
        lpips=load_lpips(None) if weights.lpips else None,
        trepa=VideoMAE(videomae_config(**VIT_G)) if weights.trepa else None,
    ).cast(frozen_dtype(config))


def make_task(preset: str):
    """The task of a preset, with fresh weights and without data, and the shapes of a sample."""
    mel = (1, 80, 52)
    if preset in SYNCNETS:
        config = load_config(SyncNetTraining, preset)
        side = config.data.resolution
        small = side // LATENT_SCALE
        shapes = {"frames": (64, small, small) if config.space == "latent" else (48, side // 2, side), "mel": mel}
        with patch("latentsync.train.syncnet.load_vae", make_vae), patch("latentsync.train.syncnet.find_file"):
            return SyncNetTask(config, data=[]), shapes | {"target": ()}, config
    unused = [f"files.{name}=unused" for name in ("vae", "whisper", "syncnet", "vgg16", "videomae")]
    config = load_config(UNetTraining, preset, ["start=null", *unused])
    frames, side = config.data.frames, config.data.resolution
    shapes = {name: (3, frames, side, side) for name in ("pixels", "reference_pixels")}
    shapes |= {"audio": (frames, 50, config.net.cross_attention_dim), "mel": mel}
    return UNetTask(config, frozen_nets(config), data=[]), shapes, config


def estimate(preset: str):
    with torch.device("meta"):
        task, shapes, config = make_task(preset)
        task.net.gradient_checkpointing = config.run.gradient_checkpointing
        sample = {name: torch.empty(shape) for name, shape in shapes.items()}
    return estimate_memory(task, sample, config)


def measure(preset: str) -> float:
    """The highest memory of a few steps on the GPU, allocated, in 10^9 bytes."""
    device = torch.device("cuda")
    task, shapes, config = make_task(preset)
    task.to(device)
    net = task.net.to(device).train()
    net.gradient_checkpointing = config.run.gradient_checkpointing
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config.optimizer.learning_rate)
    scaler = torch.amp.GradScaler(device.type, enabled=config.run.precision == "fp16")
    size = config.run.batch_size
    batch = {name: torch.rand((size, *shape), device=device) * 2 - 1 for name, shape in shapes.items()}
    batch["seed"] = torch.arange(size)
    torch.cuda.reset_peak_memory_stats(device)
    for _ in range(STEPS):
        for _ in range(config.run.accumulate):
            with torch.autocast(device.type, DTYPES[config.run.precision], enabled=config.run.precision != "no"):
                loss = task.loss(net, batch)["loss"]
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(trained, config.optimizer.clip_norm or float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    return torch.cuda.max_memory_allocated(device) / 1e9


def main() -> None:
    columns = ("weights", "optimizer", "gradients", "activations", "frozen", "total")
    print("GB (10^9 bytes) at the highest point of a step, at the preset's batch size and precision")
    print(f"{'preset':<23}" + "".join(f"{name:>12}" for name in (*columns, "published", "measured")))
    for preset in sys.argv[1:] or (*PUBLISHED_GB, *SYNCNETS):
        memory = estimate(preset)
        figures = "".join(f"{getattr(memory, name) / 1e9:>12.1f}" for name in columns)
        measured = f"{measure(preset):.1f}" if torch.cuda.is_available() else "no GPU"
        print(f"{preset:<23}{figures}{PUBLISHED_GB.get(preset, '-'):>12}{measured:>12}", flush=True)
        gc.collect()


if __name__ == "__main__":
    main()
