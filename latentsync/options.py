"""Options that several commands have: the face, the device, and what loads with them.

As in `cli`, what is needed is imported when a command runs.
"""

import argparse
from collections.abc import Callable

from .prepare.cli import DETECTORS

CHECKPOINTS = "checkpoints"  # the default folder, in the current one
# Wraps a function that loads something, so that what it gave is there for the next one who asks for the same.
Keep = Callable[[Callable], Callable]


def add_face_options(parser: argparse.ArgumentParser) -> None:
    """How the face is found and followed."""
    add = parser.add_argument_group("face").add_argument
    add("--detector", choices=DETECTORS, default="auto", help="what finds the face; file reads a track file")
    add("--detector_model", help="the detector's model file; for file, the track file")
    add("--face", default="largest", help="largest, similar (to the first), index:K (from the left) or nearest:X,Y")
    add("--detect_every", type=int, default=1, help="look in every n-th frame and interpolate between")
    add("--max_gap", type=float, default=0.5, help="seconds without a face that are bridged")
    add("--smoothing", type=float, default=0.08, help="seconds over which the face's place is smoothed")
    add("--fps", type=float, help="frame rate of the result; the model was trained at 25 (default: the video's)")


def track_settings(arguments: argparse.Namespace):
    """`TrackSettings` out of the options of `add_face_options`."""
    from .faces import TrackSettings

    return TrackSettings(which=arguments.face, max_gap=arguments.max_gap, smoothing=arguments.smoothing)


def chosen_detector(arguments: argparse.Namespace, device, keep: Keep = lambda load: load):
    """The detector that the options of `add_face_options` name; see `load_detector`."""
    from .detect import load_detector

    return keep(load_detector)(
        arguments.detector,
        model=arguments.detector_model,
        checkpoints=own_folder(arguments),
        device=device,
        embeddings=arguments.detector == "insightface" and arguments.face == "similar",
    )


def own_folder(arguments: argparse.Namespace) -> str:
    """Where detectors and restorers lie: the checkpoints folder, or the default one; the embedded model has none."""
    return CHECKPOINTS if arguments.checkpoints in (None, "embedded") else arguments.checkpoints


def named_device(name: str):
    """The torch device called `name`.

    Raises:
        ValueError: this machine or this torch does not have it.
    """
    import torch

    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device is {name!r}, which cannot be used here ({reason}): try cpu, cuda or mps") from error
