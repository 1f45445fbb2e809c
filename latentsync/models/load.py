"""From weight files to a `LipSyncModel`. Nothing here reaches for the network."""

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ..audio.whisper import COLUMNS_PER_STATE, N_MELS, SEGMENT_COLUMNS
from ..errors import FileError, InputError
from ..files import read_text
from ..nets.loading import MAX_BLOCKS, MAX_WIDTH, assign, axis_size, check_state_dict
from .compile import compile_nets
from .folders import UNREADABLE, Checkpoints, find_checkpoints, read_sidecar, vae_weights
from .registry import RESOLUTIONS
from .state_dict import current_vae_names, load_state_dict, read_checkpoint, read_metadata, recognise

logger = logging.getLogger(__name__)

#: The files of `folders.Checkpoints` that a model is made of.
NEEDED = ("unet", "whisper", "vae")
#: Published U-Net configurations (configs/unet/*.yaml) whose name does not say their resolution.
PUBLISHED_AT_256 = ("stage1", "stage2", "stage2_efficient", "first_stage", "second_stage")
_WHISPER_SIZES = {384: "tiny", 768: "small"}


@dataclass
class LipSyncModel:
    """The three networks of one lip-sync model and the crop side they work at.

    `unet` (nets.unet.UNet), `vae` (diffusers.AutoencoderKL), `audio_encoder` (whisper.model.AudioEncoder);
    `resolution` in pixels, a multiple of 64 in 64..1024; `source` says where the weights came from, and `files` lists
    their files and folders, where they came from such. Sampling asks for
    `encode`, `denoise`, `decode` and the properties below, and never for a net: whoever holds nets in another way
    (ComfyUI) gives the same.
    """

    unet: nn.Module
    vae: nn.Module
    audio_encoder: nn.Module
    resolution: int
    source: str = ""
    files: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        check_resolution(self.resolution)
        needed, given = self.unet.config.cross_attention_dim, self.audio_encoder.conv1.out_channels
        if needed != given:
            name = _WHISPER_SIZES.get(needed, "one")
            raise InputError(
                f"the U-Net takes audio of width {needed} and this Whisper encoder gives {given} (tiny: 384, small: "
                f"768): use Whisper {name} of width {needed}"
            )

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    @property
    def latent_channels(self) -> int:
        return self.unet.config.out_channels

    @property
    def max_frames(self) -> int | None:
        """The most frames that are denoised together; None for any number."""
        return None if self.unet.config.motion == "none" else self.unet.config.max_frames

    def encode(self, pictures: Tensor) -> Tensor:
        """See `encode_pictures`."""
        return encode_pictures(self.vae, pictures)

    def denoise(self, noisy: Tensor, t: Tensor, audio: Tensor, cache: list[Tensor] | None = None) -> Tensor:
        """The noise in latents and their condition, (b, 13, f, h, w) in `dtype` on `device`: see `nets.unet.UNet`."""
        return self.unet(noisy, t, audio, cache)

    def decode(self, latents: Tensor) -> Tensor:
        """See `decode_latents`."""
        return decode_latents(self.vae, latents)

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "LipSyncModel":
        """Moves and casts U-Net and VAE in place; returns self.

        The audio encoder is small and stays in float32, as in the published program.
        """
        # The tensor cores of CUDA take channels last, and cuDNN reorders everything else before each convolution.
        cuda = device is not None and torch.device(device).type == "cuda"
        layout = torch.channels_last if cuda else None
        for module in (self.unet, self.vae):
            # Not module.to: that of diffusers logs a warning about every cast, even where it keeps nothing in float32.
            nn.Module.to(module, device=device, dtype=dtype, memory_format=layout)
        self.audio_encoder.to(device=device, dtype=torch.float32)
        return self

    def compile(self, backend: str | Callable = "inductor") -> "LipSyncModel":
        """Has U-Net and VAE compiled in place when they first work, if that can be; returns self."""
        compile_nets((self.unet, self.vae.encoder, self.vae.decoder), backend)
        return self


def encode_pictures(vae: nn.Module, pictures: Tensor) -> Tensor:
    """Latents (n, c, h / 8, w / 8) of pictures (n, 3, h, w) in [-1, 1]: float32, scaled as the U-Net has them.

    The mode of the posterior, so that two runs agree. The VAE computes in its own dtype and on its own device.
    """
    weight = next(vae.parameters())
    latents = vae.encode(pictures.to(weight.device, weight.dtype)).latent_dist.mode().float()
    return (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor


def decode_latents(vae: nn.Module, latents: Tensor) -> Tensor:
    """Pictures (n, 3, 8h, 8w) float32 in about [-1, 1], not clamped, of latents as `encode_pictures` gives them."""
    weight = next(vae.parameters())
    latents = latents / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    return vae.decode(latents.to(weight.device, weight.dtype)).sample.float()


def default_device() -> torch.device:
    """CUDA where there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def missing_checkpoints(folder: str | Path) -> list[str]:
    """Which of the files that a model is made of, out of `NEEDED`, a checkpoints folder does not have."""
    paths = find_checkpoints(folder)
    return [name for name in NEEDED if getattr(paths, name) is None]


def needed_checkpoints(folder: str | Path, unet: str | Path | None = None) -> Checkpoints:
    """The files in a checkpoints folder, when those that a model is made of are all there; `unet` is another U-Net."""
    paths = find_checkpoints(folder)
    if unet is not None:
        if not Path(unet).is_file():
            raise FileError(f"there is no U-Net file {unet}: check --inference_ckpt_path")
        paths = replace(paths, unet=Path(unet))
    if missing := [name for name in NEEDED if getattr(paths, name) is None]:
        only = "" if len(missing) == len(NEEDED) else f" --only {','.join(missing)}"
        other = "" if unet is None else "name the folder that has them with --checkpoints, or "
        raise FileError(
            f"{folder} lacks {', '.join(missing)}: {other}fetch with `python -m latentsync download --checkpoints "
            f"{folder}{only}`"
        )
    return paths


def load_model(
    folder: str | Path,
    *,
    unet: str | Path | None = None,
    resolution: int | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    compile: bool = False,
) -> LipSyncModel:
    """The model in a checkpoints folder (or ComfyUI models folder), ready for inference.

    `unet` is a U-Net's file to take in place of the folder's. The crop side is not in the weights: `resolution`, else
    what `latentsync.json` beside the U-Net says, else the metadata of a .safetensors U-Net, else what the names in the
    path tell (1.5 or 256, 1.6 or 512), else 512.
    `device` defaults to `default_device()`; `dtype` to float16 on a GPU and float32 on the CPU. `compile`: see
    `LipSyncModel.compile`.
    """
    paths = needed_checkpoints(folder, unet)
    resolution = choose_resolution(paths, resolution)
    device = default_device() if device is None else torch.device(device)
    if dtype is None:
        dtype = torch.float32 if device.type == "cpu" else torch.float16
    net = load_unet(paths.unet, device, dtype)
    files = paths.unet, paths.vae, fitting_whisper(paths.whisper, net)
    vae, whisper = load_vae(paths.vae), load_audio_encoder(files[2])
    model = LipSyncModel(net, vae, whisper, resolution, str(paths.unet), files).to(device, dtype)
    return model.compile() if compile else model


def load_unet(
    path: str | Path,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    **unet_kwargs,
) -> nn.Module:
    """The lip-sync U-Net in a file, in evaluation mode; its hyper-parameters are read off the tensor shapes.

    `unet_kwargs` go to `nets.unet.UNet.from_state_dict` (operations, attention).
    """
    from ..nets.unet import UNet, UNetConfig

    state, about = read_checkpoint(path)
    kind = recognise(state)
    if kind != "a lip-sync U-Net":
        raise InputError(f"{path} looks like {kind}, not a lip-sync U-Net with 13 input channels: give another file")
    try:
        unet = UNet.from_state_dict(state, about=about, device=device, dtype=dtype, **unet_kwargs)
        if (channels := unet.config.out_channels) != UNetConfig.out_channels:
            raise InputError(f"it gives {channels} channels, not {UNetConfig.out_channels}: fetch it again")
    except InputError as error:
        raise InputError(f"{path} looks like {kind} but does not load: {error}") from error
    return unet.eval().requires_grad_(False)


def load_audio_encoder(path: str | Path) -> nn.Module:
    """The audio encoder (whisper.model.AudioEncoder, float32, CPU) of an OpenAI Whisper file; no decoder is built.

    The file is OpenAI's {"dims", "model_state_dict"} or its .safetensors conversion with `dims` in the metadata.
    Without dims the sizes come from the tensor shapes, with attention heads of width 64 as in all published models.
    """
    try:
        from whisper.model import AudioEncoder
    except ImportError as error:
        raise InputError("the audio encoder needs the whisper package: pip install openai-whisper") from error

    state, metadata = read_checkpoint(path)
    weights = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    layers = len({key.split(".")[1] for key in weights if key.startswith("blocks.")})
    if "positional_embedding" not in weights or "conv1.weight" not in weights or layers > MAX_BLOCKS:
        raise InputError(f"{path} looks like {recognise(state)}: give an OpenAI Whisper file (tiny.pt or small.pt)")
    size = partial(axis_size, weights, net="Whisper audio encoder", file="tiny.pt")
    width = size("conv1.weight", 0)
    heads = _whisper_heads(metadata, width)
    if type(heads) is not int or heads < 1 or width > MAX_WIDTH or width % heads:
        raise InputError(f"{path} says that its {width} channels have {heads!r:.40} attention heads: fetch it again")
    mels, states = size("conv1.weight", 1), size("positional_embedding", 0)
    if (mels, states) != (N_MELS, SEGMENT_COLUMNS // COLUMNS_PER_STATE):
        raise InputError(
            f"{path} hears {mels} mels and {states} states: give Whisper tiny or small (tiny.pt, small.pt)"
        )
    with torch.device("meta"):
        encoder = AudioEncoder(mels, states, width, heads, layers)
    return _filled(encoder, weights, Path(path), "Whisper audio encoder")


def _whisper_heads(metadata: Mapping[str, str], width: int) -> object:
    """What the file says, whatever that is, else one for every 64 channels."""
    try:
        dims = json.loads(metadata.get("dims", "{}"))
    except (ValueError, RecursionError):
        return metadata["dims"]
    return dims.get("n_audio_head", max(1, width // 64)) if isinstance(dims, dict) else dims


def load_vae(path: str | Path) -> nn.Module:
    """The VAE (diffusers.AutoencoderKL, float32, CPU) in a folder as diffusers saves it, or in one file.

    One file may have diffusers' names, its old attention names, or those of the original latent-diffusion code.
    The settings are those of `config.json` beside the weights, else of sd-vae-ft-mse, which come with this package.
    """
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise InputError('the VAE needs the diffusers package: pip install "diffusers<0.36"') from error
    path = Path(path)
    file = vae_weights(path) if path.is_dir() else path
    state = load_state_dict(file)
    beside = file.parent / "config.json"
    config = beside if beside.is_file() else Path(__file__).parents[1] / "assets" / "sd-vae-ft-mse" / "config.json"
    try:
        settings = json.loads(read_text(config))
        blocks, layers = settings.get("block_out_channels", [64]), settings.get("layers_per_block", 1)
        if len(blocks) > MAX_BLOCKS or layers > MAX_BLOCKS:
            raise ValueError(f"{len(blocks)} blocks of {layers} layers")
        with torch.device("meta"):
            vae = AutoencoderKL.from_config(settings)
        if not math.isfinite(scale := vae.config.scaling_factor) or not math.isfinite(vae.config.shift_factor or 0):
            raise ValueError(f"scaling_factor {scale}")
        latents = f"latents of {vae.config.latent_channels} channels, {2 ** (len(blocks) - 1)} times smaller"
        names = current_vae_names(state, vae.config)
    except UNREADABLE as error:
        raise InputError(f"{config} does not describe the VAE {file} ({error!s:.200}): fetch both again") from error
    if latents != "latents of 4 channels, 8 times smaller":
        raise InputError(f"{file} makes {latents}: give the VAE of Stable Diffusion 1, such as sd-vae-ft-mse")
    return _filled(vae, names, file, "VAE")


def _filled(module: nn.Module, state: Mapping[str, Tensor], path: Path, name: str) -> nn.Module:
    """`module`, made on the meta device, with the tensors of `state` in float32: all of them and nothing else."""
    try:
        check_state_dict(module.state_dict(), state, name)
    except InputError as error:
        raise InputError(f"{path} looks like {recognise(state)}: {error}") from error
    assign(module, state, torch.float32)
    return module.eval().requires_grad_(False)


def fitting_whisper(path: Path, unet: nn.Module) -> Path:
    """`path`, or the other size of Whisper beside it if that is the one the U-Net was trained with; the log says so."""
    width = unet.config.cross_attention_dim
    name = _WHISPER_SIZES.get(width, path.stem)
    found = next((p for p in (path.with_stem(name), path.with_name(f"{name}.pt")) if p.is_file()), path)
    if found != path:
        logger.info("taking %s instead of %s: this U-Net was trained with audio of width %d", found, path.name, width)
    return found


def check_resolution(resolution: int) -> None:
    """Refuses a crop side that is not a multiple of 64 in 64..1024."""
    if resolution % 64 or not 64 <= resolution <= 1024:
        raise InputError(f"resolution is {resolution}: choose a multiple of 64 from 64 to 1024 (1.5: 256, 1.6: 512)")


def published_resolution(config: str | Path) -> int:
    """The crop side that a U-Net configuration of the published program (configs/unet/stage2_512.yaml) is made for.

    Where there is no such file its name tells: 512 or 256 in it, or one of the published names without a number.
    """
    import yaml

    config = Path(config)
    if not config.is_file():
        named = re.search(r"512|256", config.stem)
        if named is None and config.stem not in PUBLISHED_AT_256:
            raise FileError(f"there is no file {config}, nor 256 or 512 in its name: give --resolution")
        side = int(named[0]) if named else 256
        logger.info("there is no file %s: by its name the resolution is %d", config, side)
        return side
    try:
        # Everything is text to this loader: others raise all kinds of errors at dates and numbers that are none.
        content = yaml.load(read_text(config), yaml.BaseLoader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{config} is not YAML ({' '.join(str(error).split())}): give --resolution instead") from None
    data = content.get("data") if isinstance(content, dict) else None
    side = data.get("resolution") if isinstance(data, dict) else None
    return _whole(side, f"{config} has no whole number at data.resolution: give --resolution instead")


def _whole(value: object, refusal: str) -> int:
    """The whole number that a file gives, perhaps as text."""
    if not isinstance(value, (int, str)) or not re.fullmatch("[0-9]{1,5}", str(value)):
        raise InputError(refusal)
    return int(value)


def choose_resolution(paths: Checkpoints, explicit: int | None) -> int:
    """The crop side in pixels, by the order in `load_model`; warns where it is not what the version was trained for."""
    stated = read_metadata(paths.unet) | read_sidecar(paths.unet.parent)
    version = str(stated.get("version") or _version_in_names(paths.unet, paths.folder))
    resolution = explicit
    if resolution is None and "resolution" in stated:
        refusal = f"the resolution that stands in or beside {paths.unet} is no whole number: give it (--resolution)"
        resolution = _whole(stated["resolution"], refusal)
    if resolution is None:
        resolution = RESOLUTIONS.get(version, 512)
        logger.info("%s does not say its resolution: taking %d", paths.unet, resolution)
    check_resolution(resolution)
    trained = RESOLUTIONS.get(version, resolution)
    if resolution != trained and resolution in RESOLUTIONS.values():
        logger.warning(
            "LatentSync %s works at %d pixels, not at %d: set resolution=%d", version, trained, resolution, trained
        )
    return resolution


def _version_in_names(path: Path, folder: Path) -> str | None:
    """The version that the file's name, or else the nearest folder's up to the checkpoints folder, tells."""
    path, folder = path.resolve(), folder.resolve()
    for name in (path.name, *(p.name for p in path.parents if p == folder or folder in p.parents)):
        patterns = {v: rf"(?<!\d)(?:{v.replace('.', '[._]')}|{side})(?!\d)" for v, side in RESOLUTIONS.items()}
        hits = [version for version, pattern in patterns.items() if re.search(pattern, name)]
        if len(hits) == 1:
            return hits[0]
    return None
