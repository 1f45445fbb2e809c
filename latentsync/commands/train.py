"""The command `train` of the command line."""

import argparse
import re


def add_train(commands) -> argparse.ArgumentParser:
    """Add the command to the subparsers of argparse; imports nothing heavy."""
    parser = commands.add_parser(
        "train",
        help="train the U-Net, SyncNet and what belongs to them",
        usage="%(prog)s WHAT --config PRESET_OR_FILE [--resume auto | --dry_run] [key=value ...]",
        epilog="key=value replaces a value of the configuration: run.max_steps=2000 data.clips=my/clips. On several "
        "GPUs: accelerate launch -m latentsync train ...",
    )
    less_memory = "a smaller run.batch_size with more run.accumulate, or run.gradient_checkpointing=true"
    parser.set_defaults(command=train, replacements=[], less_memory=less_memory)
    parser.add_argument("what", help="syncnet or unet, or another of those that a wrong name lists")
    parser.add_argument("--config", required=True, help="name of a preset, or a YAML file; a wrong name lists presets")
    parser.add_argument("--resume", help="a saved state, a run's folder, or auto: the last state of run.output, if any")
    parser.add_argument("--show", action="store_true", help="print the whole configuration and end")
    parser.add_argument("--dry_run", action="store_true", help="prepare all, read one sample, say what it would do")
    _accept_replacements(parser)
    return parser


def _accept_replacements(parser: argparse.ArgumentParser) -> None:
    """Lets `parser` take key=value anywhere; argparse takes a list of free arguments only in one piece."""
    parse = parser.parse_known_args

    def parse_known_args(args, namespace=None):
        replacements = [argument for argument in args if re.match(r"[\w.]+=", argument)]
        parsed, unknown = parse([argument for argument in args if argument not in replacements], namespace)
        parsed.replacements = replacements
        return parsed, unknown

    parser.parse_known_args = parse_known_args


def train(arguments: argparse.Namespace) -> None:
    """Run the command."""
    from ..train.config import load_config, to_yaml
    from ..train.task import build_task, config_of

    config = load_config(config_of(arguments.what), arguments.config, arguments.replacements)
    if arguments.show:
        print(to_yaml(config), end="")
        return

    from ..progress import Bar
    from ..train.loop import dry_run
    from ..train.loop import train as run

    if arguments.dry_run:
        print(dry_run(build_task(arguments.what, config), config, arguments.resume))
        return
    with Bar(unit="step") as bar:
        saved = run(build_task(arguments.what, config), config, arguments.resume, bar)
    print(f"saved in {saved}")
