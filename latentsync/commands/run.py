"""The command run."""

import argparse
import logging
from dataclasses import replace

from ..pipelines.options import load_nets, refuse_idle_options, run_parser, run_settings
from ..settings import Settings, options

logger = logging.getLogger(__name__)


def add_run(commands) -> argparse.ArgumentParser:
    parser = run_parser(commands.add_parser("run", help="make a video speak an audio track"))
    parser.set_defaults(command=run)
    return parser


def run(arguments: argparse.Namespace) -> None:
    from ..pipelines.lip_sync import check_paths, lip_sync
    from ..progress import Bar

    settings = run_settings(arguments)
    files = (arguments.video_path, arguments.audio_path, arguments.video_out_path)
    refuse_idle_options(arguments)
    check_paths(*files, arguments.occlusion)
    if arguments.temp_dir:
        logger.info("--temp_dir %s is not used: nothing is written there", arguments.temp_dir)
    used = (f"{item.flag} {getattr(settings.sync, item.name)}" for item in options(Settings) if item.by_quality)
    logger.info("quality %s: %s", arguments.quality, ", ".join(used))
    model, detector, superres = load_nets(arguments)
    settings = replace(settings, superres=superres)
    with Bar() as bar:
        summary = lip_sync(
            *files, model, detector, settings, occlusion=arguments.occlusion, resume=arguments.resume, progress=bar
        )
    alone = f"left alone in {summary.left_alone}, " if summary.left_alone else ""
    print(
        f"{summary.path}: {summary.frames} frames at {summary.fps:g} fps, the face in {summary.frames_with_face}, "
        f"{alone}crop jitter {summary.jitter:.2f} px"
    )
