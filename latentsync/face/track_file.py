"""Face positions in a JSON file that a person can edit, and the detector that reads it.

    {"format": "latentsync-track", "version": 1, "fps": 25.0, "width": 1920, "height": 1080, "frames": 250,
     "cuts": [120], "interpolate": false,
     "faces": [{"frame": 0, "box": [x1, y1, x2, y2], "points": [[x, y], [x, y], [x, y]], "score": 0.93}, ...]}

Coordinates are pixels of a picture of `width` x `height`, pixel centres at integers. `points` are left brow, right
brow and nose, or five (eyes, nose tip, mouth corners) or InsightFace's 106; `box` or `points` may be missing, and
so may `score`. `yaw`, the degrees by which the face is turned to the right of the picture, is told by the points where
it is missing; `left_alone` says why a face is not synced, and only people read it. `cuts` (frames that start a new
shot) and `interpolate` (fill the frames between the listed ones) are optional.
"""

import json
import logging
import math
import reprlib
from bisect import bisect, bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, InputError
from ..files import read_text, replacing
from ..limits import check_limit
from .landmarks import (
    Detection,
    Face,
    between,
    box_from_points,
    points_from_106,
    points_from_box,
    points_from_five,
    yaw_from_five,
)

logger = logging.getLogger(__name__)

FORMAT, VERSION = "latentsync-track", 1
FILE_KEYS = {"format", "version", "fps", "width", "height", "frames", "faces", "cuts", "interpolate"}
ENTRY_KEYS = {"frame", "box", "points", "score", "yaw", "left_alone"}
COORDINATE_LIMIT = 1e6  # pixels; anything beyond is a mistake
FPS_LIMITS = 1e-3, 1e4
CLOSEST_BROWS = 1e-3  # pixels
MOST_FACES = 1000  # of one frame
DECIMALS = 3  # of written coordinates
SAME_RATE = 1e-3  # relative difference of two frame rates that are taken as the same


@dataclass(eq=False)
class FaceFile:
    """The faces of a track file; a `Detector` that looks at the frame number and the size of the frame only.

    Attributes:
        fps, frames: frame rate and length of the video it was made for.
        width, height: size in pixels that the coordinates refer to.
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

    def __post_init__(self):
        self._listed = list(self.faces)

    def __call__(self, frame: np.ndarray, index: int) -> list[Face]:
        """Faces of frame number `index`, in the pixels of `frame` (h, w, 3); none where the file lists none."""
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
        factor = np.array([width / self.width, height / self.height])
        scaled = []
        for face in faces:
            box, points = ((np.reshape(v, (-1, 2)) + 0.5) * factor - 0.5 for v in (face.box, face.points))
            scaled.append(replace(face, box=tuple(box.ravel().tolist()), points=points))
        return scaled

    def at(self, fps: float) -> "FaceFile":
        """The same faces and cuts for the same video read at another frame rate."""
        return self if abs(fps - self.fps) < SAME_RATE * self.fps else replace(self, rate=fps)

    @property
    def starts(self) -> list[int] | None:
        """Frames, at `rate`, that start a new shot; None where the file does not say."""
        if self.cuts is None or self.rate is None:
            return self.cuts
        shown = range(math.ceil(self.frames * self.rate / self.fps))
        firsts = {bisect_left(shown, cut, key=self.number) for cut in self.cuts}
        return sorted(firsts - {0, len(shown)})

    def number(self, index: int) -> int:
        """The file's frame that is on screen in the middle of frame `index` at `rate`, as `VideoReader` shows it."""
        return max(0, math.ceil((index + 0.5) * self.fps / self.rate) - 1) if self.rate else index

    def _tell_once(self, what: str, message: str) -> None:
        if what not in self._told:
            self._told.add(what)
            logger.info(message)

    def _between(self, index: int) -> Face:
        """The face of an unlisted frame: on the line between its neighbours in the same shot, or the nearest."""
        listed, cuts = self._listed, self.cuts or []
        place = bisect(listed, index)
        before, after = listed[max(place - 1, 0)], listed[min(place, len(listed) - 1)]
        cut_before, cut_after = (bisect(cuts, a) < bisect(cuts, b) for a, b in ((before, index), (index, after)))
        if before == after or cut_after:
            return self.faces[before][0]
        if cut_before:
            return self.faces[after][0]
        return between(self.faces[before][0], self.faces[after][0], (index - before) / (after - before))


def write_track_file(
    path: str | Path,
    detections: Iterable[Detection],
    width: int,
    height: int,
    fps: float,
    interpolate: bool = False,
    reasons: Sequence[str] = (),
) -> None:
    """Write one `Detection` per frame of a video of `width` x `height` pixels as a track file.

    Args:
        detections: frames without faces, or not looked at, get no entry.
        interpolate: tell readers to fill the gaps; for clips with one face at most in each frame.
        reasons: why the faces of a frame are left alone, for those where they are.
    """
    entries, cuts, count = [], [], 0
    for index, detection in enumerate(detections):
        count = index + 1
        if interpolate and len(detection.faces or ()) > 1:
            raise InputError(f"frame {index} has {len(detection.faces)} faces: interpolation needs one at most")
        for face in detection.faces or ():
            numbers = {"box": face.box, "points": face.points, "score": face.score}
            numbers |= {} if face.turned is None else {"yaw": face.turned}
            entry = {"frame": index} | {k: np.round(np.float64(v), DECIMALS).tolist() for k, v in numbers.items()}
            entries.append(entry | ({"left_alone": reasons[index]} if index < len(reasons) and reasons[index] else {}))
        cuts += [index] * detection.cut
    header = {"format": FORMAT, "version": VERSION, "fps": float(fps), "width": width, "height": height}
    header |= {"frames": count, "cuts": cuts, "interpolate": interpolate}
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in header.items()]
    faces = ",\n".join("  " + json.dumps(entry, allow_nan=False) for entry in entries)
    text = "{\n" + ",\n".join(lines) + ',\n"faces": [\n' + faces + "\n]}\n"  # one line per face: easy to edit
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def read_track_file(path: str | Path) -> FaceFile:
    """Read a track file; an error names the file, the entry, the value and what is expected."""
    path = Path(path)
    if not path.is_file():
        raise FileError(f"{path}: no such track file; check the path, or write one with the track command")
    check_limit("track_bytes", path.stat().st_size, f"{path}")
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is not a JSON text file ({error}); expected a {FORMAT} file") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f'{path}: is no track file; expected a JSON object with "format": "{FORMAT}"')
    if content.get("version") != VERSION:
        raise InputError(f"{path}: version is {_shown(content.get('version'))}; expected {VERSION}")
    _known_keys(content, FILE_KEYS, f"{path}")
    frames = _whole(content.get("frames"), 0, None, f"{path}: frames")
    check_limit("frames", frames, f"{path}")
    fps = _number(content.get("fps"), *FPS_LIMITS, f"{path}: fps")
    check_limit("seconds", frames / fps, f"{path}")
    width, height = (_whole(content.get(name), 1, None, f"{path}: {name}") for name in ("width", "height"))
    check_limit("pixels", width * height, f"{path}")
    interpolate, cuts = _of(bool, content.get("interpolate", False), f"{path}: interpolate"), content.get("cuts")
    if cuts is not None:
        cuts = _of(list, cuts, f"{path}: cuts")
        cuts = sorted({_whole(cut, 0, frames - 1, f"{path}: cuts[{i}]") for i, cut in enumerate(cuts)})
    faces: dict[int, list[Face]] = {}
    for number, entry in enumerate(_of(list, content.get("faces"), f"{path}: faces")):
        where = f"{path}: faces[{number}]"
        _known_keys(_of(dict, entry, where), ENTRY_KEYS, where)
        index = _whole(entry.get("frame"), 0, frames - 1, f"{where}.frame")
        faces.setdefault(index, []).append(_read_face(entry, where))
        if len(faces[index]) > (most := 1 if interpolate else MOST_FACES):
            reason = ", as it asks to interpolate" if interpolate else ""
            raise InputError(f"{path}: frame {index} lists more faces than expected; give at most {most}{reason}")
    return FaceFile(path, fps, width, height, frames, dict(sorted(faces.items())), cuts, interpolate)


def _read_face(entry: dict[str, Any], where: str) -> Face:
    score = _number(entry.get("score", 1.0), 0.0, 1.0, f"{where}.score")
    box, points, yaw = (entry.get(name) for name in ("box", "points", "yaw"))
    yaw = None if yaw is None else _number(yaw, -90.0, 90.0, f"{where}.yaw")
    if box is None and points is None:
        raise InputError(f"{where} has neither box nor points; expected at least one of them")
    if points is not None:
        given = _of(list, points, f"{where}.points")
        if len(given) not in (3, 5, 106):
            raise InputError(f"{where}.points is {_shown(given)}; expected a list of 3, 5 or 106 points [x, y]")
        listed = np.array([_numbers(point, 2, f"{where}.points[{i}]") for i, point in enumerate(given)])
        points = {3: np.asarray, 5: points_from_five, 106: points_from_106}[len(given)](listed)
        if np.hypot(*(points[1] - points[0])) < CLOSEST_BROWS:
            raise InputError(f"{where}.points is {_shown(given)}; expected brows (or eyes) apart from each other")
        if len(given) == 5 and yaw is None:
            yaw = yaw_from_five(listed)
    if box is None:
        return Face(box_from_points(points), score, points, turned=yaw)
    x1, y1, x2, y2 = corners = tuple(_numbers(box, 4, f"{where}.box"))
    if x2 <= x1 or y2 <= y1:
        raise InputError(f"{where}.box is {_shown(box)}; expected [x1, y1, x2, y2] with x1 < x2 and y1 < y2")
    return Face(corners, score, points_from_box(corners) if points is None else points, turned=yaw)


def _known_keys(content: dict[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(content) - known)
    if unknown:
        raise InputError(f"{where} has an unknown key {_shown(unknown[0])}; expected {', '.join(sorted(known))}")


def _of(kind: type, value: Any, where: str) -> Any:
    if not isinstance(value, kind):
        names = {bool: "true or false", list: "a list", dict: "an object {...}"}
        raise InputError(f"{where} is {_shown(value)}; expected {names[kind]}")
    return value


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


_shown = reprlib.repr  # which cuts what is long or deep
