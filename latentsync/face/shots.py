"""One pass over a clip: which faces are where, and where a new shot begins."""

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import replace
from statistics import median

import cv2
import numpy as np

from ..errors import InputError
from ..frames import Frames, as_uint8, batches
from .landmarks import LOOSE_LIMITS, Detection, Detector, Face, FaceLimits, plausible

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
        small = cv2.resize(frame, THUMBNAIL, interpolation=cv2.INTER_AREA)
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


def detect_faces(
    frames: Frames,
    detector: Detector,
    every: int = 1,
    window: int = 8,
    cuts: Collection[int] | None = None,
    describe: bool = False,
    limits: FaceLimits | None = LOOSE_LIMITS,
) -> Iterator[Detection]:
    """One `Detection` per frame of the clip, in order; `window` frames are held at a time.

    Args:
        every: look for faces in every so many frames; the first and the last frame of the clip and the first one of
            each shot are always looked at.
        cuts: frames that start a new shot, where they are known; None finds them in the pictures.
        describe: give each face its colour histogram, to follow one person across cuts.
        limits: what counts as a face; None takes all, as for faces that a person marked.
    """
    if every < 1 or window < 1:
        raise InputError(f"every is {every} and window is {window}: both must be 1 or more")
    is_cut = CutDetector()
    for indices in batches(len(frames), window):
        for index, picture in zip(indices, as_uint8(frames[indices]).cpu().numpy(), strict=True):
            cut = is_cut(picture) if cuts is None else index in cuts
            faces = None
            if cut or index % every == 0 or index == len(frames) - 1:
                faces = [face for face in detector(picture, index) if limits is None or plausible(face, limits)]
                if describe:
                    faces = [replace(face, appearance=colour_histogram(picture, face)) for face in faces]
            yield Detection(faces, cut)
