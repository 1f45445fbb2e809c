"""Training of a small VAE, of the kind that Stable Diffusion has (arXiv 2112.10752, sec. 3.1), for a small model.

It learns from parts of aligned crops: a convolutional net that knows parts knows wholes, and they cost less.
"""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt
from safetensors.torch import save_file
from torch import Tensor, nn

from ...errors import InputError
from ...files import replacing
from ...frames import batches, for_net
from ...models.load import load_vae
from ...nets.loading import check_state_dict
from ...sampling.sample import LATENT_SCALE
from ...train.clips import Clip, Pictures
from ...train.config import DataConfig, OptimizerConfig, RunConfig, settings
from ...train.dataset import ClipSamples
from ...train.init_weights import seeded
from ...train.task import Samples, Task

READ_AT_ONCE = 64  # frames
SAMPLES_FOR_SCALE = 16  # whose latents tell by what they have to be scaled
MOUTH_SHARE = 0.85  # of the parts show the mouth, which is small and all that is ever decoded into a frame
MOUTH_AT = (0.5, 0.625)  # columns and rows of the crop, as fractions, around which they lie
WANDER = 0.14  # of the crop's side, by which they lie off it at most


@settings
class VAEShape:
    """diffusers' AutoencoderKL: width of each of the four blocks, layers in them, channels of the latents."""

    block_out_channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (32, 48, 64, 64)
    layers_per_block: PositiveInt = 1
    latent_channels: PositiveInt = 4
    groups: PositiveInt = 16

    def __post_init__(self):
        for width in self.block_out_channels:
            if width % self.groups:
                raise InputError(f"block_out_channels has {width}: give multiples of the {self.groups} groups")


@settings
class VAETraining:
    """Training of the VAE."""

    fixed: ClassVar[tuple[str, ...]] = ("net",)

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    net: VAEShape = field(default_factory=VAEShape)
    start: str | None = None  # a VAE to go on from, of shape `net`
    decoder_only: bool = False  # leaves the encoder, and so the latents, as in `start`: what knows them stays good
    every: PositiveInt = 6  # stride in frames; the others are not looked at
    pictures: PositiveInt = 1  # parts of different frames of one clip in a sample
    part: Annotated[int, Field(ge=LATENT_SCALE, multiple_of=LATENT_SCALE)] = 64  # side of a part in pixels
    edges: float = 1.0  # weight of the error of neighbouring pixels' differences, which keeps edges sharp
    tones: float = 2.0  # weight of the error of the mean colours of 8 x 8 pixels: hues are learned late without it
    kl: float = 1e-4  # weight of the divergence of the latents from a unit normal, per latent number

    def __post_init__(self):
        if self.decoder_only and self.start is None:
            raise InputError("decoder_only is set and start is null: give the VAE whose decoder is to be trained")
        if self.part > self.data.resolution:
            raise InputError(f"part is {self.part}: give at most data.resolution, {self.data.resolution}")


class ThinnedPictures:
    """Every k-th picture of a clip: (n, 3, resolution, resolution) uint8, a `train.cache.Feature`."""

    name = "pictures"

    def __init__(self, resolution: int, every: int):
        self.resolution, self.every = resolution, every
        self.identity = f"resolution {resolution} every {every}"

    def make(self, clip: Clip) -> Tensor:
        with Pictures(clip, self.resolution, cache=READ_AT_ONCE) as pictures:
            rows = [pictures[numbers][:: self.every] for numbers in batches(clip.frames, self.every * READ_AT_ONCE)]
        return torch.cat(rows).permute(0, 3, 1, 2).contiguous()


class PictureParts(ClipSamples):
    """Samples for the VAE: {"pixels": (pictures, 3, part, part) float32 in [-1, 1], "seed"}, all of one clip.

    Most parts show the mouth; the others lie anywhere.
    """

    def __init__(self, config: VAETraining):
        super().__init__(config.data, config.every * config.pictures, config.run.seed)
        self.config = config
        self.thinned = ThinnedPictures(config.data.resolution, config.every)
        self.features = (self.thinned,)

    def sample(self, clip: Clip, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        side, part = self.thinned.resolution, self.config.part
        parts = []
        for k in rng.permutation(clip.frames // self.config.every)[: self.config.pictures].tolist():
            x, y = rng.uniform(0, side - part, 2)
            if rng.random() < MOUTH_SHARE:
                x, y = side * np.array(MOUTH_AT) - part / 2 + rng.uniform(-WANDER, WANDER, 2) * side
            x, y = np.clip(np.rint([x, y]), 0, side - part).astype(int)
            parts.append(self.cache.read(self.thinned, clip, k, k + 1)[0, :, y : y + part, x : x + part])
        return {"pixels": for_net(torch.stack(parts).permute(0, 2, 3, 1))}


class VAETask(Task):
    """The VAE, its pictures and its loss."""

    def __init__(self, config: VAETraining, data: Samples | None = None):
        self.config = config
        with seeded(config.run.seed):
            self.net = make_vae(config.net, config.data.resolution)
        self.scale: float | None = None
        if config.start is not None:
            start = load_vae(config.start)
            check_state_dict(self.net.state_dict(), start.state_dict(), f"VAE that starts from {config.start}")
            self.net.load_state_dict(start.state_dict())
            if config.decoder_only:
                self.scale = start.config.scaling_factor
                self.net.encoder.requires_grad_(False)
                self.net.quant_conv.requires_grad_(False)
        self.data = PictureParts(config) if data is None else data

    def loss(self, net: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Errors of pixels, of their differences and of coarse colours; divergence of the latents from unit normal."""
        pictures = batch["pixels"].flatten(0, 1)
        seeds = batch["seed"].tolist()  # each of as many pictures, whose noise is drawn on the CPU
        generators = [torch.Generator().manual_seed(s) for s in seeds for _ in range(len(pictures) // len(seeds))]
        # The net is called as a whole, for it may be wrapped for several GPUs; a hook sees the posterior.
        moments: list[Tensor] = []
        quant_conv = getattr(net, "module", net).quant_conv
        hook = quant_conv.register_forward_hook(lambda _, __, output: moments.append(output))
        try:
            output = net(pictures, sample_posterior=True, generator=generators).sample
        finally:
            hook.remove()
        mean, log_variance = moments[0].float().chunk(2, dim=1)
        log_variance = log_variance.clamp(-30, 20)
        error = output.float() - pictures
        pixels = error.abs().mean() + 2 * error.square().mean()
        edges = (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()) / 2
        tones = F.avg_pool2d(error, LATENT_SCALE).abs().mean()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        loss = pixels + self.config.edges * edges + self.config.tones * tones + self.config.kl * kl
        psnr = 10 * torch.log10(4 / error.square().mean())
        figures = {"pixels": pixels, "tones": tones, "kl": kl, "psnr": psnr}
        return {"loss": loss} | {name: value.detach() for name, value in figures.items()}

    def save(self, state_dict: Mapping[str, Tensor], folder: Path, step: int) -> list[Path]:
        """The folder `vae` as diffusers saves it; its config has the factor that makes the latents' variance one."""
        vae = make_vae(self.config.net, self.config.data.resolution)
        vae.load_state_dict(dict(state_dict))
        scale = self.scale
        if scale is None:
            pictures = torch.cat([self.data[n]["pixels"] for n in range(SAMPLES_FOR_SCALE)])
            with torch.no_grad():
                scale = round(1 / float(vae.eval().encode(pictures).latent_dist.mode().std()), 5)
        vae.register_to_config(scaling_factor=scale)
        weights, config = folder / "vae" / "diffusion_pytorch_model.safetensors", folder / "vae" / "config.json"
        weights.parent.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state_dict.items()}
        with replacing(weights) as part:
            save_file(tensors, part, {"format": "pt", "global_step": str(step)})
        with replacing(config) as part:
            part.write_text(vae.to_json_string(), encoding="utf-8")
        return [weights, config]


def make_vae(shape: VAEShape, resolution: int) -> nn.Module:
    """A diffusers AutoencoderKL of this shape, with fresh weights."""
    from diffusers import AutoencoderKL

    blocks = len(shape.block_out_channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=shape.block_out_channels,
        layers_per_block=shape.layers_per_block,
        latent_channels=shape.latent_channels,
        norm_num_groups=shape.groups,
        sample_size=resolution,
    )
