"""One pass over a clip: which faces are where, and where a new shot begins."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, pairwise, zip_longest
from statistics import median
from typing import NamedTuple

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..frames import Frames, as_uint8, batches
from .landmarks import LOOSE_LIMITS, Detection, Detector, Face, FaceLimits, RegionDetector, between, plausible
from .track import follow

# The region compared, in face-box sizes beyond the box: hair above, hair and background beside, shoulders below.
ABOVE, BESIDE, BELOW = 0.6, 0.5, 1.0
SIZE = (48, 64)  # width and height at which colours are counted
BANDS = 4  # hair, eyes, mouth, clothes are counted apart
LIGHT_EDGES = np.linspace(0, 100, 7)  # CIELAB; coarse, for light changes more than colour
COLOUR_EDGES = np.linspace(-64, 64, 17)


def colour_histogram(frame: np.ndarray, face: Face) -> np.ndarray:
    """The colours of a face and its surroundings in `frame`, uint8 RGB (h, w, 3): a unit vector, none below 0.

    The product of two is the Bhattacharyya coefficient of their distributions: 1 for the same colours, 0 for none in
    common. Within one video it is usually over 0.85 for one person and under 0.65 for two.
    """
    height, width = frame.shape[:2]
    x1, y1, x2, y2 = face.box
    left, right = np.clip([int(x1 - BESIDE * face.width), int(x2 + BESIDE * face.width) + 1], 0, width)
    top, bottom = np.clip([int(y1 - ABOVE * face.height), int(y2 + BELOW * face.height) + 1], 0, height)
    patch = frame[top:bottom, left:right]
    if patch.size == 0:  # the box lies outside the frame
        patch = np.zeros((1, 1, 3), np.uint8)
    small = cv2.resize(patch, SIZE, interpolation=cv2.INTER_AREA)
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    counts = []
    for band in np.array_split(lab, BANDS):
        counted = np.histogramdd(band.reshape(-1, 3), bins=[LIGHT_EDGES, COLOUR_EDGES, COLOUR_EDGES])[0]
        # Blurred, so that a colour on the edge of a bin also counts in the next.
        blurred = cv2.GaussianBlur(counted.transpose(1, 2, 0).copy(), (3, 3), 0.8).ravel()
        counts.append(np.sqrt(blurred / max(blurred.sum(), 1e-9) / BANDS))
    return np.concatenate(counts).astype(np.float32)


THUMBNAIL = (64, 36)  # width and height at which pictures are compared: noise and small motion average out
ROWS_AVERAGED = 8  # to a pixel of it, at least, where the frame has so many
CUT_LEVELS = 8.0  # least mean difference of a cut, in 8-bit levels; a talking head stays below 2
CUT_RATIO = 4.0  # ... and how many times the usual difference it must be
CUT_MEMORY = 24  # frames over which the usual difference is taken: about a second
SAME_PATTERN = 0.85  # correlation of brightness above which only the light has changed
BLANK_LEVELS = 3.0  # a picture whose brightness varies less is black, white or grey: it shows no shot


class CutDetector:
    """Tells whether a picture starts a new shot; call it with the frames of one clip in order.

    A cut is a difference to the previous picture that is large in itself and against both the running median
    and the last difference, so that a pan or fast motion raises the bar. A flash, a change of exposure or a fade
    keeps the pattern of light and dark and is no cut; blank pictures are passed over.
    """

    def __init__(self):
        self._previous: np.ndarray | None = None
        self._recent: deque[float] = deque([0.0], maxlen=CUT_MEMORY)

    def __call__(self, frame: np.ndarray) -> bool:
        """`frame`: uint8 RGB (h, w, 3). The first frame of a clip is no cut."""
        rows = frame[:: max(1, len(frame) // (THUMBNAIL[1] * ROWS_AVERAGED))]
        small = cv2.resize(rows, THUMBNAIL, interpolation=cv2.INTER_AREA)
        now = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb).astype(np.float32)
        before = self._previous
        if now[..., 0].std() < BLANK_LEVELS:
            return False
        self._previous = now
        if before is None:
            return False
        difference = float(np.abs(now - before).mean())
        usual = max(median(self._recent), self._recent[-1])
        self._recent.append(difference)
        if difference <= max(CUT_LEVELS, CUT_RATIO * usual):
            return False
        return bool(np.corrcoef(now[..., 0].ravel(), before[..., 0].ravel())[0, 1] < SAME_PATTERN)


WHOLE_EVERY = 5  # frames after which the whole frame is searched again, even where no face gets lost
MOST_FOLLOWED = 4  # faces; where there are more, the whole of each frame is searched


class Look(NamedTuple):
    """A frame of the clip: its number, its picture (h, w, 3) or None where nobody looks, whether a shot begins."""

    index: int
    picture: np.ndarray | None
    cut: bool


class Search(NamedTuple):
    """What a search of the whole of frame `index` has found, or will."""

    index: int
    faces: Future[list[Face]]


def detect_faces(
    frames: Frames,
    detector: Detector,
    every: int = 1,
    window: int = 1,
    cuts: Collection[int] | None = None,
    describe: bool = False,
    limits: FaceLimits | None = LOOSE_LIMITS,
    whole: bool = False,
    threads: int | None = None,
) -> Iterator[Detection]:
    """One `Detection` per frame of the clip, in order.

    A `RegionDetector` searches the whole of a frame every `WHOLE_EVERY` frames, at both ends of a shot, and wherever
    the searches before and after a frame see different faces or one is not where it should be. In all other frames it
    looks between the two places only. It does so in threads, which what is found does not depend on, and is given the
    frames of three such stretches at most; `frames` are read in the calling thread alone.

    Args:
        every: look for faces in every so many frames; the first and the last frame of the clip and the first one of
            each shot are always looked at.
        window: frames that are read at a time.
        cuts: frames that start a new shot, where they are known; None finds them in the pictures.
        describe: give each face its colour histogram, to follow one person across cuts.
        limits: what counts as a face; None takes all, as for faces that a person marked.
        whole: search the whole of each frame, in the calling thread.
        threads: how many; None takes as many as torch does.
    """
    if every < 1 or window < 1:
        raise InputError(f"every is {every} and window is {window}: both must be 1 or more")

    def finished(picture: np.ndarray, faces: list[Face]) -> list[Face]:
        faces = [face for face in faces if limits is None or plausible(face, limits)]
        return [replace(face, appearance=colour_histogram(picture, face)) for face in faces] if describe else faces

    looks = _looks(frames, every, window, cuts)
    if whole or not isinstance(detector, RegionDetector):
        for index, picture, cut in looks:
            yield Detection(None if picture is None else finished(picture, detector(picture, index)), cut)
        return
    pool = ThreadPoolExecutor(threads or torch.get_num_threads(), "latentsync-faces")
    try:
        for cut, faces in _in_threads(pool, detector, looks, finished):
            yield Detection(faces and faces.result(), cut)
    finally:
        pool.shutdown(cancel_futures=True)


def _looks(frames: Frames, every: int, window: int, cuts: Collection[int] | None) -> Iterator[Look]:
    is_cut = CutDetector()
    for indices in batches(len(frames), window):
        for index, picture in zip(indices, as_uint8(frames[indices]).cpu().numpy(), strict=True):
            cut = is_cut(picture) if cuts is None else index in cuts
            wanted = cut or index % every == 0 or index == len(frames) - 1
            yield Look(index, picture if wanted else None, cut)


def _in_threads(
    pool: ThreadPoolExecutor,
    detector: RegionDetector,
    looks: Iterator[Look],
    finished: Callable[[np.ndarray, list[Face]], list[Face]],
) -> Iterator[tuple[bool, Future[list[Face]] | None]]:
    """Of each frame whether a shot begins and what will be found in it; None where nobody looks."""

    def begin(before: Search | None, stretch: list[Look], after: Search) -> list:
        def look_at(look: Look) -> list[Face]:
            return finished(look.picture, _found(detector, look, before, after))

        return [(look.cut, None if look.picture is None else pool.submit(look_at, look)) for look in stretch]

    before, pending, begun = None, None, deque()
    for stretch in _stretches(looks):
        last = next((look for look in reversed(stretch) if look.picture is not None), None)
        after = before if last is None else Search(last.index, pool.submit(detector.find, last.picture))
        # Begun only now, so that a search of the whole frame is ready when the frames before it need it. They wait for
        # nothing that was submitted later, so however few threads there are, one can always go on.
        if pending:
            begun.append(begin(*pending))
        before, pending = after, (before, stretch, after)
        if len(begun) > 1:
            yield from begun.popleft()
    if pending:
        begun.append(begin(*pending))
    yield from chain.from_iterable(begun)


def _stretches(looks: Iterator[Look]) -> Iterator[list[Look]]:
    """The frames in stretches whose last look is at the whole frame, as is the one at the first frame of a shot."""
    stretch, last = [], None
    for look, following in pairwise(chain(looks, [None])):
        stretch.append(look)
        ends = following is None or following.cut
        if ends or (look.picture is not None and (last is None or look.index - last >= WHOLE_EVERY)):
            yield stretch
            stretch, last = [], None if ends else look.index


def _found(detector: RegionDetector, look: Look, before: Search | None, after: Search) -> list[Face]:
    """The faces of a frame between two searches of whole frames, or of the latter one."""
    if look.index == after.index:
        found = after.faces.result()
    else:
        places = _places(before, after, look.index)
        faces = detector.measure(look.picture, places)
        if places and None not in faces and _partners(faces, places) == places:  # no two are the same one
            return faces
        found = detector.find(look.picture)
    closer = detector.measure(look.picture, found[:MOST_FOLLOWED])
    return [face or rough for face, rough in zip_longest(closer, found)]


def _places(before: Search, after: Search, index: int) -> list[Face]:
    """About where the faces of frame `index` are; none where others are seen before it than after it, or too many."""
    faces, later = before.faces.result(), after.faces.result()
    partners = _partners(faces, later)
    if partners is None or len(faces) > MOST_FOLLOWED:
        return []
    t = (index - before.index) / (after.index - before.index)
    return [between(a, b, t) for a, b in zip(faces, partners, strict=True)]


def _partners(faces: list[Face], others: list[Face]) -> list[Face] | None:
    """Which of `others` each of `faces` is; None unless each is one of them and each of them is one."""
    partners = [follow(others, face) for face in faces]
    return partners if len({*partners} - {None}) == len(faces) == len(others) else None
