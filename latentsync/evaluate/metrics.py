"""The metrics that can be asked for, and what each of them is and needs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..frames import Frames, batches

View = Literal["region", "crops", "frames", "sound", "samples"]


@dataclass(frozen=True)
class Metric:
    """One column of the report.

    Attributes:
        title: what the table calls it.
        better: "higher", "lower" or "zero".
        about: what it is, in a few words, with its unit.
        meter: what measures it, together with the other metrics of the same name.
        view: what it looks at: the region that is asked for, aligned crops, whole frames, the clip with its sound, or
            samples of other clips, which judge a net and not the videos.
        reference: whether it needs the true pictures.
        pooled: whether it judges all videos together.
        decimals: shown in the table.
    """

    title: str
    better: Literal["higher", "lower", "zero"]
    about: str
    meter: str
    view: View = "region"
    reference: bool = True
    pooled: bool = False
    decimals: int = 3


LATE = "frames of 1/25 s that the mouth is late, by "
METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR", "higher", "peak signal-to-noise ratio, dB", "psnr", decimals=2),
    "ssim": Metric("SSIM", "higher", "structural similarity, at most 1", "ssim"),
    "ms_ssim": Metric("MS-SSIM", "higher", "the same at five scales, at most 1", "ms_ssim"),
    "lpips": Metric("LPIPS", "lower", "perceptual distance by VGG 16", "lpips"),
    "fid": Metric("FID", "lower", "Frechet distance of frames, by Inception v3", "fid", pooled=True, decimals=2),
    "fvd": Metric("FVD", "lower", "Frechet distance of 16-frame clips, by I3D", "fvd", pooled=True, decimals=1),
    "flicker": Metric("flicker", "lower", "unsteadiness that the reference lacks, levels of 255", "flicker"),
    "seam": Metric(
        "seam", "lower", "step across the edge of the mouth, levels of 255", "seam", view="crops", reference=False
    ),
    "lmd": Metric("LMD", "lower", "distance of the lips' landmarks, frame pixels", "likeness", view="frames"),
    "identity": Metric("identity", "higher", "cosine of the faces' embeddings", "likeness", view="frames"),
    "sync_c": Metric("Sync-C", "higher", "confidence of SyncNet v2", "syncnet_v2", "sound", False, decimals=2),
    "sync_d": Metric("Sync-D", "lower", "distance of SyncNet v2", "syncnet_v2", "sound", False, decimals=2),
    "sync_offset": Metric("offset", "zero", LATE + "SyncNet v2", "syncnet_v2", "sound", False, decimals=0),
    "stable_sync": Metric("StableSyncNet", "higher", "mean cosine of lips and sound", "stable_syncnet", "sound", False),
    "stable_offset": Metric(
        "stable offset", "zero", LATE + "StableSyncNet", "stable_syncnet", "sound", False, decimals=0
    ),
    "syncnet_accuracy": Metric(
        "SyncNet accuracy",
        "higher",
        "share of samples that a StableSyncNet puts on the right side of cosine 0.5",
        "syncnet_accuracy",
        "samples",
        reference=False,
        pooled=True,
    ),
}
TOGETHER = {
    "all": tuple(name for name, metric in METRICS.items() if metric.view != "samples"),
    "sync": ("sync_c", "sync_d", "sync_offset"),
    "stable": ("stable_sync", "stable_offset"),
}


def chosen_metrics(names: Iterable[str]) -> list[str]:
    """The metrics called `names`, in the table's order; "all", "sync" and "stable" stand for several, - for _.

    Raises:
        ValueError: none, or an unknown one.
    """
    wanted: set[str] = set()
    for name in (name.replace("-", "_").lower() for name in names):
        if name not in METRICS and name not in TOGETHER:
            raise InputError(f"no metric is called {name!r}: choose from {', '.join([*METRICS, *TOGETHER])}")
        wanted.update(TOGETHER.get(name, (name,)))
    if not wanted:
        raise InputError(f"no metric is asked for: choose from {', '.join([*METRICS, *TOGETHER])}")
    return [name for name in METRICS if name in wanted]


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
            raise InputError(f"{self.name} got no frame that shows the face: give a clip that does")
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
