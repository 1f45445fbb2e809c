"""Where the face is, written down: a track file to correct by hand, and a picture strip to look at."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from .crops import Aligned
from .faces import FaceTrack, TrackSettings, choose_faces, track_faces
from .frames import Frames, as_uint8
from .geometry import corners
from .landmarks import Detection, Detector, Face
from .masks import keep_mask
from .media import VideoReader
from .run import Progress, watch
from .track_file import write_track_file

SHOWN_FRAMES = 6
PICTURE_HEIGHT = 480
BOX, POINTS, OUTLINE = (80, 200, 120), (255, 80, 80), (90, 160, 255)  # RGB


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
    track_path = Path(track_path)
    strip_path = track_path.with_suffix(".png") if strip_path is None else Path(strip_path)
    for path in (track_path, strip_path):
        if not path.parent.is_dir():
            raise FileNotFoundError(f"the output folder {path.parent} does not exist: create it or give another path")
    progress = progress or (lambda phase, done, total: None)
    with VideoReader(video, fps=fps) as reader:
        rate = float(reader.fps)
        detections = list(watch(reader, rate, detector, settings, detect_every, progress))
        track = track_faces(detections, resolution, rate, settings)
        chosen = between(choose_faces(detections, rate, settings), detections)
        picture = strip(reader, track, chosen)
        kept = [Detection([face] if face else [], d.cut) for face, d in zip(chosen, detections, strict=True)]
        write_track_file(track_path, kept, reader.width, reader.height, rate)
    write_png(strip_path, picture)
    published = track_faces(kept, resolution, rate, replace(settings, published=True))
    return (
        f"{track_path}: the face is in {int(track.found.sum())} of {len(track)} frames, {int(track.cuts.sum())} cuts; "
        f"crop jitter {track.jitter():.2f} px, {published.jitter():.2f} px with the published smoothing; "
        f"see {strip_path}"
    )


def between(chosen: Sequence[Face | None], detections: Sequence[Detection]) -> list[Face | None]:
    """`chosen` with the frames filled in that were not looked at, on the line between their neighbours."""
    filled = list(chosen)
    places = [i for i, face in enumerate(chosen) if face is not None]
    for a, b in zip(places[:-1], places[1:], strict=True):
        if any(d.faces is not None or d.cut for d in detections[a + 1 : b]) or detections[b].cut:
            continue
        for i in range(a + 1, b):
            t = (i - a) / (b - a)
            box = tuple((1 - t) * p + t * q for p, q in zip(chosen[a].box, chosen[b].box, strict=True))
            points = (1 - t) * chosen[a].points + t * chosen[b].points
            filled[i] = Face(box, min(chosen[a].score, chosen[b].score), points)
    return filled


def strip(frames: Frames, track: FaceTrack, chosen: list[Face | None]) -> np.ndarray:
    """A picture (h, w, 3) uint8 of frames spread over the clip, face and crop drawn in, with their crops below."""
    shown = np.flatnonzero(track.found)
    numbers = [int(shown[k]) for k in np.unique(np.linspace(0, len(shown) - 1, SHOWN_FRAMES).round().astype(int))]
    crops = Aligned(frames, track.matrices, track.found, track.resolution)
    columns = []
    for i in numbers:
        frame = as_uint8(frames[[i]][0]).numpy().copy()
        _draw(frame, chosen[i], corners(track.matrices[i], track.resolution), str(i))
        crop = crops[[i]][0].numpy() * (0.6 + 0.4 * keep_mask(track.resolution)[0, ..., None].numpy())
        column = cv2.resize(frame, (frame.shape[1] * PICTURE_HEIGHT // frame.shape[0], PICTURE_HEIGHT))
        side = column.shape[1]
        columns.append(np.vstack([column, cv2.resize((crop * 255).astype(np.uint8), (side, side))]))
    return np.hstack(columns)


def _draw(frame: np.ndarray, face: Face | None, outline: np.ndarray, label: str) -> None:
    """Draw the crop's outline, the detected box and its points, and the frame number, in place."""
    thickness = max(2, frame.shape[0] // 320)
    cv2.polylines(frame, [outline.round().astype(np.int32)], True, OUTLINE, thickness)
    if face is not None:
        x1, y1, x2, y2 = (round(v) for v in face.box)
        cv2.rectangle(frame, (x1, y1), (x2, y2), BOX, thickness)
        for x, y in face.points:
            cv2.circle(frame, (round(x), round(y)), 2 * thickness, POINTS, -1)
    size = frame.shape[0] / 600
    cv2.putText(frame, label, (10, int(36 * size)), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), thickness)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write (h, w, 3) uint8 RGB; OpenCV's own file writing fails on names outside ASCII on some systems."""
    coded = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(coded.tobytes())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
