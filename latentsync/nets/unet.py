"""LatentSync's U-Net: it predicts the noise in the latents of a clip from a masked face, a reference face and audio.

Stable Diffusion 1.5's layout over (batch, channel, frame, height, width); see LatentSync, arXiv 2412.09262, sec. 3.
Names of modules are those of the published checkpoints.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from .config import Motion, UNetConfig
from .layers import (
    AttentionFunction,
    Downsample,
    MadeOfRecomputed,
    Parts,
    ResnetBlock,
    SpatialTransformer,
    TimestepEmbedding,
    Upsample,
    norm_clips,
)
from .loading import assign, check_state_dict
from .motion import MotionModule

__all__ = ["Motion", "UNet", "UNetConfig"]


class Stage(nn.Module):
    """Layers of one width: each a residual block, then a spatial transformer and a motion module where it has them."""

    def __init__(
        self, in_widths: list[int], channels: int, attention: bool, motion: bool, config: UNetConfig, parts: Parts
    ):
        super().__init__()
        time_width = 4 * config.block_out_channels[0]
        if attention:
            self.attentions = nn.ModuleList(
                SpatialTransformer(channels, config.cross_attention_dim, parts) for _ in in_widths
            )
        self.resnets = nn.ModuleList(ResnetBlock(width, channels, time_width, parts) for width in in_widths)
        if motion:
            self.motion_modules = nn.ModuleList(MotionModule(channels, config.max_frames, parts) for _ in in_widths)
        self.has_attention, self.has_motion = attention, motion

    def layer(self, i: int, x, time, audio, frames: int) -> torch.Tensor:
        """Of x ((b f), c, h, w), with time (b, 4 * first width) and audio ((b f), rows, width)."""
        x = self.resnets[i](x, time, frames)
        if self.has_attention:
            x = self.attentions[i](x, audio)
        if self.has_motion:
            x = self.motion_modules[i](x, frames)
        return x


class DownBlock(Stage):
    """Layers, then half the size (but in the last block); every result is also put on `skips`."""

    def __init__(self, in_width: int, level: int, config: UNetConfig, parts: Parts):
        channels, layers = config.block_out_channels[level], config.layers_per_block
        in_widths = [in_width] + [channels] * (layers - 1)
        super().__init__(in_widths, channels, config.block_attention[level], config.motion == "all", config, parts)
        last = level == len(config.block_out_channels) - 1
        self.downsamplers = nn.ModuleList([] if last else [Downsample(channels, parts)])

    def forward(self, x, skips: list[torch.Tensor], time, audio, frames: int):
        for i in range(len(self.resnets)):
            x = self.layer(i, x, time, audio, frames)
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x


class MiddleBlock(nn.Module):
    """Residual block, spatial transformer, residual block at the smallest size."""

    def __init__(self, config: UNetConfig, parts: Parts):
        super().__init__()
        channels, time_width = config.block_out_channels[-1], 4 * config.block_out_channels[0]
        self.attentions = nn.ModuleList([SpatialTransformer(channels, config.cross_attention_dim, parts)])
        self.resnets = nn.ModuleList(ResnetBlock(channels, channels, time_width, parts) for _ in range(2))

    def forward(self, x: torch.Tensor, time: torch.Tensor, audio: torch.Tensor, frames: int) -> torch.Tensor:
        x = self.attentions[0](self.resnets[0](x, time, frames), audio)
        return self.resnets[1](x, time, frames)


class UpBlock(Stage):
    """Layers, each of which takes the latest of `skips` too, then twice the size (but in the last block).

    `layers` limits a call to some of the layers.
    """

    def __init__(self, in_width: int, skip_widths: list[int], level: int, config: UNetConfig, parts: Parts):
        channels = config.block_out_channels[level]
        widths = [in_width] + [channels] * config.layers_per_block
        in_widths = [width + skip_widths.pop() for width in widths]
        super().__init__(in_widths, channels, config.block_attention[level], config.motion != "none", config, parts)
        self.upsamplers = nn.ModuleList([Upsample(channels, parts)] if level > 0 else [])

    def forward(self, x, skips: list[torch.Tensor], time, audio, frames: int, layers: slice = slice(None)):
        for i in range(len(self.resnets))[layers]:
            x = self.layer(i, torch.cat([x, skips.pop()], dim=1), time, audio, frames)
        for upsample in self.upsamplers:
            x = upsample(x)
        return x


class UNet(MadeOfRecomputed):
    """The noise predictor; see `Parts` for `operations` and `attention`.

    Layers that cast their weights to the dtype of their input fit in: the net computes in the dtype of `sample`.
    """

    def __init__(
        self, config: UNetConfig, operations=nn, attention: AttentionFunction = F.scaled_dot_product_attention
    ):
        super().__init__()
        self.config = config
        parts = Parts(operations, attention, config.n_head, config.groups)
        width = config.block_out_channels[0]
        self.conv_in = operations.Conv2d(config.in_channels, width, 3, padding=1)
        self.time_embedding = TimestepEmbedding(width, parts)
        levels = range(len(config.block_out_channels))
        skip_widths = [width]
        self.down_blocks = nn.ModuleList()
        for level in levels:
            self.down_blocks.append(DownBlock(width, level, config, parts))
            width = config.block_out_channels[level]
            skip_widths += [width] * (config.layers_per_block + len(self.down_blocks[-1].downsamplers))
        self.up_blocks = nn.ModuleList()
        for level in reversed(levels):
            self.up_blocks.append(UpBlock(width, skip_widths, level, config, parts))
            width = config.block_out_channels[level]
        self.mid_block = MiddleBlock(config, parts)
        self.conv_norm_out = operations.GroupNorm(config.groups, width, eps=1e-5)
        self.conv_out = operations.Conv2d(width, config.out_channels, 3, padding=1)

    def forward(self, sample, timestep, audio, cache: list[torch.Tensor] | None = None) -> torch.Tensor:
        """Predict the noise: epsilon, (b, out_channels, f, h, w), in the dtype of `sample`.

        Args:
            sample: (b, in_channels, f, h, w): noisy latent 4, mask 1 (1 = keep), masked-crop latent 4, reference
                latent 4; h and w are multiples of 8 (of 2 for every downsampling).
            timestep: 0 .. 999, one number or (b,).
            audio: (b, f, 50, cross_attention_dim): the Whisper rows of every frame; zeros for guidance.
            cache: DeepCache (arXiv 2312.00858), branch 0. An empty list gets what the last up layer takes from below,
                (f, c, h, w) for each clip of the batch. With it, only conv_in, that layer and conv_out run.
        """
        batch, frames = len(sample), sample.shape[2]
        if self.config.motion != "none" and frames > self.config.max_frames:
            raise ValueError(
                f"a window of {frames} frames is longer than the {self.config.max_frames} that the motion modules' "
                "position tables have: choose a smaller window"
            )
        timestep = torch.as_tensor(timestep).to(torch.float32).to(sample.device).expand(batch)
        time = self.time_embedding(timestep, sample.dtype)
        audio = rearrange(audio.to(sample), "b f n c -> (b f) n c")
        x = self.conv_in(rearrange(sample, "b c f h w -> (b f) c h w"))
        skips = [x]
        *up_blocks, last = self.up_blocks
        if cache:
            x = torch.cat(cache)
        else:
            for block in self.down_blocks:
                x = block(x, skips, time, audio, frames)
            x = self.mid_block(x, time, audio, frames)
            for block in up_blocks:
                x = block(x, skips, time, audio, frames)
            x = last(x, skips, time, audio, frames, slice(-1))
            if cache is not None:
                cache.extend(x.split(frames))
        x = last(x, skips, time, audio, frames, slice(-1, None))
        x = self.conv_out(F.silu(norm_clips(self.conv_norm_out, x, frames)))
        return rearrange(x, "(b f) c h w -> b c f h w", f=frames)

    @classmethod
    def from_state_dict(
        cls,
        state_dict: Mapping[str, torch.Tensor],
        *,
        about: Mapping[str, str] | None = None,
        motion: Motion | None = None,
        operations=nn,
        attention: AttentionFunction = F.scaled_dot_product_attention,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> "UNet":
        """The net that a state dict describes, strictly loaded; see `assign` for dtype and device.

        `about` is the file's metadata. `motion` says where motion modules shall stand, to start stage 2 of training
        from a checkpoint without them: those that are wholly absent are made, and change nothing until trained.
        """
        config = UNetConfig.from_state_dict(state_dict, about)
        if motion is not None:
            config = replace(config, motion=motion)
        with torch.device("meta"):
            net = cls(config, operations, attention)
            # Layers handed in may keep their weights in a form of their own: plain ones say what a file must have.
            plain = net if operations is nn else cls(config)
        absent = {  # motion modules that the file has nothing of
            f"{name}.": module
            for name, module in plain.named_modules()
            if isinstance(module, MotionModule) and not any(key.startswith(f"{name}.") for key in state_dict)
        }
        kept_out = tuple(absent) if motion is not None else ()
        expected = {name: tensor for name, tensor in plain.state_dict().items() if not name.startswith(kept_out)}
        check_state_dict(expected, state_dict, "U-Net")
        new = {}
        for prefix, module in absent.items():
            parts = Parts(nn, F.scaled_dot_product_attention, config.n_head, config.groups)
            fresh = MotionModule(module.channels, config.max_frames, parts)
            fresh.zero_init()
            fresh.to(state_dict["conv_in.weight"])
            new |= {prefix + key: tensor for key, tensor in fresh.state_dict().items()}
        assign(net, {**state_dict, **new}, dtype, device)
        return net

    def zero_init(self) -> None:
        """Set to zero what training from Stable Diffusion 1.5 weights starts at: conv_in, conv_out, motion outputs."""
        for conv in (self.conv_in, self.conv_out):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
        for module in self.modules():
            if isinstance(module, MotionModule):
                module.zero_init()
