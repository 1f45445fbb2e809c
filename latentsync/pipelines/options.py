"""What the commands share: the options that are not settings, and what loads with them.

What is needed is imported when a command runs, so that --help answers at once.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FileError, InputError
from ..settings import (
    PUBLISHED_FPS,
    BlendSettings,
    EncodingSettings,
    Option,
    QualityOptions,
    RestoreSettings,
    RunSettings,
    Settings,
    TrackSettings,
    add_options,
    from_arguments,
    option,
    options,
    sampling_settings,
)

CHECKPOINTS = "checkpoints"  # the default folder, in the current one
DETECTORS = ("auto", "insightface", "yunet", "centerface", "facexlib", "file")
NETS, SHARPEN = ("GFPGAN", "CodeFormer", "RestoreFormer"), "sharpen"
PARSED = "auto"  # --occlusion without a video
RATIO = 2.0  # of a restored result, unless another is asked for
# Wraps a function that loads something, so that what it gave is there for the next one who asks for the same.
Keep = Callable[[Callable], Callable]


@dataclass(frozen=True)
class Files:
    video_path: str | None = option(None, "the video")
    audio_path: str | None = option(None, "the voice: an audio file, or a video whose sound is taken")
    occlusion: str | None = option(
        None, "where something is in front of the face, such as a hand, the video stays as it is: a video of its size "
        "that is white there, or auto (face parsing)",
    )  # fmt: skip
    video_out_path: str | None = option(None, "the result: .mp4, .mov, .mkv or .webm")


@dataclass(frozen=True)
class ModelOptions:
    checkpoints: str | None = option(
        None,
        "folder of the weights (see download), or ComfyUI's models folder; embedded is the small model that comes "
        "along (default: checkpoints, or embedded where that has none)",
    )
    inference_ckpt_path: str | None = option(
        None, "the U-Net's file; the others are looked for beside it, or in --checkpoints"
    )
    unet_config_path: str | None = option(
        None, "the published program's YAML for that file; tells the resolution and nothing else"
    )
    resolution: int | None = option(None, "side of the face crop: 512 for 1.6, 256 for 1.5 (default: the model's)")
    mask_image: str | None = option(
        None, "picture of what is repainted: black is, white stays (default: the published mask)"
    )
    device: str | None = option(None, "cuda, cuda:1, mps or cpu (default: the best there is)")
    dtype: str | None = option(None, "default: float16, float32 on the CPU", choices=("float16", "bfloat16", "float32"))
    compile: bool = option(
        False, "compile the nets with torch.compile: the first window takes minutes longer, the others less time"
    )


@dataclass(frozen=True)
class DetectorOptions:
    detector: str = option("auto", "what finds the face; file reads a track file", choices=DETECTORS)
    detector_model: str | None = option(None, "the detector's model file; for file, the track file")


@dataclass(frozen=True)
class RestorerOptions:
    superres: str | None = option(
        None,
        "restore the face: a net of the checkpoints folder (CodeFormer is for non-commercial use), or a filter that "
        "needs no file",
        choices=(*NETS, SHARPEN),
    )
    superres_fidelity: float = option(
        0.5, "CodeFormer only: 0 is the best picture, 1 the closest to the input", low=0, high=1, slider=(0, 1, 0.05)
    )
    sr_ratio: float | None = option(
        None, "size of the result relative to the video's, 1 to 4 (default: 2 with --superres, else 1)"
    )
    upscaler: str | None = option(
        None, "model file of an upscaler that enlarges the frames, for --sr_ratio (default: Lanczos)"
    )


@dataclass(frozen=True)
class OutputOptions:
    resume: bool = option(False, "keep what is finished beside the result while running, and go on from it next time")
    published: bool = option(False, "the published program's geometry, blending and 25 frames/s")
    temp_dir: str | None = option(None, "accepted as in the published program, and not used: nothing is written there")


FACE = (
    ("face", DetectorOptions, ()),
    ("face", RunSettings, ("detect_every", "fps")),
    ("face", TrackSettings, ("which", "max_gap", "smoothing", "max_yaw", "min_face")),
)
RESTORATION = (
    ("restoration", RestorerOptions, ()),
    ("restoration", RestoreSettings, ("strength", "region", "temporal")),
)
# (heading of the help, settings class, its fields or () for all) of the files of the command run, and of all else.
FILES = (("files", Files, ()),)
RUN = (
    ("model", ModelOptions, ()),
    ("model", QualityOptions, ()),
    ("model", Settings, ()),
    *FACE,
    *RESTORATION,
    ("result", BlendSettings, ()),
    ("result", RunSettings, ("audio_longer", "audio_shorter", "silence")),
    ("result", EncodingSettings, ()),
    ("result", OutputOptions, ()),
)


def options_of(table: tuple) -> Iterator[Option]:
    """The options of `RUN`, or of another table like it."""
    for _, settings, names in table:
        yield from options(settings, *names)


def add_table(parser: argparse.ArgumentParser, table: tuple, required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Add the options of `RUN`, or of another table like it; gives the groups of the help by their headings."""
    groups: dict[str, Any] = {}
    for heading, settings, names in table:
        if heading not in groups:
            groups[heading] = parser.add_argument_group(heading)
        add_options(groups[heading], settings, *names, required=required)
    return groups


def run_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`parser` with the files and options of `run`."""
    add_table(parser, FILES, required=("video_path", "video_out_path"))
    add_run_options(parser)
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of `run` but its files."""
    add_table(parser, RUN)
    parser.add_argument(
        "--enable_deepcache",
        action="store_const",
        const=3,
        dest="deep_cache",
        default=argparse.SUPPRESS,
        help="as in the published program: --deep_cache 3",
    )


def run_settings(arguments: argparse.Namespace) -> RunSettings:
    """`RunSettings` out of the options of a command, without what restores the face."""
    from ..face.masks import read_mask

    mask_image = getattr(arguments, "mask_image", None)
    settings = from_arguments(
        RunSettings,
        arguments,
        sync=sampling_settings(arguments),
        track=from_arguments(TrackSettings, arguments),
        blend=from_arguments(BlendSettings, arguments),
        encoding=from_arguments(EncodingSettings, arguments),
        mask_image=read_mask(mask_image) if mask_image else None,
    )
    return settings.as_published() if getattr(arguments, "published", False) else settings


def chosen_detector(arguments: argparse.Namespace, device, keep: Keep = lambda load: load):
    """The detector that the options name; see `load_detector`."""
    from ..face.detect import load_detector

    by_looks = arguments.face == "similar" or any(speaker.by_looks for speaker in getattr(arguments, "speaker", ()))
    return keep(load_detector)(
        arguments.detector,
        model=arguments.detector_model,
        checkpoints=own_folder(arguments),
        device=device,
        embeddings=arguments.detector == "insightface" and by_looks,
    )


def own_folder(arguments: argparse.Namespace) -> str:
    """Where detectors and restorers lie: the checkpoints folder, or the default one; the embedded model has none."""
    return CHECKPOINTS if arguments.checkpoints in (None, "embedded") else arguments.checkpoints


def named_device(name: str):
    """The torch device called `name`; an InputError where this machine or this torch does not have it."""
    import torch

    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device is {name!r}, which cannot be used here ({reason}): try cpu, cuda or mps") from error


def chosen_device(arguments: argparse.Namespace):
    """The torch device of --device, or the best there is."""
    from ..models.load import default_device

    return named_device(arguments.device) if arguments.device else default_device()


def refuse_idle_options(arguments: argparse.Namespace) -> None:
    """Refuse options that would change nothing beside the others."""
    changed = [item.flag for item in options_of(RESTORATION) if getattr(arguments, item.flag) != item.default]
    idle = [flag for flag in changed if flag.startswith("superres_")]
    if arguments.superres is None and idle:
        raise InputError(
            f"{idle[0]} changes nothing without --superres: give one of {', '.join((*NETS, SHARPEN))}, or leave it out"
        )
    if arguments.superres != "CodeFormer" and "superres_fidelity" in changed:
        raise InputError(
            f"superres_fidelity is CodeFormer's and changes nothing with {arguments.superres}: leave it out"
        )
    if getattr(arguments, "published", False):
        if arguments.fps not in (None, PUBLISHED_FPS):
            raise InputError(
                f"fps is {arguments.fps:g} and --published runs at {PUBLISHED_FPS:g}: leave one of them out"
            )
        if arguments.overlap:
            raise InputError(f"overlap is {arguments.overlap} and --published has none: leave one out")
        if getattr(arguments, "silence", "model") != "model":
            raise InputError(f"silence is {arguments.silence} and --published knows no pauses: leave one out")
    sync = sampling_settings(arguments)
    idle = (sync.guidance_start, sync.guidance_end) != (0, 1) or getattr(arguments, "uncond", None) == "once"
    if sync.guidance == 1 and idle:
        raise InputError(
            "guidance_start, guidance_end and uncond change nothing at guidance_scale 1, which is off: leave them out"
        )


def restore_settings(arguments: argparse.Namespace) -> tuple[RestoreSettings, float]:
    """`RestoreSettings` out of the options of `RESTORATION`, and the ratio of sizes; the restorer's file is there."""
    from ..restore.superres import SuperRes

    ratio = arguments.sr_ratio
    if ratio is None:
        ratio = 1.0 if arguments.superres is None else RATIO
    settings = from_arguments(RestoreSettings, arguments)
    SuperRes(None, settings, ratio)  # refuses a ratio out of range
    if arguments.superres in NETS:
        restorer_file(arguments.superres, own_folder(arguments))
    return settings, ratio


def load_superres(arguments: argparse.Namespace, device, keep: Keep = lambda load: load):
    """The `SuperRes` that the options of `RESTORATION` ask for; None for none."""
    from ..restore.restorers import Sharpen, load_restorer
    from ..restore.superres import SuperRes
    from ..restore.upscale import load_upscaler

    settings, ratio = restore_settings(arguments)  # refuses what is wrong before files are read
    if arguments.superres is None and ratio == 1 and arguments.upscaler is None:
        return None
    upscaler = None if arguments.upscaler is None else keep(load_upscaler)(arguments.upscaler, device)
    restorer = Sharpen() if arguments.superres == SHARPEN else None
    if arguments.superres in NETS:
        path = restorer_file(arguments.superres, own_folder(arguments))
        restorer = keep(load_restorer)(path, device, fidelity=arguments.superres_fidelity)
    return SuperRes(restorer, settings, ratio, upscaler)


def load_parser(arguments: argparse.Namespace):
    """The `FaceParser` of --occlusion auto."""
    from ..face.parsing import FaceParser, parser_file

    folder = own_folder(arguments)
    way_out = f"`python -m latentsync download --only parsing --checkpoints {folder}` fetches it (85 MB)"
    return FaceParser(parser_file(folder, way_out), chosen_device(arguments))


def restorer_file(name: str, checkpoints: str):
    """The file of the restorer `name`, one of `NETS`, in a checkpoints folder."""
    from ..models.folders import find_checkpoints

    path = getattr(find_checkpoints(checkpoints), name.lower())
    if path is None:
        raise FileError(
            f"{checkpoints} has no file of {name}: `python -m latentsync download --only {name.lower()} --checkpoints "
            f"{checkpoints}` fetches it, and --superres {SHARPEN} needs none"
        )
    return path


def explained(error: Exception, less_memory: str) -> str | None:
    """What a user needs to know of an error; None for a bug, whose traceback is needed."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, (MemoryError, RuntimeError)):
        from ..sampling.sample import out_of_memory

        if isinstance(error, MemoryError) or out_of_memory(error):
            return f"there is not enough memory ({str(error) or type(error).__name__}): try {less_memory}"
    return None


def load_nets(arguments: argparse.Namespace, keep: Keep = lambda load: load):
    """The model, the detector and the `SuperRes` that the options of `run` ask for; see `options.Keep`."""
    import torch

    from ..models.embedded import choose_folder
    from ..models.load import load_model, needed_checkpoints

    resolution, unet = chosen_resolution(arguments), arguments.inference_ckpt_path
    if unet and arguments.checkpoints is None:
        arguments.checkpoints = str(Path(unet).parent)
    weights = choose_folder(arguments.checkpoints, CHECKPOINTS)
    needed_checkpoints(weights, unet)
    device = chosen_device(arguments)
    superres = load_superres(arguments, device, keep)
    detector = chosen_detector(arguments, device, keep)
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    how = {"device": device, "dtype": dtype, "compile": arguments.compile}
    model = keep(load_model)(weights, unet=unet, resolution=resolution, **how)
    return model, detector, superres


def chosen_resolution(arguments: argparse.Namespace) -> int | None:
    """The side of the crop that --resolution or the YAML of --unet_config_path asks for; None is the model's."""
    from ..models.load import published_resolution

    if arguments.unet_config_path is None:
        return arguments.resolution
    told = published_resolution(arguments.unet_config_path)
    if arguments.resolution not in (None, told):
        raise InputError(
            f"resolution is {arguments.resolution} and {arguments.unet_config_path} says {told}: give one of the two"
        )
    return told
