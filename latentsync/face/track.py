"""One face through a clip: which of the detected ones, where it is in frames without a detection, and how steady."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ..errors import InputError
from ..settings import TrackSettings, parse_face
from .geometry import canvas_size, corners, fit_similarity, from_pose, published_matrices, to_pose
from .landmarks import Detection, Face
from .smoothing import bridge, jumps, smooth

# Cosine above which two faces are the same person: by a recognition net (ArcFace's usual threshold), by appearance.
SAME_EMBEDDING, SAME_APPEARANCE = 0.3, 0.75
JUMP = 0.03  # of the face's height by which it moves from one frame to the next in an edit within a shot
REACH = 1.0  # a followed face moves by less than this many face sizes between two looks


@dataclass(frozen=True)
class FaceTrack:
    """Where one face is in each frame of a clip; see `geometry` for the conventions.

    Attributes:
        matrices: (n, 2, 3) float32, frame pixels to canvas pixels; zeros where the face is not found.
        weight: (n,) float32, how much of the synced face is shown: 0 without a face, below 1 while fading.
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
        """(n,) bool, the frames that show the face."""
        return self.weight > 0

    def take(self, index_map: Sequence[int]) -> "FaceTrack":
        """The track of a clip whose output frame i is frame `index_map[i]` of this one; jumps count as cuts."""
        index = np.asarray(index_map, int)
        cuts = np.zeros(len(index), bool)
        steps = np.diff(index)
        cuts[1:] = (np.abs(steps) > 1) | np.where(steps > 0, self.cuts[index[1:]], self.cuts[index[:-1]] & (steps < 0))
        parts = {name: getattr(self, name)[index] for name in ("matrices", "weight", "score")}
        return replace(self, **parts, cuts=cuts)

    def runs(self) -> list[tuple[int, int]]:
        """(start, stop) of every stretch of frames with the face and without a cut, in order."""
        return _runs(self.found, self.cuts)

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


class Chosen(NamedTuple):
    """The one face that is followed, frame by frame: None where it was not found, `looked` where it was looked for."""

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
    return place_faces(choose_faces(detections, fps, settings), resolution, fps, settings)


def place_faces(chosen: Chosen, resolution: int, fps: float, settings: TrackSettings) -> FaceTrack:
    """The track of faces that have been chosen; see `track_faces`."""
    faces, cuts = chosen.faces, chosen.cuts
    hits = np.array([face is not None for face in faces], bool)
    if not hits.any():
        raise InputError(
            f"no frame of the clip's {len(faces)} shows the face asked for ({settings.which}): try another detector or "
            "another face, or mark the face by hand in a track file and give that as detector"
        )
    found = _bridged(hits, chosen.looked & ~hits, cuts, max(1, round(settings.max_gap * fps)))
    if settings.published:  # a frame without the face keeps the matrix of the last one with it
        places = np.flatnonzero(hits)
        matrices = published_matrices(np.stack([faces[i].points for i in places]), resolution)
        matrices = matrices[np.clip(np.searchsorted(places, np.arange(len(faces)), side="right") - 1, 0, None)]
    else:
        matrices = _filtered(faces, found, cuts, resolution, settings.smoothing * fps)
    matrices[~found] = 0
    score = np.array([face.score if face else 0.0 for face in faces], np.float32)
    weight = _fade(found, cuts, round(settings.fade * fps))
    return FaceTrack(matrices.astype(np.float32), weight, score, cuts, resolution)


def _bridged(hits: np.ndarray, missed: np.ndarray, cuts: np.ndarray, max_gap: int) -> np.ndarray:
    """(n,) bool: frames that are a hit or lie in a gap within one shot of at most `max_gap` frames.

    A gap lasts from the first to the last frame in which the face was missed; frames that were not looked at before
    and after do not make it longer.
    """
    found = hits.copy()
    places = np.flatnonzero(hits)
    for a, b in zip(places[:-1], places[1:], strict=True):
        looks = np.flatnonzero(missed[a + 1 : b])
        gap = looks[-1] - looks[0] + 1 if looks.size else 0
        if gap <= max_gap and not cuts[a + 1 : b + 1].any():
            found[a:b] = True
    return found


def _filtered(
    chosen: Sequence[Face | None], found: np.ndarray, cuts: np.ndarray, resolution: int, sigma: float
) -> np.ndarray:
    """(n, 2, 3) matrices of the unrounded points, interpolated over gaps and smoothed within each shot."""
    matrices = np.zeros((len(chosen), 2, 3))
    for start, stop in _runs(found, cuts):
        places = np.array([i for i in range(start, stop) if chosen[i] is not None])
        poses = [to_pose(fit_similarity(chosen[i].points, resolution)[0], resolution) for i in places]
        path = bridge(places - start, np.stack(poses), stop - start)
        jump = JUMP * canvas_size(resolution)[0] / np.exp(np.median(path[:, 2]))
        ends = [0, *jumps(path[:, :2], jump), stop - start]
        for a, b in zip(ends[:-1], ends[1:], strict=True):
            path[a:b] = smooth(path[a:b], sigma)
        matrices[start:stop] = from_pose(path, resolution)
    return matrices


def _fade(found: np.ndarray, cuts: np.ndarray, length: int) -> np.ndarray:
    """(n,) float32 weights: 1 where found, ramps next to frames of the same shot without the face."""
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
    pick = _rule(settings.which)
    chosen, looked, cuts = [], [], []
    last: Face | None = None  # as it was seen last, in frame `seen`
    reference: Face | None = None  # as it was seen first
    seen = 0
    for i, detection in enumerate(detections):
        if detection.cut or i - seen - 1 > settings.max_gap * fps:
            last = None
        candidates = detection.faces or []
        face = None
        if settings.which == "similar" and reference is not None:
            face = _most_like(candidates, reference)
        elif last is None or settings.published:
            face = pick(candidates) if candidates else None
        else:
            face = follow(candidates, last)
        seen = i if face else seen
        last, reference = face or last, reference or face
        # Of a long clip's faces only the places are kept.
        chosen.append(face and replace(face, embedding=None, appearance=None))
        looked.append(detection.faces is not None)
        cuts.append(detection.cut)
    return Chosen(chosen, np.array(looked, bool), np.array(cuts, bool))


def _rule(which: str):
    """A function that picks one of several faces; it may return None."""
    name, place = parse_face(which)
    if name == "index":
        k = place[0]
        return lambda faces: sorted(faces, key=lambda f: f.box[0] + f.box[2])[k] if k < len(faces) else None
    if name == "nearest":
        return lambda faces: min(faces, key=lambda f: math.dist(_centre(f), place))
    return lambda faces: max(faces, key=_area)


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
