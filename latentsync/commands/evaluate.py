"""The command evaluate. What it needs is imported when it runs, so that --help answers at once."""

import argparse
from pathlib import Path

from ..errors import FileError, InputError
from ..pipelines.options import DetectorOptions
from ..settings import TrackSettings, add_options

EXIT_INCOMPLETE = 1


def add_evaluate(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "evaluate",
        help="measure how good results are",
        description="Measure videos against the true pictures and against their own sound. The exit code is 0 when all "
        "figures are there, 1 when some are missing (the report says why), 2 for bad input.",
    )
    parser.set_defaults(command=evaluate, less_memory="a smaller --region or --resolution")
    add = parser.add_argument_group("files").add_argument
    add("--video_path", help="the video, or a folder of videos; not needed for syncnet_accuracy alone")
    add("--reference", help="the true pictures: the source video, or a folder of videos of the same names")
    add("--json", metavar="FILE", help="file to write all figures to")
    add("--plot", action="store_true", help="draw NAME.metrics.png for each video, beside the JSON file or the video")
    add("--checkpoints", default="checkpoints", help="folder of the weights; embedded judges by the small SyncNet")
    add = parser.add_argument_group("metrics").add_argument
    add(
        "--metric",
        nargs="+",
        required=True,
        help="psnr, ssim, ms_ssim, lpips, fid, fvd, flicker, seam, lmd, identity, sync (sync_c, sync_d, sync_offset), "
        "stable (stable_sync, stable_offset), all of these, or syncnet_accuracy (how well a StableSyncNet can tell)",
    )
    add(
        "--protocol",
        choices=("own", "published"),
        default="own",
        help="published: FVD and sync as the published program's eval scripts have them; not comparable with own",
    )
    add("--syncnet", metavar="FILE", help="the StableSyncNet to judge by, or to judge (default: that of --checkpoints)")
    add("--clips", metavar="DIR", help="aligned clips that syncnet_accuracy draws samples from (see prepare)")
    add("--samples", type=int, default=2048, help="how many samples")
    add("--region", choices=("frame", "face", "mouth"), default="frame", help="the pictures that are compared")
    add("--resolution", type=int, default=256, help="side of the aligned faces, for every region but frame")
    add("--device", help="cuda, cuda:1, mps or cpu (default: the best there is)")
    add("--random_weights", action="store_true", help="try LPIPS, FID and FVD out without files: figures mean nothing")
    face = parser.add_argument_group("face")
    add_options(face, DetectorOptions, "detector")
    face.add_argument(
        "--detector_model", help="the detector's model file; for file, the track file or the folder of NAME.json"
    )
    add_options(face, TrackSettings, "which")
    return parser


def evaluate(arguments: argparse.Namespace) -> int:
    """Run the command; see `run.evaluate`."""
    from ..evaluate.metrics import METRICS, chosen_metrics
    from ..evaluate.report import write_chart
    from ..evaluate.run import evaluate, find_pairs
    from ..evaluate.tools import EvaluateSettings
    from ..models.embedded import EMBEDDED, embedded_folder
    from ..pipelines.options import named_device
    from ..progress import Bar
    from ..train.syncnet import syncnet_accuracy

    embedded, model = arguments.checkpoints == EMBEDDED.name, arguments.detector_model
    metrics = chosen_metrics(arguments.metric)
    syncnet = arguments.syncnet or (embedded_folder() if embedded else None)
    settings = EvaluateSettings(
        region=arguments.region,
        resolution=arguments.resolution,
        detector=arguments.detector,
        detector_model=None if model is None else Path(model),
        face=arguments.face,
        checkpoints=Path("checkpoints" if embedded else arguments.checkpoints),
        syncnet=syncnet and Path(syncnet),
        device=str(named_device(arguments.device)) if arguments.device else None,
        random_weights=arguments.random_weights,
        protocol=arguments.protocol,
        clips=arguments.clips and Path(arguments.clips),
        samples=arguments.samples,
    )
    _check_inputs(arguments, metrics)
    reference, true_set = arguments.reference, None
    if settings.protocol == "published" and reference:
        true_set = [pair.video for pair in find_pairs(reference)]
        # Two sets, unless something but FVD goes frame by frame.
        reference = reference if any(METRICS[name].reference for name in metrics if name != "fvd") else None
    pairs = find_pairs(arguments.video_path, reference) if arguments.video_path else []
    if arguments.json:
        inputs = [path for pair in pairs for path in (pair.video, pair.reference) if path]
        _check_output(Path(arguments.json), inputs + (true_set or []))
    with Bar() as bar:
        report = evaluate(pairs, metrics, settings, bar, true_set, syncnet_accuracy)
    if arguments.json:
        report.write_json(Path(arguments.json))
    if arguments.plot:
        for clip in report.clips:
            folder = Path(arguments.json).parent if arguments.json else clip.video.parent
            write_chart(clip, folder / f"{clip.video.stem}.metrics.png")
    print(report.markdown())
    return 0 if report.is_complete else EXIT_INCOMPLETE


def _check_inputs(arguments: argparse.Namespace, metrics: list[str]) -> None:
    if arguments.video_path is None and metrics != ["syncnet_accuracy"]:
        raise InputError("there is no video to measure: give --video_path, a video or a folder")
    if arguments.clips is None and "syncnet_accuracy" in metrics:
        raise InputError("syncnet_accuracy needs --clips, a folder of aligned clips such as `prepare` makes")
    if arguments.syncnet is not None and not Path(arguments.syncnet).exists():
        raise FileError(f"there is no SyncNet {arguments.syncnet}: check the path")


def _check_output(path: Path, inputs: list[Path]) -> None:
    """Refuse, before any work, a file that cannot be written and one that would replace a video."""
    from ..files import refuse_inputs

    refuse_inputs(path, inputs)
    if not path.absolute().parent.is_dir():
        raise FileError(f"there is no folder {path.parent} for {path.name}: make it, or choose another place")
