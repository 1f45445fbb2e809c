"""Small nets with random weights in the places of the frozen nets of U-Net training, which take seconds for a step."""

import tiny
import torch
from diffusers import AutoencoderKL

from latentsync.evaluate.sync_score import SyncScorer
from latentsync.nets.syncnet import EncoderConfig, StableSyncNet, SyncNetConfig
from latentsync.train.trepa import VideoMAE, videomae_config
from latentsync.train.unet import FrozenNets

PIXEL_FACTORS = [[1, 2], 2, 2, 2, 2, 2]  # of 64 pixels


def golden(net: torch.nn.Module) -> torch.nn.Module:
    net.load_state_dict(tiny.weights(net))
    return net.eval().requires_grad_(False)


def narrow_syncnet(channels: int, factors: list, frames: int = 16) -> StableSyncNet:
    """A net that ends in one pixel, as the published ones do."""
    torch.manual_seed(0)
    visual = EncoderConfig.from_table(frames * channels, [32] * (len(factors) - 1) + [64], factors, [0] * len(factors))
    audio = EncoderConfig.from_table(
        1, [32] * 5 + [64], [[2, 1], 2, 2, 2, 2, [2, 3]] if frames == 16 else [2] * 6, [0] * 6
    )
    return StableSyncNet(SyncNetConfig(visual, audio, frames))


class Looker(torch.nn.Module):
    """In the place of SyncNet v2, whose pictures take seconds: keeps what it sees, and embeds almost nothing of it."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.ones(1)), []

    def lips(self, frames: torch.Tensor) -> torch.Tensor:
        self.seen.append(frames)
        return frames.mean(dim=(1, 2, 3, 4))[:, None].detach()

    def audio(self, mfcc: torch.Tensor) -> torch.Tensor:
        return mfcc.mean(dim=(1, 2, 3))[:, None]


class Distance(torch.nn.Module):
    """In the place of LPIPS, whose VGG takes seconds for a step."""

    def __init__(self):
        super().__init__()
        self.features = torch.nn.Conv2d(3, 8, 5, stride=4)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (self.features(a) - self.features(b)).square()


def losses_of(task, batch: dict[str, torch.Tensor], steps: int, learning_rate: float) -> list[float]:
    """The loss of one batch, again and again, while its task learns it."""
    optimizer, losses = torch.optim.AdamW(task.net.parameters(), learning_rate), []
    for _ in range(steps):
        loss = task.loss(task.net, batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def small_vae() -> AutoencoderKL:
    down, up = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    widths = {"block_out_channels": [8] * 4, "norm_num_groups": 4}
    return AutoencoderKL(down_block_types=down, up_block_types=up, **widths).eval()


def frozen_nets() -> FrozenNets:
    torch.manual_seed(0)
    trepa = VideoMAE(videomae_config(32, 1, 4, 32, patch=56, tubelet=8)).requires_grad_(False)
    syncnet = SyncScorer(narrow_syncnet(3, PIXEL_FACTORS), side=64)
    return FrozenNets(small_vae(), golden(tiny.audio_encoder()), syncnet, Distance(), trepa)
