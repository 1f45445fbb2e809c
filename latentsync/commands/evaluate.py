"""The command evaluate. What it needs is imported when it runs, so that --help answers at once."""

import argparse
from contextlib import ExitStack
from pathlib import Path

from ..errors import FileError, InputError
from ..evaluate.settings import EvaluateSettings
from ..settings import TrackSettings, add_options, from_arguments

EXIT_INCOMPLETE = 1


def add_evaluate(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "evaluate",
        help="measure how good results are",
        description="Measure videos against the true pictures and against their own sound. The exit code is 0 when all "
        "figures are there, 1 when some are missing (the report says why), 2 for bad input.",
    )
    parser.set_defaults(command=evaluate, less_memory="a smaller --region or --resolution")
    files = parser.add_argument_group("files")
    add = files.add_argument
    add("--video_path", help="the video, or a folder of videos; not needed for syncnet_accuracy alone")
    add("--reference", help="the true pictures: the source video, or a folder of videos of the same names")
    suite = "a whole set: what batch wrote, or a folder with suite.csv (video,reference,language) or with the folders "
    add("--suite", type=Path, metavar="FOLDER", help=suite + "results and sources; run it again to go on")
    add("--json", type=Path, metavar="FILE", help="file to write all figures to")
    add("--html", type=Path, metavar="FILE", help="page to write: figures, of the sources too, curves, worst moments")
    add("--plot", action="store_true", help="draw NAME.metrics.png for each video, beside the JSON file or the video")
    add_options(files, EvaluateSettings, "checkpoints")
    metrics = parser.add_argument_group("metrics")
    metrics.add_argument(
        "--metric",
        nargs="+",
        help="psnr, ssim, ms_ssim, lpips, fid, fvd, flicker, seam, quality, lmd, identity, lips (lip_dynamics, "
        "silent_lips, lip_leak), sync (sync_c, sync_d, sync_offset), stable (stable_sync, stable_offset), leak "
        "(lip_leak, leak_c, stable_leak), all of these, paper (fid, ssim, sync_c, sync_d, lmd, fvd; the default of "
        "--suite), or syncnet_accuracy (how well a StableSyncNet can tell)",
    )
    add_options(metrics, EvaluateSettings, "protocol", "sync_codec", "language", "syncnet", "clips", "samples")
    add_options(metrics, EvaluateSettings, "region", "resolution", "device", "random_weights")
    face = parser.add_argument_group("face")
    add_options(face, EvaluateSettings, "detector", "detector_model")
    add_options(face, TrackSettings, "which")
    return parser


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the command; see `evaluate.run.evaluate`."""
    from ..evaluate.metrics import GROUPS, METRICS, chosen_metrics
    from ..evaluate.pair import find_pairs
    from ..evaluate.run import evaluate
    from ..evaluate.suite import FinishedRows, find_suite
    from ..files import refuse_inputs
    from ..models.embedded import EMBEDDED, embedded_folder
    from ..pipelines.options import named_device
    from ..progress import Bar
    from ..train.syncnet import syncnet_accuracy

    suite, out, page = arguments.suite, arguments.json, arguments.html
    if suite and (arguments.video_path or arguments.reference):
        raise InputError("--suite names its videos itself: leave out --video_path and --reference")
    if not suite and not arguments.metric:
        raise InputError(f"no metric is given (--metric): choose from {', '.join([*METRICS, *GROUPS])}")
    metrics = chosen_metrics(arguments.metric) if arguments.metric else list(GROUPS["paper"])
    more = {"track": from_arguments(TrackSettings, arguments)}
    if str(arguments.checkpoints) == EMBEDDED.name:
        arguments.checkpoints = Path("checkpoints")  # of all but the SyncNet
        more["syncnet"] = embedded_folder()
    if arguments.device:
        more["device"] = str(named_device(arguments.device))
    settings = from_arguments(EvaluateSettings, arguments, **more)
    if not suite and arguments.video_path is None and metrics != ["syncnet_accuracy"]:
        raise InputError("there is no video to measure: give --video_path, a video or a folder")
    if settings.clips is None and "syncnet_accuracy" in metrics:
        raise InputError("syncnet_accuracy needs --clips, a folder of aligned clips such as `prepare` makes")
    if settings.syncnet is not None and not settings.syncnet.exists():
        raise FileError(f"there is no SyncNet {settings.syncnet}: check the path")
    reference, true_set, language = arguments.reference, None, settings.language or ""
    if settings.protocol == "published" and reference:
        true_set = [pair.video for pair in find_pairs(reference)]
        # Two sets, unless something but FVD goes frame by frame.
        reference = reference if any(METRICS[name].reference for name in metrics if name != "fvd") else None
    if suite:
        pairs = find_suite(suite, language)
    else:
        pairs = find_pairs(arguments.video_path, reference, language) if arguments.video_path else []
    inputs = [path for pair in pairs for path in (pair.video, pair.reference) if path] + (true_set or [])
    for path in filter(None, (out, page)):
        refuse_inputs(path, inputs)
        if not path.absolute().parent.is_dir():
            raise FileError(f"there is no folder {path.parent} for {path.name}: make it, or choose another place")
    details = bool(page or suite)
    with Bar("video" if suite else "frame") as bar, ExitStack() as opened:
        rows = opened.enter_context(FinishedRows(suite, pairs, metrics, settings, bar)) if suite else None
        report = evaluate(pairs, metrics, settings, rows or bar, true_set, syncnet_accuracy, details, rows)
    if out:
        report.write_json(out)
    if page:
        report.write_page(page, by_group=bool(suite))
    if arguments.plot:
        report.write_charts(out.parent if out else None)
    print(report.markdown(by_group=bool(suite)))
    return EXIT_INCOMPLETE if report.missing else 0
