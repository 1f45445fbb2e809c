"""The command restore. What it needs is imported when it runs."""

import argparse
from dataclasses import replace

from ..pipelines.options import (
    FACE,
    RESTORATION,
    Files,
    ModelOptions,
    OutputOptions,
    add_table,
    chosen_detector,
    load_superres,
    named_device,
    refuse_idle_options,
    run_settings,
)
from ..settings import BlendSettings, EncodingSettings


def add_restore(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("restore", help="restore the face in an existing video")
    parser.set_defaults(command=restore, less_memory="a smaller --sr_ratio or --resolution, or no --upscaler")
    table = (
        ("files", Files, ("video_path", "video_out_path")),
        ("files", ModelOptions, ("device",)),
        ("files", OutputOptions, ("resume",)),
        *RESTORATION,
        *FACE,
        ("result", BlendSettings, ("mask_smooth",)),
        ("result", EncodingSettings, ()),
    )
    groups = add_table(parser, table, required=("video_path", "video_out_path", "superres"))
    checkpoints = "folder of the weights (see download), or ComfyUI's models folder (default: checkpoints)"
    groups["files"].add_argument("--checkpoints", help=checkpoints)
    groups["result"].add_argument("--resolution", type=int, default=512, help="side of the face crop")
    return parser


def restore(arguments: argparse.Namespace) -> None:
    from ..models.load import default_device
    from ..pipelines.restore_video import check_output, restore_video
    from ..progress import Bar

    refuse_idle_options(arguments)
    check_output(arguments.video_path, arguments.video_out_path)
    device = named_device(arguments.device) if arguments.device else default_device()
    settings = replace(run_settings(arguments), superres=load_superres(arguments, device))
    detector = chosen_detector(arguments, device)
    files = (arguments.video_path, arguments.video_out_path)
    how = {"resolution": arguments.resolution, "resume": arguments.resume}
    with Bar() as bar:
        summary = restore_video(*files, detector, settings, **how, progress=bar)
    print(f"{summary.path}: {summary.frames} frames at {summary.fps:g} fps, the face in {summary.frames_with_face}")
