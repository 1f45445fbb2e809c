"""Commands: python -m latentsync run, batch, restore, ui, track, train, prepare, evaluate, download, convert, demo.

Each command imports what it needs when it runs, so that --help answers at once.
"""

import argparse
import difflib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from . import __version__
from .demo import add_demo
from .evaluate.cli import add_evaluate
from .files import sentence_of
from .options import CHECKPOINTS, Keep, add_face_options, chosen_detector, named_device, track_settings
from .prepare.cli import add_prepare
from .restore.cli import add_restore, add_superres_options, load_superres, refuse_idle_superres
from .samplers import SAMPLERS
from .train.cli import add_train
from .ui.cli import add_ui

AUDIO_LONGER, AUDIO_SHORTER = ("pingpong", "loop", "hold", "stop"), ("stop", "silent")
LESS_MEMORY = "--window 8, --guidance_scale 1 or a smaller --resolution"
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; 0 when it worked, 2 with one sentence on stderr for bad input, 130 after Ctrl-C.

    `evaluate` gives 1 where some of its figures are missing, `batch` the number of rows that failed. Without
    arguments: the help, and 2.
    """
    parser = build_parser()
    argv = [_underscored(argument) for argument in (sys.argv[1:] if argv is None else argv)]
    if not argv:
        parser.print_help()
        return EXIT_BAD_INPUT
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="latentsync: %(message)s")
    for noisy in ("accelerate", "httpx", "diffusers", "transformers", "insightface"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # Our own process: OpenCV 5 warns on stderr about every detector it loads.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    try:
        with _terminable():
            code = arguments.command(arguments)
    except KeyboardInterrupt as interrupt:
        resumable = getattr(arguments, "resume", False)
        left = "the same command goes on from here" if resumable else "nothing was left behind"
        print(f"\nlatentsync: interrupted; {interrupt if interrupt.args else left}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (ValueError, OSError, ImportError, FloatingPointError, RuntimeError) as error:
        sentence = explained(error, arguments.less_memory)
        if arguments.debug or sentence is None:
            raise
        print(f"latentsync: error: {sentence}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return code or 0


def explained(error: Exception, less_memory: str) -> str | None:
    """What a user needs to know of an error; None for a bug, whose traceback is needed."""
    if isinstance(error, RuntimeError):
        from .sync import out_of_memory  # with torch, which an error of this kind comes from

        return f"{error}: try {less_memory}" if out_of_memory(error) else None
    known = isinstance(error, (ValueError, OSError, ImportError, FloatingPointError))
    return sentence_of(error) if known else None


@contextmanager
def _terminable() -> Iterator[None]:
    """While a command runs, SIGTERM (a container or a scheduler that stops) ends it as Ctrl-C does, tidily."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _underscored(argument: str) -> str:
    """`--video-path=a-b.mp4` as `--video_path=a-b.mp4`: options are accepted with hyphens and with underscores."""
    if not argument.startswith("--"):
        return argument
    name, equals, value = argument.partition("=")
    return "--" + name[2:].replace("-", "_") + equals + value


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Says the default of an option, unless it has none or its text says what happens without it."""

    def _get_help_string(self, action: argparse.Action) -> str:
        silent = action.default in (None, False) or action.required
        return action.help if silent else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Says in two lines what is wrong, and first of all which option or command is mistyped."""

    names: Mapping[str, object] | None = None  # the commands; None in the parser of a command

    def parse_known_args(self, args=None, namespace=None):
        # argparse would complain of the missing --video_path before it complained of a --video_pth.
        options = self._option_string_actions  # argparse has no public list of them
        if self.names is None:
            known = options
            given = [a.partition("=")[0] for a in args[: args.index("--") if "--" in args else None]]
            # argparse takes numbers and what has a space in it for values.
            given = [a for a in given if a.startswith("-") and not re.match(r"-$|-\.?\d|-inf|-nan|.* ", a)]
        else:
            known, given = {**self.names, **options}, args[:1]
        for name in given:
            if name not in known and not (name.startswith("--") and any(o.startswith(name) for o in known)):
                close = difflib.get_close_matches(name.lower(), known, 1)
                kind = "option" if name.startswith("-") else "command"
                self.error(f"there is no {kind} {name}" + "".join(f": did you mean {option}?" for option in close))
        parsed, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unexpected: {' '.join(rest)}")
        return parsed, rest

    def error(self, message):
        self.exit(EXIT_BAD_INPUT, f"latentsync: error: {message}\n`{self.prog} --help` lists all there is\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m latentsync", description="Audio-driven lip sync for real videos.")
    parser.add_argument("--version", action="version", version=f"latentsync {__version__}")
    names = "run | batch | restore | ui | track | train | prepare | evaluate | download | convert | demo"
    commands = parser.add_subparsers(required=True, metavar=names)
    parser.names = commands.choices
    for add in (
        add_run,
        _add_batch,
        add_restore,
        add_ui,
        _add_track,
        add_train,
        add_prepare,
        add_evaluate,
        _add_download,
        _add_convert,
        add_demo,
    ):
        command = add(commands)
        command.formatter_class = Help
        command.set_defaults(less_memory=command.get_default("less_memory") or LESS_MEMORY)
        command.add_argument("--debug", action="store_true", help="show where an error came from")
    return parser


def add_run(commands) -> argparse.ArgumentParser:
    parser = run_parser(commands.add_parser("run", help="make a video speak an audio track"))
    parser.set_defaults(command=run)
    return parser


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


def _add_batch(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("batch", help="run over many videos and voices")
    parser.set_defaults(command=batch, ray_gpus=None)
    add = parser.add_argument_group("files").add_argument
    add(
        "jobs",
        help="CSV file with the columns video, audio, if wanted out, and any option of run; or a folder, where each "
        "voice goes to the video of the same name (a.wav to a.mp4)",
    )
    add("--out", required=True, help="folder of the results and of manifest.jsonl; the same command goes on in it")
    add = parser.add_argument_group("work").add_argument
    add("--executor", choices=("local", "ray"), default="local", help="processes of this machine, or Ray")
    add("--workers", type=int, help="rows at a time, spread over the GPUs (default: 0, none beside this process; with "
        "ray, as many as it has GPUs)")  # fmt: skip
    add("--ray_address", help="of a running Ray cluster (default: one is started here)")
    add_run_options(parser)
    return parser


def _add_track(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("track", help="write where the face is, to look at and to correct")
    parser.set_defaults(command=track)
    add = parser.add_argument_group("files").add_argument
    add("--video_path", required=True, help="the video")
    add("--track_path", required=True, help="the track file to write (.json); run takes it with --detector file")
    add("--strip_path", help="picture strip to write (default: the track file's name with .png)")
    add("--checkpoints", default=CHECKPOINTS, help="folder of the weights, where detectors look for their files")
    add("--resolution", type=int, default=256, help="side of the crops in the picture strip")
    add("--device", help="cuda, mps or cpu, for the detectors that can use it")
    add_face_options(parser)
    return parser


def _add_download(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("download", help="fetch the published weights")
    parser.set_defaults(command=download, resume=True)
    parser.add_argument("--checkpoints", default=CHECKPOINTS, help="folder to put them in")
    parser.add_argument("--version", choices=("1.5", "1.6"), default="1.6", help="1.5 works at 256, 1.6 at 512")
    parser.add_argument("--only", help="groups of files, with commas between; --list names them")
    parser.add_argument("--list", action="store_true", help="print every file with its purpose, size and licence")
    parser.add_argument("--force", action="store_true", help="replace files of another version or size")
    return parser


def _add_convert(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("convert", help="rewrite a .pt checkpoint as .safetensors")
    parser.set_defaults(command=convert)
    parser.add_argument("source", help="the .pt, .pth or .safetensors file")
    parser.add_argument("target", help="the .safetensors file to write")
    parser.add_argument("--half", action="store_true", help="store float16: half the size")
    parser.add_argument("--force", action="store_true", help="overwrite the target")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from .progress import Bar
    from .run import check_paths, lip_sync

    settings = run_settings(arguments)
    files = (arguments.video_path, arguments.audio_path, arguments.video_out_path)
    refuse_idle_options(arguments)
    check_paths(*files)
    if arguments.temp_dir:
        logger.info("--temp_dir %s is not used: nothing is written there", arguments.temp_dir)
    model, detector, superres = load_nets(arguments)
    settings = replace(settings, superres=superres)
    with Bar() as bar:
        summary = lip_sync(*files, model, detector, settings, resume=arguments.resume, progress=bar)
    print(
        f"{summary.path}: {summary.frames} frames at {summary.fps:g} fps, the face in {summary.frames_with_face}, "
        f"crop jitter {summary.jitter:.2f} px"
    )


def batch(arguments: argparse.Namespace) -> int:
    from .batch import run_batch

    if arguments.workers is None and arguments.executor == "local":
        arguments.workers = 0
    return run_batch(arguments)


def load_nets(arguments: argparse.Namespace, keep: Keep = lambda load: load):
    """The model, the detector and the `SuperRes` that the options of `run` ask for; see `options.Keep`."""
    import torch

    from .checkpoint import default_device, load_model, needed_checkpoints
    from .embedded import choose_folder

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
    from .checkpoint import published_resolution

    if arguments.unet_config_path is None:
        return arguments.resolution
    told = published_resolution(arguments.unet_config_path)
    if arguments.resolution not in (None, told):
        raise ValueError(
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
        raise ValueError("guidance_start and guidance_end change nothing at guidance_scale 1, which is off: leave them")


def run_settings(arguments: argparse.Namespace):
    """`RunSettings` out of the options of `run`, without what restores the face.

    Raises:
        FileNotFoundError, ValueError: no mask image, or a number out of range.
    """
    from .blend import BlendSettings
    from .masks import read_mask
    from .run import RunSettings
    from .sync import Settings

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


def track(arguments: argparse.Namespace) -> None:
    from .progress import Bar
    from .track import write_track

    detector = chosen_detector(arguments, named_device(arguments.device) if arguments.device else None)
    with Bar() as bar:
        report = write_track(
            arguments.video_path,
            arguments.track_path,
            detector,
            track_settings(arguments),
            strip_path=arguments.strip_path,
            resolution=arguments.resolution,
            fps=arguments.fps,
            detect_every=arguments.detect_every,
            progress=bar,
        )
    print(report)


def download(arguments: argparse.Namespace) -> None:
    from .download import download, listing, tree
    from .progress import Bar

    if arguments.list:
        print(listing())
        return
    only = [name.strip() for name in arguments.only.split(",")] if arguments.only else None
    with Bar(unit="B") as bar:
        download(
            arguments.checkpoints,
            arguments.version,
            only,
            force=arguments.force,
            progress=lambda done, total, name: bar(name, done, total),
        )
    print(tree(arguments.checkpoints))


def convert(arguments: argparse.Namespace) -> None:
    from .convert import convert

    print(convert(arguments.source, arguments.target, half=arguments.half, force=arguments.force))
