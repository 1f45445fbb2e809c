"""The worst moments of a video, to look at."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from ..face.track_sheet import framed
from ..frames import as_uint8
from .metrics import METRICS, MetricValue
from .pair import OpenPair

MOST_MOMENTS, PICTURE_SIDE = 6, 240  # of a video; the longer side in pixels


@dataclass(frozen=True)
class Moment:
    """A frame in which metrics are at their worst."""

    frame: int
    seconds: float
    values: dict[str, float]  # of the metrics, by name
    picture: str  # a PNG in base64: the frame and, where there is one, that of the reference beside it


def worst_moments(pair: OpenPair, values: Mapping[str, MetricValue]) -> list[Moment]:
    """In time's order, a frame for each metric whose curve says which one is worst; no more than `MOST_MOMENTS`."""
    found: dict[int, dict[str, float]] = {}
    for name, metric in values.items():
        worst = {"higher": np.argmin, "lower": np.argmax}.get(METRICS[name].better)
        if worst is None or metric.curve is None or not np.isfinite(metric.curve).any():
            continue
        known = np.flatnonzero(np.isfinite(metric.curve))
        place = int(known[worst(metric.curve[known])])
        frame = place if metric.times is None else int(metric.times[place] * pair.fps)
        found.setdefault(min(frame, pair.count - 1), {})[name] = float(metric.curve[place])
    shown = sorted(list(found)[:MOST_MOMENTS])
    return [Moment(i, i / pair.fps, found[i], _picture(pair, i)) for i in shown]


def _picture(pair: OpenPair, i: int) -> str:
    clips = [clip for clip in (pair.video, pair.reference) if clip is not None]
    pictures = [framed(as_uint8(clip[[i]])[0].numpy(), PICTURE_SIDE)[0] for clip in clips]
    return as_png(np.hstack(pictures))


def as_png(picture: np.ndarray) -> str:
    """(h, w, 3) uint8 as PNG in base64."""
    coded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    return base64.b64encode(coded.tobytes()).decode()
