"""Where the face is, written down: a track file to correct by hand, and a picture strip to look at."""

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from .checkpoint import check_resolution
from .crops import Aligned
from .faces import Chosen, FaceTrack, TrackSettings, choose_faces, place_faces
from .files import replacing
from .frames import Frames, as_uint8
from .geometry import corners
from .landmarks import Detection, Detector, Face, between
from .masks import keep_mask
from .media import VideoReader
from .run import Progress, refuse_inputs, watch
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
    check_resolution(resolution)
    track_path = Path(track_path)
    strip_path = track_path.with_suffix(".png") if strip_path is None else Path(strip_path)
    _check_outputs(track_path, strip_path, video)
    progress = progress or (lambda phase, done, total: None)
    with VideoReader(video, fps=fps) as reader:
        rate = float(reader.fps)
        chosen = choose_faces(watch(reader, rate, detector, settings, detect_every, progress), rate, settings)
        track = place_faces(chosen, resolution, rate, settings)
        published = place_faces(chosen, resolution, rate, replace(settings, published=True))
        faces = filled(chosen)
        picture = strip(reader, track, faces)
        kept = [Detection([face] if face else [], cut) for face, cut in zip(faces, chosen.cuts.tolist(), strict=True)]
        write_track_file(track_path, kept, reader.width, reader.height, rate)
    write_png(strip_path, picture)
    return (
        f"{track_path}: the face is in {int(track.found.sum())} of {len(track)} frames, {int(track.cuts.sum())} cuts; "
        f"crop jitter {track.jitter():.2f} px, {published.jitter():.2f} px with the published smoothing; "
        f"see {strip_path}"
    )


def _check_outputs(track_path: Path, strip_path: Path, video: str | os.PathLike) -> None:
    for path, ending in ((track_path, ".json"), (strip_path, ".png")):
        if path.suffix.lower() != ending:
            raise ValueError(f"cannot write {path}: its name must end in {ending}")
        if not path.parent.is_dir():
            raise FileNotFoundError(f"the output folder {path.parent} does not exist: create it or give another path")
        refuse_inputs(path, [video])


def filled(chosen: Chosen) -> list[Face | None]:
    """The chosen faces, with those of frames that were not looked at on the line between their neighbours."""
    faces = list(chosen.faces)
    places = [i for i, face in enumerate(faces) if face is not None]
    for a, b in zip(places[:-1], places[1:], strict=True):
        if not chosen.looked[a + 1 : b].any() and not chosen.cuts[a + 1 : b + 1].any():
            faces[a + 1 : b] = [between(faces[a], faces[b], (i - a) / (b - a)) for i in range(a + 1, b)]
    return faces


def strip(frames: Frames, track: FaceTrack, chosen: list[Face | None]) -> np.ndarray:
    """A picture (h, w, 3) uint8 of frames spread over the clip, face and crop drawn in, with their crops below."""
    shown = np.flatnonzero(track.found)
    numbers = [int(shown[k]) for k in np.unique(np.linspace(0, len(shown) - 1, SHOWN_FRAMES).round().astype(int))]
    crops = Aligned(frames, track.matrices, track.found, track.resolution)
    columns = []
    for i in numbers:
        frame = as_uint8(frames[[i]][0]).numpy()
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
    with replacing(path) as part:
        part.write_bytes(coded.tobytes())
