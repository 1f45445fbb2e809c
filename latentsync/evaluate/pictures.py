"""How near pictures are to the true ones: PSNR, SSIM, MS-SSIM and LPIPS, each of them per frame."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..face.landmarks import Face
from ..face.masks import face_mask
from ..frames import Frames, as_float, as_uint8
from .figures import flicker as flicker_of
from .metrics import Figure, FrameMean, measured, placed

MISSING_PACKAGE = "pip install torchmetrics torch-fidelity lpips"  # what the extra `evaluate` has
SSIM_LEAST = 11  # pixels: the side of the window
MS_SSIM_LEAST = 2**4 * SSIM_LEAST  # a window at the coarsest of its five scales
LPIPS_LEAST = 16  # VGG halves its pictures four times


class Psnr(FrameMean):
    """Peak signal-to-noise ratio: of the mean square error of the whole clip; the curve has each frame's own."""

    def __init__(self):
        super().__init__("psnr", _square_errors)

    def figures(self) -> dict[str, Figure]:
        figure = super().figures()["psnr"]
        return {"psnr": Figure(_decibels(figure.value), np.array([_decibels(error) for error in figure.curve]))}


def _square_errors(pictures: Tensor, truth: Tensor) -> Tensor:
    return (as_float(pictures) - as_float(truth)).square().mean(dim=(1, 2, 3), dtype=torch.float64)


def _decibels(error: float) -> float:
    return math.inf if error == 0 else -10 * math.log10(error)


class Ssim(FrameMean):
    """Structural similarity (Wang et al. 2004): window of 11 pixels, of each colour, mean over the pictures."""

    def __init__(self):
        super().__init__("ssim", _by_torchmetrics("structural_similarity_index_measure", SSIM_LEAST))


class MsSsim(FrameMean):
    """SSIM at five scales (Wang et al. 2003)."""

    def __init__(self):
        name = "multiscale_structural_similarity_index_measure"
        super().__init__("ms_ssim", _by_torchmetrics(name, MS_SSIM_LEAST))


def _by_torchmetrics(name: str, least: int) -> Callable[[Tensor, Tensor], Tensor]:
    try:
        from torchmetrics.functional import image
    except ImportError as error:
        raise ImportError(f"SSIM and MS-SSIM need the package torchmetrics: {MISSING_PACKAGE}") from error
    similarity = getattr(image, name)

    def measure(pictures: Tensor, truth: Tensor) -> Tensor:
        _check_side(pictures, least, "MS-SSIM" if least > SSIM_LEAST else "SSIM")
        a, b = (as_float(x).permute(0, 3, 1, 2) for x in (pictures, truth))
        found = similarity(a, b, data_range=1.0, reduction="none").reshape(-1)
        # In flat parts rounding costs a few millionths, even of equal pictures; float64 takes twelve times as long.
        return torch.where((a == b).flatten(1).all(1), 1.0, found)

    return measure


class Lpips(FrameMean):
    """Learned perceptual distance (Zhang et al. 2018, version 0.1, VGG 16); `net` is from `train.losses.load_lpips`."""

    def __init__(self, net: nn.Module):
        super().__init__("lpips", self._distances)
        self.net = net
        self.device = next(net.parameters()).device

    @torch.inference_mode()
    def _distances(self, pictures: Tensor, truth: Tensor) -> Tensor:
        _check_side(pictures, LPIPS_LEAST, "LPIPS")
        a, b = (as_float(x).permute(0, 3, 1, 2).to(self.device) * 2 - 1 for x in (pictures, truth))
        return self.net(a, b).flatten().cpu()


def _check_side(pictures: Tensor, least: int, what: str) -> None:
    height, width = pictures.shape[1:3]
    if min(height, width) < least:
        raise InputError(
            f"{what} needs pictures of at least {least} x {least} and got {width} x {height}: choose a larger region, "
            "or a larger resolution of the crops"
        )


def psnr(pictures: Frames, truth: Frames) -> float:
    """dB, inf for equal clips; pictures are `Frames` of (h, w, 3), and so below."""
    return measured(Psnr(), pictures, truth)["psnr"].value


def ssim(pictures: Frames, truth: Frames) -> float:
    """At most 1.

    Raises:
        ImportError: torchmetrics is not installed.
        ValueError: pictures under 11 pixels.
    """
    return measured(Ssim(), pictures, truth)["ssim"].value


def ms_ssim(pictures: Frames, truth: Frames) -> float:
    """At most 1.

    Raises:
        ImportError: torchmetrics is not installed.
        ValueError: pictures under 176 pixels.
    """
    return measured(MsSsim(), pictures, truth)["ms_ssim"].value


def lpips(net: nn.Module, pictures: Frames, truth: Frames) -> float:
    """0 for equal clips; `net` from `train.losses.load_lpips`.

    Raises:
        ValueError: pictures under 16 pixels.
    """
    return measured(Lpips(net), pictures, truth)["lpips"].value


MOUTH_106 = slice(52, 72)  # rows of InsightFace's `landmark_2d_106`: outer and inner lips
# The faces of a picture (h, w, 3) uint8 with their 106 landmarks, as `detect.insight.InsightFace.described` gives them.
Look = Callable[[np.ndarray], list[tuple[Face, np.ndarray]]]


class Identity:
    """Landmark distance of the mouth and likeness of the face, of whole frames. A `Meter`.

    "lmd" is the mean distance, in frame pixels, of the 20 points of the lips from the true ones, both sets about their
    own mean (Chen et al. 2018). "identity" is the cosine of the faces' embeddings, 1 for the same picture.

    Args:
        look: finds faces, with embeddings if they are to be had.
        boxes: (n, 4) of the face that counts, in frame pixels.
    """

    def __init__(self, look: Look, boxes: np.ndarray):
        self.look, self.boxes = look, boxes
        self.numbers: list[int] = []
        self.distances: list[float] = []
        self.cosines: list[float] = []

    def add(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        self.numbers += numbers
        for i, made, true in zip(numbers, as_uint8(pictures).numpy(), as_uint8(truth).numpy(), strict=True):
            seen = [self._face(picture, self.boxes[i]) for picture in (made, true)]
            found = None not in seen
            self.distances.append(mouth_distance(seen[0][1], seen[1][1]) if found else math.nan)
            self.cosines.append(_cosine(seen[0][0], seen[1][0]) if found else math.nan)

    def _face(self, picture: np.ndarray, box: np.ndarray) -> tuple[Face, np.ndarray] | None:
        """The face whose middle is nearest to that of the box; None where there is none within the box's size."""
        middle = (box[:2] + box[2:]) / 2

        def away(seen: tuple[Face, np.ndarray]) -> float:
            x1, y1, x2, y2 = seen[0].box
            return math.dist(((x1 + x2) / 2, (y1 + y2) / 2), middle)

        nearest = min(self.look(picture), key=away, default=None)
        return nearest if nearest and away(nearest) < math.dist(box[:2], box[2:]) / 2 else None

    def figures(self) -> dict[str, Figure]:
        return {"lmd": self._mean("lmd", self.distances), "identity": self._mean("identity", self.cosines)}

    def _mean(self, name: str, values: list[float]) -> Figure:
        known = [value for value in values if not math.isnan(value)]
        if not known:
            raise InputError(f"{name} found the face in no frame of both videos: give clips that show it")
        return Figure(float(np.mean(known)), placed(self.numbers, values))


def mouth_distance(landmarks: np.ndarray, true: np.ndarray) -> float:
    """Mean distance of the lips' points, of two (106, 2), each about its own mean."""
    lips = [points[MOUTH_106] - points[MOUTH_106].mean(axis=0) for points in (landmarks, true)]
    return float(np.hypot(*(lips[0] - lips[1]).T).mean())


def _cosine(a: Face, b: Face) -> float:
    return math.nan if a.embedding is None or b.embedding is None else float(np.dot(a.embedding, b.embedding))


def landmark_distance(look: Look, frames: Frames, truth: Frames, boxes: np.ndarray) -> float:
    """ "lmd" of `Likeness`: frame pixels, 0 for equal clips.

    Raises:
        ValueError: no frame in which both show the face.
    """
    return measured(Identity(look, boxes), frames, truth)["lmd"].value


def identity(look: Look, frames: Frames, truth: Frames, boxes: np.ndarray) -> float:
    """ "identity" of `Likeness`: -1 to 1, 1 for equal clips.

    Raises:
        ValueError: no frame in which both show the face, or a `look` without embeddings.
    """
    return measured(Identity(look, boxes), frames, truth)["identity"].value


BESIDE = (2, 5)  # pixels from the edge, of the steps that the one across it is compared with


class Seam(FrameMean):
    """The step across the edge of the repainted region less the steps beside it, in 8-bit levels, of aligned crops.

    A step is the difference of two neighbouring pixels, mean over the colours. Skin and texture have the same steps
    on the edge and 2 to 5 pixels from it, so that 0 is no seam; a mouth pasted with other colours and a hard edge has
    the difference of the colours. A soft edge has no step: the seam says whether an edge is seen, not whether colours
    are right.
    """

    def __init__(self):
        super().__init__("seam", _seams)


def _seams(crops: Tensor, _: Tensor | None = None) -> Tensor:
    levels = as_float(crops) * 255
    steps = [(levels[:, 1:] - levels[:, :-1]).abs().mean(-1), (levels[:, :, 1:] - levels[:, :, :-1]).abs().mean(-1)]
    on, beside = zip(*_edge_pairs(crops.shape[1]), strict=True)

    def mean_over(pairs: Sequence[Tensor]) -> Tensor:
        return torch.cat([step[:, chosen] for step, chosen in zip(steps, pairs, strict=True)], dim=1).mean(dim=1)

    return mean_over(on) - mean_over(beside)


@lru_cache(maxsize=2)
def _edge_pairs(resolution: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """For pairs one above the other, then side by side: those across the edge, and those beside it (bool)."""
    inside = (face_mask(resolution, "mouth", feather=0) > 0.5).numpy().astype(np.uint8)
    depth, height = (cv2.distanceTransform(x, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for x in (inside, 1 - inside))
    signed = torch.from_numpy(np.where(inside > 0, depth, -height))
    found = []
    for a, b in ((signed[1:], signed[:-1]), (signed[:, 1:], signed[:, :-1])):
        near = torch.minimum(a.abs(), b.abs())
        found.append(((a > 0) != (b > 0), (near >= BESIDE[0]) & (near <= BESIDE[1])))
    return tuple(found)


class Flicker:
    """Unsteadiness that the true pictures do not have, in 8-bit levels; see `figures.flicker`. A `Meter`."""

    def __init__(self):
        self._numbers: list[int] = []
        self._pair: tuple[Tensor, Tensor] | None = None  # the last two frames, and the true ones
        self.numbers: list[int] = []
        self.values: list[float] = []

    def add(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        if self._pair is not None and numbers[0] == self._numbers[-1] + 1:
            pictures, truth = (torch.cat(both) for both in zip(self._pair, (pictures, truth), strict=True))
            numbers = [*self._numbers, *numbers]
        region = torch.ones(pictures.shape[1:3], dtype=torch.bool)
        for k in range(1, len(numbers) - 1):
            around = slice(k - 1, k + 2)
            self.numbers.append(numbers[k])
            self.values.append(flicker_of(pictures[around], truth[around], region)[1])
        self._numbers = list(numbers[-2:])
        self._pair = pictures[-2:].clone(), truth[-2:].clone()

    def figures(self) -> dict[str, Figure]:
        if not self.values:
            raise InputError("flicker got fewer than 3 frames in a row: give a longer clip")
        return {"flicker": Figure(math.fsum(self.values) / len(self.values), placed(self.numbers, self.values))}


def seam(crops: Frames) -> float:
    """The seam of aligned crops (h, h, 3), in 8-bit levels; about 0 where there is none. See `Seam`."""
    return measured(Seam(), crops)["seam"].value


def flicker(pictures: Frames, truth: Frames) -> float:
    """Mean unsteadiness of `pictures` less that of `truth`, in 8-bit levels; below 0 where they are steadier.

    Raises:
        ValueError: fewer than 3 frames.
    """
    return measured(Flicker(), pictures, truth)["flicker"].value
