"""One face through a clip: which of the detected ones, where it is in frames without a detection, and how steady."""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..settings import TrackSettings, parse_face
from .geometry import canvas_size, corners, fit_similarity, from_pose, published_matrix, to_pose
from .landmarks import Detection, Face
from .smoothing import bridge, jumps, reach, smooth

# Cosine above which two faces are the same person: by a recognition net (ArcFace's usual threshold), by appearance.
SAME_EMBEDDING, SAME_APPEARANCE = 0.3, 0.75
JUMP = 0.03  # of the face's height by which it moves from one frame to the next in an edit within a shot
REACH = 1.0  # a followed face moves by less than this many face sizes between two looks
CALM = 0.1  # seconds before and after a frame, in which most faces have to be turned or small for it to count
SAME_PLACE = 0.25  # of a face's size, within which two faces of a frame are the same one
STRETCH = 16  # frames that are smoothed at a time, with those around them
# Asked with a number of frames, at least the (start, stop) of the runs among them: one that goes on may be cut there.
Runs = Callable[[int], Sequence[tuple[int, int]]]
TRACK_FIELDS = ("matrices", "weight", "score", "cuts")


@dataclass(frozen=True)
class FaceTrack:
    """Where one face is in each frame of a clip; see `geometry` for the conventions.

    Attributes:
        matrices: (n, 2, 3) float32, frame pixels to canvas pixels; zeros where the face is not seen.
        weight: (n,) float32, how much of the synced face is shown: 0 without a face and where it is left alone, below
            1 while fading.
        score: (n,) float32, the detector's score; 0 where the place was interpolated.
        cuts: (n,) bool, True where a new shot begins.
        resolution: side of the crops in pixels.
    """

    matrices: np.ndarray
    weight: np.ndarray
    score: np.ndarray
    cuts: np.ndarray
    resolution: int

    def __len__(self) -> int:
        return len(self.matrices)

    @property
    def found(self) -> np.ndarray:
        """(n,) bool, the frames that show the synced face."""
        return self.weight > 0

    @property
    def seen(self) -> np.ndarray:
        """(n,) bool, the frames that show the face, be it synced or left alone."""
        return self.matrices.any((1, 2))

    def heights(self) -> np.ndarray:
        """(n,), of the face in frame pixels, from the forehead to the chin; infinite where it is not seen."""
        with np.errstate(divide="ignore"):
            return canvas_size(self.resolution)[0] / np.hypot(*self.matrices[:, :, 0].T)

    def take(self, index_map: Sequence[int]) -> "FaceTrack":
        """The track of a clip whose output frame i is frame `index_map[i]` of this one; jumps count as cuts."""
        index = np.asarray(index_map, int)
        cuts = np.zeros(len(index), bool)
        steps = np.diff(index)
        cuts[1:] = (np.abs(steps) > 1) | np.where(steps > 0, self.cuts[index[1:]], self.cuts[index[:-1]] & (steps < 0))
        parts = {name: getattr(self, name)[index] for name in ("matrices", "weight", "score")}
        return replace(self, **parts, cuts=cuts)

    def faded(self, shares: np.ndarray) -> "FaceTrack":
        """The track with so much (n,) of the synced face."""
        return replace(self, weight=self.weight * shares)

    def runs(self, stop: int | None = None) -> list[tuple[int, int]]:
        """(start, stop) of every stretch with the face and without a cut, in order, among the first `stop` frames."""
        return _runs(self.weight[:stop] > 0, self.cuts[:stop])

    def begins(self, number: int) -> bool:
        """Whether a run begins with this frame, which shows the face."""
        return number == 0 or bool(self.cuts[number]) or self.weight[number - 1] <= 0

    def jitter(self) -> float:
        """Unsteadiness in frame pixels: root mean square of the crop corners' second difference over time."""
        squares = []
        for start, stop in self.runs():
            path = np.stack([corners(m, self.resolution) for m in self.matrices[start:stop]])
            squares.append((np.diff(path, n=2, axis=0) ** 2).sum(-1).ravel())
        total = np.concatenate(squares) if squares else np.zeros(0)
        return float(np.sqrt(total.mean())) if total.size else 0.0


def _runs(found: np.ndarray, cuts: np.ndarray) -> list[tuple[int, int]]:
    before, after = np.append(False, found[:-1]), np.append(found[1:], False)
    starts = np.flatnonzero(found & (cuts | ~before))
    stops = np.flatnonzero(found & (np.append(cuts[1:], True) | ~after)) + 1
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


class Choice(NamedTuple):
    """The face that is followed, in one frame: None where it was not found, `looked` where it was looked for."""

    face: Face | None
    looked: bool
    cut: bool


class Chosen(NamedTuple):
    """The choices of a clip: one value of `Choice` for each frame."""

    faces: list[Face | None]
    looked: np.ndarray
    cuts: np.ndarray


def track_faces(
    detections: Iterable[Detection], resolution: int, fps: float, settings: TrackSettings | None = None
) -> FaceTrack:
    """Follow one face through the detections of a clip, one for each frame, as `detect_faces` yields them.

    A frame without the face does not stop anything: short gaps are bridged, in longer ones `found` is False.
    """
    settings = settings or TrackSettings()
    return joined(place_choices(choices(detections, fps, settings), resolution, fps, settings))


def place_faces(chosen: Chosen, resolution: int, fps: float, settings: TrackSettings) -> FaceTrack:
    """The track of faces that have been chosen; see `track_faces`."""
    return joined(place_choices(map(Choice, *chosen), resolution, fps, settings))


def joined(stretches: Iterable[FaceTrack]) -> FaceTrack:
    """Tracks of stretches of a clip, in order, as one."""
    stretches = list(stretches)
    parts = {name: np.concatenate([getattr(track, name) for track in stretches]) for name in TRACK_FIELDS}
    return replace(stretches[0], **parts)


def split(track: FaceTrack, count: int) -> list[FaceTrack]:
    """The tracks of one length that `joined` made one of."""
    parts = [np.split(getattr(track, name), count) for name in TRACK_FIELDS]
    return [replace(track, **dict(zip(TRACK_FIELDS, some, strict=True))) for some in zip(*parts, strict=True)]


def place_choices(
    choices: Iterable[Choice], resolution: int, fps: float, settings: TrackSettings, who: str | None = None
) -> Generator[FaceTrack, None, None]:
    """The track of the chosen faces in stretches of `STRETCH` frames, each as soon as nothing later can change it.

    That is when the filter and the fades have seen what follows, and every gap has ended or is too long. Nothing comes
    before the face is there for the first time: no frame is given of a clip that does not show it; the error then says
    `who` was asked for.
    """
    place = _Placement(resolution, fps, settings)
    size = max(STRETCH, place.around // 2)  # where much is smoothed, a frame is not smoothed too often
    for choice in choices:
        place.add(choice)
        while place.shown and place.settled >= place.done + size + place.around:
            yield place.take(size)
    if not place.shown:
        raise InputError(
            f"no frame of the clip's {place.count} shows the face asked for ({who or settings.which}): try another "
            "detector or another face, or mark the face by hand in a track file and give that as detector"
        )
    while place.done < place.count:
        yield place.take(size)


class _Placement:
    """Where the face lies in the frames that were added and not taken yet, with those `around` them.

    Attributes:
        count: frames that were added.
        done: frames that were taken.
        settled: frames of which it is known whether they show the face.
        shown: whether any does.
    """

    def __init__(self, resolution: int, fps: float, settings: TrackSettings):
        self.resolution, self.published = resolution, settings.published
        self.max_gap = max(1, round(settings.max_gap * fps))
        self.sigma, self.fade = settings.smoothing * fps, round(settings.fade * fps)
        self.max_yaw, self.min_face, self.calm = settings.max_yaw, settings.min_face, round(CALM * fps)
        self.around = self.fade if self.published else max(self.fade + self.calm, reach(self.sigma))
        self.count = self.done = self.settled = 0
        self.shown = False
        self._begin = 0  # the first frame of these lists; a pose is that of `geometry`, as published the matrix
        self._poses, self._scores, self._found, self._cuts, self._yaws = [], [], [], [], []
        self._last: int | None = None  # frame with the face, from which a gap may be bridged
        self._missed: int | None = None  # the first look in vain since
        self._pose = self._bias = self._yaw = None  # in the last frame with the face

    def add(self, choice: Choice) -> None:
        face, looked, cut = choice
        i = self.count
        self.count += 1
        for values, value in zip(self._lists(), (None, face.score if face else 0.0, False, cut, 0.0), strict=True):
            values.append(value)
        if cut:
            self._last = None
        if face is not None:
            self._put(i, face)
            self._last, self._missed, self.shown = i, None, True
        elif looked and self._last is not None:
            # Frames that were not looked at before and after do not make a gap longer.
            self._missed = i if self._missed is None else self._missed
            if i - self._missed + 1 > self.max_gap:
                self._last = None
        self.settled = self.count if self._last is None else self._last + 1

    def _put(self, i: int, face: Face) -> None:
        """The face in frame i, and in the gap before it."""
        before = self._pose
        if self.published:
            pose, self._bias = published_matrix(face.points, self.resolution, self._bias)
        else:
            pose = to_pose(fit_similarity(face.points, self.resolution)[0], self.resolution)
        gap = [] if self._last is None else [before] * (i - self._last - 1)  # as published
        if self._last is not None and not self.published:
            *gap, pose = bridge(before, pose, i - self._last)
        first = i - len(gap) - self._begin
        self._poses[first:] = [*gap, pose]
        self._found[first:] = [True] * (len(gap) + 1)
        self._yaws[first:] = np.linspace(self._yaw if gap else face.yaw, face.yaw, len(gap) + 2)[1:]
        self._pose, self._yaw = pose, face.yaw

    def take(self, count: int) -> FaceTrack:
        """The next `count` frames, or as many as there are."""
        stop = min(self.done + count, self.count)
        seen = slice(0, min(stop + self.around, self.count) - self._begin)
        poses, scores, found, cuts, yaws = (values[seen] for values in self._lists())
        found, cuts = np.array(found, bool), np.array(cuts, bool)
        matrices, synced = np.zeros((len(found), 2, 3), np.float32), found.copy()
        for run in (slice(*run) for run in _runs(found, cuts)):
            path = np.stack(poses[run])
            matrices[run] = path if self.published else self._smoothed(path)
            synced[run] = self.published or self._synced(path, np.abs(yaws[run]))
        parts = matrices, _fade(synced, cuts, self.fade), np.array(scores, np.float32), cuts
        taken = slice(self.done - self._begin, stop - self._begin)
        self.done = stop
        old = max(0, stop - self.around - self._begin)
        self._begin += old
        for values in self._lists():
            del values[:old]
        return FaceTrack(*(part[taken] for part in parts), self.resolution)

    def _smoothed(self, path: np.ndarray) -> np.ndarray:
        """Matrices of poses (n, 4) of one shot, smoothed between its edits."""
        jump = JUMP * canvas_size(self.resolution)[0] / np.exp(np.median(path[:, 2]))
        ends = [0, *jumps(path[:, :2], jump), len(path)]
        return from_pose(np.concatenate([smooth(path[a:b], self.sigma) for a, b in pairwise(ends)]), self.resolution)

    def _synced(self, path: np.ndarray, yaws: np.ndarray) -> np.ndarray:
        """Whether faces of one shot with these poses (n, 4) are large enough and look forward; in no hurry."""
        from scipy.ndimage import median_filter

        heights = canvas_size(self.resolution)[0] / np.exp(path[:, 2])
        yaws, heights = (median_filter(x, 2 * self.calm + 1, mode="nearest") for x in (yaws, heights))
        return (yaws <= self.max_yaw) & (heights >= self.min_face)

    def _lists(self) -> tuple[list, list, list, list, list]:
        return self._poses, self._scores, self._found, self._cuts, self._yaws


def left_alone(track: FaceTrack, faces: Sequence[Face | None], settings: TrackSettings) -> list[str]:
    """Why each frame that shows the face is left alone; empty where it is not. `faces` are those of the frames."""
    heights, reasons = track.heights(), [""] * len(track)
    for i in np.flatnonzero(track.seen & ~track.found):
        yaw = abs(faces[i].yaw) if faces[i] else settings.max_yaw
        turned = yaw * heights[i] >= settings.max_yaw * settings.min_face  # further beyond its bound than it is small
        reasons[i] = f"turned {yaw:.0f} degrees" if turned else f"{heights[i]:.0f} pixels high"
    return reasons


def _fade(found: np.ndarray, cuts: np.ndarray, length: int) -> np.ndarray:
    """(n,) float32 weights: 1 where found, ramps next to other frames of the same shot."""
    weight = found.astype(np.float32)
    ramp = (np.arange(length, dtype=np.float32) + 1) / (length + 1)
    for start, stop in _runs(found, cuts):
        size = min(length, stop - start)
        if start > 0 and not cuts[start] and not found[start - 1]:
            weight[start : start + size] = np.minimum(weight[start : start + size], ramp[:size])
        if stop < len(found) and not cuts[stop] and not found[stop]:
            weight[stop - size : stop] = np.minimum(weight[stop - size : stop], ramp[:size][::-1])
    return weight


def choose_faces(detections: Iterable[Detection], fps: float, settings: TrackSettings) -> Chosen:
    """The one face that is followed, picked out of the faces of each frame."""
    chosen = list(choices(detections, fps, settings))
    faces = [choice.face for choice in chosen]
    return Chosen(faces, *(np.array([c[k] for c in chosen], bool) for k in (1, 2)))


def choices(detections: Iterable[Detection], fps: float, settings: TrackSettings) -> Iterator[Choice]:
    """`choose_faces`, frame by frame: what is chosen does not depend on what follows."""
    return (chosen for (chosen,) in choices_apart(([seen] for seen in detections), [Follower(fps, settings)]))


def choices_apart(detections: Iterable[Sequence[Detection]], people: Sequence["Follower"]) -> Iterator[list[Choice]]:
    """`choices` of several people, each with a detection of every frame: no face is two people's.

    Those who were there in the frame before come first, then those who were asked for first.
    """
    for seen in detections:
        chosen: dict[int, Choice] = {}
        for person, detection in zip(people, seen, strict=True):
            person.forget(detection.cut)
        for k in sorted(range(len(people)), key=lambda k: people[k].last is None):
            taken = [(people[j].name, choice.face) for j, choice in chosen.items() if choice.face]
            chosen[k] = people[k].choose(seen[k], taken)
        yield [chosen[k] for k in range(len(people))]


class Follower:
    """Picks one person's face out of the faces of each frame.

    Args:
        like: the face that "similar" means; None is the first one found.
        name: for messages, where there are several people.

    Attributes:
        last: the face as it was seen last; None where it has to be picked anew.
    """

    def __init__(self, fps: float, settings: TrackSettings, like: Face | None = None, name: str = ""):
        self.settings, self.name = settings, name
        self.last: Face | None = None
        self._longest = settings.max_gap * fps
        self._pick, self._like, self._known = _rule(settings.which), like, False
        self._count = self._seen = 0  # frames, and the one it was seen in last

    def forget(self, cut: bool) -> None:
        """The last place of a face that a cut, or a long gap before the next frame, has left behind."""
        if cut or self._count - self._seen - 1 > self._longest:
            self.last = None

    def choose(self, detection: Detection, taken: Sequence[tuple[str, Face]]) -> Choice:
        """The face in the next frame, after `forget`; `taken` are the names and faces of other people there."""
        which, candidates = self.settings.which, detection.faces or []
        others = {id(face): name for face in candidates for name, other in taken if _same(face, other)}
        free = [face for face in candidates if id(face) not in others]
        if self._known and not which.startswith("index"):  # which counts everyone
            candidates = free
        face = None
        if which == "similar" and self._like is not None:
            face = _most_like(candidates, self._like)
        elif self.last is None or self.settings.published:
            face = self._pick(candidates) if candidates else None
        else:
            face = follow(free, self.last)
        if face is not None and id(face) in others:
            if not self._known:
                raise InputError(
                    f"{others[id(face)]} and {self.name} are the same person (in frame {self._count}): give each one a "
                    "face of their own"
                )
            face = None
        if face is not None:
            self.last, self._like, self._seen, self._known = face, self._like or face, self._count, True
            # Of a long clip's faces only the places are kept.
            face = replace(face, embedding=None, appearance=None)
        self._count += 1
        return Choice(face, detection.faces is not None, detection.cut)


def _same(face: Face, other: Face) -> bool:
    return math.dist(_centre(face), _centre(other)) < SAME_PLACE * math.sqrt(_area(face))


def _rule(which: str):
    """A function that picks one of several faces; it may return None."""
    name, place = parse_face(which)
    if name == "index":
        k = place[0]
        return lambda faces: sorted(faces, key=lambda f: f.box[0] + f.box[2])[k] if k < len(faces) else None
    if name == "nearest":
        return lambda faces: min(faces, key=lambda f: math.dist(_centre(f), place))
    return largest


def largest(faces: Sequence[Face]) -> Face:
    return max(faces, key=_area)


def follow(candidates: Sequence[Face], last: Face) -> Face | None:
    """The candidate that is `last` one look later: the nearest of about its size."""

    def distance(face: Face) -> float:
        shift = math.dist(_centre(face), _centre(last)) / math.sqrt(_area(last))
        return shift + abs(math.log(_area(face) / _area(last))) / 2

    best = min(candidates, key=distance, default=None)
    return best if best is not None and distance(best) < REACH else None


def _most_like(candidates: Sequence[Face], reference: Face) -> Face | None:
    """The candidate most like `reference`, by embedding or else by appearance, if it is the same person."""
    for name, same in (("embedding", SAME_EMBEDDING), ("appearance", SAME_APPEARANCE)):
        known = getattr(reference, name)
        if known is not None and all(getattr(face, name) is not None for face in candidates):
            others = [getattr(face, name) for face in candidates]
            scores = [np.dot(v, known) / max(np.linalg.norm(v) * np.linalg.norm(known), 1e-12) for v in others]
            return candidates[int(np.argmax(scores))] if scores and max(scores) >= same else None
    raise InputError("face is 'similar' and the faces are not described: scan with describe=True")


def _area(face: Face) -> float:
    x1, y1, x2, y2 = face.box
    return max((x2 - x1) * (y2 - y1), 1e-6)


def _centre(face: Face) -> tuple[float, float]:
    x1, y1, x2, y2 = face.box
    return (x1 + x2) / 2, (y1 + y2) / 2
