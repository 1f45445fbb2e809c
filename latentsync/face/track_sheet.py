"""A face track to look at: a picture strip and a line of text."""

import os
from pathlib import Path

import cv2
import numpy as np
import torch

from ..errors import FileError, InputError
from ..files import refuse_inputs, replacing
from ..frames import Frames, as_uint8
from .align import AlignedFaces
from .geometry import corners
from .landmarks import Face, between
from .masks import fitted, keep_mask, tinted
from .track import Chosen, FaceTrack

SHOWN_FRAMES = 6
SHOWN_GAPS = 8  # stretches without the face that a report lists
PICTURE_SIDE = 480  # the longer side of a frame in the strip, in pixels
GAP = 4  # pixels between columns
BITS = 4  # of a pixel's fraction, in OpenCV's fixed-point coordinates
BOX, POINTS, OUTLINE, PAPER = (80, 200, 120), (255, 80, 80), (90, 160, 255), (24, 24, 24)  # RGB


def check_outputs(track_path: Path, strip_path: Path, inputs: list[str | os.PathLike]) -> None:
    for path, ending in ((track_path, ".json"), (strip_path, ".png")):
        if path.suffix.lower() != ending:
            raise InputError(f"cannot write {path}: its name must end in {ending}")
        if not path.parent.is_dir():
            raise FileError(f"the output folder {path.parent} does not exist: create it or give another path")
        refuse_inputs(path, inputs)


def report(track: FaceTrack, reasons: list[str]) -> str:
    """How many frames show the face, which do not, where it is left alone and why, how many cuts there are and how
    steady the crop is. `reasons` are those of `left_alone`."""
    without, alone = (_stretches(frames, reasons) for frames in (~track.seen, track.seen & ~track.found))
    without, alone = without and f" (not in {without})", alone and f", left alone in {alone}"
    return (
        f"the face is in {int(track.seen.sum())} of {len(track)} frames{without}{alone}, {int(track.cuts.sum())} cuts; "
        f"crop jitter {track.jitter():.2f} px"
    )


def _stretches(frames: np.ndarray, reasons: list[str]) -> str:
    """The first stretches of `frames` (n,) bool, each with the reason of its middle if there is one."""
    numbers = np.flatnonzero(frames)
    stretches = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1) if numbers.size else []
    names = [f"{s[0]}" if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in stretches[:SHOWN_GAPS]]
    whys = [reasons[s[len(s) // 2]] for s in stretches]
    names = [f"{name} ({why})" if why else name for name, why in zip(names, whys, strict=False)]
    return ", ".join([*names, "..."] if len(stretches) > SHOWN_GAPS else names)


def filled(chosen: Chosen) -> list[Face | None]:
    """The chosen faces, with those of frames that were not looked at on the line between their neighbours."""
    faces = list(chosen.faces)
    places = [i for i, face in enumerate(faces) if face is not None]
    for a, b in zip(places[:-1], places[1:], strict=True):
        if not chosen.looked[a + 1 : b].any() and not chosen.cuts[a + 1 : b + 1].any():
            faces[a + 1 : b] = [between(faces[a], faces[b], (i - a) / (b - a)) for i in range(a + 1, b)]
    return faces


def strip(frames: Frames, track: FaceTrack, chosen: list[Face | None], reasons: list[str]) -> np.ndarray:
    """A picture (h, w, 3) uint8 of frames spread over the clip, face and crop drawn in, with their crops below.

    The crops are tinted where the net repaints them; where it does not, the frame says which of the `reasons` it has.
    """
    shown = np.flatnonzero(track.seen)
    numbers = [int(shown[k]) for k in np.unique(np.linspace(0, len(shown) - 1, SHOWN_FRAMES).round().astype(int))]
    crops = AlignedFaces(frames, track.matrices, track.seen, track.resolution)[numbers]
    columns = []
    for i, crop in zip(numbers, crops, strict=True):
        frame, scale = framed(as_uint8(frames[[i]][0, ..., :3]).cpu().numpy())
        draw_polygon(frame, corners(track.matrices[i], track.resolution), scale, OUTLINE)
        if chosen[i] is not None:
            draw_box(frame, chosen[i], scale)
            for point in _fixed(chosen[i].points, scale).tolist():
                cv2.circle(frame, point, 4 * 2**BITS, POINTS, -1, cv2.LINE_AA, BITS)
        text = f"{i}: {reasons[i]}" if reasons[i] else str(i)
        for colour, thickness in ((PAPER, 5), ((255, 255, 255), 2)):  # readable on any ground
            cv2.putText(frame, text, (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, colour, thickness, cv2.LINE_AA)
        side = frame.shape[1]
        small = torch.from_numpy(cv2.resize(crop.numpy(), (side, side), interpolation=cv2.INTER_AREA))[None]
        repainted = fitted(1 - keep_mask(len(crop)), side) * float(track.found[i])
        column = np.vstack([frame, as_uint8(tinted(small, repainted))[0].numpy()])
        columns.append(cv2.copyMakeBorder(column, 0, 0, 0, GAP, cv2.BORDER_CONSTANT, value=PAPER))
    return np.hstack(columns)[:, :-GAP]


def framed(frame: np.ndarray, side: int = PICTURE_SIDE) -> tuple[np.ndarray, float]:
    """A frame (h, w, 3) uint8 with its longer side `side` pixels long, as a copy, and the scale."""
    scale = side / max(frame.shape[:2])
    size = [max(1, round(length * scale)) for length in frame.shape[1::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), scale


def draw_polygon(picture: np.ndarray, points: np.ndarray, scale: float, colour: tuple[int, int, int]) -> None:
    """Draw a closed line through points (n, 2) of the whole frame, in place, with a dark rim; see `framed`."""
    for rim, thickness in ((PAPER, 5), (colour, 2)):
        cv2.polylines(picture, [_fixed(points, scale)], True, rim, thickness, cv2.LINE_AA, BITS)


def draw_box(picture: np.ndarray, face: Face, scale: float, colour: tuple[int, int, int] = BOX) -> None:
    """Draw where a face was detected, in place."""
    x1, y1, x2, y2 = face.box
    draw_polygon(picture, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]), scale, colour)


def _fixed(points: np.ndarray, scale: float) -> np.ndarray:
    """Points (n, 2) of the whole frame as OpenCV's fixed-point coordinates in a picture of it."""
    return np.rint(((points + 0.5) * scale - 0.5) * 2**BITS).clip(-(2**30), 2**30).astype(np.int32)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write (h, w, 3) uint8 RGB; OpenCV's own file writing fails on names outside ASCII on some systems."""
    coded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    with replacing(path) as part:
        part.write_bytes(coded.tobytes())
