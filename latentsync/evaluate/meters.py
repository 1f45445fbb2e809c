"""What is measured: one number of a clip, gathered window by window, so that memory does not grow with its length."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from ..frames import Frames, batches

MOST_FRAMES, MOST_PIXELS = 16, 2**20  # of a window; SSIM holds about 300 bytes for each pixel


@dataclass(frozen=True, eq=False)
class Figure:
    """One metric of one clip.

    Attributes:
        value: the number that is reported; inf for the PSNR of equal pictures.
        curve: (n,) float64 over the clip, nan where it could not be judged; None for a metric that has no such thing.
        times: (n,) seconds of the curve's numbers; None: there is one for each video frame.
    """

    value: float
    curve: np.ndarray | None = None
    times: np.ndarray | None = None


class Meter(Protocol):
    """Gathers metrics of one clip.

    `add` is given windows of consecutive frames in order: their numbers, the pictures (n, h, w, 3), uint8 or float in
    [0, 1], and the true ones of the same frames, or None. A window whose first number does not follow the one before it
    comes after frames that could not be judged, or after a cut.
    """

    def add(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor | None) -> None: ...

    def figures(self) -> dict[str, Figure]:
        """The metrics by name.

        Raises:
            ValueError: there was too little to measure.
        """
        ...


class FrameMean:
    """A metric with one number for each frame, whose mean is reported.

    Args:
        name: of the metric.
        measure: pictures and true ones to a tensor (n,).
    """

    def __init__(self, name: str, measure: Callable[[Tensor, Tensor | None], Tensor]):
        self.name, self.measure = name, measure
        self.numbers: list[int] = []
        self.values: list[float] = []

    def add(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor | None) -> None:
        self.numbers += numbers
        self.values += self.measure(pictures, truth).tolist()

    def figures(self) -> dict[str, Figure]:
        known = [value for value in self.values if not np.isnan(value)]
        if not known:
            raise ValueError(f"{self.name} got no frame that shows the face: give a clip that does")
        return {self.name: Figure(self.mean(known), placed(self.numbers, self.values))}

    def mean(self, values: list[float]) -> float:
        return float(np.mean(values))


def placed(numbers: Sequence[int], values: Sequence[float]) -> np.ndarray:
    """`values` at the frames `numbers` of a curve, with nan in between."""
    curve = np.full(max(numbers) + 1, np.nan)
    curve[list(numbers)] = values
    return curve


def measured(meter: Meter, pictures: Frames, truth: Frames | None = None) -> dict[str, Figure]:
    """The metrics of a whole clip; where one of the two is longer, its end is not looked at.

    Raises:
        ValueError: a clip without frames, or what the meter refuses.
    """
    feed(meter, pictures, truth, [(0, len(pictures) if truth is None else min(len(pictures), len(truth)))])
    return meter.figures()


def feed(meter: Meter, pictures: Frames, truth: Frames | None, runs: Sequence[tuple[int, int]]) -> None:
    """Give a meter the frames of `runs` (start, stop)."""
    for numbers in windows(pictures, runs):
        meter.add(numbers, pictures[numbers], None if truth is None else truth[numbers])


def windows(pictures: Frames, runs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Frame numbers of `runs` (start, stop), as many together as fit into a window of this picture size."""
    height, width = pictures[[runs[0][0]]].shape[1:3] if runs and runs[0][0] < runs[0][1] else (1, 1)
    size = max(1, min(MOST_FRAMES, MOST_PIXELS // (height * width)))
    return [[start + i for i in batch] for start, stop in runs for batch in batches(stop - start, size)]
