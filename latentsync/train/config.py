"""What a training run is told: nested dataclasses; `parse.py` fills them from YAML and from the command line.

Figures that are not said to be the published ones are this package's own choice.
"""

import difflib
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from ..errors import InputError
from ..nets.config import Motion, UNetConfig


def _require(fits: bool, name: str, value: object, way_out: str) -> None:
    if not fits:
        raise InputError(f"{name} is {value!r}: give {way_out}")


@dataclass(frozen=True)
class DataConfig:
    """Where samples come from.

    clips: a folder of prepared clips, or a text file with the path of one clip per line.
    resolution: side of the face crops, pixels.
    frames: length of a sample.
    negative_distance: least number of frames between the pictures and the sound of a sample that is out of sync.
    cache: a folder for features that are computed once; null computes them anew every time.
    cache_latents: whether the VAE's latents are among them; losses on pictures then compare with decoded latents.
    mask: picture of what the U-Net is to repaint, black, and keep, white; null is the published one. A net trained with
        another wants it as --mask_image too.
    workers: processes per training process that read clips; 0 reads in the training process.
    """

    clips: str = "data/clips"
    resolution: int = 256
    frames: int = 16
    negative_distance: int = 1
    cache: str | None = None
    cache_latents: bool = False
    mask: str | None = None
    workers: int = 4

    def __post_init__(self):
        _require(
            not self.resolution % 64 and 64 <= self.resolution <= 1024,
            "resolution",
            self.resolution,
            "a multiple of 64 from 64 to 1024",
        )
        _require(self.frames >= 1, "frames", self.frames, "a number from 1 up")
        _require(self.negative_distance >= 1, "negative_distance", self.negative_distance, "a number from 1 up")
        _require(self.workers >= 0, "workers", self.workers, "0 or more")
        _require(
            not self.cache_latents or self.cache is not None, "cache_latents", True, "a folder as cache, or false here"
        )


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW and its learning rate.

    clip_norm: greatest norm of the gradient; null leaves it as it is.
    warmup_steps: the rate rises in a straight line over these.
    schedule: after that, constant, or a cosine that falls to 0 at the last step.
    """

    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    warmup_steps: int = 0
    schedule: Literal["constant", "cosine"] = "constant"

    def __post_init__(self):
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        _require(all(0 <= beta < 1 for beta in self.betas), "betas", self.betas, "two numbers from 0 to below 1")
        _require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        _require(self.clip_norm is None or self.clip_norm > 0, "clip_norm", self.clip_norm, "a number above 0 or null")
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "0 or more")


@dataclass(frozen=True)
class RunConfig:
    """How long, how much at once, and what is written where.

    output: folder of the log, the saved states and the validation results.
    max_steps: steps of the optimizer.
    batch_size: samples per process at once.
    accumulate: batches per step; a step sees batch_size * accumulate * processes samples.
    precision: no is float32; fp16 scales the loss, so that gradients do not underflow.
    device: auto takes the GPUs there are.
    ema: decay of an average of the weights, saved beside them; null keeps none.
    keep: how many saved states stay.
    validate_every: 0 is never.
    """

    output: str = "runs/latest"
    max_steps: int = 1000
    batch_size: int = 1
    accumulate: int = 1
    precision: Literal["no", "bf16", "fp16"] = "no"
    device: Literal["auto", "cpu"] = "auto"
    gradient_checkpointing: bool = False
    ema: float | None = None
    seed: int = 1247
    log_every: int = 10
    save_every: int = 1000
    keep: int = 3
    validate_every: int = 0

    def __post_init__(self):
        for name in ("max_steps", "batch_size", "accumulate", "log_every", "save_every", "keep"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "a number from 1 up")
        for name in ("validate_every", "seed"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "a decay between 0 and 1, such as 0.9999")
        _require(
            self.precision != "fp16" or self.device != "cpu", "precision", "fp16", "no or bf16 where the device is cpu"
        )


@dataclass(frozen=True)
class EncoderTable:
    """Stages of one encoder of SyncNet, as parallel lists; a factor is one number or [rows, columns]."""

    block_out_channels: tuple[int, ...]
    downsample_factors: tuple[int | tuple[int, int], ...]
    attn_blocks: tuple[int, ...]
    dropout: float = 0.0

    def __post_init__(self):
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "a probability from 0 to below 1")


@dataclass(frozen=True)
class SyncNetTables:
    """Both encoders; the defaults are those of the published pixel model."""

    visual: EncoderTable = EncoderTable(
        (64, 128, 256, 256, 512, 1024, 2048, 2048), ((1, 2), 2, 2, 2, 2, 2, 2, 2), (0, 0, 0, 0, 1, 1, 0, 0)
    )
    audio: EncoderTable = EncoderTable(
        (32, 64, 128, 256, 512, 1024, 2048), ((2, 1), 2, 2, 1, 2, 2, (2, 3)), (0, 0, 0, 1, 1, 0, 0)
    )


@dataclass(frozen=True)
class SyncNetTraining:
    """Training of StableSyncNet.

    space: whether it sees pictures (the lower half of the crop) or the VAE's latents (of the whole crop).
    vae: folder or file of the VAE, for latents.
    frozen_half: whether the VAE runs in `run.precision` (published), instead of float32.
    start: weights to go on from; null starts anew.
    guide: what it counts that a coarse picture of the sound can be told from either embedding; gets small nets with
        small batches off ln 2. 0 as published.
    contrast: what it counts that frames find their own sound among all of the batch, and sound its frames: every other
        sample is one out of sync more. 0 as published.
    sparse: what is taken off the last biases before training: the embeddings have more zeros, so those that do not
        belong together are less alike. Training alone moves these biases slowly. 0 as published.
    validation_clips: held-out clips, as `data.clips`; null validates nothing.
    validation_samples: how many samples of them are judged.
    """

    fixed: ClassVar[tuple[str, ...]] = ("net", "space")  # what a resumed run cannot change

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    net: SyncNetTables = field(default_factory=SyncNetTables)
    space: Literal["pixel", "latent"] = "pixel"
    vae: str | None = None
    frozen_half: bool = False
    start: str | None = None
    guide: float = 0.0
    contrast: float = 0.0
    sparse: float = 0.0
    validation_clips: str | None = None
    validation_samples: int = 256

    def __post_init__(self):
        _require(self.space == "pixel" or self.vae is not None, "vae", None, "the VAE that makes the latents")
        for name in ("guide", "contrast", "sparse"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(self.validation_samples >= 1, "validation_samples", self.validation_samples, "a number from 1 up")


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts: epsilon's squared error, and three on the decoded one-step estimate; 0 leaves one out."""

    mse: float = 1.0
    sync: float = 0.0
    lpips: float = 0.0
    trepa: float = 0.0

    def __post_init__(self):
        for name, weight in asdict(self).items():
            _require(weight >= 0, name, weight, "0 or more")
        _require(any(asdict(self).values()), "every weight", 0, "at least one above 0")


@dataclass(frozen=True)
class UNetFiles:
    """The frozen nets: the VAE and Whisper always, the others where a loss needs them."""

    vae: str = "checkpoints/vae"
    whisper: str = "checkpoints/whisper/tiny.pt"
    syncnet: str | None = None
    vgg16: str | None = None
    videomae: str | None = None


@dataclass(frozen=True)
class ValidationConfig:
    """One clip that is lip-synced now and then.

    video, audio: its files; null validates nothing.
    whole: false: the video is of aligned crops, as those to train on; true: it is as a camera made it, and goes the
        whole way of the command run: find the face, align, sync, blend.
    detector, detector_model: what finds the face of a whole video, as the command run takes them.
    syncnet_v2: file of SyncNet v2, which judges whole videos (Sync-C, Sync-D); null leaves that out.
    """

    video: str | None = None
    audio: str | None = None
    steps: int = 20
    guidance: float = 1.5
    whole: bool = False
    detector: str = "auto"
    detector_model: str | None = None
    syncnet_v2: str | None = None

    def __post_init__(self):
        _require(self.steps >= 1, "steps", self.steps, "a number from 1 up")
        _require((self.video is None) == (self.audio is None), "audio", self.audio, "both video and audio, or neither")
        _require(
            self.whole or self.syncnet_v2 is None,
            "whole",
            False,
            "true and an unprepared video, as SyncNet v2 judges whole pictures; or null as syncnet_v2",
        )


@dataclass(frozen=True)
class UNetTraining:
    """Training of the lip-sync U-Net.

    start: weights to go on from: a lip-sync U-Net, or Stable Diffusion 1.5's; null starts a fresh net of shape `net`.
    net: the shape of a fresh net; its `motion` follows `motion`. Widths of a start are those of its file.
    motion: where motion modules stand.
    trained_parts: only weights whose name contains one of these are trained; empty trains all.
    frozen_half: whether VAE, SyncNet and VideoMAE run in `run.precision` (published), instead of float32, in which
        Whisper, LPIPS and what comes out of the others always are.
    trepa_encoder: what sees the movement: VideoMAE v2, or, for small models, the pictures' side of SyncNet.
    mixed_noise: a of the mixed noise: the frames of a clip share a^2 / (1 + a^2) of its variance. null: all have the
        same noise (published: use_mixed_noise: false), as when the net is used.
    snr_gamma: of the min-SNR weighting of epsilon's error, see `losses.noise_loss`; null weighs all noise alike.
    audio_dropout: probability with which a sample's audio is zeroed, so that guidance has a net without audio.
    """

    fixed: ClassVar[tuple[str, ...]] = ("net", "motion", "trained_parts")

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    start: str | None = None
    net: UNetConfig = field(default_factory=UNetConfig)
    motion: Motion = "none"
    trained_parts: tuple[str, ...] = ()
    losses: LossWeights = field(default_factory=LossWeights)
    files: UNetFiles = field(default_factory=UNetFiles)
    frozen_half: bool = False
    trepa_encoder: Literal["videomae", "syncnet"] = "videomae"
    mixed_noise: float | None = 1.0
    snr_gamma: float | None = None
    audio_dropout: float = 0.0
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self):
        object.__setattr__(self, "net", UNetConfig(**asdict(self.net) | {"motion": self.motion}))
        _require(
            self.mixed_noise is None or self.mixed_noise >= 0, "mixed_noise", self.mixed_noise, "0 or more, or null"
        )
        _require(self.snr_gamma is None or self.snr_gamma > 0, "snr_gamma", self.snr_gamma, "a number above 0 or null")
        _require(0 <= self.audio_dropout < 1, "audio_dropout", self.audio_dropout, "a probability below 1")
        needed = {"syncnet": self.uses_syncnet, "vgg16": self.losses.lpips, "videomae": self.uses_videomae}
        for name in [name for name, used in needed.items() if used]:
            _require(getattr(self.files, name) is not None, f"files.{name}", None, "the file that the losses need")
        _require(
            not self.uses_videomae or self.data.frames == 16,
            "data.frames",
            self.data.frames,
            "16, which is what VideoMAE judges, or the weight 0 to trepa",
        )

    @property
    def uses_syncnet(self) -> bool:
        """Whether a weighted loss needs SyncNet."""
        return bool(self.losses.sync or (self.losses.trepa and self.trepa_encoder == "syncnet"))

    @property
    def uses_videomae(self) -> bool:
        """Whether a weighted loss needs VideoMAE."""
        return bool(self.losses.trepa and self.trepa_encoder == "videomae")


PRESETS = Path(__file__).parents[1] / "presets"
Config = TypeVar("Config")


def presets() -> list[str]:
    """Names of the configurations that come with the package, such as "stage1" and "embedded/unet"."""
    return sorted(path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.yaml"))


def load_config(kind: type[Config], source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file, or the preset of that name, with some values replaced.

    Args:
        kind: one of the dataclasses of `config.py`.
        overrides: `data.resolution=512`: keys with dots, values in YAML.

    Raises:
        FileNotFoundError: neither a preset nor a file.
        ValueError: not YAML, or an unknown key (says which there are), a value of the wrong type or out of range.
    """
    path = PRESETS / f"{source}.yaml" if str(source) in presets() else Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {source}, nor a preset of that name: give one of {presets()}")
    values = parse_yaml(path.read_text(encoding="utf-8"), str(path)) or {}
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}: give keys and values")
    for override in overrides:
        _replace(values, override)
    return build(kind, values)


def parse_yaml(text: str, source: str) -> Any:
    """The plain values in `text`; a ValueError that names `source` where it is not YAML."""
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML ({' '.join(str(error).split())})") from None


def to_yaml(config: Any) -> str:
    """Every value of a configuration; `load_config` makes the same configuration of it."""
    return yaml.safe_dump(plain(asdict(config)), sort_keys=False, default_flow_style=None, width=120)


def build(kind: type[Config], values: Mapping[str, Any], path: str = "") -> Config:
    """The dataclass `kind` from nested dicts, checked all the way down; `path` is where it stands, for messages.

    Raises:
        ValueError: an unknown or missing key, a value of the wrong type, or values that do not fit each other.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{path or 'the configuration'} is {values!r}: give keys and values: {_names(kind)}")
    types_of = get_type_hints(kind)
    for name in values:
        if name not in _names(kind):
            raise InputError(_unknown(str(name), path, _names(kind)))
    required = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if lacking := [_dotted(path, name) for name in required if name not in values]:
        raise InputError(f"the configuration lacks {', '.join(lacking)}: add them")
    chosen = {name: _coerce(types_of[name], value, _dotted(path, name)) for name, value in values.items()}
    try:
        return kind(**chosen)
    except ValueError as error:
        raise InputError(f"{path}: {error}" if path else str(error)) from None


def _coerce(kind: Any, value: Any, path: str) -> Any:
    """`value` as `kind`, which is a dataclass, Literal, union, tuple, bool, int, float or str."""
    if is_dataclass(kind):
        return build(kind, value, path)
    origin, options = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        options = [option for option in options if option is not type(None)]
        fitting = options[-1] if isinstance(value, list) else options[0]
        return _coerce(fitting, value, path)
    if origin is tuple:
        return _tuple(options, value, path)
    if origin is Literal and value in options and type(value) is str:
        return value
    if kind is float:
        value = _number(value)
    if origin is None and type(value) is kind:  # not isinstance: a bool is no number here
        return value
    # YAML reads a bare `no` as false, and so a precision.
    if origin is Literal and value is False and "no" in options:
        return "no"
    wanted = f"one of {', '.join(options)}" if origin is Literal else _WANTED[kind]
    raise InputError(f"{path} is {value!r}: give {wanted}")


_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _tuple(options: tuple, value: Any, path: str) -> tuple:
    if not isinstance(value, list | tuple):
        raise InputError(f"{path} is {value!r}: give a list, [a, b, ...]")
    if options[-1] is ...:
        options = (options[0],) * len(value)
    if len(options) != len(value):
        raise InputError(f"{path} is {value!r}: give {len(options)} values")
    return tuple(_coerce(options[i], entry, f"{path}[{i}]") for i, entry in enumerate(value))


def _number(value: Any) -> Any:
    """A float where `value` means one; YAML reads 1e-5, without a dot, as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return value
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


def _replace(values: dict, override: str) -> None:
    """Put `a.b=value` into nested dicts."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(f"{override!r} is no replacement: give key=value, such as data.resolution=512")
    *groups, name = key.split(".")
    for group in groups:
        if values.get(group) is None:
            values[group] = {}
        values = values[group]
        if not isinstance(values, dict):
            raise InputError(f"{override!r}: {group} is {values!r}, which has no keys: replace it as a whole")
    values[name] = parse_yaml(text, override)


def _unknown(name: str, path: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    meant = f" (did you mean {_dotted(path, close[0])}?)" if close else ""
    return f"unknown key {_dotted(path, name)}{meant}: {path or 'the top level'} has {', '.join(known)}"


def _names(kind: Any) -> list[str]:
    return [f.name for f in fields(kind)]


def _dotted(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def plain(value: Any) -> Any:
    """`value` as YAML would give it back: tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, tuple | list) else value
