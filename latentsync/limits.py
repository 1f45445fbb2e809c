"""What a file may ask of the machine, checked before anything is allocated for it.

A few bytes can announce a picture of a billion pixels or a pause of twenty hours. The limits are far above what
people sync; `--limit NAME=VALUE` raises one for the process, and nobody else can: a visitor of the page cannot.
"""

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from .errors import InputError


@dataclass(frozen=True)
class Limit:
    """The most that is taken, and of what (`text`, with its unit)."""

    value: float
    text: str


LIMITS = {
    "pixels": Limit(2**26, "pixels of a picture (width times height)"),  # 8192 x 8192; 8K has half of it
    "frames": Limit(5_000_000, "frames of a video or of a track file"),
    "seconds": Limit(3 * 3600, "seconds of video or sound"),  # what Whisper makes of it fills 4 GB
    "gap": Limit(600, "seconds between two neighbouring frames or pieces of sound"),
    "audio_rate": Limit(768_000, "audio samples a second"),
    "unpacked": Limit(2**36, "bytes that an archive unpacks to"),
    "expansion": Limit(16, "bytes of content for each byte of its own"),
    "track_bytes": Limit(
        2**26, "bytes of a track file"
    ),  # 5 hours of one face at 25 frames/s; in memory 20 times as much
    "download": Limit(2**36, "bytes of one downloaded file"),
}
_raised: dict[str, float] = {}


def limit(name: str) -> float:
    """The value in force."""
    return _raised.get(name, LIMITS[name].value)


def check_limit(name: str, value: float, what: str) -> None:
    """Refuse what is above the limit `name`, or not a number; `what` names the file."""
    most = limit(name)
    if not value <= most:
        value = min(value, sys.float_info.max)  # a whole number may be too large to be shown as one
        raise InputError(
            f"{what} has {value:.12g} {LIMITS[name].text}: at most {most:.12g} are taken; if you trust the file, raise "
            f"it on the command line with --limit {name}={_round_up(value)}"
        )


def _round_up(value: float) -> str:
    return f"{math.ceil(value)}" if value < 1e15 else "N"


def set_limits(values: Mapping[str, float]) -> None:
    """Put other values in force in this process; those not named get their defaults back."""
    _raised.clear()
    _raised.update(values)


def raised_limits() -> dict[str, float]:
    """What `set_limits` was given: to hand on to worker processes."""
    return dict(_raised)


def parse_limit(text: str) -> tuple[str, float]:
    """`NAME=VALUE` of the command line."""
    name, _, value = text.partition("=")
    if name not in LIMITS:
        raise InputError(f"--limit {text}: there are {', '.join(LIMITS)}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise InputError(f"--limit {text}: give {name}=N, a number above 0: the {LIMITS[name].text}")
    return name, number
