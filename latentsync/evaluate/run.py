"""Videos against their references and their own sound: every metric, in memory that does not grow with the clips."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..progress import Progress, no_progress
from .faces import CROP_SIDE, Identity, Lips
from .frechet import FID_FEATURES, Frechet, FrechetOfClips, Gaussian, Sums
from .image_metrics import (
    SSIM_WINDOW,
    Flicker,
    lpips_metric,
    ms_ssim_metric,
    psnr_metric,
    quality_metric,
    seam,
    ssim,
)
from .metrics import METRICS, FrameMean, View, windows
from .moments import worst_moments
from .pair import OpenPair, Pair
from .published import fvd_of_sets, sync_of_video
from .report import Report, VideoReport
from .settings import EvaluateSettings
from .suite import FinishedRows
from .sync_score import stable_syncnet, syncnet_v2
from .tools import Tools

CANNOT = (ImportError, ValueError)  # why one metric has no value while the others go on
RANDOM = ("lpips", "fid", "fvd")  # metrics that can be tried out with random weights
POOLED = {"fid": Frechet, "fvd": FrechetOfClips}  # metrics that take all videos together
ABOUT_OWN = "FVD and sync figures are not comparable with those of the published protocol (--protocol published)."
ABOUT_PUBLISHED = (
    "FVD is of the face in frames 20 to 35 of each video, Sync-C, Sync-D and offset are means over face tracks of "
    "50 frames and more{faces}. Not comparable with figures of the own protocol; other metrics are the same in both."
)


def evaluate(
    pairs: Sequence[Pair],
    metrics: Sequence[str],
    settings: EvaluateSettings | None = None,
    progress: Progress = no_progress,
    true_set: Sequence[Path] | None = None,
    accuracy: Callable[..., float] | None = None,
    details: bool = False,
    finished: FinishedRows | None = None,
) -> Report:
    """All `metrics` (of `metrics.METRICS`) of all videos; the report says what each one lacked.

    Args:
        true_set: the true videos of the published FVD; None: the references.
        accuracy: `train.syncnet.syncnet_accuracy`, for the metric of that name.
        details: measure the source videos too, and take pictures of the worst moments.
        finished: where the rows of a suite are kept. With it a video that cannot be read is a row without figures.
    """
    settings = settings or EvaluateSettings()
    tools, published = Tools(settings), settings.protocol == "published"
    pooled: dict[str, Sums] = {} if finished is None else finished.sums
    for pair in pairs if finished is None else ():
        with OpenPair(pair, tools, progress):
            pass  # what is wrong with one of the files is said before any work
    report = Report(list(metrics), settings.region, settings.protocol)
    if "syncnet_accuracy" in metrics:
        found = accuracy(*tools.stable_syncnet, settings.clips, settings.samples, progress)
        report.pooled["syncnet_accuracy"] = found
        of = f"{settings.syncnet or settings.checkpoints}, over {settings.samples} samples of {settings.clips}"
        report.notes.append(f"SyncNet accuracy is of {of}")
    by_sets = ("syncnet_accuracy", "fvd") if published else ("syncnet_accuracy",)
    names = [name for name in metrics if name not in by_sets]
    for pair in pairs:
        video = finished and finished.take(pair)
        if video is None:
            video = evaluate_pair(pair, tools, names, pooled, progress, details, lenient=finished is not None)
            if finished is not None:
                finished.add(pair, video)
        report.videos.append(video)
    if published and "fvd" in metrics:
        sources = list(dict.fromkeys(pair.reference for pair in pairs if pair.reference))
        true = sources if true_set is None else true_set
        try:
            made = [pair.video for pair in pairs]
            report.pooled["fvd"] = fvd_of_sets(tools.i3d, made, true, tools.detector, progress)
        except CANNOT as error:
            report.missing_of_all["fvd"] = str(error)
    for name, sums in pooled.items():
        try:
            report.pooled[name] = POOLED[name](name, None, sums).compute()[name].value
        except ValueError as error:
            report.missing_of_all[name] = str(error)
    if "fid" in report.pooled and (count := pooled["fid"][0].count) < FID_FEATURES:
        few = f"FID is of {count} frames, fewer than the {FID_FEATURES} features"
        report.notes.append(f"{few}: compare it only with an FID of as many frames")
    if settings.random_weights and (random := [METRICS[name].title for name in RANDOM if name in metrics]):
        report.notes.append(f"random weights: the figures of {', '.join(random)} mean nothing")
    if any(METRICS[name].view == "sound" for name in metrics):
        report.note_codecs(settings.sync_codec)
    faces = f"; faces are found by {tools.found_by}, there by MediaPipe and S3FD" if tools.found_by else ""
    report.about_protocol = ABOUT_PUBLISHED.format(faces=faces) if published else ABOUT_OWN
    return report


def evaluate_pair(
    pair: Pair,
    tools: Tools,
    names: Sequence[str],
    pooled: dict[str, Sums],
    progress: Progress,
    details: bool = False,
    lenient: bool = False,
) -> VideoReport:
    """The metrics of one video; `pooled` holds what goes on from video to video."""
    try:
        with OpenPair(pair, tools, progress) as opened:
            report = measure(opened, names, pooled)
            if details:
                if opened.reference is not None:
                    alone = [name for name in names if not METRICS[name].reference]
                    report.source = measure(opened.source(), alone, pooled)
                report.moments = worst_moments(opened, report.values)
            return report
    except CANNOT as error:
        if not lenient:
            raise
        return VideoReport(names, pair.video, pair.reference, 0, 25.0, missing=dict.fromkeys(names, str(error)))


def measure(pair: OpenPair, names: Sequence[str], pooled: dict[str, Sums]) -> VideoReport:
    report = VideoReport(names, pair.paths.video, pair.paths.reference, pair.count, pair.fps)
    report.language, report.codecs = pair.paths.language, pair.codecs
    if pair.reference is not None:
        report.sound = pair.sound
        if len(pair.video) != len(pair.reference):
            had = f"{len(pair.video)} frames, its reference {len(pair.reference)}"
            report.notes.append(f"{pair.paths.video.name} has {had}: the first {pair.count} are compared")
    wanted: dict[View, dict[str, None]] = {}  # measurements by what they see, in order and once each
    for name in names:
        if METRICS[name].reference and pair.reference is None:
            report.missing[name] = "needs the true pictures: give --reference, the source video"
        else:
            wanted.setdefault(METRICS[name].view, {})[METRICS[name].measured_by] = None
    for view, measurements in wanted.items():
        if view == "sound":
            _evaluate_sync(pair, list(measurements), report)
        else:
            _evaluate_pictures(pair, view, list(measurements), report, pooled)
    return report


def _evaluate_sync(pair: OpenPair, measurements: Sequence[str], report: VideoReport) -> None:
    tools = pair.tools
    for name in measurements:
        pair.progress(f"judging lips and sound of {pair.paths.video.name}", 0, len(pair.video))
        try:
            net = getattr(tools, name)  # first, for what it lacks is said of all videos alike
            frames, wave = pair.judged
            if name == "stable_syncnet":
                syncnet, vae = net
                crops = pair.crops(frames, syncnet.side)
                found = stable_syncnet(syncnet, vae, crops, wave, pair.fps, pair.source_wave)
            elif tools.settings.protocol == "published":
                detector = tools.detector(pair.paths.video)
                how = detector, wave, pair.progress, pair.source_wave
                found = sync_of_video(net, frames, pair.fps, *how)
            else:
                found = syncnet_v2(net, frames, pair.boxes, wave, pair.fps, pair.source_wave)
            report.add(found)
        except CANNOT as error:
            report.fail(name, error)


def _evaluate_pictures(
    pair: OpenPair, view: View, measurements: Sequence[str], report: VideoReport, pooled: dict[str, Sums]
) -> None:
    """One pass over both videos, side by side, for all metrics of a view."""
    metrics = {}
    for name in measurements:
        try:
            metric = create_metric(name, pair, pooled)
            made, true, runs = pair.views(view)
            metrics[name] = metric
        except CANNOT as error:
            report.fail(name, error)
    if not metrics:
        return
    report.notes += [metric.note for metric in metrics.values() if getattr(metric, "note", None)]
    phase, done, total = f"measuring {pair.paths.video.name}", 0, sum(stop - start for start, stop in runs)
    for numbers in windows(made, runs):
        pair.progress(phase, done, total)
        pictures, truth = made[numbers], None if true is None else true[numbers]
        for name in list(metrics):
            try:
                metrics[name].update(numbers, pictures, truth)
            except ValueError as error:
                report.fail(name, error)
                del metrics[name]
        done += len(numbers)
    pair.progress(phase, done, total)
    for name in [name for name in metrics if name not in POOLED]:
        try:
            report.add(metrics[name].compute())
        except ValueError as error:
            report.fail(name, error)


def create_metric(name: str, pair: OpenPair, pooled: dict[str, Sums]) -> FrameMean | Identity | Lips | Frechet:
    """What measures the metrics whose `measured_by` is `name`."""
    tools = pair.tools
    match name:
        case "psnr":
            return psnr_metric()
        case "ssim":
            return FrameMean("ssim", ssim, SSIM_WINDOW)
        case "ms_ssim":
            return ms_ssim_metric()
        case "lpips":
            return lpips_metric(tools.lpips)
        case "flicker":
            return Flicker()
        case "seam":
            return FrameMean("seam", seam)
        case "quality":
            return quality_metric(tools.hyperiqa)
        case "identity":
            return Identity(pair.seen_faces, pair.track(CROP_SIDE), tools.arcface)
        case "lips":
            return Lips(pair.seen_faces, pair.track(CROP_SIDE), pair.fps, lambda: pair.wave)
        case _:
            features = tools.inception if name == "fid" else tools.i3d
            return POOLED[name](name, features, pooled.setdefault(name, (Gaussian(), Gaussian())))
