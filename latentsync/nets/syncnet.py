"""StableSyncNet: tells whether 16 (or 25) frames of a mouth and the sound of as many belong together.

Two convolutional encoders give unit vectors whose cosine says how well they fit; see LatentSync, arXiv 2412.09262,
sec. 3.3. Names of modules are those of the published checkpoints.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn

from ..errors import InputError
from .layers import Attention, FeedForward, MadeOfRecomputed, Parts, Recomputed
from .loading import MAX_BLOCKS, MAX_WIDTH, assign, axis_size, check_state_dict

GROUPS = 32  # of every group norm; not visible in the weights
N_HEAD = 8  # of every attention; not visible in the weights
EPS = 1e-6  # of every group norm
_size = partial(axis_size, net="StableSyncNet", file="stable_syncnet.pt")
PARTS = Parts(nn, F.scaled_dot_product_attention, N_HEAD, GROUPS)


@dataclass(frozen=True)
class Stage:
    """One residual block, and attention after it."""

    channels: int
    factor: tuple[int, int] = (2, 2)  # by which rows and columns are divided
    attention: bool = False

    def __post_init__(self):
        if not 1 <= self.channels <= MAX_WIDTH or self.channels % GROUPS:
            raise InputError(
                f"a stage of SyncNet has {self.channels} channels: give a multiple of {GROUPS} up to {MAX_WIDTH}"
            )
        if len(self.factor) != 2 or min(self.factor) < 1:
            raise InputError(f"a stage of SyncNet has the factor {self.factor}: give two whole numbers from 1 up")

    @property
    def downsamples(self) -> bool:
        return self.factor != (1, 1)


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of one encoder. `dropout` is a probability, at work only in training."""

    in_channels: int
    stages: tuple[Stage, ...]
    dropout: float = 0.0

    def __post_init__(self):
        if not 1 <= len(self.stages) <= MAX_BLOCKS:
            raise InputError(f"an encoder of SyncNet has {len(self.stages)} stages: give 1 to {MAX_BLOCKS}")

    @classmethod
    def from_table(
        cls,
        in_channels: int,
        block_out_channels: Sequence[int],
        downsample_factors: Sequence[int | Sequence[int]],
        attn_blocks: Sequence[int],
        dropout: float = 0.0,
    ) -> "EncoderConfig":
        """From parallel lists, as the published configurations have them; a factor is one number or (rows, columns)."""
        lengths = len(block_out_channels), len(downsample_factors), len(attn_blocks)
        if len(set(lengths)) > 1:
            raise InputError(
                f"block_out_channels, downsample_factors and attn_blocks have {lengths} entries: give one of each for "
                "every stage"
            )
        pairs = [(f, f) if isinstance(f, int) else tuple(f) for f in downsample_factors]
        rows = zip(block_out_channels, pairs, map(bool, attn_blocks), strict=True)
        return cls(in_channels, tuple(Stage(*row) for row in rows), dropout)


@dataclass(frozen=True)
class SyncNetConfig:
    """Shape of both encoders, and how many frames they judge at once."""

    visual: EncoderConfig
    audio: EncoderConfig
    frames: int = 16

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, torch.Tensor]) -> "SyncNetConfig":
        """Read widths and attention off names and shapes, and the number of frames off the visual input.

        The weights tell where a stage divides and not by what: the factors are those of the shipped table for as many
        frames that divides in the same places. Dropout is 0, as in every shipped table.
        """
        channels = _size(state_dict, "visual_encoder.conv_in.weight", 1)
        # 48 and 64 are 16 frames of RGB and of latents, 75 is 25 frames of RGB.
        frames = next((table.frames for table in SHIPPED.values() if channels % table.frames == 0), cls.frames)
        encoders = []
        for kind in ("visual", "audio"):
            blocks, rows = f"{kind}_encoder.down_blocks", []  # rows of width, whether it divides, attention
            for i in range(len({name.split(".")[2] for name in state_dict if name.startswith(f"{blocks}.")})):
                if f"{blocks}.{i}.attn.to_q.weight" in state_dict and rows:
                    rows[-1][2] = True
                    continue
                width = _size(state_dict, f"{blocks}.{i}.conv1.weight", 0)
                rows.append([width, f"{blocks}.{i}.downsample_conv.weight" in state_dict, False])
            divides = [row[1] for row in rows]
            tables = [getattr(table, kind).stages for table in SHIPPED.values() if table.frames == frames]
            fitting = [stages for stages in tables if [stage.downsamples for stage in stages] == divides]
            if not fitting:
                raise InputError(
                    f"the {kind} encoder for {frames} frames has {len(rows)} stages and divides in "
                    f"{[i for i, there in enumerate(divides) if there]}, unlike every shipped table "
                    f"({', '.join(SHIPPED)}): give its config"
                )
            stages = [Stage(row[0], stage.factor, row[2]) for row, stage in zip(rows, fitting[0], strict=True)]
            encoders.append(EncoderConfig(_size(state_dict, f"{kind}_encoder.conv_in.weight", 1), tuple(stages)))
        return cls(*encoders, frames)


PIXEL_VISUAL = (64, 128, 256, 256, 512, 1024, 2048, 2048), ((1, 2), 2, 2, 2, 2, 2, 2, 2)
PIXEL_AUDIO = (32, 64, 128, 256, 512, 1024, 2048), ((2, 1), 2, 2, 1, 2, 2, (2, 3))

# The published configurations. Pixel nets see the lower halves of 16 frames of 256 x 256, the latent net 16 latents of
# 4 x 32 x 32; these hear 52 columns of 80 mels. One pixel net sees 25 frames and hears 80 columns. Every encoder ends
# at 1 x 1.
PIXEL_ATTN = SyncNetConfig(
    visual=EncoderConfig.from_table(16 * 3, *PIXEL_VISUAL, attn_blocks=(0, 0, 0, 0, 1, 1, 0, 0)),
    audio=EncoderConfig.from_table(1, *PIXEL_AUDIO, attn_blocks=(0, 0, 0, 1, 1, 0, 0)),
)
PIXEL = SyncNetConfig(
    visual=EncoderConfig.from_table(16 * 3, *PIXEL_VISUAL, attn_blocks=(0,) * 8),
    audio=EncoderConfig.from_table(1, *PIXEL_AUDIO, attn_blocks=(0,) * 7),
)
LATENT = SyncNetConfig(
    visual=EncoderConfig.from_table(16 * 4, (64, 128, 256, 256, 512, 1024), (2, 2, 2, 1, 2, 2), (0,) * 6),
    audio=EncoderConfig.from_table(1, (32, 64, 128, 256, 512, 1024), ((2, 1), 2, 2, 2, 2, (2, 3)), (0,) * 6),
)
PIXEL_25 = SyncNetConfig(
    visual=EncoderConfig.from_table(
        25 * 3, (128, 128, 256, 256, 512, 512, 1024, 1024), PIXEL_VISUAL[1], attn_blocks=(0,) * 8
    ),
    audio=EncoderConfig.from_table(1, (64, 128, 256, 256, 512, 1024), (2,) * 6, attn_blocks=(0,) * 6),
    frames=25,
)
SHIPPED = {"16_pixel_attn": PIXEL_ATTN, "16_pixel": PIXEL, "16_latent": LATENT, "25_pixel": PIXEL_25}


class ResnetBlock(Recomputed):
    """Two convolutions with a residual, then a strided convolution where the stage divides."""

    def __init__(self, in_channels: int, stage: Stage, dropout: float):
        super().__init__()
        channels, (rows, columns) = stage.channels, stage.factor
        self.norm1 = nn.GroupNorm(GROUPS, in_channels, eps=EPS)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, channels, eps=EPS)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(in_channels, channels, 1) if in_channels != channels else None
        self.downsample_conv = nn.Conv2d(channels, channels, 3, stride=stage.factor) if stage.downsamples else None
        # An axis that keeps its length is padded on both sides, one that is divided only at its end.
        self.padding = (int(columns == 1), 1, int(rows == 1), 1)  # left, right, top, bottom

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden))))
        x = hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        return x if self.downsample_conv is None else self.downsample_conv(F.pad(x, self.padding))


class AttentionBlock(Recomputed):
    """Self-attention and feed-forward over the pixels of x (b, c, h, w), with a residual around both."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels, eps=EPS)
        self.conv_in = nn.Conv2d(channels, channels, 1)
        self.norm2 = nn.LayerNorm(channels)
        self.attn = Attention(channels, channels, PARTS)
        for name in ("to_q", "to_k", "to_v"):  # which have biases here
            setattr(self.attn, name, nn.Linear(channels, channels))
        self.norm3 = nn.LayerNorm(channels)
        self.ff = FeedForward(channels, PARTS)
        self.conv_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = rearrange(self.conv_in(self.norm1(x)), "b c h w -> b (h w) c")
        tokens = tokens + self.attn(self.norm2(tokens))
        tokens = tokens + self.ff(self.norm3(tokens))
        return x + self.conv_out(rearrange(tokens, "b (h w) c -> b c h w", h=x.shape[-2]))


class Encoder(nn.Module):
    """(b, in_channels, h, w) to an embedding (b, d) of length 1 without negative entries, float32."""

    def __init__(self, config: EncoderConfig):
        super().__init__()
        width = config.stages[0].channels
        self.conv_in = nn.Conv2d(config.in_channels, width, 3, padding=1)
        self.down_blocks = nn.ModuleList()
        for stage in config.stages:
            self.down_blocks.append(ResnetBlock(width, stage, config.dropout))
            width = stage.channels
            if stage.attention:
                self.down_blocks.append(AttentionBlock(width))
        self.norm_out = nn.GroupNorm(GROUPS, width, eps=EPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        # float32: the squares of 16-bit embeddings under- or overflow.
        return F.normalize(F.relu(self.norm_out(x)).flatten(1).float(), dim=1)


class StableSyncNet(MadeOfRecomputed):
    """Both encoders; `config` is one of the shipped tables or another of their kind."""

    def __init__(self, config: SyncNetConfig):
        super().__init__()
        self.config = config
        self.audio_encoder = Encoder(config.audio)
        self.visual_encoder = Encoder(config.visual)

    def forward(self, frames: torch.Tensor, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of frames and of sound, each (b, d), which belong together if their scalar product is above 0.5.

        `frames` is (b, config.frames * channels, h, w), frame-major "(f c)": RGB in [-1, 1], 128 x 256, the lower half,
        for pixel nets, and scaled latents, 32 x 32, for the latent net. `mel` is that of `audio.syncnet.mel_window`.
        """
        vision, audio = self.visual_encoder(frames), self.audio_encoder(mel)
        if vision.shape != audio.shape:
            raise ValueError(
                f"frames {tuple(frames.shape)} and mel {tuple(mel.shape)} have embeddings {tuple(vision.shape)} and "
                f"{tuple(audio.shape)}: give as many of each, in the sizes that this SyncNet was trained on"
            )
        return vision, audio

    @classmethod
    def from_state_dict(
        cls,
        state_dict: Mapping[str, torch.Tensor],
        *,
        config: SyncNetConfig | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> "StableSyncNet":
        """The net with these weights (of stable_syncnet.pt: its entry `state_dict`), strictly loaded, in eval mode.

        `config` is for nets whose factors are not those of a shipped table, and for dropout; see `assign` for the rest.
        """
        with torch.device("meta"):
            net = cls(config or SyncNetConfig.from_state_dict(state_dict))
        check_state_dict(net.state_dict(), state_dict, "StableSyncNet")
        assign(net, state_dict, dtype, device)
        return net.eval()
