"""A video's face track, written to a file to look at and to correct."""

import os
from dataclasses import replace
from pathlib import Path

from ..face.landmarks import Detection, Detector
from ..face.track import choose_faces, left_alone, place_faces
from ..face.track_file import FaceFile, write_track_file
from ..face.track_sheet import check_outputs, filled, report, strip, write_png
from ..media import VideoReader
from ..models.load import check_resolution
from ..progress import Progress, no_progress
from ..settings import TrackSettings
from .lip_sync import watch


def write_track(
    video: str | os.PathLike,
    track_path: str | os.PathLike,
    detector: Detector,
    settings: TrackSettings | None = None,
    *,
    strip_path: str | os.PathLike | None = None,
    resolution: int = 256,
    fps: float | None = None,
    detect_every: int = 1,
    progress: Progress | None = None,
) -> str:
    """Track a face through `video`, write the track file and its picture strip, and return a line about it.

    The file holds the chosen face of each frame as it was detected; smoothing happens when it is used, with the
    detector "file". The line gives the crop's jitter in pixels with this and with the published smoothing.

    Args:
        strip_path: None puts it beside the track file, with the ending .png.
        resolution: side of the crops in the picture strip.
        fps, detect_every, progress: as in `run`.

    Raises:
        ValueError, OSError: bad input, in one sentence.
    """
    settings = settings or TrackSettings()
    check_resolution(resolution)
    track_path = Path(track_path)
    strip_path = track_path.with_suffix(".png") if strip_path is None else Path(strip_path)
    check_outputs(track_path, strip_path, [video, *([detector.path] if isinstance(detector, FaceFile) else [])])
    progress = progress or no_progress
    with VideoReader(video, fps=fps, progress=progress) as reader:
        rate = float(reader.fps)
        chosen = choose_faces(watch(reader, rate, detector, settings, detect_every, progress), rate, settings)
        track = place_faces(chosen, resolution, rate, settings)
        published = place_faces(chosen, resolution, rate, replace(settings, published=True))
        faces = filled(chosen)
        reasons = left_alone(track, faces, settings)
        picture = strip(reader, track, faces, reasons)
        kept = [Detection([face] if face else [], cut) for face, cut in zip(faces, chosen.cuts.tolist(), strict=True)]
        write_track_file(track_path, kept, reader.width, reader.height, rate, reasons=reasons)
    write_png(strip_path, picture)
    text, jitter = report(track, reasons), published.jitter()
    return f"{track_path}: {text}, {jitter:.2f} px with the published smoothing; see {strip_path}"
