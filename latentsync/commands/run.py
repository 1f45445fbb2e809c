"""The command run."""

import argparse
import logging
from dataclasses import replace

from ..errors import InputError
from ..pipelines.options import PARSED, load_nets, load_parser, refuse_idle_options, run_parser, run_settings
from ..settings import Settings, options

logger = logging.getLogger(__name__)


def add_run(commands) -> argparse.ArgumentParser:
    parser = run_parser(commands.add_parser("run", help="make a video speak an audio track"))
    parser.add_argument_group("several people").add_argument(
        "--speaker",
        action="append",
        default=[],
        metavar="FACE=AUDIO",
        help="in place of --audio_path, once for each person: the face as in --face, a track file or a picture of the "
        "person, and what that person says; all voices are heard in the result, and the longest is its length",
    )
    parser.set_defaults(command=run)
    return parser


def run(arguments: argparse.Namespace) -> None:
    from ..pipelines.lip_sync import check_paths, lip_sync
    from ..progress import Bar

    settings = run_settings(arguments)
    refuse_idle_options(arguments)
    speakers = chosen_speakers(arguments)
    audios = [speaker.audio for speaker in speakers] or [arguments.audio_path]
    parsed = arguments.occlusion == PARSED
    occlusion = None if parsed else arguments.occlusion
    check_paths(arguments.video_path, audios, arguments.video_out_path, occlusion)
    if arguments.temp_dir:
        logger.info("--temp_dir %s is not used: nothing is written there", arguments.temp_dir)
    used = (f"{item.flag} {getattr(settings.sync, item.name)}" for item in options(Settings) if item.by_quality)
    logger.info("quality %s: %s", arguments.quality, ", ".join(used))
    occlusion = load_parser(arguments) if parsed else occlusion
    model, detector, superres = load_nets(arguments)
    settings = replace(settings, superres=superres)
    with Bar() as bar:
        summary = lip_sync(
            arguments.video_path,
            speakers or arguments.audio_path,
            arguments.video_out_path,
            model,
            detector,
            settings,
            occlusion=occlusion,
            resume=arguments.resume,
            progress=bar,
        )
    alone = f"left alone in {summary.left_alone}, " if summary.left_alone else ""
    print(
        f"{summary.path}: {summary.frames} frames at {summary.fps:g} fps, the face in {summary.frames_with_face}, "
        f"{alone}crop jitter {summary.jitter:.2f} px"
    )


def chosen_speakers(arguments: argparse.Namespace) -> list:
    """The `Speaker`s that the options name, none where one voice is given; they are in `arguments` from here on."""
    from ..pipelines.speakers import check_speakers, parse_speaker

    arguments.speaker = speakers = [parse_speaker(text) for text in arguments.speaker]
    if bool(speakers) == bool(arguments.audio_path):
        raise InputError(
            "who says what is given twice: leave out --audio_path or every --speaker"
            if speakers
            else "there is no voice: give --audio_path, or --speaker FACE=AUDIO for each person"
        )
    check_speakers(speakers)
    tracked = [speaker.tracked for speaker in speakers]
    if speakers and not any(tracked) and arguments.face != "largest":
        raise InputError(f"face is {arguments.face} and changes nothing beside --speaker: leave it out")
    if speakers and all(tracked) and arguments.detector == "auto":  # no other one is needed
        arguments.detector, arguments.detector_model = "file", speakers[0].face
    return speakers
