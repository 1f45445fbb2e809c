"""What a video's face does and whose it is: landmarks, likeness, and how far the mouth is open."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..face.align import AlignedFaces
from ..face.geometry import apply, crop_matrix
from ..face.landmarks import Face, points_from_box
from ..face.shots import colour_histogram
from ..face.track import FaceTrack
from ..frames import as_uint8, for_net
from ..models.state_dict import load_state_dict
from ..nets.loading import assign, check_state_dict
from .curves import deviation_in, pauses, slope
from .metrics import FrameMean, MetricValue
from .opening import mouth_profiles, opening_of

LIPS_106 = slice(52, 72)  # rows of InsightFace's `landmark_2d_106`: outer and inner lips
# A picture (h, w, 3) uint8 to its faces with 106 landmarks each, as `detect.insight.InsightFace.described` gives them.
DescribeFaces = Callable[[np.ndarray], list[tuple[Face, np.ndarray]]]
Embed = Callable[[Tensor], Tensor]  # aligned crops (n, 256, 256, 3) in [0, 1] to (n, d), rows of unit length
CROP_SIDE = 256  # pixels, of the crops that openings and embeddings are read off
# From a crop to what ArcFace was trained on, where eyes, nose and mouth lie at fixed places of 112 x 112 pixels: the
# eyes of a crop are at y 70 and the lips at 150, and it is a third wider than the face is.
TO_ARCFACE, ARCFACE_SIDE = np.array([[0.349, 0, 11.3], [0, 0.465, 20.9]]), 112
STILL = 0.2  # percent of the crop's side: a mouth whose opening has less deviation does not move


class SeenFaces:
    """The face that counts in the frames of a video and of its reference, as InsightFace describes it.

    `boxes` are those of the face, (n, 4) in frame pixels. Without `describe` nothing is seen, and `lacking` says why.
    Several metrics ask for the same frames: the answers for one window are kept.
    """

    def __init__(self, boxes: np.ndarray, describe: DescribeFaces | None, lacking: str = ""):
        self.boxes, self.describe, self.lacking = boxes, describe, lacking
        self._window: Sequence[int] = ()
        self._seen: dict[tuple[int, bool], tuple[Face, np.ndarray] | None] = {}

    def __call__(
        self, numbers: Sequence[int], pictures: Tensor, true: bool = False
    ) -> list[tuple[Face, np.ndarray] | None]:
        """Of each frame, the face whose middle is nearest to that of the box; None if it is half the box's diagonal
        away or more. `true` says that the pictures are the reference's."""
        if numbers != self._window:
            self._window, self._seen = numbers, {}
        for i, picture in zip(numbers, as_uint8(pictures).numpy(), strict=True):
            if (i, true) not in self._seen:
                box = self.boxes[i]
                found = self.describe(picture)
                away = [math.dist(_middle(face.box), _middle(box)) for face, _ in found]
                near = bool(found) and min(away) < math.dist(box[:2], box[2:]) / 2
                self._seen[i, true] = found[int(np.argmin(away))] if near else None
        return [self._seen[i, true] for i in numbers]


def _middle(box: Sequence[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


class Identity:
    """Distance of the lips' landmarks and likeness of the face, of whole frames. A metric as `FrameMean` is.

    "lmd" is the mean distance, in frame pixels, of the 20 points of the lips from the true ones, both sets about their
    own mean (Chen et al. 2018, arXiv 1803.09803). "identity", the CSIM of papers, is the cosine of what describes the
    two faces, 1 for the same picture: of their ArcFace embeddings (Deng et al. 2019, arXiv 1801.07698), by InsightFace
    or by `embed`, or where neither is there of the colours by which face tracks tell people apart.
    """

    def __init__(self, faces: SeenFaces, track: FaceTrack | None = None, embed: Embed | None = None):
        self.faces, self.track, self.embed = faces, track, embed
        self.lmd, self.identity = FrameMean("lmd"), FrameMean("identity")
        for metric in (self.lmd, self.identity):
            metric.too_little = "found no frame that shows the face in both videos: give clips that do"
        other = "facexlib's ArcFace embedding" if embed else "the colours of hair, face and clothes alone"
        self.note = f"CSIM is by {other if faces.describe is None else 'the ArcFace embedding of InsightFace'}"

    def update(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        if self.faces.describe is None:
            values = (self._embedded if self.embed else self._by_colours)(numbers, pictures, truth)
            self.identity.values.update(zip(numbers, values, strict=True))
            return
        for i, a, b in zip(numbers, self.faces(numbers, pictures), self.faces(numbers, truth, True), strict=True):
            self.lmd.values[i] = self.identity.values[i] = math.nan
            if a is not None and b is not None:
                self.lmd.values[i] = mouth_distance(a[1], b[1])
                if a[0].embedding is not None and b[0].embedding is not None:
                    self.identity.values[i] = float(np.dot(a[0].embedding, b[0].embedding))

    def _embedded(self, numbers: Sequence[int], *clips: Tensor) -> list[float]:
        where = self.track.matrices[numbers], self.track.found[numbers], self.track.resolution
        a, b = (self.embed(AlignedFaces(clip, *where)[range(len(numbers))]) for clip in clips)
        return torch.where(torch.from_numpy(where[1]), (a * b).sum(1), math.nan).tolist()

    def _by_colours(self, numbers: Sequence[int], *clips: Tensor) -> list[float]:
        boxes = [tuple(self.faces.boxes[i]) for i in numbers]
        faces = [Face(box, 1.0, points_from_box(box)) for box in boxes]
        a, b = (map(colour_histogram, as_uint8(clip).numpy(), faces) for clip in clips)
        return [float(one @ other) for one, other in zip(a, b, strict=True)]

    def compute(self) -> dict[str, MetricValue | str]:
        return (self.lmd.compute() if self.faces.describe else {"lmd": self.faces.lacking}) | self.identity.compute()


def load_arcface(path: Path, device: str | torch.device = "cpu") -> Embed:
    """facexlib's ArcFace (ResNet-50 with squeeze and excitation), of the file recognition_arcface_ir_se50.pth."""
    try:
        from facexlib.recognition.arcface_arch import Backbone
    except ImportError as error:
        raise InputError(f"the embedding of facexlib needs its package ({error}): pip install facexlib") from error
    with torch.device("meta"):
        net = Backbone(num_layers=50, drop_ratio=0.6, mode="ir_se")
    state = load_state_dict(path)
    check_state_dict(net.state_dict(), state, "ArcFace net")
    assign(net, state, torch.float32, device)
    net.eval()

    @torch.inference_mode()
    def embed(crops: Tensor) -> Tensor:
        size = (ARCFACE_SIDE, ARCFACE_SIDE)
        faces = np.stack([cv2.warpAffine(crop, TO_ARCFACE, size) for crop in crops.numpy()])
        return net(for_net(torch.from_numpy(faces)).contiguous().to(device)).cpu()

    return embed


def mouth_distance(landmarks: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of the lips' points, of two (106, 2), each about its own mean."""
    lips = [points[LIPS_106] - points[LIPS_106].mean(axis=0) for points in (landmarks, true)]
    return float(np.hypot(*(lips[0] - lips[1]).T).mean())


class Lips:
    """What the mouth's opening does, in percent of the aligned face's side. A metric as `FrameMean` is.

    "lip_dynamics" is its standard deviation over the video. "silent_lips" is the median distance from its mean in the
    pauses of the sound, of 0.3 s and more. Both are after THEval (Quignon et al. 2025, arXiv 2511.04520), which has
    the variance of all distances of the lips' landmarks, and the median of the inner lips' distance. "lip_leak" is the
    share of the reference's movement that is in the video, the slope of the one's opening over the other's: 1 for a
    copy, 0 for a mouth of its own. With silent or other sound it is what leaks from the source (Bigata et al. 2025,
    arXiv 2505.00497, count open mouths in silence; Yaman et al. 2025, arXiv 2511.08613, compare silent, mismatched and
    matched sound). "lip_match" is the same share, for the source's own sound: there it should be 1.

    The opening is the height of the lips' 20 landmarks, or without InsightFace the gap that pixels show.
    """

    def __init__(self, faces: SeenFaces, track: FaceTrack, fps: float, wave: Callable[[], Tensor]):
        self.faces, self.track, self.fps, self.wave = faces, track, fps, wave
        self._values: tuple[dict[int, float | Tensor], ...] = {}, {}  # of the video and of the reference, by frame
        by = "InsightFace's landmarks" if faces.describe else "the pixels between the lips"
        self.note = f"mouth openings are by {by}"

    def update(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor | None) -> None:
        track, side = self.track, self.track.resolution
        shown = [k for k, i in enumerate(numbers) if track.found[i]]
        for true, clip in enumerate((pictures, truth)):
            if clip is None or not shown:
                continue
            if self.faces.describe is None:
                faces = track.matrices[numbers], track.found[numbers], side
                found = mouth_profiles(AlignedFaces(clip, *faces)[shown])
                self._values[true].update((numbers[k], profile) for k, profile in zip(shown, found, strict=True))
            else:
                seen = self.faces(numbers, clip, bool(true))
                for k in shown:
                    if seen[k] is not None:
                        lips = apply(crop_matrix(track.matrices[numbers[k]], side), seen[k][1][LIPS_106])
                        self._values[true][numbers[k]] = float(np.ptp(lips[:, 1])) / side

    def _opening(self, values: dict[int, float | Tensor]) -> np.ndarray:
        """(n,) in percent of the face's side, nan where there is no face."""
        curve = np.full(len(self.track), np.nan)
        if values:
            found = list(values.values())
            heights = opening_of(torch.stack(found), self.track.resolution) if self.faces.describe is None else found
            curve[list(values)] = 100 * np.asarray(heights, np.float64)
        return curve

    def compute(self) -> dict[str, MetricValue | str]:
        made, true = (self._opening(values) for values in self._values)
        if np.isfinite(made).sum() < 2:
            raise InputError("the lips are in fewer than 2 frames: give a clip that shows the face")
        values: dict[str, MetricValue | str] = {"lip_dynamics": MetricValue(float(np.nanstd(made)), made)}
        try:
            away = deviation_in(made, pauses(self.wave(), len(made), self.fps))
            values["silent_lips"] = MetricValue(float(np.nanmedian(away)), away)
        except InputError as error:
            values["silent_lips"] = str(error)
        both = np.isfinite(made) & np.isfinite(true)
        share: MetricValue | str = "the source's mouth does not move: nothing of it can show"
        if both.sum() > 1 and true[both].std() >= STILL:
            share = MetricValue(slope(made[both], true[both]))
        return values | {"lip_leak": share, "lip_match": share}
