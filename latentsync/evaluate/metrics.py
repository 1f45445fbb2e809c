"""The metrics that can be asked for, and what each of them is and needs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from ..errors import InputError
from ..frames import Frames, batches

# What a metric sees: the chosen region, aligned crops, whole frames, the clip with its sound, or samples of other
# clips, which tell something about a net and nothing about the videos.
View = Literal["region", "crops", "frames", "sound", "samples"]


@dataclass(frozen=True)
class MetricInfo:
    """One column of the report."""

    title: str
    better: Literal["higher", "lower", "zero", "source"]  # "source": as near to the source video's as can be
    about: str  # what it is, in a few words, with its unit
    measured_by: str  # the measurement that yields it, perhaps with others; see `run.create_metric`
    decimals: int = 3
    view: View = "region"
    reference: bool = True  # whether it needs the true pictures


LATE = "frames of 1/25 s that the mouth is late, by "
OPENING = "the mouth's opening, % of the face's side"
KEPT = "share of the source's lip motion that is in it"
LEAK = "confidence of SyncNet v2 with the source's sound"
COSINE = "mean cosine of lips and sound"
RIGHT = "share of samples that a StableSyncNet puts on the right side of cosine 0.5"
METRICS: dict[str, MetricInfo] = {
    "psnr": MetricInfo("PSNR", "higher", "peak signal-to-noise ratio, dB", "psnr", 2),
    "ssim": MetricInfo("SSIM", "higher", "structural similarity, at most 1", "ssim"),
    "ms_ssim": MetricInfo("MS-SSIM", "higher", "the same at five scales, at most 1", "ms_ssim"),
    "lpips": MetricInfo("LPIPS", "lower", "perceptual distance by VGG 16", "lpips"),
    "fid": MetricInfo("FID", "lower", "Frechet distance of frames, by Inception v3", "fid", 2),
    "fvd": MetricInfo("FVD", "lower", "Frechet distance of 16-frame clips, by I3D", "fvd", 1),
    "flicker": MetricInfo("flicker", "lower", "unsteadiness that the reference lacks, levels of 255", "flicker"),
    "seam": MetricInfo("seam", "lower", "step across the edge of the mouth, levels of 255", "seam", 3, "crops", False),
    "quality": MetricInfo("quality", "higher", "hyperIQA of the aligned face, 0 to 100", "quality", 1, "crops", False),
    "lmd": MetricInfo("LMD", "lower", "distance of the lips' landmarks, frame pixels", "identity", 3, "frames"),
    "identity": MetricInfo("CSIM", "higher", "cosine of the faces' embeddings", "identity", 3, "frames"),
    "lip_dynamics": MetricInfo("lip dynamics", "source", f"deviation of {OPENING}", "lips", 2, "frames", False),
    "silent_lips": MetricInfo("silent lips", "lower", f"motion of {OPENING}, in pauses", "lips", 2, "frames", False),
    "lip_leak": MetricInfo("lip leak", "zero", f"{KEPT}, with other sound or none", "lips", 3, "frames"),
    "lip_match": MetricInfo("lip match", "source", f"{KEPT}, with the source's sound; 1 is all", "lips", 3, "frames"),
    "sync_c": MetricInfo("Sync-C", "higher", "confidence of SyncNet v2", "syncnet_v2", 2, "sound", False),
    "sync_d": MetricInfo("Sync-D", "lower", "distance of SyncNet v2", "syncnet_v2", 2, "sound", False),
    "sync_offset": MetricInfo("offset", "zero", LATE + "SyncNet v2", "syncnet_v2", 0, "sound", False),
    "stable_sync": MetricInfo("StableSyncNet", "higher", COSINE, "stable_syncnet", 3, "sound", False),
    "stable_offset": MetricInfo("stable offset", "zero", LATE + "StableSyncNet", "stable_syncnet", 0, "sound", False),
    "leak_c": MetricInfo("Sync-C leak", "lower", LEAK, "syncnet_v2", 2, "sound"),
    "stable_leak": MetricInfo("StableSyncNet leak", "lower", COSINE + " of the source", "stable_syncnet", 3, "sound"),
    "syncnet_accuracy": MetricInfo("SyncNet accuracy", "higher", RIGHT, "syncnet_accuracy", 3, "samples", False),
}
GROUPS = {
    "csim": ("identity",),
    "all": tuple(name for name, metric in METRICS.items() if metric.view != "samples"),
    "sync": ("sync_c", "sync_d", "sync_offset"),
    "stable": ("stable_sync", "stable_offset"),
    "lips": ("lip_dynamics", "silent_lips", "lip_leak", "lip_match"),
    "leak": ("lip_leak", "leak_c", "stable_leak"),
    "paper": ("fid", "ssim", "sync_c", "sync_d", "lmd", "fvd"),
}


def chosen_metrics(names: Iterable[str]) -> list[str]:
    """The metrics called `names`, in the table's order; those of `GROUPS` stand for several, - for _."""
    wanted: set[str] = set()
    for name in (name.replace("-", "_").lower() for name in names):
        if name not in METRICS and name not in GROUPS:
            raise InputError(f"no metric is called {name!r}: choose from {', '.join([*METRICS, *GROUPS])}")
        wanted.update(GROUPS.get(name, (name,)))
    if not wanted:
        raise InputError(f"no metric is given: choose from {', '.join([*METRICS, *GROUPS])}")
    return [name for name in METRICS if name in wanted]


@dataclass(frozen=True, eq=False)
class MetricValue:
    """One metric of one video."""

    value: float  # inf for the PSNR of equal pictures
    curve: np.ndarray | None = None  # (n,) float64 over the video, nan where it could not be measured
    times: np.ndarray | None = None  # (n,) seconds of the curve's numbers; None: one for each video frame


class FrameMean:
    """A metric with one number per frame, whose mean is reported.

    Like every metric it gathers windows in `update` and gives its values by name in `compute`, or says in an InputError
    that there was too little. `measure` turns pictures and true ones (n, h, w, 3), uint8 or float in [0, 1], into (n,);
    `least` is their smallest side in pixels, and `unit` what becomes of the mean and of each number in the end.
    """

    too_little = "got no frame that shows the face: give a clip that does"

    def __init__(
        self,
        name: str,
        measure: Callable[[Tensor, Tensor | None], Tensor] | None = None,
        least: int = 1,
        unit: Callable[[float], float] = float,
    ):
        self.name, self.measure, self.least, self.unit = name, measure, least, unit
        self.values: dict[int, float] = {}  # by frame

    def update(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor | None) -> None:
        """A window of consecutive frames: their numbers, pictures, and the true ones. Where the first number does not
        follow the window before, the face was lost or a shot has ended."""
        height, width = pictures.shape[1:3]
        if min(height, width) < self.least:
            raise InputError(
                f"{METRICS[self.name].title} needs pictures of at least {self.least} x {self.least} and got "
                f"{width} x {height}: choose a larger region, or a larger resolution of the crops"
            )
        self.values.update(zip(numbers, self.measure(pictures, truth).tolist(), strict=True))

    def compute(self) -> dict[str, MetricValue]:
        known = [value for value in self.values.values() if not np.isnan(value)]
        if not known:
            raise InputError(f"{self.name} {self.too_little}")
        curve = np.full(max(self.values) + 1, np.nan)
        curve[list(self.values)] = [self.unit(value) for value in self.values.values()]
        return {self.name: MetricValue(self.unit(float(np.mean(known))), curve)}


MOST_FRAMES, MOST_PIXELS = 16, 2**20  # of a window; SSIM holds about 300 bytes for each pixel


def windows(pictures: Frames, runs: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Frame numbers of `runs` (start, stop), as many together as fit into a window of this picture size."""
    height, width = pictures[[runs[0][0]]].shape[1:3] if runs and runs[0][0] < runs[0][1] else (1, 1)
    size = max(1, min(MOST_FRAMES, MOST_PIXELS // (height * width)))
    return [[start + i for i in batch] for start, stop in runs for batch in batches(stop - start, size)]
