"""What is in front of a face, by face parsing: ParseNet, as facexlib has it, tells what each pixel belongs to.

Its 19 classes are those of CelebAMask-HQ. None of them is a hand, a microphone or a cup, which are background as the
wall is: in front of the face is what does not belong to the person where the face must be. A hand that the net takes
for skin of the face is not seen.

Convention: portraits are pictures of `FACE_SIDE` x `FACE_SIDE` pixels, aligned as those of FFHQ, which the net knows.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from ..errors import FileError, InputError
from ..frames import Frames, as_stored, for_net
from ..models.folders import find_checkpoints
from ..models.state_dict import load_state_dict
from ..nets.loading import load_foreign
from ..threads import check
from .align import FACE_SIDE, portrait_matrix, warp_crop
from .geometry import corners, crop_matrix, homogeneous, region, shifted, stretch
from .masks import keep_mask
from .track import FaceTrack, Runs

WEIGHTS = "parsing_parsenet.pth"
CLASSES = 19
LIPS = (10, 11, 12)  # the inside of the mouth, and the lips
FACE = (1, 2, 4, 5, 6, 7, *LIPS)  # skin, nose, eyes, brows
FOREIGN = (0, 14, 18)  # background, hat, clothes; the others are glasses, ears, hair, jewels and the neck

# Pixels of a portrait; a crop shows about 297 x 396 of them.
SPECK = 9  # face that is smaller than this across is taken for noise
CONTOUR = 10  # this far inside the outline of the face what is not the person's is in front; nearer it may be behind
LEAST = 130  # area of what is in front; less is taken for noise
STEP, STEPS = 8, 14  # from there the same thing is followed beside the face, so far at a time and so often
LEAST_LIPS = 300  # area of the lips that are seen; with less, something lies over the mouth
MOUTH = ((128, 150), (52, 30))  # centre (x, y) and half axes of what is face then, in a crop of 256
KEPT = 64  # portraits whose answers are kept: 16 MB


class FaceParser:
    """ParseNet: a portrait (512, 512, 3), float in [0, 1], to the class of each pixel, (512, 512) uint8.

    Args:
        weights: `parsing_parsenet.pth`, or its tensors as .safetensors.
        device: a torch device; None is the CPU.
    """

    def __init__(self, weights: str | Path, device: torch.device | str | None = None):
        try:
            from facexlib.parsing.parsenet import ParseNet
        except ImportError as error:
            raise InputError(f"face parsing needs the package facexlib ({error}): pip install facexlib") from error
        self.path, state = Path(weights), load_state_dict(weights)
        with torch.device("meta"):
            self.net = ParseNet(FACE_SIDE, FACE_SIDE, parsing_ch=CLASSES)
        load_foreign(self.net, state, weights, "ParseNet", WEIGHTS)
        self.net.to(device or "cpu", torch.float32).eval().requires_grad_(False)
        for layer in self.net.modules():
            if isinstance(layer, torch.nn.Conv2d):  # one portrait takes a CPU seconds
                layer.register_forward_pre_hook(lambda *_: check())

    @torch.no_grad()
    def __call__(self, portrait: torch.Tensor) -> np.ndarray:
        weight = next(self.net.parameters())
        classes, _ = self.net(for_net(portrait[None]).to(weight.device))
        return classes[0].argmax(0).to("cpu", torch.uint8).numpy()


def parser_file(checkpoints: str | Path, way_out: str) -> Path:
    """ParseNet's file in a checkpoints folder; where it is missing, `way_out` says how to get it."""
    path = find_checkpoints(checkpoints).parsenet
    if path is None:
        raise FileError(f"{checkpoints} has no {WEIGHTS}, which finds what is in front of a face: {way_out}")
    return path


class ParsedOcclusions:
    """What is in front of a tracked face, as masks of the frames: [numbers] -> (n, h, w) uint8, 255 in front.

    A mask is what two of three frames agree on, the one before, itself and the next one of the same run.

    Args:
        frames: those that `track` is of.
        runs: see `Occlusion`.
        mask_image: what the net repaints, see `masks`: where the face is looked at.
    """

    def __init__(
        self,
        frames: Frames,
        track: FaceTrack,
        parser: FaceParser,
        runs: Runs | None = None,
        mask_image: np.ndarray | None = None,
    ):
        self.frames, self.track, self.parser, self.runs = frames, track, parser, runs or track.runs
        to_crop = portrait_matrix(256)
        mouth = cv2.ellipse(np.zeros((256, 256), np.uint8), *MOUTH, 0, 0, 360, 1, -1)
        repainted = (keep_mask(256, mask_image)[0].numpy() < 0.5).astype(np.uint8)
        flags, size = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, (FACE_SIDE, FACE_SIDE)
        self.mouth, self.repainted = (cv2.warpAffine(part, to_crop, size, flags=flags) for part in (mouth, repainted))
        to_portrait = np.linalg.inv(homogeneous(portrait_matrix(track.resolution)) @ stretch(FACE_SIDE))
        self.to_portrait = to_portrait @ stretch(track.resolution)
        self._kept: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.track)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        runs = self.runs(min(len(self), max(indices) + 2))
        height, width = self.frames[indices[:1]].shape[1:3]
        masks = torch.zeros(len(indices), height, width, dtype=torch.uint8)
        for mask, i in zip(masks, indices, strict=True):
            run = next((run for run in runs if run[0] <= i < run[1]), None)
            if run is None:
                continue
            before, after = max(run[0], i - 1), min(run[1] - 1, i + 1)
            votes = [self._in_front(k) for k in ((before, i, after) if before < i < after else (i, i))]
            front = (sum(votes) >= 2).astype(np.uint8)
            where = region(corners(self._matrix(i), FACE_SIDE), height, width, margin=0)
            if where is not None and front.any():
                to_portrait = shifted(crop_matrix(self._matrix(i), FACE_SIDE), *where)
                size, flags = mask[where].shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
                mask[where] = torch.from_numpy(cv2.warpAffine(255 * front, to_portrait, size, flags=flags))
        return masks

    def _matrix(self, i: int) -> np.ndarray:
        """The matrix (2, 3) of frame i whose crop is the portrait."""
        return (self.to_portrait @ homogeneous(self.track.matrices[i]))[:2]

    def _in_front(self, i: int) -> np.ndarray:
        if i not in self._kept:
            portrait = warp_crop(as_stored(self.frames[[i]][0, ..., :3]), self._matrix(i), FACE_SIDE)
            self._kept[i] = in_front(self.parser(portrait), self.repainted, self.mouth)
            if len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return self._kept[i]


def in_front(classes: np.ndarray, repainted: np.ndarray, mouth: np.ndarray) -> np.ndarray:
    """(512, 512) uint8, 1 where something is in front of the face in a portrait whose pixels are of these `classes`.

    Args:
        repainted: (512, 512) uint8, 1 where the face is looked at.
        mouth: the same, where the mouth is; that counts as face where no lips are seen.
    """
    face = np.isin(classes, FACE).astype(np.uint8)
    face = cv2.morphologyEx(face, cv2.MORPH_OPEN, _disc(SPECK))
    inside = np.zeros_like(face)
    if (points := cv2.findNonZero(face)) is not None:
        cv2.fillConvexPoly(inside, cv2.convexHull(points), 1)
        inside = cv2.erode(inside, _disc(2 * CONTOUR + 1), borderValue=0)
    if np.isin(classes, LIPS).sum() < LEAST_LIPS:
        inside |= mouth
    foreign = np.isin(classes, FOREIGN).astype(np.uint8)
    seen = foreign & inside & repainted
    if seen.sum() < LEAST:
        return np.zeros_like(seen)
    for _ in range(STEPS):  # through what does not belong to the person either
        seen = foreign & cv2.dilate(seen, np.ones((2 * STEP + 1, 2 * STEP + 1), np.uint8))
    return seen


def _disc(diameter: int) -> np.ndarray:
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter, diameter))
