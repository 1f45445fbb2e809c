"""The command prepare. What it needs is imported when it runs, so that --help answers at once."""

import argparse
import os
from pathlib import Path

from ..errors import InputError
from ..pipelines.options import DETECTORS


def add_prepare(commands) -> argparse.ArgumentParser:
    parser = commands.add_parser("prepare", help="make aligned clips to train on out of videos")
    parser.set_defaults(command=prepare, goes_on=True)
    add = parser.add_argument_group("files").add_argument
    add("--input_dir", help="folder of videos, or a text file with one path per line")
    add("--output_dir", required=True, help="folder to write to: clips, and a manifest with the fate of each item")
    add("--checkpoints", default="checkpoints", help="folder of the weights (see download)")
    add("--keep_work", action="store_true", help="keep the intermediate files, in work/")
    add = parser.add_argument_group("clips").add_argument
    add("--resolution", type=int, default=256, help="side of the aligned crops")
    add("--min_seconds", type=float, default=5.0, help="length of the shortest clip")
    add("--max_seconds", type=float, default=10.0, help="length of the longest clip")
    add("--skip", help="stages to leave out, separated by commas: cuts, sync, quality")
    add("--also", help="stages to add: face_size drops faces smaller than the resolution")
    add(
        "--cut_threshold",
        type=float,
        default=2.0,
        help="change that counts as a cut, relative to the usual",
    )
    add("--min_confidence", type=float, default=3.0, help="minimum confidence of SyncNet v2")
    add("--max_offset", type=int, default=6, help="maximum offset of the sound, in frames")
    add("--min_quality", type=float, default=40.0, help="minimum score of hyperIQA, 0 to 100")
    add("--detector", choices=DETECTORS, default="auto", help="what finds the face; file reads a track file per video")
    add("--detector_model", help="the detector's model file; for file, the folder of NAME.json for each NAME.mp4")
    add = parser.add_argument_group("work").add_argument
    add("--executor", choices=("local", "ray"), default="local", help="processes of this machine, or Ray")
    add("--workers", type=int, help="jobs at a time (default: one per core); 0 works in this process")
    add("--ray_address", help="address of a running Ray cluster (default: start one here)")
    add("--ray_gpus", type=float, default=0.0, help="GPUs for each job on Ray; a fraction shares one")
    add("--device", help="where the networks run: cuda, cuda:1, mps or cpu (default: the best available)")
    add = parser.add_argument_group("drawn clips instead of videos").add_argument
    add(
        "--synthetic",
        type=int,
        metavar="CLIPS",
        help="draw this many talking heads instead of reading --input_dir",
    )
    add("--seconds", type=float, default=4.0, help="length of each clip")
    add("--seed", type=int, default=0, help="seed of the first clip")
    add("--variety", type=float, default=0.0, help="how much the voices and sounds vary, 0 to 1")
    return parser


def prepare(arguments: argparse.Namespace) -> None:
    """Run the command; see `pipeline.prepare` and `drawn.heads.corpus.write_corpus`."""
    from ..progress import Bar

    if (arguments.input_dir is None) == (arguments.synthetic is None):
        raise InputError("give either --input_dir, a folder or list of videos, or --synthetic, a number of drawn clips")
    executor = chosen_executor(arguments)
    with Bar(unit="item") as bar:
        if arguments.synthetic is not None:
            from ..drawn.heads.corpus import CorpusSettings, write_corpus

            drawn = arguments.synthetic, arguments.seconds, arguments.seed, arguments.resolution
            folder, settings = Path(arguments.output_dir) / "clips", CorpusSettings(*drawn, variety=arguments.variety)
            clips = write_corpus(folder, settings, executor, bar)
            report = f"{len(clips)} drawn clips of {settings.resolution} pixels in {folder}"
        else:
            from ..prepare.pipeline import prepare
            from ..prepare.settings import PrepareSettings, Tools

            numbers = "resolution min_seconds max_seconds cut_threshold min_confidence max_offset min_quality".split()
            given = {name: getattr(arguments, name) for name in numbers}
            for name in ("skip", "also"):
                words = map(str.strip, (getattr(arguments, name) or "").split(","))
                given[name] = frozenset(word for word in words if word)
            model = arguments.detector_model and Path(arguments.detector_model)
            tools = Tools(arguments.detector, model, Path(arguments.checkpoints), arguments.device)
            report = prepare(
                arguments.input_dir,
                arguments.output_dir,
                PrepareSettings(**given),
                tools,
                executor=executor,
                keep_work=arguments.keep_work,
                progress=bar,
            )
    print(report)


def chosen_executor(arguments: argparse.Namespace):
    """The executor that the options executor, workers, ray_address and ray_gpus ask for."""
    from ..prepare.executor import InProcess, Local, Ray

    workers = (os.cpu_count() or 1) if arguments.workers is None else arguments.workers
    if workers < 0:
        raise InputError(f"workers is {workers}: give 0 or more")
    if arguments.executor == "ray":
        return Ray(arguments.ray_address, arguments.workers or None, arguments.ray_gpus)
    return Local(workers) if workers else InProcess()
