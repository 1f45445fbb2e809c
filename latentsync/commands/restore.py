"""The command restore, and the options that it shares with run. What they need is imported when they run."""

import argparse

from ..pipelines.options import (
    add_face_options,
    add_superres_options,
    chosen_detector,
    load_superres,
    named_device,
    refuse_idle_superres,
    track_settings,
)


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


def restore(arguments: argparse.Namespace) -> None:
    from ..face.blend import BlendSettings
    from ..models.load import default_device
    from ..pipelines.restore_video import check_output, restore_video
    from ..pipelines.settings import RunSettings
    from ..progress import Bar

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
