"""Aligned crops: the square pictures of one face that the net works on."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from ..errors import InputError
from ..frames import Frames, as_float, as_stored
from .geometry import bilinear, canvas_size, corners, crop_matrix, fit_similarity, invert, region, resizing, shifted
from .landmarks import points_from_five

FACE_SIDE = 512  # pixels of a portrait, width and height
# The eyes, nose tip and mouth corners (left of the picture first) of FFHQ's portraits of 512 x 512: the five points to
# which facexlib, and with it the published restorers, align faces.
FFHQ_FIVE = np.array(
    [[192.981, 239.947], [318.903, 240.194], [256.634, 314.019], [201.261, 371.410], [313.089, 371.151]]
)
OUTSIDE = 127 / 255  # grey that stands for everything outside the frame, as in training
ANTIALIAS_BELOW = 0.8  # crop pixels per frame pixel under which the frame is shrunk before it is warped


def warp_crop(frame: torch.Tensor, matrix: np.ndarray, resolution: int) -> torch.Tensor:
    """The face of one frame (h, w, 3), uint8 or float, as a crop (resolution, resolution, 3) float32 in [0, 1].

    One bilinear warp (as the net was trained on) from the frame straight to the crop, reading only the face's
    region. Faces larger than the crop are shrunk by area first, so that fine texture does not alias.
    """
    height, width = frame.shape[:2]
    where = region(corners(matrix, resolution), height, width, margin=2)
    if where is None:
        return torch.full((resolution, resolution, 3), OUTSIDE)
    # A fourth channel, dropped again below: OpenCV warps four floats at once more than twice as fast as three.
    patch = cv2.cvtColor(frame[where].numpy(), cv2.COLOR_RGB2RGBA)
    if patch.dtype == np.uint8:
        patch = np.divide(patch, np.float32(255), dtype=np.float32)
    to_crop = shifted(crop_matrix(matrix, resolution), *where)
    scale = min(np.hypot(*to_crop[:, 0]), np.hypot(*to_crop[:, 1]))
    if scale < ANTIALIAS_BELOW:
        patch, to_crop = shrink(patch, to_crop, scale)
    size, grey = (resolution, resolution), (OUTSIDE,) * 4
    crop = cv2.warpAffine(patch, to_crop, size, flags=cv2.INTER_LINEAR, borderValue=grey)
    return torch.from_numpy(cv2.cvtColor(crop, cv2.COLOR_RGBA2RGB))


def shrink(patch: np.ndarray, matrix: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """`patch` (h, w, c) made smaller by about `scale` < 1 with area averaging, and `matrix` for its pixels."""
    height, width = patch.shape[:2]
    new_height, new_width = max(1, round(height * scale)), max(1, round(width * scale))
    small = cv2.resize(patch, (new_width, new_height), interpolation=cv2.INTER_AREA)
    return small, matrix @ resizing((new_height, new_width), (height, width))


def published_crop(frame: torch.Tensor, matrix: np.ndarray, resolution: int) -> torch.Tensor:
    """`warp_crop` as the published program does it: bilinear to the canvas, truncated to 8 bits, then Lanczos."""
    height, width = frame.shape[:2]
    size = canvas_size(resolution)
    canvas = torch.full((3, *size), 127.0)
    where = region(corners(matrix, resolution), height, width, margin=2)
    if where is not None:
        patch = as_float(frame[where]).mul(255.0).permute(2, 0, 1)
        canvas = bilinear(patch, invert(shifted(matrix, *where)), size, fill=127.0)
    eight_bit = canvas.permute(1, 2, 0).contiguous().numpy().astype(np.uint8)
    crop = cv2.resize(eight_bit, (resolution, resolution), interpolation=cv2.INTER_LANCZOS4)
    return as_float(torch.from_numpy(crop))


def portrait_matrix(resolution: int) -> np.ndarray:
    """(2, 3) map from the pixels of FFHQ's portrait to those of a crop, which shows about 297 x 396 of them."""
    return crop_matrix(fit_similarity(points_from_five(FFHQ_FIVE), resolution)[0], resolution)


class AlignedFaces:
    """The crops of a tracked face, as a `Frames`: [indices] -> (n, resolution, resolution, 3) float32 in [0, 1].

    Frames without the face give a plain grey crop, and are not read.

    Args:
        matrices: (n, 2, 3) frame-to-canvas matrices, one for each frame.
        found: (n,) bool, which frames show the face.
        resolution: side of a crop in pixels.
        published: use the published program's geometry (`published_crop`).
    """

    def __init__(
        self, frames: Frames, matrices: np.ndarray, found: np.ndarray, resolution: int, published: bool = False
    ):
        if len(frames) != len(matrices):
            raise InputError(
                f"the face track covers {len(matrices)} frames and the clip has {len(frames)}: track this clip again"
            )
        self.frames, self.matrices, self.found, self.resolution = frames, matrices, found, resolution
        self.warp = published_crop if published else warp_crop

    def __len__(self) -> int:
        return len(self.matrices)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        crops = torch.full((len(indices), self.resolution, self.resolution, 3), OUTSIDE)
        shown = [k for k, i in enumerate(indices) if self.found[i]]
        if not shown:
            return crops
        numbers = [indices[k] for k in shown]
        # A tensor gives frames as they are one by one, and copies of several.
        frames = map(self.frames.__getitem__, numbers) if torch.is_tensor(self.frames) else self.frames[numbers]
        for k, frame in zip(shown, frames, strict=True):
            crops[k] = self.warp(as_stored(frame[..., :3]), self.matrices[indices[k]], self.resolution)
        return crops
