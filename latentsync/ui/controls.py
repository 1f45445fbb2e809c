"""The settings of the page: the options of the command `run`, with its names, defaults and explanations."""

import argparse
from dataclasses import dataclass

from ..errors import InputError

USUAL, MORE, RESTORATION = "usual", "more", "restoration"
NONE = "none"  # shown where an option is not given; a number is 0 then
FACES = ("largest", "similar", "index:0", "index:1")  # proposals; others may be typed


@dataclass(frozen=True)
class Control:
    """One setting: the option's name, where it is shown, the range of its slider, and whether it is an upload."""

    name: str
    place: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    file: bool = False

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()


CONTROLS = (
    Control("inference_steps", USUAL, 1, 100, 1),
    Control("guidance_scale", USUAL, 1, 3, 0.1),
    Control("seed", USUAL),
    Control("face", USUAL),
    Control("resolution", MORE),
    Control("sampler", MORE),
    Control("deep_cache", MORE, 0, 10, 1),
    Control("window", MORE, 1, 24, 1),
    Control("overlap", MORE, 0, 23, 1),
    Control("guidance_start", MORE, 0, 1, 0.05),
    Control("guidance_end", MORE, 0, 1, 0.05),
    Control("mask_smooth", MORE, 0, 1, 0.05),
    Control("smoothing", MORE, 0, 1, 0.01),
    Control("max_gap", MORE, 0, 5, 0.1),
    Control("detect_every", MORE, 1, 25, 1),
    Control("fps", MORE),
    Control("audio_longer", MORE),
    Control("audio_shorter", MORE),
    Control("crf", MORE, 0, 51, 1),
    Control("match_colour", MORE),
    Control("mask_image", MORE, file=True),
    Control("superres", RESTORATION),
    Control("superres_strength", RESTORATION, 0, 1, 0.05),
    Control("superres_region", RESTORATION),
    Control("superres_temporal", RESTORATION, 0, 1, 0.05),
    Control("superres_fidelity", RESTORATION, 0, 1, 0.05),
    Control("sr_ratio", RESTORATION),
)


def shown_controls(restoration: bool) -> list[Control]:
    return [control for control in CONTROLS if restoration or control.place != RESTORATION]


def run_options() -> dict[str, argparse.Action]:
    """The options of the command `run` by name."""
    from ..pipelines.options import run_parser

    parser = run_parser(argparse.ArgumentParser())
    # argparse has no public list of them. What has no default is --help, or another name for an option.
    return {action.dest: action for action in parser._actions if action.default is not argparse.SUPPRESS}


def default_arguments(options: dict[str, argparse.Action]) -> argparse.Namespace:
    """What `run` gets when nothing but its files is given."""
    return argparse.Namespace(**{name: option.default for name, option in options.items()})


def checked(option: argparse.Action, value: object) -> object:
    """A value from the page as the command line would give it.

    Raises:
        ValueError: it is none of the choices, or no number.
    """
    if option.default is None and value in (None, "", NONE, 0):
        return None
    if option.nargs == 0:  # a flag
        return bool(value)
    if option.choices is not None and value not in option.choices:
        raise InputError(f"{option.dest} is {value!r}: choose one of {', '.join(option.choices)}")
    if option.type in (int, float):
        return _number(option, value)
    return str(value)


def _number(option: argparse.Action, value: object) -> int | float:
    whole = option.type is int
    known = isinstance(value, int | float) and abs(value) <= 2**64  # which NaN is not
    if not known or (whole and value != int(value)):
        raise InputError(f"{option.dest} is {value!r}: give a {'whole ' if whole else ''}number")
    return option.type(value)
