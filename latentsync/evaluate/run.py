"""Videos against their references and their own sound: every metric, in memory that does not grow with the clips."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import FileError, InputError
from ..media.source import VIDEO_SUFFIXES
from ..progress import Progress, no_progress
from .clip import CANNOT, Clip, Pair, evaluate_clip
from .frechet import FID_FEATURES
from .metrics import METRICS
from .published import fvd_of_sets
from .report import Report
from .tools import RANDOM, EvaluateSettings, Tools


def find_pairs(video: str | os.PathLike, reference: str | os.PathLike | None = None) -> list[Pair]:
    """One video and its reference, or all videos of a folder and those of the same names in another."""
    video, reference = Path(video), None if reference is None else Path(reference)
    for path in (video, reference):
        if path is not None and not path.exists():
            raise FileError(f"there is no video or folder {path}: check the path")
    if reference is not None and video.is_dir() != reference.is_dir():
        raise InputError(f"{video} and {reference} are a folder and a file: give two videos or two folders")
    if not video.is_dir():
        return [Pair(video, reference)]
    made = _videos_in(video)
    if reference is None:
        return [Pair(path) for path in made.values()]
    true = _videos_in(reference)
    if alone := [path.name for name, path in made.items() if name not in true]:
        raise InputError(f"{reference} has no video called as {', '.join(alone[:3])}: give each its reference")
    return [Pair(path, true[name]) for name, path in made.items()]


def _videos_in(folder: Path) -> dict[str, Path]:
    """The videos of a folder by name without suffix, in order."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
    found: dict[str, Path] = {}
    for path in paths:
        if path.stem in found:
            raise InputError(f"{folder} has {found[path.stem].name} and {path.name}: keep one video of each name")
        found[path.stem] = path
    if not found:
        raise InputError(f"the folder {folder} has no videos ({', '.join(sorted(VIDEO_SUFFIXES))}): give another one")
    return found


def evaluate(
    pairs: Sequence[Pair],
    metrics: Sequence[str],
    settings: EvaluateSettings | None = None,
    progress: Progress = no_progress,
    true_set: Sequence[Path] | None = None,
    accuracy: Callable[..., float] | None = None,
) -> Report:
    """All metrics of all videos; one that lacks a weight file, a package, a face or a reference says so.

    Args:
        pairs: from `find_pairs`.
        metrics: names out of `metrics.METRICS`, such as `metrics.chosen_metrics` gives them.
        true_set: the true videos of the published FVD; None: the references.
        accuracy: `train.syncnet.syncnet_accuracy`, for the metric of that name.
    """
    settings = settings or EvaluateSettings()
    tools, pooled, clips = Tools(settings), {}, []
    for pair in pairs:
        with Clip(pair, tools, progress):
            pass  # what is wrong with one of the files is said before any work
    report = Report(list(metrics), settings.region, clips, protocol=settings.protocol)
    if "syncnet_accuracy" in metrics:
        found = accuracy(*tools.stable_syncnet, settings.clips, settings.samples, progress)
        report.pooled["syncnet_accuracy"] = found
        of = f"{settings.syncnet or settings.checkpoints}, over {settings.samples} samples of {settings.clips}"
        report.notes.append(f"SyncNet accuracy is of {of}")
    by_sets = {"syncnet_accuracy"} | ({"fvd"} if settings.protocol == "published" else set())
    for pair in pairs:
        with Clip(pair, tools, progress) as clip:
            clips.append(evaluate_clip(clip, [name for name in metrics if name not in by_sets], pooled))
    if "fvd" in by_sets & set(metrics):
        true = [pair.reference for pair in pairs if pair.reference] if true_set is None else true_set
        try:
            made = [pair.video for pair in pairs]
            report.pooled["fvd"] = fvd_of_sets(tools.i3d, made, true, tools.detector, progress)
        except CANNOT as error:
            report.pooled_missing["fvd"] = str(error)
    for name, metric in pooled.items():
        try:
            report.pooled[name] = metric.compute()[name].value
        except ValueError as error:
            report.pooled_missing[name] = str(error)
    fid = pooled.get("fid")
    if fid is not None and 2 <= fid.count < FID_FEATURES:
        report.notes.append(
            f"FID is of {fid.count} frames, fewer than the {FID_FEATURES} features: compare it only with one of as many"
        )
    if settings.random_weights and (random := [METRICS[name].title for name in RANDOM if name in metrics]):
        report.notes.append(f"random weights: the figures of {', '.join(random)} mean nothing")
    report.about_protocol = _about(settings.protocol, tools.found_by)
    return report


def _about(protocol: str, found_by: str | None) -> str:
    """What was measured how, for whoever compares the figures with others."""
    if protocol == "own":
        return "FVD and sync figures are not comparable with those of the published protocol (--protocol published)."
    faces = f"; faces are found by {found_by}, there by MediaPipe and S3FD" if found_by else ""
    return (
        "FVD is of the face in frames 20 to 35 of each video, Sync-C, Sync-D and offset are means over face tracks of "
        f"50 frames and more{faces}. Not comparable with figures of the own protocol; other metrics are the same in "
        "both."
    )
