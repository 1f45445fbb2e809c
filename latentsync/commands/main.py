"""Commands: python -m latentsync run, batch, restore, ui, track, train, prepare, evaluate, download, convert,
convert_workflow, demo.

Each command imports what it needs when it runs, so that --help answers at once.
"""

import argparse
import difflib
import logging
import re
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .. import __version__
from ..limits import parse_limit, set_limits
from ..pipelines.options import explained
from .batch import add_batch
from .convert_workflow import add_convert_workflow
from .demo import add_demo
from .evaluate import add_evaluate
from .prepare import add_prepare
from .restore import add_restore
from .run import add_run
from .track import add_track
from .train import add_train
from .ui import add_ui
from .weights import add_convert, add_download

COMMANDS = (
    add_run, add_batch, add_restore, add_ui, add_track, add_train, add_prepare, add_evaluate, add_download, add_convert,
    add_convert_workflow, add_demo,
)  # fmt: skip
LESS_MEMORY = "--window 8, --guidance_scale 1 or a smaller --resolution"
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130


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
    try:
        set_limits(dict(parse_limit(text) for text in arguments.limit))
        with _terminable():
            code = arguments.command(arguments)
    except KeyboardInterrupt as interrupt:
        left = "run the same command again to resume" if arguments.goes_on else "nothing was left behind"
        print(f"\nlatentsync: interrupted; {interrupt if interrupt.args else left}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except Exception as error:
        sentence = explained(error, arguments.less_memory)
        if sentence is None:
            print("\nlatentsync: this is a bug: please report the command and all that follows", file=sys.stderr)
        if arguments.debug or sentence is None:
            raise
        print(f"latentsync: error: {sentence}", file=sys.stderr)
        return EXIT_BAD_INPUT
    return code or 0


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
        silent = action.default in (None, False, [], ()) or action.required
        return action.help if silent else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Says in two lines what is wrong, and first of all which option or command is mistyped."""

    def __init__(self, **options):
        self.commands, self.known = None, set()  # the names of commands, None in the parser of one, and of arguments
        super().__init__(**options)

    def add_argument(self, *names, **options):
        self.known.update(names)
        return super().add_argument(*names, **options)

    def add_argument_group(self, *heading, **options):
        group = super().add_argument_group(*heading, **options)
        add = group.add_argument
        group.add_argument = lambda *names, **options: self.known.update(names) or add(*names, **options)
        return group

    def parse_known_args(self, args=None, namespace=None):
        # argparse would complain of the missing --video_path before it complained of a --video_pth.
        known = {name for name in self.known if name.startswith("-")}
        if self.commands is None:
            given = [a.partition("=")[0] for a in args[: args.index("--") if "--" in args else None]]
            # argparse takes numbers and what has a space in it for values.
            given = [a for a in given if a.startswith("-") and not re.match(r"-$|-\.?\d|-inf|-nan|.* ", a)]
        else:
            known, given = {*self.commands, *known}, args[:1]
        for name in given:
            if name not in known and not (name.startswith("--") and any(o.startswith(name) for o in known)):
                close = difflib.get_close_matches(name.lower(), sorted(known), 1)
                kind = "option" if name.startswith("-") else "command"
                self.error(f"there is no {kind} {name}" + "".join(f": did you mean {option}?" for option in close))
        parsed, rest = super().parse_known_args(args, namespace)
        if rest and "replacements" in parsed:  # of train, which takes key=value anywhere
            parsed.replacements, rest = rest, []
        if rest:
            self.error(f"unexpected: {' '.join(rest)}")
        return parsed, rest

    def error(self, message):
        self.exit(EXIT_BAD_INPUT, f"latentsync: error: {message}\n`{self.prog} --help` lists all there is\n")


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="python -m latentsync", description="Audio-driven lip sync for real videos.")
    parser.add_argument("--version", action="version", version=f"latentsync {__version__}")
    commands = parser.add_subparsers(required=True)
    for add in COMMANDS:
        command = add(commands)
        command.formatter_class = Help
        command.set_defaults(
            less_memory=command.get_default("less_memory") or LESS_MEMORY,
            goes_on=command.get_default("goes_on") or False,
        )
        command.add_argument(
            "--limit", action="append", default=[], metavar="NAME=VALUE",
            help="raise a limit that a file was refused for; the message names it",
        )  # fmt: skip
        command.add_argument("--debug", action="store_true", help="show where an error came from")
    parser.commands = commands.choices
    commands.metavar = " | ".join(commands.choices)
    return parser
