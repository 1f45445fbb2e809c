"""Options that several commands have: the face, the device, and what loads with them.

As in `cli`, what is needed is imported when a command runs.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from ..files import sentence_of
from ..sampling.schedulers import SAMPLERS

DETECTORS = ("auto", "insightface", "yunet", "facexlib", "file")

CHECKPOINTS = "checkpoints"  # the default folder, in the current one
# Wraps a function that loads something, so that what it gave is there for the next one who asks for the same.
Keep = Callable[[Callable], Callable]


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """How the face is found and followed."""
    add = parser.add_argument_group("face").add_argument
    add("--detector", choices=DETECTORS, default="auto", help="what finds the face; file reads a track file")
    add("--detector_model", help="the detector's model file; for file, the track file")
    add("--face", default="largest", help="largest, similar (to the first), index:K (from the left) or nearest:X,Y")
    add("--detect_every", type=int, default=1, help="look in every n-th frame and interpolate between")
    add("--max_gap", type=float, default=0.5, help="seconds without a face that are bridged")
    add("--smoothing", type=float, default=0.08, help="seconds over which the face's place is smoothed")
    add("--fps", type=float, help="frame rate of the result; the model was trained at 25 (default: the video's)")


def track_settings(arguments: argparse.Namespace):
    """`TrackSettings` out of the options of `add_face_options`."""
    from ..face.track import TrackSettings

    return TrackSettings(which=arguments.face, max_gap=arguments.max_gap, smoothing=arguments.smoothing)


def chosen_detector(arguments: argparse.Namespace, device, keep: Keep = lambda load: load):
    """The detector that the options of `add_face_options` name; see `load_detector`."""
    from ..face.detect import load_detector

    return keep(load_detector)(
        arguments.detector,
        model=arguments.detector_model,
        checkpoints=own_folder(arguments),
        device=device,
        embeddings=arguments.detector == "insightface" and arguments.face == "similar",
    )


def own_folder(arguments: argparse.Namespace) -> str:
    """Where detectors and restorers lie: the checkpoints folder, or the default one; the embedded model has none."""
    return CHECKPOINTS if arguments.checkpoints in (None, "embedded") else arguments.checkpoints


def named_device(name: str):
    """The torch device called `name`.

    Raises:
        ValueError: this machine or this torch does not have it.
    """
    import torch

    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device is {name!r}, which cannot be used here ({reason}): try cpu, cuda or mps") from error


SHARPEN = "sharpen"
NETS = ("GFPGAN", "CodeFormer", "RestoreFormer")
SUPERRES = (*NETS, SHARPEN)
REGIONS = ("mouth", "face")
RATIO = 2.0  # of a restored result, unless another is asked for


def add_superres_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """What restores the face, and the size of the result."""
    add = parser.add_argument_group("restoration").add_argument
    add(
        "--superres",
        type=superres_name,
        choices=SUPERRES,
        required=required,
        help="restore the face: a net of the checkpoints folder (CodeFormer is for non-commercial use), or a filter "
        "that needs no file" + ("" if required else " (default: none)"),
    )
    add("--superres_strength", type=float, default=0.8, help="how much of the restored detail is taken, 0 to 1")
    add("--superres_region", choices=REGIONS, default="mouth", help="what the lip sync repaints, or all of it")
    add("--superres_temporal", type=float, default=0.5, help="against flicker, 0 (each frame by itself) to 1")
    add("--superres_fidelity", type=float, default=0.5, help="CodeFormer: 0 (best picture) to 1 (most like the input)")
    usual = "2" if required else "2 with --superres, else 1"
    add("--sr_ratio", type=float, help=f"size of the result by the video's, 1 to 4 (default: {usual})")
    add("--upscaler", help="model file of an upscaler that enlarges the frames, for --sr_ratio (default: Lanczos)")


def superres_name(text: str) -> str:
    """One of `SUPERRES` in any case, as it is spelt here; what is none of them stays, for argparse to refuse."""
    return {name.lower(): name for name in SUPERRES}.get(text.lower(), text)


def refuse_idle_superres(arguments: argparse.Namespace) -> None:
    """Refuse options of `add_superres_options` that would change nothing beside the others.

    Raises:
        ValueError: says which, and what it needs.
    """
    options = argparse.ArgumentParser()
    add_superres_options(options)
    changed = [name for name, value in vars(options.parse_args([])).items() if getattr(arguments, name) != value]
    for name in changed:
        if arguments.superres is None and name.startswith("superres_"):
            raise InputError(
                f"{name} changes nothing without --superres: give one of {', '.join(SUPERRES)}, or leave it"
            )
    if arguments.superres != "CodeFormer" and "superres_fidelity" in changed:
        raise InputError(
            f"superres_fidelity is CodeFormer's and changes nothing with {arguments.superres}: leave it out"
        )


def restore_settings(arguments: argparse.Namespace):
    """`RestoreSettings` out of the options of `add_superres_options`, and the ratio of sizes.

    Raises:
        ValueError: a number out of range.
        FileNotFoundError: the restorer's file is not there.
    """
    from ..restore.apply import RestoreSettings
    from ..restore.superres import SuperRes

    settings = RestoreSettings(
        arguments.superres_strength, arguments.superres_region, temporal=arguments.superres_temporal
    )
    ratio = arguments.sr_ratio
    if ratio is None:
        ratio = 1.0 if arguments.superres is None else RATIO
    SuperRes(None, settings, ratio)
    if arguments.superres in NETS:
        restorer_file(arguments.superres, own_folder(arguments))
    return settings, ratio


def load_superres(arguments: argparse.Namespace, device, keep: Keep = lambda load: load):
    """The `SuperRes` that the options of `add_superres_options` ask for; None for none.

    Raises:
        FileNotFoundError: the restorer's file or the upscaler's is not there.
        ValueError: a number out of range, or a file of another kind.
        ImportError: the package that builds the net is missing.
    """
    from ..restore.superres import SuperRes
    from ..restore.upscale import load_upscaler

    settings, ratio = restore_settings(arguments)  # refuses a number out of range before files are read
    if arguments.superres is None and ratio == 1 and arguments.upscaler is None:
        return None
    upscaler = None if arguments.upscaler is None else keep(load_upscaler)(arguments.upscaler, device)
    return SuperRes(_restorer(arguments, device, keep), settings, ratio, upscaler)


def _restorer(arguments: argparse.Namespace, device, keep: Keep):
    """The restorer called --superres, or None."""
    from ..restore.restorers import Sharpen, load_restorer

    if arguments.superres is None:
        return None
    if arguments.superres == SHARPEN:
        return Sharpen()
    path = restorer_file(arguments.superres, own_folder(arguments))
    return keep(load_restorer)(path, device, fidelity=arguments.superres_fidelity)


def restorer_file(name: str, checkpoints: str):
    """The file of the restorer `name`, one of `NETS`, in a checkpoints folder.

    Raises:
        FileNotFoundError: it is not there; says how to fetch it.
    """
    from ..models.folders import find_checkpoints

    path = getattr(find_checkpoints(checkpoints), name.lower())
    if path is None:
        raise FileNotFoundError(
            f"{checkpoints} has no file of {name}: `python -m latentsync download --only {name.lower()} --checkpoints "
            f"{checkpoints}` fetches it, and --superres {SHARPEN} needs none"
        )
    return path


AUDIO_LONGER, AUDIO_SHORTER = ("pingpong", "loop", "hold", "stop"), ("stop", "silent")


def explained(error: Exception, less_memory: str) -> str | None:
    """What a user needs to know of an error; None for a bug, whose traceback is needed."""
    if isinstance(error, RuntimeError):
        from ..sampling.sample import out_of_memory

        return f"{error}: try {less_memory}" if out_of_memory(error) else None
    known = isinstance(error, (InputError, OSError, ImportError, FloatingPointError))
    return sentence_of(error) if known else None


def run_parser(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`parser` with the files and options of `run`; the page and `batch` take names, defaults and checks from it."""
    add = parser.add_argument_group("files").add_argument
    add("--video_path", required=True, help="the video")
    add("--audio_path", required=True, help="the voice: an audio file, or a video whose sound is taken")
    add("--video_out_path", required=True, help="the result: .mp4, .mov, .mkv or .webm")
    add_run_options(parser)
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of `run` but its files."""
    add = parser.add_argument_group("model").add_argument
    add(
        "--checkpoints",
        help="folder of the weights (see download), or ComfyUI's models folder; embedded is the small model that comes "
        "along (default: checkpoints, or embedded where that has none)",
    )
    add(
        "--inference_ckpt_path",
        help="the U-Net's file; the others are looked for beside it, or in --checkpoints",
    )
    add("--unet_config_path", help="the published program's YAML for that file; tells the resolution and nothing else")
    add("--inference_steps", type=int, default=20, help="denoising steps")
    add("--guidance_scale", type=float, default=1.5, help="how strongly the lips follow the audio; 1 is off and faster")
    add("--guidance_start", type=float, default=0.0, help="share of the steps after which guidance is on")
    add("--guidance_end", type=float, default=1.0, help="share of the steps after which guidance is off")
    add("--sampler", choices=SAMPLERS, default="ddim", help="ddim is the published one")
    add(
        "--deep_cache",
        type=int,
        default=0,
        metavar="N",
        help="run the whole net in every N-th step only, and its outermost layers in between: 3, as the published "
        "scripts have it, takes 2.5 times less computing; fine detail may suffer. 0 is off",
    )
    add(
        "--enable_deepcache",
        action="store_const",
        const=3,
        dest="deep_cache",
        default=argparse.SUPPRESS,
        help="as in the published program: --deep_cache 3",
    )
    add("--seed", type=int, default=1247, help="of the noise that the mouth starts from")
    add("--mask_image", help="picture of what is repainted: black is, white stays (default: the published mask)")
    add("--resolution", type=int, help="side of the face crop: 512 for 1.6, 256 for 1.5 (default: the model's)")
    add("--window", type=int, default=16, help="frames denoised together")
    add("--overlap", type=int, default=0, help="frames that neighbouring windows share and cross-fade")
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    add("--dtype", choices=("float16", "bfloat16", "float32"), help="default: float16, float32 on the CPU")
    add_face_options(parser)
    add_superres_options(parser)
    add = parser.add_argument_group("result").add_argument
    add("--mask_smooth", type=float, default=0.5, help="width of the mouth's soft edge, 0 (hard) to 1")
    add("--match_colour", action="store_true", help="match the colours of the skin around the mouth to the source's")
    add("--audio_longer", choices=AUDIO_LONGER, default="pingpong", help="the video, when the audio is longer")
    add("--audio_shorter", choices=AUDIO_SHORTER, default="stop", help="the video, when the audio is shorter")
    add("--crf", type=int, default=16, help="quality of the result: lower is better and larger")
    add("--resume", action="store_true", help="keep finished stretches while running, and go on from them next time")
    add("--published", action="store_true", help="the published program's geometry, blending and 25 frames/s")
    add("--temp_dir", help="accepted as in the published program, and not used: nothing is written there")


def load_nets(arguments: argparse.Namespace, keep: Keep = lambda load: load):
    """The model, the detector and the `SuperRes` that the options of `run` ask for; see `options.Keep`."""
    import torch

    from ..models.embedded import choose_folder
    from ..models.load import default_device, load_model, needed_checkpoints

    resolution, unet = chosen_resolution(arguments), arguments.inference_ckpt_path
    if unet and arguments.checkpoints is None:
        arguments.checkpoints = str(Path(unet).parent)
    weights = choose_folder(arguments.checkpoints, CHECKPOINTS)
    needed_checkpoints(weights, unet)
    device = named_device(arguments.device) if arguments.device else default_device()
    superres = load_superres(arguments, device, keep)
    detector = chosen_detector(arguments, device, keep)
    dtype = getattr(torch, arguments.dtype) if arguments.dtype else None
    model = keep(load_model)(weights, unet=unet, resolution=resolution, device=device, dtype=dtype)
    return model, detector, superres


def chosen_resolution(arguments: argparse.Namespace) -> int | None:
    """The side of the crop that --resolution or the YAML of --unet_config_path asks for; None is the model's.

    Raises:
        ValueError: the two differ, or see `published_resolution`.
    """
    from ..models.load import published_resolution

    if arguments.unet_config_path is None:
        return arguments.resolution
    told = published_resolution(arguments.unet_config_path)
    if arguments.resolution not in (None, told):
        raise InputError(
            f"resolution is {arguments.resolution} and {arguments.unet_config_path} says {told}: give one of the two"
        )
    return told


def refuse_idle_options(arguments: argparse.Namespace) -> None:
    """Refuse options of `run` that would change nothing beside the others.

    Raises:
        ValueError: says which, and why.
    """
    refuse_idle_superres(arguments)
    if arguments.guidance_scale == 1 and (arguments.guidance_start, arguments.guidance_end) != (0, 1):
        raise InputError("guidance_start and guidance_end change nothing at guidance_scale 1, which is off: leave them")


def run_settings(arguments: argparse.Namespace):
    """`RunSettings` out of the options of `run`, without what restores the face.

    Raises:
        FileNotFoundError, ValueError: no mask image, or a number out of range.
    """
    from ..face.blend import BlendSettings
    from ..face.masks import read_mask
    from ..sampling.sample import Settings
    from .lip_sync import RunSettings

    settings = RunSettings(
        sync=Settings(
            steps=arguments.inference_steps,
            guidance=arguments.guidance_scale,
            guidance_start=arguments.guidance_start,
            guidance_end=arguments.guidance_end,
            seed=arguments.seed,
            window=arguments.window,
            overlap=arguments.overlap,
            sampler=arguments.sampler,
            deep_cache=arguments.deep_cache,
        ),
        track=track_settings(arguments),
        blend=BlendSettings(mask_smooth=arguments.mask_smooth, match_colour=arguments.match_colour),
        fps=arguments.fps,
        detect_every=arguments.detect_every,
        audio_longer=arguments.audio_longer,
        audio_shorter=arguments.audio_shorter,
        crf=arguments.crf,
        mask_image=read_mask(arguments.mask_image) if arguments.mask_image else None,
    )
    return settings.as_published() if arguments.published else settings
