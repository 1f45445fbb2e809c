"""What a training run is told: nested dataclasses, filled from YAML and from the command line.

Values that are not said to be the published ones are this package's own choice.
"""

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_type_hints

import yaml
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass

from ..errors import FileError, InputError
from ..files import read_text
from ..nets.config import Motion, UNetConfig
from ..nets.syncnet import PIXEL_AUDIO, PIXEL_VISUAL

PRESETS = Path(__file__).parent / "presets"
STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
settings = partial(dataclass, frozen=True, config=STRICT)
BelowOne = Annotated[float, Field(ge=0, lt=1)]
NO_IS_TEXT = BeforeValidator(lambda value: "no" if value is False else value)  # YAML reads a bare `no` as false
Config = TypeVar("Config")


class Loader(yaml.SafeLoader):
    """Plain YAML, in which 1e-5 is a number also without a dot."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d[\d_]*(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


@settings
class DataConfig:
    """Where samples come from."""

    clips: str = "data/clips"  # a folder of prepared clips, or a text file with the path of one clip per line
    resolution: Annotated[int, Field(ge=64, le=1024, multiple_of=64)] = 256  # side of the face crops, pixels
    frames: PositiveInt = 16  # length of a sample
    negative_distance: PositiveInt = 1  # least number of frames between pictures and sound that are out of sync
    cache: str | None = None  # a folder for features that are computed once; null computes them anew every time
    cache_latents: bool = False  # whether the VAE's latents are among them; decoded, they then stand for pictures
    mask: str | None = None  # picture of what to repaint, black, and keep, white, as --mask_image; null: the published
    workers: NonNegativeInt = 4  # processes per training process that read clips; 0 reads in the training process

    def __post_init__(self):
        if self.cache_latents and self.cache is None:
            raise InputError("cache_latents is true and cache is null: give a folder as cache, or cache_latents=false")


@settings
class OptimizerConfig:
    """AdamW and its learning rate."""

    learning_rate: PositiveFloat = 1e-5
    betas: tuple[BelowOne, BelowOne] = (0.9, 0.999)
    weight_decay: NonNegativeFloat = 0.01
    clip_norm: PositiveFloat | None = 1.0  # greatest norm of the gradient; null leaves it as it is
    warmup_steps: NonNegativeInt = 0  # the rate rises in a straight line over these
    schedule: Literal["constant", "cosine"] = "constant"  # after that; the cosine falls to 0 at the last step


@settings
class RunConfig:
    """How long, how much at once, and what is written where."""

    output: str = "runs/latest"  # folder of the log, the checkpoints and the validation results
    max_steps: PositiveInt = 1000  # of the optimizer
    batch_size: PositiveInt = 1  # samples per process at once
    accumulate: PositiveInt = 1  # batches per step, which sees batch_size * accumulate * processes samples
    precision: Annotated[Literal["no", "bf16", "fp16"], NO_IS_TEXT] = "no"  # no is float32; fp16 scales the loss
    device: Literal["auto", "cpu"] = "auto"  # auto takes the GPUs there are
    gradient_checkpointing: bool = False
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None  # decay of an average of the weights, saved beside them
    seed: NonNegativeInt = 1247
    log_every: PositiveInt = 10
    save_every: PositiveInt = 1000
    keep: PositiveInt = 3  # how many checkpoints stay
    validate_every: NonNegativeInt = 0  # 0 is never

    def __post_init__(self):
        if self.precision == "fp16" and self.device == "cpu":
            raise InputError("precision is fp16 and device is cpu: give no or bf16 as precision")


@settings
class EncoderTable:
    """Stages of one encoder of SyncNet, as parallel lists; a factor is one number or [rows, columns]."""

    block_out_channels: tuple[int, ...]
    downsample_factors: tuple[int | tuple[int, int], ...]
    attn_blocks: tuple[int, ...]
    dropout: BelowOne = 0.0


@settings
class SyncNetTables:
    """Both encoders; the defaults are those of the published pixel model."""

    visual: EncoderTable = EncoderTable(*PIXEL_VISUAL, (0, 0, 0, 0, 1, 1, 0, 0))
    audio: EncoderTable = EncoderTable(*PIXEL_AUDIO, (0, 0, 0, 1, 1, 0, 0))


@settings
class SyncNetTraining:
    """Training of StableSyncNet; `guide`, `contrast` and `sparse` are 0 as published."""

    fixed: ClassVar[tuple[str, ...]] = ("net", "space")  # what a resumed run cannot change

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    net: SyncNetTables = field(default_factory=SyncNetTables)
    space: Literal["pixel", "latent"] = "pixel"  # it sees the lower half of the crop, or latents of the whole crop
    vae: str | None = None  # folder or file of the VAE, for latents
    frozen_half: bool = False  # whether the VAE runs in `run.precision` (published), instead of float32
    start: str | None = None  # weights to go on from; null starts anew
    # Weight of the error with which a coarse mel is predicted from either embedding: gets small nets off ln 2.
    guide: NonNegativeFloat = 0.0
    # Weight of the contrastive loss: frames find their own sound in the whole batch, and sound its frames.
    contrast: NonNegativeFloat = 0.0
    # Taken off the last biases before training, which moves them slowly, so that what does not belong together is less
    # alike.
    sparse: NonNegativeFloat = 0.0
    validation_clips: str | None = None  # held-out clips, as `data.clips`; null validates nothing
    validation_samples: PositiveInt = 256  # of them

    def __post_init__(self):
        if self.space == "latent" and self.vae is None:
            raise InputError("space is latent and vae is null: give the VAE that makes the latents")


@settings
class LossWeights:
    """What each loss counts: epsilon's squared error, and three on the decoded one-step estimate; 0 leaves one out."""

    mse: NonNegativeFloat = 1.0
    sync: NonNegativeFloat = 0.0
    lpips: NonNegativeFloat = 0.0
    trepa: NonNegativeFloat = 0.0

    def __post_init__(self):
        if not any(asdict(self).values()):
            raise InputError("every weight is 0: give at least one above 0")


@settings
class UNetFiles:
    """The frozen nets: the VAE and Whisper always, the others where a loss needs them."""

    vae: str = "checkpoints/vae"
    whisper: str = "checkpoints/whisper/tiny.pt"
    syncnet: str | None = None
    vgg16: str | None = None
    videomae: str | None = None


@settings
class ValidationConfig:
    """One clip that is lip-synced now and then."""

    video: str | None = None  # null validates nothing
    audio: str | None = None
    steps: PositiveInt = 20
    guidance: float = 1.5
    whole: bool = False  # false: `video` is of aligned crops; true: it goes through the pipeline of the command run
    detector: str = "auto"  # what detects the face in a whole video, as the command run takes it
    detector_model: str | None = None
    syncnet_v2: str | None = None  # file of SyncNet v2, which judges whole videos (Sync-C, Sync-D)

    def __post_init__(self):
        if (self.video is None) != (self.audio is None):
            raise InputError(f"video is {self.video} and audio is {self.audio}: give both, or neither")
        if self.syncnet_v2 is not None and not self.whole:
            raise InputError("syncnet_v2 judges whole pictures and whole is false: give whole=true and a whole video")


@settings
class UNetTraining:
    """Training of the lip-sync U-Net."""

    fixed: ClassVar[tuple[str, ...]] = ("net", "motion", "trained_parts")

    run: RunConfig = field(default_factory=RunConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    start: str | None = None  # weights to go on from: a lip-sync U-Net, or Stable Diffusion 1.5's; null: a fresh `net`
    net: UNetConfig = field(default_factory=UNetConfig)  # its `motion` follows `motion`; a start brings its own widths
    motion: Motion = "none"  # where motion modules stand
    trained_parts: tuple[str, ...] = ()  # only weights with one of these in their name are trained; empty trains all
    losses: LossWeights = field(default_factory=LossWeights)
    files: UNetFiles = field(default_factory=UNetFiles)
    # Whether VAE, SyncNet and VideoMAE run in `run.precision` (published), instead of float32 as Whisper and LPIPS.
    frozen_half: bool = False
    trepa_encoder: Literal["videomae", "syncnet"] = "videomae"  # SyncNet's visual encoder is for small models
    # a of the mixed noise: the frames of a clip share a^2 / (1 + a^2) of its variance. null: all have the same noise
    # (published: use_mixed_noise: false), as when the net is used.
    mixed_noise: NonNegativeFloat | None = 1.0
    snr_gamma: PositiveFloat | None = None  # of min-SNR, see `losses.noise_loss`; null weighs all noise alike
    audio_dropout: BelowOne = 0.0  # share of samples whose audio is zeroed: guidance needs a net without audio
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self):
        object.__setattr__(self, "net", UNetConfig(**asdict(self.net) | {"motion": self.motion}))
        needed = {"syncnet": self.uses_syncnet, "vgg16": self.losses.lpips, "videomae": self.uses_videomae}
        for name, used in needed.items():
            if used and getattr(self.files, name) is None:
                raise InputError(f"files.{name} is null: give the file that the losses need")
        if self.uses_videomae and self.data.frames != 16:
            raise InputError(f"data.frames is {self.data.frames}: give 16, which VideoMAE judges, or losses.trepa=0")

    @property
    def uses_syncnet(self) -> bool:
        """Whether a weighted loss needs SyncNet."""
        return bool(self.losses.sync or (self.losses.trepa and self.trepa_encoder == "syncnet"))

    @property
    def uses_videomae(self) -> bool:
        """Whether a weighted loss needs VideoMAE."""
        return bool(self.losses.trepa and self.trepa_encoder == "videomae")


def presets() -> list[str]:
    """Names of the configurations that come with the package, such as "stage1" and "embedded/unet"."""
    return sorted(path.relative_to(PRESETS).with_suffix("").as_posix() for path in PRESETS.rglob("*.yaml"))


def load_config(kind: type[Config], source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The dataclass `kind` from a YAML file or a preset, with values replaced as in `data.resolution=512`."""
    path = PRESETS / f"{source}.yaml" if str(source) in presets() else Path(source)
    if not path.is_file():
        raise FileError(f"there is no file {source}, nor a preset of that name: give one of {', '.join(presets())}")
    values = parse_yaml(read_text(path), str(path)) or {}
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}: give keys and values")
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"{override!r} is not a replacement: give key=value, such as data.resolution=512")
        *groups, name = key.split(".")
        inner = values
        for group in groups:
            inner[group] = inner.get(group) or {}
            inner = inner[group]
            if not isinstance(inner, dict):
                raise InputError(f"{override!r}: {group} is {inner!r}, which has no keys: replace it as a whole")
        inner[name] = parse_yaml(text, override)
    return build(kind, values)


def parse_yaml(text: str, source: str) -> Any:
    """The plain values in `text`; `source` is where it comes from, for messages."""
    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{source} is not YAML ({' '.join(str(error).split())})") from None


def to_yaml(config: Any) -> str:
    """Every value of a configuration; `load_config` makes the same configuration of it."""
    return yaml.safe_dump(plain(asdict(config)), sort_keys=False, default_flow_style=None, width=120)


def plain(value: Any) -> Any:
    """`value` as YAML would give it back: tuples as lists, all the way down."""
    return json.loads(json.dumps(value))


def build(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """The dataclass `kind` from nested dicts of plain values, checked all the way down."""
    # As JSON, whose lists are tuples where one is wanted; in a list, whose configuration holds for all that is in it.
    adapter = TypeAdapter(list[kind], config=STRICT)
    try:
        return adapter.validate_json(json.dumps([values], default=str))[0]
    except ValidationError as errors:
        raise InputError(_sentence(kind, errors.errors()[0])) from None


def _sentence(kind: type, error: Mapping[str, Any]) -> str:
    """What is wrong with a value and what would be right, of one of pydantic's errors."""
    _, *groups = error["loc"]
    place = ".".join(map(str, groups))
    if error["type"] == "missing":
        return f"{place} is missing: add it"
    if error["type"] == "value_error":
        return f"{place}: {error['ctx']['error']}".removeprefix(": ")
    if error["type"] != "unexpected_keyword_argument":
        right = re.sub(r"^(Input|Tuple) should", "it should", error["msg"]).replace(" after validation", "")
        return f"{place or 'the configuration'} is {json.dumps(error['input'], default=str)}: {right}"
    *groups, name = groups
    for group in groups:
        kind = get_type_hints(kind)[group]
    known = [field.name for field in fields(kind)]
    close = difflib.get_close_matches(name, known, 1)
    meant = f" (did you mean {'.'.join([*groups, *close])}?)" if close else ""
    return f"unknown key {place}{meant}: {'.'.join(groups) or 'the top level'} has {', '.join(known)}"
