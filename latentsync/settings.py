"""What a user may set: each option once, with its default, its limits and its text.

The command line, the page and the nodes take all three from here, and every settings object checks itself against
them. Nothing heavy is imported, so that --help answers at once.
"""

import argparse
import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from .errors import InputError

EndMode = Literal["pingpong", "loop", "hold", "stop"]
SAMPLERS = ("ddim", "dpm++", "unipc", "euler")
REGIONS = ("mouth", "face")
UNCOND = ("each", "once")
SILENCE = ("model", "source", "still")
ENCODERS = ("auto", "x264", "nvenc", "videotoolbox", "qsv")
# x264's, the fastest first.
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
MOST_STEPS = 500  # the 1000 training steps with leading spacing: more would not begin at the noisiest
MOST_FPS = 1000
PUBLISHED_FPS = 25.0
TRAINED_WINDOW = 16
# What `quality` makes of the fields of `Settings` that are not given; what they cost and give: benchmarks/frontier.py.
QUALITIES: dict[str, dict[str, Any]] = {
    "published": {},
    "balanced": {"sampler": "dpm++", "steps": 8, "deep_cache": 2},
    "fast": {"sampler": "dpm++", "steps": 8, "uncond": "once", "deep_cache": 3},
}


@dataclass(frozen=True)
class Option:
    """A field of a settings class that a user may set.

    Attributes:
        name: of the field.
        flag: on the command line and in messages.
        low, high: the least and the largest value, both allowed.
        slider: (least, largest, step) of the page's control.
        widget: those of a node's widget, where they are not `low`, `high` and the slider's step.
        choices: the only values there are.
        by_quality: whether `--quality` sets it where it is not given.
    """

    name: str
    flag: str
    kind: type
    default: Any
    help: str
    low: float = -math.inf
    high: float = math.inf
    slider: tuple[float, float, float] | None = None
    widget: tuple[float, float, float] | None = None
    choices: tuple[str, ...] | None = None
    by_quality: bool = False


def option(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field that is an option; `limits` are those of `Option`."""
    return field(default=default, metadata={"option": {"help": help, **limits}})


def options(settings: type | object, *names: str) -> Iterator[Option]:
    """The options of a settings class in order: all of them, or those of the fields called `names`."""
    for item in fields(settings):
        if "option" in item.metadata and (not names or item.name in names):
            # The type of `float | None` is float.
            kind = next((kind for kind in get_args(item.type) if kind is not type(None)), item.type)
            yield Option(**{"name": item.name, "flag": item.name, "kind": kind, "default": item.default}
                         | item.metadata["option"])  # fmt: skip


def check(settings: object) -> None:
    """Refuse a value that is not one of its option's choices or lies outside its limits."""
    for item in options(settings):
        value = getattr(settings, item.name)
        if value is None and item.default is None:
            continue
        if item.choices is not None:
            if value not in item.choices:
                raise InputError(f"{item.flag} is {value!r}: choose one of {', '.join(item.choices)}")
        elif item.kind in (int, float) and (not item.low <= value <= item.high or abs(value) == math.inf):
            if item.high < math.inf:
                raise InputError(f"{item.flag} is {value}: give a number from {item.low} to {item.high}")
            raise InputError(f"{item.flag} is {value}: give {item.low} or more")


def add_options(
    parser: argparse._ActionsContainer, settings: type, *names: str, required: Collection[str] = ()
) -> None:
    """Add the options of a settings class, all or those of the fields called `names`, to a parser or a group of one."""
    for item in options(settings, *names):
        how: dict[str, Any] = {"action": "store_true"} if item.kind is bool else {"type": item.kind}
        if item.choices is not None:
            how = {"choices": item.choices, "type": _in_any_case(item.choices)}
        if item.name in required:
            how["required"] = True
        default, text = item.default, item.help
        if item.by_quality:
            default, text = None, f"{text} (default: {default}, or what --quality says)"
        parser.add_argument(f"--{item.flag}", default=default, help=text, **how)


def _in_any_case(choices: tuple[str, ...]) -> Callable[[str], str]:
    known = {choice.lower(): choice for choice in choices}
    return lambda text: known.get(text.lower(), text)


def from_arguments(settings: type, arguments: argparse.Namespace, **more: Any) -> Any:
    """Settings out of parsed options; what is not given comes from `more`, or keeps its default."""
    given = {item.name: getattr(arguments, item.flag, None) for item in options(settings)}
    return settings(**more | {name: value for name, value in given.items() if value is not None})


def sampling_settings(arguments: argparse.Namespace) -> "Settings":
    """`Settings` out of parsed options and of their `quality`."""
    return from_arguments(Settings, arguments, **QUALITIES[getattr(arguments, "quality", "published")])


@dataclass(frozen=True)
class Settings:
    """How a window is denoised.

    Attributes:
        steps: denoising steps of each window.
        guidance: strength of classifier-free guidance over silence; 1 is off and halves the work.
        guidance_start, guidance_end: the part of the steps, as fractions 0..1, in which guidance is on.
        uncond: guidance's unconditional half is computed in "each" step, or "once": in the first step, where all
            frames have the same noise, for the window's middle frame. What it changes there is added in all steps.
        seed: of the one noise latent that all frames share.
        window: frames denoised together; 16 in training, at most the net's position table (24).
        overlap: frames that neighbouring windows share, over which they are cross-faded; 0 as published.
        deep_cache: run the whole U-Net in every n-th step only, and its outermost layers in those between, which
            reuse what the others gave (DeepCache, arXiv 2312.00858); 0 and 1 are off. The published scripts take 3.
            With guidance it keeps 10 values for each pixel of a window's crops: in half precision 21 MB for 16 frames
            of 256, 84 MB of 512.
        clamp: False leaves the decoder's overshoots beyond [0, 1] to what comes after, as published.
    """

    steps: int = option(
        20, "denoising steps of each window; more are slower, and up to about 30 better", low=1, high=MOST_STEPS,
        slider=(1, 100, 1), flag="inference_steps", by_quality=True,
    )  # fmt: skip
    guidance: float = option(
        1.5, "how strongly the lips follow the audio; 1 is off and twice as fast, above about 2.5 the mouth jitters",
        low=0, slider=(1, 3, 0.1), widget=(0, 10, 0.1), flag="guidance_scale",
        by_quality=True,
    )  # fmt: skip
    guidance_start: float = option(
        0.0, "share of the steps after which guidance is on", low=0, high=1, slider=(0, 1, 0.05)
    )
    guidance_end: float = option(
        1.0, "share of the steps after which guidance is off; below 1 the last steps are twice as fast", low=0, high=1,
        slider=(0, 1, 0.05),
    )  # fmt: skip
    seed: int = option(
        1247, "seed of the noise that the mouth starts from; the same seed gives the same video on every device",
        low=-(2**63), high=2**64 - 1, widget=(0, 2**64 - 1, 1),
    )  # fmt: skip
    window: int = option(
        TRAINED_WINDOW,
        "frames denoised together: 16 in training, at most 24 for the published models; fewer need less memory",
        low=1, slider=(1, 24, 1), widget=(1, 240, 1),
    )  # fmt: skip
    overlap: int = option(
        0, "frames that neighbouring windows share and cross-fade, against jumps between them; 4 of 16 take a third "
        "more time", low=0, slider=(0, 23, 1), widget=(0, 239, 1),
    )  # fmt: skip
    sampler: str = option(
        "ddim", "how the steps are taken: ddim is the published way, dpm++ and unipc need fewer steps",
        choices=SAMPLERS, by_quality=True,
    )  # fmt: skip
    deep_cache: int = option(
        0,
        "run the whole net in every n-th step only, and its outermost layers in between: 3, as the published scripts "
        "have it, takes 2.5 times less computing; fine detail may suffer. 0 is off",
        low=0, slider=(0, 10, 1), widget=(0, 20, 1), by_quality=True,
    )  # fmt: skip
    uncond: str = option(
        "each",
        "guidance compares with silence in each step, or once a window: nearly free, and about half as effective",
        choices=UNCOND,
        by_quality=True,
    )
    clamp: bool = True

    def __post_init__(self):
        check(self)
        if self.overlap >= self.window:
            raise InputError(f"overlap is {self.overlap}: give 0 to {self.window - 1}, less than the window")
        if self.guidance_start > self.guidance_end:
            raise InputError(
                f"guidance_start is {self.guidance_start} and guidance_end {self.guidance_end}: give two rising "
                "fractions"
            )


@dataclass(frozen=True)
class QualityOptions:
    quality: str = option(
        "published",
        "sampler, steps, guidance and DeepCache in one word: balanced takes 3.4 times and fast 5.6 times less "
        "computing than published; what is given beside it wins",
        choices=tuple(QUALITIES),
    )


EVERY_FACE = {"max_yaw": 90.0, "min_face": 0}  # of `TrackSettings`: none is left alone


@dataclass(frozen=True)
class TrackSettings:
    """How one face is followed.

    Attributes:
        which: "largest", "index:K" (K-th from the left, from 0), "nearest:X,Y" (frame pixels), or "similar"
            (most like the first one found, by embedding where the detector gives one, else by appearance).
        max_gap: seconds without a detection that are bridged; longer ones pass the source through.
        fade: seconds over which the synced face fades in and out at both ends of a longer gap.
        smoothing: seconds, the standard deviation of the filter's time window; 0 turns it off.
        max_yaw, min_face: degrees by which a face may be turned, and its least height in frame pixels, forehead to
            chin; one that is turned further or smaller is left alone, with fades.
        published: the published program's rounding and smoothing, each frame's face chosen anew and none left alone,
            and InsightFace as it is used there (`InsightFace.published`).
    """

    which: str = option("largest", "largest, similar (to the first), index:K (from the left) or nearest:X,Y",
                        flag="face")  # fmt: skip
    max_gap: float = option(
        0.5, "seconds without a face that are bridged; in longer gaps the frames stay as they are", low=0,
        slider=(0, 5, 0.1), widget=(0, 60, 0.01),
    )  # fmt: skip
    fade: float = option(
        0.2, "seconds over which the synced face fades in and out beside a longer gap", low=0, widget=(0, 60, 0.01)
    )
    smoothing: float = option(
        0.08, "seconds over which the position of the face is smoothed, against jitter; 0 is off", low=0,
        slider=(0, 1, 0.01), widget=(0, 60, 0.01),
    )  # fmt: skip
    max_yaw: float = option(
        60.0, "degrees by which the face may be turned to the side; while it is turned further the video stays as it "
        "is. 90 is off", low=0, high=90, slider=(0, 90, 1),
    )  # fmt: skip
    min_face: int = option(
        24, "height in pixels that the face must have; while it is smaller the video stays as it is. 0 is off", low=0,
        slider=(0, 256, 1), widget=(0, 4096, 1),
    )  # fmt: skip
    published: bool = False

    def __post_init__(self):
        check(self)
        parse_face(self.which)


def parse_face(which: str) -> tuple[str, tuple[float, ...]]:
    """`TrackSettings.which` as ("largest", ()), ("similar", ()), ("index", (k,)) or ("nearest", (x, y))."""
    name, _, value = which.partition(":")
    try:
        if name in ("largest", "similar") and not value:
            return name, ()
        if name == "index" and int(value) >= 0:
            return name, (int(value),)
        if name == "nearest":
            x, y = (float(part) for part in value.split(","))
            return name, (x, y)
    except ValueError:
        pass
    raise InputError(f"face is {which!r}: give largest, similar, index:K (from the left, 0 first) or nearest:X,Y")


@dataclass(frozen=True)
class BlendSettings:
    """How crops are laid over frames.

    Attributes:
        mask_smooth: width of the soft edge, 0 (hard) to 1.
        match_colour: shift the crop's colours so that the skin around the mouth matches the source's.
        detail: how much of the source's high frequencies of skin is put back, see `face.blend.with_detail`.
        published: the published program's way: the whole aligned face, twice resampled, with its soft mask.
    """

    mask_smooth: float = option(
        0.5, "width of the soft edge around the new mouth, 0 (hard) to 1", low=0, high=1, slider=(0, 1, 0.05)
    )
    match_colour: bool = option(
        False, "shift the colours of the new mouth so that the skin around it matches the source's"
    )
    published: bool = False
    detail: float = option(
        0.0, "how much of the video's own fine skin detail, such as pores and stubble, is put back around the new "
        "mouth where the face has not changed; 0 is off, 1 is all of it", low=0, high=1, slider=(0, 1, 0.05),
    )  # fmt: skip

    def __post_init__(self):
        check(self)
        if self.published and self.detail:
            raise InputError(
                f"detail is {self.detail} and the published way of blending puts none back: leave one of them out"
            )


@dataclass(frozen=True)
class RestoreSettings:
    """How much of what the restorer does is wanted.

    Attributes:
        strength: 0 (the input, bit for bit) to 1.
        region: where: "mouth", what the lip sync repaints, or "face", all of it.
        temporal: against flicker, 0 (each frame by itself) to 1: how much of the last frame's change is kept where
            the picture has not moved.
        batch: faces at once; halved by itself where memory does not suffice.
    """

    strength: float = option(
        0.8, "how much of the restored detail is taken, from 0 (nothing changes) to 1", low=0, high=1,
        slider=(0, 1, 0.05), flag="superres_strength",
    )  # fmt: skip
    region: str = option(
        "mouth", "what is restored: what the lip sync repaints (mouth), or all of the face", choices=REGIONS,
        flag="superres_region",
    )  # fmt: skip
    temporal: float = option(
        0.5, "against flicker: how much of the last frame's detail is kept where the picture does not move; 0 restores "
        "each frame by itself", low=0, high=1, slider=(0, 1, 0.05), flag="superres_temporal",
    )  # fmt: skip
    batch: int = option(4, "faces at once", low=1)

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class EncodingSettings:
    """How the video is compressed; `media.encoders` says what the numbers are to each encoder.

    x264 is the default, not auto: its files are the smallest for their quality, and a hardware encoder's depend on
    the machine.
    """

    crf: int = option(
        16, "quality of the video, 0 (best) to 51: lower looks better and makes a larger file", low=0, high=51,
        slider=(0, 51, 1),
    )  # fmt: skip
    preset: str = option(
        "medium", "how hard the encoder works: faster presets make larger files of the same quality", choices=PRESETS
    )
    encoder: str = option(
        "x264", "what encodes H.264: x264 on the CPU, or hardware (nvenc, videotoolbox, qsv), which is faster and "
        "makes larger files; auto takes the first of these that works. x264 takes the place of what does not",
        choices=ENCODERS,
    )  # fmt: skip

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class RunSettings:
    """Everything about a run but its files and its model.

    Attributes:
        sync, track, blend, encoding: see the classes.
        fps: frame rate of the result; None keeps the source's. The model was trained at 25.
        detect_every: look for the face in every n-th frame and interpolate between.
        audio_longer: what the video does while a longer audio goes on.
        audio_shorter: "stop" ends the video with the audio, "silent" carries on with a silent mouth.
        silence: what pauses of more than 0.4 s show: what the "model" makes of them, the "source", or the mouth with
            which the pause begins, held "still".
        repeat_turns: in pingpong the turning frames stand twice, as published.
        hard_cut: let Whisper hear each 30 s alone, as published.
        superres: a `SuperRes`: what restores the face and enlarges the frames, with its nets; None is neither.
        mask_image: uint8 array, what the net repaints, see `masks`: that which it was trained with. None is the
            published one.
    """

    sync: Settings = field(default_factory=Settings)
    track: TrackSettings = field(default_factory=TrackSettings)
    blend: BlendSettings = field(default_factory=BlendSettings)
    encoding: EncodingSettings = field(default_factory=EncodingSettings)
    fps: float | None = option(
        None, "frame rate of the result; the model was trained at 25 (default: the video's)", low=0.001, high=MOST_FPS
    )
    detect_every: int = option(
        1, "look for the face in every n-th frame only and interpolate between them; more is faster", low=1,
        slider=(1, 25, 1), widget=(1, 100, 1),
    )  # fmt: skip
    audio_longer: str = option(
        "pingpong", "when the audio is longer than the video: play the frames back and forth (pingpong), start over "
        "(loop), hold the last one, or stop, which cuts the audio", choices=get_args(EndMode),
    )  # fmt: skip
    audio_shorter: str = option(
        "stop", "when the audio ends first: stop the video too, or go on with a silent mouth",
        choices=("stop", "silent"),
    )  # fmt: skip
    silence: str = option(
        "model", "what the mouth does in pauses of the voice: what the model makes of silence, what it does in the "
        "source, or nothing (still: the result's mouth at the pause's beginning is held)", choices=SILENCE,
    )  # fmt: skip
    repeat_turns: bool = False
    hard_cut: bool = False
    superres: Any = None
    mask_image: Any = field(default=None, compare=False)  # arrays have no one truth value

    def __post_init__(self):
        check(self)

    def as_published(self) -> "RunSettings":
        """These settings with what the published program does: see the README for the little that still differs."""
        return replace(
            self,
            # It has guidance only above 1.
            sync=replace(self.sync, overlap=0, guidance=max(1.0, self.sync.guidance), clamp=False),
            track=replace(self.track, published=True),
            blend=replace(self.blend, published=True),
            repeat_turns=True,
            hard_cut=True,
            silence="model",
            fps=PUBLISHED_FPS,
        )
