"""The command restore, and the options that it shares with run. What they need is imported when they run."""

import argparse

from ..options import Keep, add_face_options, chosen_detector, named_device, own_folder, track_settings

SHARPEN = "sharpen"
NETS = ("GFPGAN", "CodeFormer", "RestoreFormer")
SUPERRES = (*NETS, SHARPEN)
REGIONS = ("mouth", "face")
RATIO = 2.0  # of a restored result, unless another is asked for


def add_restore(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("restore", help="restore the face in a video that is there already")
    parser.set_defaults(command=restore, less_memory="a smaller --sr_ratio or --resolution, or no --upscaler")
    add = parser.add_argument_group("files").add_argument
    add("--video_path", required=True, help="the video")
    add("--video_out_path", required=True, help="the result: .mp4, .mov, .mkv or .webm; the video's sound comes along")
    add("--checkpoints", help="folder of the weights (see download), or ComfyUI's models folder (default: checkpoints)")
    add("--resume", action="store_true", help="keep finished stretches while running, and go on from them next time")
    add_superres_options(parser, required=True)
    add_face_options(parser)
    add = parser.add_argument_group("result").add_argument
    add("--mask_smooth", type=float, default=0.5, help="width of the restored region's soft edge, 0 (hard) to 1")
    add("--resolution", type=int, default=512, help="side of the face crop")
    add("--crf", type=int, default=16, help="quality of the result: lower is better and larger")
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    return parser


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
            raise ValueError(
                f"{name} changes nothing without --superres: give one of {', '.join(SUPERRES)}, or leave it"
            )
    if arguments.superres != "CodeFormer" and "superres_fidelity" in changed:
        raise ValueError(
            f"superres_fidelity is CodeFormer's and changes nothing with {arguments.superres}: leave it out"
        )


def restore_settings(arguments: argparse.Namespace):
    """`RestoreSettings` out of the options of `add_superres_options`, and the ratio of sizes.

    Raises:
        ValueError: a number out of range.
        FileNotFoundError: the restorer's file is not there.
    """
    from .apply import RestoreSettings
    from .superres import SuperRes

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
    from .superres import SuperRes
    from .upscale import load_upscaler

    settings, ratio = restore_settings(arguments)  # refuses a number out of range before files are read
    if arguments.superres is None and ratio == 1 and arguments.upscaler is None:
        return None
    upscaler = None if arguments.upscaler is None else keep(load_upscaler)(arguments.upscaler, device)
    return SuperRes(_restorer(arguments, device, keep), settings, ratio, upscaler)


def _restorer(arguments: argparse.Namespace, device, keep: Keep):
    """The restorer called --superres, or None."""
    from .restorers import Sharpen, load_restorer

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
    from ..layout import find_checkpoints

    path = getattr(find_checkpoints(checkpoints), name.lower())
    if path is None:
        raise FileNotFoundError(
            f"{checkpoints} has no file of {name}: `python -m latentsync download --only {name.lower()} --checkpoints "
            f"{checkpoints}` fetches it, and --superres {SHARPEN} needs none"
        )
    return path


def restore(arguments: argparse.Namespace) -> None:
    from ..blend import BlendSettings
    from ..checkpoint import default_device
    from ..progress import Bar
    from ..settings import RunSettings
    from .video import check_output, restore_video

    refuse_idle_superres(arguments)
    check_output(arguments.video_path, arguments.video_out_path)
    device = named_device(arguments.device) if arguments.device else default_device()
    settings = RunSettings(
        track=track_settings(arguments),
        blend=BlendSettings(mask_smooth=arguments.mask_smooth),
        fps=arguments.fps,
        detect_every=arguments.detect_every,
        crf=arguments.crf,
        superres=load_superres(arguments, device),
    )
    detector = chosen_detector(arguments, device)
    files = (arguments.video_path, arguments.video_out_path)
    how = {"resolution": arguments.resolution, "resume": arguments.resume}
    with Bar() as bar:
        summary = restore_video(*files, detector, settings, **how, progress=bar)
    print(f"{summary.path}: {summary.frames} frames at {summary.fps:g} fps, the face in {summary.frames_with_face}")
