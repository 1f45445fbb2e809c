"""The settings of the page: options of the command `run`, with its names, defaults and explanations."""

import argparse
from dataclasses import dataclass

from ..errors import InputError
from ..pipelines.options import RUN, options_of
from ..settings import QUALITIES, Option, Settings, options

USUAL, MORE, RESTORATION = "usual", "more", "restoration"
NONE = "none"  # shown where an option is not given; a number is 0 then
FACES = ("largest", "similar", "index:0", "index:1")  # proposals; others may be typed
SHOWN = {
    USUAL: ("quality", "inference_steps", "guidance_scale", "seed", "face"),
    MORE: (
        "resolution", "sampler", "deep_cache", "window", "overlap", "guidance_start", "guidance_end", "uncond",
        "mask_smooth", "smoothing", "max_gap", "max_yaw", "min_face", "detect_every", "fps", "audio_longer",
        "audio_shorter", "silence", "crf", "match_colour", "detail", "mask_image",
    ),
    RESTORATION: (
        "superres", "superres_strength", "superres_region", "superres_temporal", "superres_fidelity", "sr_ratio",
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Control:
    """One setting: the option's name, and where it is shown."""

    name: str
    place: str

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").capitalize()

    @property
    def file(self) -> bool:
        """Whether it is an upload."""
        return self.name == "mask_image"


CONTROLS = tuple(Control(name, place) for place, names in SHOWN.items() for name in names)


def shown_controls(restoration: bool) -> list[Control]:
    return [control for control in CONTROLS if restoration or control.place != RESTORATION]


def by_quality() -> tuple[list[str], dict[str, list]]:
    """The settings that `quality` changes, and what it makes of them."""
    changed = [item for item in options(Settings) if item.by_quality]
    table = {name: [fields.get(item.name, item.default) for item in changed] for name, fields in QUALITIES.items()}
    return [item.flag for item in changed], table


def run_options() -> dict[str, Option]:
    """The options of the command `run` by name, without its files."""
    return {option.flag: option for option in options_of(RUN)}


def default_arguments(options: dict[str, Option]) -> argparse.Namespace:
    """What `run` gets when nothing but its files is given."""
    return argparse.Namespace(**{name: option.default for name, option in options.items()})


def checked(option: Option, value: object) -> object:
    """A value from the page as the command line would give it; an InputError for a wrong choice or no number."""
    if option.default is None and value in (None, "", NONE, 0):
        return None
    if option.kind is bool:
        return bool(value)
    if option.choices is not None and value not in option.choices:
        raise InputError(f"{option.flag} is {value!r}: choose one of {', '.join(option.choices)}")
    if option.kind not in (int, float):
        return str(value)
    known = isinstance(value, int | float) and abs(value) <= 2**64  # which NaN is not
    if not known or (option.kind is int and value != int(value)):
        raise InputError(f"{option.flag} is {value!r}: give a {'whole ' if option.kind is int else ''}number")
    return option.kind(value)
