"""The demo itself: make a scene, lip-sync it as `run` does, measure the result against the truth, and draw both."""

import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from ...errors import InputError
from ...face.track_file import read_track_file
from ...face.track_sheet import write_png
from ...media import VideoReader
from ...models.load import LipSyncModel
from ...pipelines.lip_sync import lip_sync
from ...progress import Progress, no_progress
from ...settings import RunSettings, Settings
from ..heads.corpus import track_clip
from ..heads.speech import FPS
from .pictures import curves, strip
from .report import Report, measure
from .scene import make_scene, write_scene

SHORTEST, LONGEST = 1.0, 60.0  # seconds


def check_request(folder: str | os.PathLike, seed: int, seconds: float) -> None:
    """Refuse, before any work, what cannot be drawn or written."""
    folder = Path(folder)
    if not SHORTEST <= seconds <= LONGEST:
        raise InputError(f"seconds is {seconds}: give a length from {SHORTEST:g} to {LONGEST:g}")
    if seed < 0:
        raise InputError(f"seed is {seed}: give a whole number from 0 up")
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: give the name of a folder")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder.parent} does not exist: create it first, or choose another folder")


def show(
    folder: str | os.PathLike,
    model: LipSyncModel,
    seed: int,
    seconds: float = 4.0,
    settings: Settings | None = None,
    *,
    progress: Progress = no_progress,
) -> Report:
    """Make a drawn head say other words and write into `folder`: source.mp4, audio.wav, track.json, result.mp4,
    strip.png and curve.png. They appear together, when all are complete.

    `model` comes from `load_embedded`; another one would have to know drawn faces.
    """
    check_request(folder, seed, seconds)
    start, folder = time.monotonic(), Path(folder)
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", suffix=".part", dir=folder.parent) as name:
        work = Path(name)
        progress("drawing", 0, round(seconds * FPS))
        scene = make_scene(seed, seconds)
        video, audio, track_file = write_scene(scene, work)
        run = RunSettings(sync=settings or Settings())
        lip_sync(video, audio, work / "result.mp4", model, read_track_file(track_file), run, progress=progress)
        with VideoReader(work / "result.mp4") as reader:
            result = reader[range(len(reader))]
        track = track_clip(scene.source, model.resolution)
        report, measured = measure(scene, result, track)
        write_png(work / "strip.png", strip(scene, result, track))
        write_png(work / "curve.png", curves(scene, measured, report))
        folder.mkdir(exist_ok=True)
        for path in work.iterdir():
            os.replace(path, folder / path.name)
    return replace(report, folder=folder, seconds=time.monotonic() - start)
