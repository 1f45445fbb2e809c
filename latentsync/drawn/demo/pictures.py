"""The demo's pictures: the result beside the truth."""

import cv2
import numpy as np
import torch

from ...evaluate.charts import Curve, curve_chart, picture_sheet
from ...face.geometry import CANVAS_UNITS, crop_matrix, homogeneous
from ...face.track import FaceTrack
from .report import Report
from .scene import Scene

COLUMNS = 9  # of the picture sheet
TILE = 144  # side of its pictures
CLOSE_UP = (0.22, 0.46, 0.78, 0.88)  # left, top, right, bottom of the mouth's picture, as fractions of the crop
CROP_HEIGHT = CANVAS_UNITS[1] / CANVAS_UNITS[0]  # of its width, before it is stretched to a square
MEASURED, TRUE, OLD, LEVEL = (214, 69, 65), (38, 42, 50), (158, 170, 188), (176, 196, 222)


def strip(scene: Scene, result: torch.Tensor, track: FaceTrack) -> np.ndarray:
    """Source, result and truth side by side at times spread over the clip, whole and the mouth: (h, w, 3) uint8."""
    numbers = np.linspace(0, len(track) - 1, COLUMNS + 2).round().astype(int)[1:-1]
    clips = (
        ("source", "the old words", scene.source.frames),
        ("result", "the new words", result),
        ("truth", "drawn saying them", scene.truth.frames),
    )
    whole, mouths = [], []
    for name, note, frames in clips:
        small = [cv2.resize(frames[i].numpy(), (TILE, TILE), interpolation=cv2.INTER_AREA) for i in numbers]
        whole.append((name, note, small))
        close = [close_up(frames[i].numpy(), track.matrices[i], track.resolution) for i in numbers]
        mouths.append((name, "the mouth", close))
    times = [f"{i / scene.source.fps:.2f} s" for i in numbers]
    return picture_sheet([*whole, *mouths], times, "A drawn head, made to say other words")


def close_up(frame: np.ndarray, matrix: np.ndarray, resolution: int) -> np.ndarray:
    """The mouth in `frame` (h, w, 3) uint8, upright, TILE pixels wide."""
    left, top, right, bottom = (edge * resolution for edge in CLOSE_UP)
    scale = TILE / (right - left)
    height = round((bottom - top) * scale * CROP_HEIGHT)
    to_tile = np.array([[scale, 0, -left * scale], [0, scale * CROP_HEIGHT, -top * scale * CROP_HEIGHT]])
    to_crop = homogeneous(crop_matrix(matrix, resolution))
    return cv2.warpAffine(frame, to_tile @ to_crop, (TILE, height), flags=cv2.INTER_CUBIC)


def curves(scene: Scene, measured: np.ndarray, report: Report) -> np.ndarray:
    """The mouth's opening over time, measured and true, and the loudness of the voice: (h, w, 3) uint8."""
    lines = [
        Curve("in the result", measured, MEASURED, 2.6),
        Curve("true, of the new audio", scene.truth.opening, TRUE, 1.8, dash=7),
        Curve("of the old audio", scene.source.opening, OLD, 1.6),
    ]
    level = Curve("loudness of the new audio", scene.speech.loudness, LEVEL)
    title = f"What the mouth does: correlation {report.correlation:.2f} with the new audio's, "
    title += f"{report.old_correlation:.2f} with the old"
    return curve_chart(lines, level, scene.source.fps, title)
