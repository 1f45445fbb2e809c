"""Restored crops: to a portrait and back, with only the fine part of the change kept, steady over time.

A crop is warped to a portrait as the nets know it (FFHQ's alignment); the restorer's CHANGE is warped back and added.
So a restorer that changes nothing gives the crop bit for bit, and a crop finer than the portrait loses nothing.

Convention: as in `geometry`. Points are (x, y); a matrix (2, 3) maps portrait pixels to crop pixels.
"""

import logging
import math

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..face.align import ANTIALIAS_BELOW, FACE_SIDE, portrait_matrix, shrink
from ..face.geometry import invert
from ..face.masks import face_mask
from ..face.track import FaceTrack
from ..frames import as_float, batches
from ..sampling.sample import out_of_memory
from ..settings import RestoreSettings
from .restorers import Restorer

log = logging.getLogger(__name__)

SURROUNDINGS = 12.0  # portrait pixels, sigma of the blur outside the crop
COLOUR = 20.0  # portrait pixels, sigma: slower changes than this are colour and light, and stay the input's
SAME = 0.03  # mean change of a crop's pixels, of 0..1, that still counts as no movement
SAME_OVER = 0.06  # of the crop's side, over which that mean is taken
MOST_KEPT = 0.9  # of the last frame's change, at temporal = 1
FORGOTTEN = 1 / 512  # share of an older frame's change that no longer counts: half a level of 8 bits


def memory_frames(settings: RestoreSettings) -> int:
    """Frames after which a change is forgotten; 0 without the temporal blend."""
    kept = MOST_KEPT * settings.temporal
    return math.ceil(math.log(FORGOTTEN) / math.log(kept)) if kept else 0


class Restoration:
    """Restores the crops of one clip, called with window after window of them.

    Args:
        resolution: side of the crops in pixels.
        track: the one that made the crops: frames without the face come out as they went in, and nothing is carried
            over from one stretch of frames with the face to the next. None: every frame has it.
        mask_image: what the net has repainted, the region "mouth"; see `masks`.
    """

    def __init__(
        self,
        restorer: Restorer,
        resolution: int,
        settings: RestoreSettings,
        track: FaceTrack | None = None,
        mask_image: np.ndarray | None = None,
    ):
        self.restorer, self.settings, self.track, self.batch = restorer, settings, track, settings.batch
        self.portrait = Portrait(resolution)
        self.weight = settings.strength * face_mask(resolution, settings.region, mask_image=mask_image)[..., None]
        self.last_crop: torch.Tensor | None = None
        self.memories: list[torch.Tensor] = []  # the last frame's change, as each memory has it; see `_steadied`

    def __call__(self, window: torch.Tensor, start: int) -> torch.Tensor:
        """`window` (n, r, r, 3), whose first crop is frame `start`, restored: float32 in [0, 1] on the CPU.

        At strength 0 it is `window` itself.
        """
        numbers, (height, width) = range(start, start + len(window)), window.shape[1:3]
        if height != width:
            raise InputError(f"the crops are {width} x {height} pixels: give the square crops of a face")
        if self.track is not None and (height != self.track.resolution or numbers.stop > len(self.track)):
            raise InputError(
                f"crops {start}..{numbers.stop - 1} of {width} x {height} do not fit a track of {len(self.track)} "
                f"faces of {self.track.resolution} x {self.track.resolution}: use the track that made the crops"
            )
        if self.settings.strength == 0:
            return window
        out = as_float(window[..., :3]).cpu().clone()
        shown = [i for i in numbers if self.track is None or self.track.found[i]]
        for group in batches(len(shown), self.settings.batch):
            faces = torch.stack([self.portrait.of(out[shown[g] - start]) for g in group])
            for g, face, restored in zip(group, faces, self._restored(faces), strict=True):
                crop = out[shown[g] - start]
                change = self._steadied(crop, self.portrait.back(restored - face), shown[g])
                crop.copy_(torch.where(self.weight > 0, (crop + self.weight * change).clamp(0, 1), crop))
        return out

    def _restored(self, faces: torch.Tensor) -> torch.Tensor:
        """The restorer over `faces` (n, 512, 512, 3), as many at once as fit into memory."""
        done: list[torch.Tensor] = []
        first = 0
        while first < len(faces):
            part = faces[first : first + self.batch]
            try:
                restored = self.restorer(part)
            except RuntimeError as error:
                if len(part) == 1 or not out_of_memory(error):
                    raise
                restored = None
            if restored is None:  # outside the except block, which would keep the failed call's tensors alive
                self.batch = len(part) // 2
                log.warning("out of memory in %s: going on with a batch of %d", self.restorer.name, self.batch)
                continue
            if restored.shape != part.shape:
                raise InputError(
                    f"{self.restorer.name} turned faces {tuple(part.shape)} into {tuple(restored.shape)}: give a "
                    "restorer that keeps their size"
                )
            if not torch.isfinite(restored).all():
                raise InputError(f"{self.restorer.name} gave values that are not finite: load it in float32")
            done.append(restored)
            first += len(part)
        return torch.cat(done)

    def _steadied(self, crop: torch.Tensor, change: torch.Tensor, number: int) -> torch.Tensor:
        """`change` (h, w, 3), mixed with that of the frame before where `crop` looks as it did there.

        Two memories: one that began at the last but one multiple of `memory`, or with the run, is used while the next
        one fills. So no frame depends on those before that multiple, and a run that begins there gives the same frames.
        """
        memory = memory_frames(self.settings)
        if memory == 0:
            return change
        changes = []
        if self.memories and not (self.track is not None and self.track.begins(number)):
            moved = (crop - self.last_crop).abs().mean(-1).numpy()
            side = int(SAME_OVER * len(moved)) | 1
            moved = torch.from_numpy(cv2.blur(moved, (side, side)))
            share = MOST_KEPT * self.settings.temporal * torch.exp(-((moved / SAME) ** 2))
            changes = [torch.lerp(change, kept, share[..., None].expand_as(change)) for kept in self.memories]
        if not changes or number % memory == 0:
            changes = [*changes[-1:], change]
        self.last_crop, self.memories = crop.clone(), changes
        return changes[0]


class Portrait:
    """The way from a crop of `resolution` x `resolution` to FFHQ's portrait and back.

    The crop covers the middle of the portrait, about 297 x 396 pixels of it.
    """

    def __init__(self, resolution: int):
        self.resolution = resolution
        self.matrix = portrait_matrix(resolution)
        inside = _warp(np.ones((resolution, resolution), np.float32), invert(self.matrix), FACE_SIDE)
        # The blurred surroundings begin a little inside, so that no edge shows.
        self.inside = np.clip(2 * cv2.GaussianBlur(inside, (0, 0), SURROUNDINGS / 2) - 1, 0, 1)[..., None]

    def of(self, crop: torch.Tensor) -> torch.Tensor:
        """(512, 512, 3) float32 of a crop (h, w, 3) in [0, 1]; beyond the crop, mirrored and blurred as in FFHQ."""
        face = _warp(crop.numpy(), invert(self.matrix), FACE_SIDE, cv2.BORDER_REFLECT_101)
        around = _blurred(face, SURROUNDINGS)
        return torch.from_numpy(around + self.inside * (face - around))

    def back(self, change: torch.Tensor) -> torch.Tensor:
        """A portrait's change (512, 512, 3) in the crop, without its slow part: colours stay those of the input."""
        change = change.numpy()
        return torch.from_numpy(_warp(change - _blurred(change, COLOUR), self.matrix, self.resolution))


def _warp(picture: np.ndarray, matrix: np.ndarray, side: int, border: int = cv2.BORDER_CONSTANT) -> np.ndarray:
    """`picture` (h, w[, c]) float32 through `matrix`, which maps its pixels to those of a square of `side`."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < ANTIALIAS_BELOW:
        picture, matrix = shrink(picture, matrix, scale)
    flags = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
    return cv2.warpAffine(picture, matrix, (side, side), flags=flags, borderMode=border)


def _blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur at a quarter of the size, which loses nothing and is much quicker."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), (width, height), interpolation=cv2.INTER_LINEAR)
