"""Face positions in a JSON file that a person can edit, and the detector that reads it.

    {"format": "latentsync-track", "version": 1, "fps": 25.0, "width": 1920, "height": 1080, "frames": 250,
     "cuts": [120], "interpolate": false,
     "faces": [{"frame": 0, "box": [x1, y1, x2, y2], "points": [[x, y], [x, y], [x, y]], "score": 0.93}, ...]}

Coordinates are pixels of a picture of `width` x `height`, pixel centres at integers. `points` are left brow, right
brow and nose, or five (eyes, nose tip, mouth corners) or InsightFace's 106; `box` or `points` may be missing, and
so may `score`. `cuts` (frames that start a new shot) and `interpolate` (fill the frames between the listed ones)
are optional.
"""

import json
import logging
import math
from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import replacing
from .landmarks import Detection, Face, between, box_from_points, points_from_106, points_from_box, points_from_five

logger = logging.getLogger(__name__)

FORMAT, VERSION = "latentsync-track", 1
FILE_KEYS = {"format", "version", "fps", "width", "height", "frames", "faces", "cuts", "interpolate"}
ENTRY_KEYS = {"frame", "box", "points", "score"}
COORDINATE_LIMIT = 1e6  # pixels; anything beyond is a mistake
DECIMALS = 3  # of written coordinates


@dataclass(eq=False)
class FaceFile:
    """The faces of a track file; a `Detector` that looks at the frame number and the size of the frame only.

    Attributes:
        path: where it was read from.
        fps: frames per second of the video it was made for.
        width, height: size in pixels that the coordinates refer to.
        frames: length of that video.
        faces: frame number -> faces, for the listed frames, in ascending order.
        cuts: frames that start a new shot, or None where the file does not say.
        interpolate: whether frames between the listed ones are filled in (one face per frame only). Before the
            first and after the last listed frame, and up to a cut, the nearest one is held.
        rate: frames per second of the sequence that is asked about, None for `fps`; see `at`.
    """

    path: Path
    fps: float
    width: int
    height: int
    frames: int
    faces: dict[int, list[Face]]
    cuts: list[int] | None = None
    interpolate: bool = False
    rate: float | None = None
    _told: set[str] = field(default_factory=set, repr=False)

    def __call__(self, frame: np.ndarray, index: int) -> list[Face]:
        """Faces of frame number `index`, in the pixels of `frame` (h, w, 3); none where the file lists none."""
        if self.rate is not None:
            index = self.number(index)
        if index >= self.frames:
            self._tell_once("length", f"{self.path}: covers {self.frames} frames, frame {index} has no face in it")
            return []
        faces = self.faces.get(index)
        if faces is None:
            faces = [self._between(index)] if self.interpolate and self.faces else []
        height, width = frame.shape[:2]
        if (width, height) == (self.width, self.height):
            return faces
        self._tell_once(
            "size", f"{self.path}: made for {self.width} x {self.height}, scaled to the video's {width} x {height}"
        )
        return [_scaled(face, width / self.width, height / self.height) for face in faces]

    def at(self, fps: float) -> "FaceFile":
        """The same faces and cuts for the same video read at another frame rate."""
        if abs(fps - self.fps) < 1e-3 * self.fps:
            return self
        return replace(self, rate=fps)

    @property
    def starts(self) -> list[int] | None:
        """Frames, at `rate`, that start a new shot; None where the file does not say."""
        if self.cuts is None or self.rate is None:
            return self.cuts
        shots = [bisect(self.cuts, self.number(i)) for i in range(math.ceil(self.frames * self.rate / self.fps))]
        return [i for i in range(1, len(shots)) if shots[i] != shots[i - 1]]

    def number(self, index: int) -> int:
        """The file's frame that is on screen in the middle of frame `index` at `rate`, as `VideoReader` shows it."""
        return max(0, math.ceil((index + 0.5) * self.fps / self.rate) - 1) if self.rate else index

    def _tell_once(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            logger.info(message)

    def _between(self, index: int) -> Face:
        """The face of an unlisted frame: on the line between its neighbours in the same shot, or the nearest."""
        listed, cuts = list(self.faces), self.cuts or []
        place, shot = bisect(listed, index), bisect(cuts, index)
        before = listed[place - 1] if place else None
        after = listed[place] if place < len(listed) else None
        if before is None or after is None:
            return self.faces[after if before is None else before][0]
        if shot and cuts[shot - 1] > before:  # a cut lies between `before` and this frame
            other_shot = shot < len(cuts) and cuts[shot] <= after
            return self.faces[before if other_shot else after][0]
        if shot < len(cuts) and cuts[shot] <= after:
            return self.faces[before][0]
        return between(self.faces[before][0], self.faces[after][0], (index - before) / (after - before))


def write_track_file(
    path: str | Path,
    detections: Iterable[Detection],
    width: int,
    height: int,
    fps: float,
    interpolate: bool = False,
) -> None:
    """Write one `Detection` per frame (as `detect_faces` yields them) as a track file.

    Args:
        path: the file; it appears only when it is complete.
        detections: frames without faces, or not looked at, get no entry.
        width, height: size of the frames in pixels.
        fps: frames per second of the video.
        interpolate: tell readers to fill the gaps; for clips with one face at most in each frame.

    Raises:
        ValueError: `interpolate` although a frame has several faces.
        OSError: the file cannot be written.
    """
    entries, cuts, count = [], [], 0
    for index, detection in enumerate(detections):
        count = index + 1
        if interpolate and len(detection.faces or ()) > 1:
            raise InputError(f"frame {index} has {len(detection.faces)} faces: interpolation needs one at most")
        entries += [_entry(index, face) for face in detection.faces or ()]
        cuts += [index] * detection.cut
    header = {
        "format": FORMAT,
        "version": VERSION,
        "fps": float(fps),
        "width": width,
        "height": height,
        "frames": count,
    }
    lines = [json.dumps(key) + ": " + json.dumps(value) for key, value in header.items()]
    lines += [f'"cuts": {json.dumps(cuts)}', f'"interpolate": {json.dumps(interpolate)}']
    faces = ",\n".join("  " + json.dumps(entry, allow_nan=False) for entry in entries)
    text = "{\n" + ",\n".join(lines) + ',\n"faces": [\n' + faces + "\n]}\n"  # one line per face: easy to edit
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def read_track_file(path: str | Path) -> FaceFile:
    """Read and check a track file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON or not such a file; names the file, the entry, the value and what is expected.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such track file; write one with write_track_file or by hand")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a JSON text file ({error}); expected a latentsync-track file") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'{path}: is no track file; expected a JSON object with "format": "{FORMAT}"')
    if content.get("version") != VERSION:
        raise InputError(f"{path}: version is {_shown(content.get('version'))}; expected {VERSION}")
    _known_keys(content, FILE_KEYS, f"{path}")
    frames = _whole(content.get("frames"), 0, None, f"{path}: frames")
    file = FaceFile(
        path=path,
        fps=_number(content.get("fps"), 1e-3, 1e4, f"{path}: fps"),
        width=_whole(content.get("width"), 1, None, f"{path}: width"),
        height=_whole(content.get("height"), 1, None, f"{path}: height"),
        frames=frames,
        faces=_read_faces(content.get("faces"), frames, path),
        cuts=_read_cuts(content, frames, path),
        interpolate=content.get("interpolate", False),
    )
    if not isinstance(file.interpolate, bool):
        raise InputError(f"{path}: interpolate is {_shown(file.interpolate)}; expected true or false")
    crowded = [i for i, faces in file.faces.items() if len(faces) > 1]
    if file.interpolate and crowded:
        raise InputError(f"{path}: frame {crowded[0]} lists several faces; with interpolate expected one per frame")
    return file


def _read_faces(entries: Any, frames: int, path: Path) -> dict[int, list[Face]]:
    if not isinstance(entries, list):
        raise InputError(f"{path}: faces is {_shown(entries)}; expected a list of entries")
    faces: dict[int, list[Face]] = {}
    for number, entry in enumerate(entries):
        where = f"{path}: faces[{number}]"
        if not isinstance(entry, dict):
            raise InputError(f"{where} is {_shown(entry)}; expected an object with frame and box or points")
        _known_keys(entry, ENTRY_KEYS, where)
        index = _whole(entry.get("frame"), 0, frames - 1, f"{where}.frame")
        faces.setdefault(index, []).append(_read_face(entry, where))
    return dict(sorted(faces.items()))


def _read_face(entry: dict[str, Any], where: str) -> Face:
    score = _number(entry.get("score", 1.0), 0.0, 1.0, f"{where}.score")
    if entry.get("box") is None and entry.get("points") is None:
        raise InputError(f"{where} has neither box nor points; expected one of them at least")
    points = None if entry.get("points") is None else _read_points(entry["points"], f"{where}.points")
    if entry.get("box") is None:
        return Face(box_from_points(points), score, points)
    x1, y1, x2, y2 = box = tuple(_numbers(entry["box"], 4, f"{where}.box"))
    if x2 <= x1 or y2 <= y1:
        raise InputError(f"{where}.box is {_shown(entry['box'])}; expected [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
    return Face(box, score, points_from_box(box) if points is None else points)


def _read_points(value: Any, where: str) -> np.ndarray:
    if not isinstance(value, list) or len(value) not in (3, 5, 106):
        raise InputError(f"{where} is {_shown(value)}; expected a list of 3, 5 or 106 points [x, y]")
    given = np.array([_numbers(point, 2, f"{where}[{i}]") for i, point in enumerate(value)])
    points = {3: np.asarray, 5: points_from_five, 106: points_from_106}[len(given)](given)
    if np.hypot(*(points[1] - points[0])) < 1e-3:
        raise InputError(f"{where} is {_shown(value)}; expected brows (or eyes) apart from each other")
    return points


def _read_cuts(content: dict[str, Any], frames: int, path: Path) -> list[int] | None:
    if content.get("cuts") is None:
        return None
    if not isinstance(content["cuts"], list):
        raise InputError(f"{path}: cuts is {_shown(content['cuts'])}; expected a list of frame numbers")
    return sorted({_whole(cut, 0, frames - 1, f"{path}: cuts[{i}]") for i, cut in enumerate(content["cuts"])})


def _known_keys(content: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(content) - known)
    if unknown:
        raise InputError(f"{where} has an unknown key {_shown(unknown[0])}; expected {', '.join(sorted(known))}")


def _whole(value: Any, low: int, high: int | None, where: str) -> int:
    if type(value) is not int or value < low or (high is not None and value > high):
        limit = f"{low} or more" if high is None else f"{low} to {high}"
        raise InputError(f"{where} is {_shown(value)}; expected a whole number, {limit}")
    return value


def _number(value: Any, low: float, high: float, where: str) -> float:
    if type(value) not in (int, float) or not low <= value <= high:  # NaN compares false
        raise InputError(f"{where} is {_shown(value)}; expected a number from {low:g} to {high:g}")
    return float(value)


def _numbers(value: Any, count: int, where: str) -> list[float]:
    if not isinstance(value, list) or len(value) != count:
        raise InputError(f"{where} is {_shown(value)}; expected {count} numbers")
    return [_number(v, -COORDINATE_LIMIT, COORDINATE_LIMIT, f"{where}[{i}]") for i, v in enumerate(value)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _entry(index: int, face: Face) -> dict[str, Any]:
    return {
        "frame": index,
        "box": [round(float(v), DECIMALS) for v in face.box],
        "points": np.round(np.asarray(face.points, dtype=np.float64), DECIMALS).tolist(),
        "score": round(float(face.score), DECIMALS),
    }


def _scaled(face: Face, x: float, y: float) -> Face:
    """The face in a picture x and y times as wide and high; pixel centres stay at integers."""
    factor = np.array([x, y])
    box = (np.reshape(face.box, (2, 2)) + 0.5) * factor - 0.5
    return replace(face, box=tuple(box.ravel().tolist()), points=(face.points + 0.5) * factor - 0.5)
