"""The command batch."""

import argparse

from ..pipelines.options import add_run_options


def add_batch(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("batch", help="run over many videos and voices")
    parser.set_defaults(command=batch, ray_gpus=None)
    add = parser.add_argument_group("files").add_argument
    add(
        "jobs",
        help="CSV file with the columns video, audio, if wanted out, and any option of run; or a folder, where each "
        "voice goes to the video of the same name (a.wav to a.mp4)",
    )
    add("--out", required=True, help="folder of the results and manifest.jsonl; run the same command again to resume")
    add = parser.add_argument_group("work").add_argument
    add("--executor", choices=("local", "ray"), default="local", help="processes of this machine, or Ray")
    add("--workers", type=int, help="rows at a time, spread over the GPUs (default: 0, none beside this process; with "
        "ray, as many as it has GPUs)")  # fmt: skip
    add("--ray_address", help="of a running Ray cluster (default: one is started here)")
    add_run_options(parser)
    return parser


def batch(arguments: argparse.Namespace) -> int:
    from .batch_jobs import run_batch

    if arguments.workers is None and arguments.executor == "local":
        arguments.workers = 0
    return run_batch(arguments)
