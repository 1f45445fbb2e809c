"""Masks in crop pixels: what the net repaints, and how softly the result is laid over the frame.

A mask image, where a function takes one, is (h, w) uint8 of about the same height and width: 0 where the net repaints
the crop and 255 where it keeps it, as in the published program's mask.png. None is that picture.
"""

import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError

POLYGON_FILE = Path(__file__).parents[1] / "assets" / "keep_mask.json"
LEAST_REPAINTED = 0.01  # of the crop, that a mask image must leave to the net
MOST_SQUEEZED = 1.1  # longer by shorter side of a mask image: it is squeezed to a square
WIDEST_EDGE = 0.125  # of the crop's side: the soft edge at mask_smooth = 1

FaceShape = Literal["mouth", "lower face", "face", "oval"]
# Where the parts of an aligned face lie in a crop of 256 (measured on drawn and real heads): eyes at y 70, nostrils
# at 120, lips at 150, chin at 200, and at 240 with the mouth wide open; cheeks at x 10 and 246.
BELOW_NOSE = 128  # first row under the notch that the polygon leaves for the nose
OVALS = {"oval": ((128, 168), (72, 46)), "face": ((128, 124), (119, 118))}  # centre (x, y), half axes
TINT = (0.16, 0.62, 1.0)  # RGB in which a mask is shown


@lru_cache(maxsize=1)
def _polygon_mask() -> np.ndarray:
    """(256, 256) uint8, 0 where the net repaints and 255 where the source is kept."""
    polygon = json.loads(POLYGON_FILE.read_text(encoding="utf-8"))
    mask = np.full((polygon["size"], polygon["size"]), 255, np.uint8)
    return cv2.fillPoly(mask, [np.array(polygon["vertices"], np.int32)], 0)


def keep_mask(resolution: int, mask_image: np.ndarray | None = None) -> torch.Tensor:
    """The mask that the U-Net is told: (1, resolution, resolution) float32, 1 = keep, 0 = repaint.

    The picture (the polygon is drawn at 256) is resized with Lanczos and not thresholded (published program).
    """
    picture = _polygon_mask() if mask_image is None else mask_image
    mask = cv2.resize(picture, (resolution, resolution), interpolation=cv2.INTER_LANCZOS4)
    return torch.from_numpy(mask.astype(np.float32) / 255)[None]


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """The mask image in a picture file, white = keep and black = repaint; of colours the red part counts, as published.

    Raises:
        FileNotFoundError: no such file.
        ValueError: no picture, far from square, or nothing to repaint.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no mask image {path}: check the path")
    data = np.fromfile(path, np.uint8)  # not cv2.imread, which cannot open every path on Windows
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if picture is None:
        raise InputError(f"{path} is no picture that can be read: give a PNG, black where the face is repainted")
    return _checked(np.ascontiguousarray(picture[..., 2]), str(path), "black")


def mask_image_of(repainted: torch.Tensor) -> np.ndarray:
    """The mask image of one mask (h, w) or (1, h, w), float in [0, 1], whose ones are repainted.

    Raises:
        ValueError: several masks, far from square, or nothing to repaint.
    """
    if repainted.ndim > 3 or repainted.shape[:-2].numel() != 1:
        raise InputError(f"the mask has shape {tuple(repainted.shape)}: give one mask, for all frames")
    kept = 1 - repainted.reshape(repainted.shape[-2:]).to("cpu", torch.float32).clamp(0, 1)
    return _checked((kept * 255).round().to(torch.uint8).numpy(), "the mask", "white")


def _checked(picture: np.ndarray, name: str, colour: str) -> np.ndarray:
    """A mask image as it is; `colour` is how its source shows what is repainted."""
    height, width = picture.shape
    if max(height, width) > MOST_SQUEEZED * min(height, width):
        raise InputError(f"{name} is {width} x {height} pixels: give a square one, as it is laid over the square crop")
    share = float((picture < 128).mean())
    if share < LEAST_REPAINTED:
        raise InputError(
            f"{name} leaves {share:.1%} of the crop to repaint: make the part {colour} in which the mouth moves"
        )
    return picture


def check_smooth(value: float, name: str = "mask_smooth") -> None:
    """Refuse a softness outside 0..1 with a ValueError."""
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}: give a number from 0 (hard edge) to 1 (widest)")


def mouth_mask(resolution: int, mask_smooth: float = 0.5, mask_image: np.ndarray | None = None) -> torch.Tensor:
    """The mask that lays a crop over its frame: (resolution, resolution) float32, 1 = crop, 0 = frame.

    It is the repainted region with a soft edge that lies wholly inside it, so that nothing outside the mouth
    changes. Its width is `mask_smooth` * resolution / 8 pixels; 0 gives a hard edge.

    Raises:
        ValueError: `mask_smooth` outside 0..1.
    """
    check_smooth(mask_smooth)
    return face_mask(resolution, "mouth", feather=mask_smooth, mask_image=mask_image)


def face_mask(
    resolution: int,
    shape: FaceShape = "mouth",
    grow: float = 0,
    feather: float = 0.5,
    mask_image: np.ndarray | None = None,
) -> torch.Tensor:
    """A mask of a part of the aligned face: (resolution, resolution) float32, 1 = crop, 0 = frame.

    Args:
        shape: "mouth" is what the net repaints: mouth, chin and cheeks, without the nose; "lower face" is its part
            below the nose; "oval" an ellipse over mouth and chin; "face" the face from forehead to chin.
        grow: crop pixels by which the shape grows, or shrinks if below 0, before its edge is softened.
        feather: width of the soft edge, which lies wholly inside the shape, in units of resolution / 8 pixels: 0 is
            a hard edge, 1 the widest.
        mask_image: what the net repaints ("mouth"), for the other shapes stay what they are.

    Raises:
        ValueError: an unknown shape, or `feather` outside 0..1.
    """
    if shape not in get_args(FaceShape):
        raise InputError(f"shape is {shape!r}: choose one of {', '.join(get_args(FaceShape))}")
    check_smooth(feather, "feather")
    picture = _shape_mask(shape) if mask_image is None or shape != "mouth" else mask_image
    kept = cv2.resize(picture, (resolution, resolution), interpolation=cv2.INTER_LINEAR)
    inside = _grown((kept < 128).astype(np.uint8), grow)
    ramp = np.clip(_depth(inside) / max(feather * WIDEST_EDGE * resolution, 1.0), 0.0, 1.0)
    return torch.from_numpy((ramp * ramp * (3 - 2 * ramp)).astype(np.float32))


def _shape_mask(shape: FaceShape) -> np.ndarray:
    """(256, 256) uint8 as `_polygon_mask`: 0 inside the shape and 255 outside."""
    if shape in OVALS:
        return cv2.ellipse(np.full((256, 256), 255, np.uint8), *OVALS[shape], 0, 0, 360, 0, -1)
    mask = _polygon_mask().copy()
    if shape == "lower face":
        mask[:BELOW_NOSE] = 255
    return mask


def _grown(inside: np.ndarray, grow: float) -> np.ndarray:
    """`inside` (h, w) uint8 0 or 1, grown by so many pixels in all directions; shrunk if below 0."""
    if grow > 0:
        away = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        return (away <= grow).astype(np.uint8)
    return (_depth(inside) > -grow).astype(np.uint8)


def _depth(inside: np.ndarray) -> np.ndarray:
    """Distance in pixels from each pixel of `inside` (h, w) uint8 to the nearest outside; 0 outside.

    The picture's border counts as outside: a mask that touched it would end in a hard line.
    """
    return cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]


def fitted(mask: torch.Tensor, resolution: int) -> torch.Tensor:
    """Masks (n, h, w) of any size as float32 (n, resolution, resolution) in [0, 1], resized with antialiasing."""
    mask = mask.to("cpu", torch.float32)
    if tuple(mask.shape[1:]) != (resolution, resolution):
        side = (resolution, resolution)
        mask = F.interpolate(mask[:, None], size=side, mode="bilinear", antialias=True, align_corners=False)[:, 0]
    return mask.clamp(0, 1)


def tinted(pictures: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Pictures (n, h, w, 3) float in [0, 1] with `mask` (h, w) or (n, h, w) shown in colour, and its edge as a line."""
    mask = mask.expand(pictures.shape[:3])
    solid = (mask >= 0.5).float()[:, None]
    # Where not all of a pixel's neighbours are on its own side.
    edge = (F.max_pool2d(solid, 3, 1, 1) + F.max_pool2d(-solid, 3, 1, 1))[:, 0, ..., None]
    shown = torch.lerp(pictures, torch.tensor(TINT), 0.4 * mask[..., None])
    return torch.lerp(shown, torch.ones(3), 0.8 * edge)


def ring_mask(resolution: int, mask_image: np.ndarray | None = None) -> torch.Tensor:
    """(resolution, resolution) bool: the skin just inside the edge of the repainted region.

    There the source and a good result show the same cheeks and jaw, so their colours can be compared.
    """
    inside = keep_mask(resolution, mask_image)[0].numpy() < 0.5
    width = max(3, int(0.08 * resolution)) | 1
    core = cv2.erode(np.pad(inside.astype(np.uint8), 1), np.ones((width, width), np.uint8))[1:-1, 1:-1]
    return torch.from_numpy(inside & (core == 0))
