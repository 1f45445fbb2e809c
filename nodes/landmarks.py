"""Faces that nodes of newer ComfyUI have found: their FACE_LANDMARKS and BOUNDING_BOX as a detector of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..latentsync.errors import InputError
from ..latentsync.face.landmarks import Detector, Face, points_from_box, points_from_mesh, yaw_from_mesh

SCORE = 1.0  # who made them has looked at the score


def given_faces(given: Any, count: int, height: int, width: int) -> Detector:
    """The faces of `count` frames of `height` x `width` pixels, as they came through the socket.

    FACE_LANDMARKS hold MediaPipe's mesh of each face. A BOUNDING_BOX is one box for all frames, the boxes of all
    frames, or the boxes of each frame.
    """
    try:
        if isinstance(given, Mapping) and "frames" in given:
            if tuple(given["image_size"]) != (height, width):
                there = " x ".join(map(str, given["image_size"][::-1]))
                raise InputError(f"faces are those of pictures of {there} and these have {width} x {height} pixels")
            frames = [[_from_mesh(face) for face in faces] for faces in given["frames"]]
        else:
            boxes = [[given]] if isinstance(given, Mapping) else list(given)
            boxes = [boxes] if boxes and isinstance(boxes[0], Mapping) else boxes
            frames = [[_from_box(box) for box in some] for some in boxes]
            frames = frames * count if len(frames) == 1 else frames
    except (IndexError, KeyError, TypeError, ValueError) as error:
        reason = error if isinstance(error, InputError) else f"faces hold no faces that can be read ({error!r:.80})"
        raise InputError(f"{reason}: connect what a node has found in these images") from error
    if len(frames) != count:
        raise InputError(
            f"faces are those of {len(frames)} frames and there are {count} images: connect what a node has found in "
            "these images"
        )
    return lambda frame, index: frames[index]


def _from_mesh(face: Mapping[str, Any]) -> Face:
    mesh = np.asarray(face["landmarks_xy"])
    return Face(_finite(face["bbox_xyxy"]), SCORE, points_from_mesh(mesh), turned=yaw_from_mesh(mesh))


def _from_box(box: Mapping[str, Any]) -> Face:
    x, y, width, height = _finite([box[key] for key in ("x", "y", "width", "height")])
    place = (x, y, x + width, y + height)
    return Face(place, SCORE, points_from_box(place))


def _finite(numbers: Sequence[float]) -> tuple[float, ...]:
    values = tuple(float(number) for number in numbers)
    if len(values) != 4 or not np.isfinite(values).all():
        raise ValueError(f"a box is {values}")
    return values
