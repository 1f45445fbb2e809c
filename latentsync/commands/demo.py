"""The command demo: a drawn head says other words with the embedded model, and the result is measured."""

import argparse
from dataclasses import replace

from ..settings import QualityOptions, Settings, add_options, sampling_settings


def add_demo(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("demo", help="try everything on a drawn clip, with the packaged model")
    parser.set_defaults(command=demo)
    add = parser.add_argument
    add("--out", default="latentsync_demo", help="folder to write into")
    add("--seed", type=int, default=900_004, help="of speaker and words; seeds below 100000 were in the training data")
    add("--seconds", type=float, default=4.0, help="length of the clip")
    add_options(parser, QualityOptions)
    add_options(parser, Settings, "steps", "guidance")
    parser.set_defaults(quality="fast")
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    return parser


def demo(arguments: argparse.Namespace) -> None:
    from ..drawn.demo import check_request, run_demo
    from ..models.embedded import load_embedded
    from ..progress import Bar

    settings = replace(sampling_settings(arguments), seed=Settings.seed)  # --seed is the head's
    check_request(arguments.out, arguments.seed, arguments.seconds)
    model = load_embedded(arguments.device)
    with Bar() as bar:
        result = run_demo(arguments.out, model, arguments.seed, arguments.seconds, settings, progress=bar)
    print(result)
