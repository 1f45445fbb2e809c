"""The metrics that can be asked for, and what each of them is and needs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

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
            raise ValueError(f"no metric is called {name!r}: choose from {', '.join([*METRICS, *TOGETHER])}")
        wanted.update(TOGETHER.get(name, (name,)))
    if not wanted:
        raise ValueError(f"no metric is asked for: choose from {', '.join([*METRICS, *TOGETHER])}")
    return [name for name in METRICS if name in wanted]
