"""The command track."""

import argparse

from ..pipelines.options import CHECKPOINTS, FACE, add_table, chosen_detector, named_device
from ..settings import TrackSettings, from_arguments


def add_track(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("track", help="write where the face is, to look at and to correct")
    parser.set_defaults(command=track)
    add = parser.add_argument_group("files").add_argument
    add("--video_path", required=True, help="the video")
    add("--track_path", required=True, help="the track file to write (.json); run takes it with --detector file")
    add("--strip_path", help="picture strip to write (default: the track file's name with .png)")
    add("--checkpoints", default=CHECKPOINTS, help="folder of the weights, where detectors look for their files")
    add("--resolution", type=int, default=256, help="side of the crops in the picture strip")
    add("--device", help="cuda, mps or cpu, for the detectors that can use it")
    add_table(parser, FACE)
    return parser


def track(arguments: argparse.Namespace) -> None:
    from ..pipelines.track_video import write_track
    from ..progress import Bar

    detector = chosen_detector(arguments, named_device(arguments.device) if arguments.device else None)
    settings = from_arguments(TrackSettings, arguments)
    how = {name: getattr(arguments, name) for name in ("strip_path", "resolution", "fps", "detect_every")}
    with Bar() as bar:
        print(write_track(arguments.video_path, arguments.track_path, detector, settings, **how, progress=bar))
