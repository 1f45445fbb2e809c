"""Masks in crop pixels: what the net repaints, and how softly the result is laid over the frame."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F

POLYGON_FILE = Path(__file__).parent / "assets" / "keep_mask.json"
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


def keep_mask(resolution: int) -> torch.Tensor:
    """The mask that the U-Net is told: (1, resolution, resolution) float32, 1 = keep, 0 = repaint.

    The polygon is drawn at 256 and resized with Lanczos; the result is not thresholded (published program).
    """
    mask = cv2.resize(_polygon_mask(), (resolution, resolution), interpolation=cv2.INTER_LANCZOS4)
    return torch.from_numpy(mask.astype(np.float32) / 255)[None]


def check_smooth(value: float, name: str = "mask_smooth") -> None:
    """Refuse a softness outside 0..1 with a ValueError."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is {value}: give a number from 0 (hard edge) to 1 (widest)")


def mouth_mask(resolution: int, mask_smooth: float = 0.5) -> torch.Tensor:
    """The mask that lays a crop over its frame: (resolution, resolution) float32, 1 = crop, 0 = frame.

    It is the repainted region with a soft edge that lies wholly inside it, so that nothing outside the mouth
    changes. Its width is `mask_smooth` * resolution / 8 pixels; 0 gives a hard edge.

    Raises:
        ValueError: `mask_smooth` outside 0..1.
    """
    check_smooth(mask_smooth)
    return face_mask(resolution, "mouth", feather=mask_smooth)


def face_mask(resolution: int, shape: FaceShape = "mouth", grow: float = 0, feather: float = 0.5) -> torch.Tensor:
    """A mask of a part of the aligned face: (resolution, resolution) float32, 1 = crop, 0 = frame.

    Args:
        shape: "mouth" is what the net repaints: mouth, chin and cheeks, without the nose; "lower face" is its part
            below the nose; "oval" an ellipse over mouth and chin; "face" the face from forehead to chin.
        grow: crop pixels by which the shape grows, or shrinks if below 0, before its edge is softened.
        feather: width of the soft edge, which lies wholly inside the shape, in units of resolution / 8 pixels: 0 is
            a hard edge, 1 the widest.

    Raises:
        ValueError: an unknown shape, or `feather` outside 0..1.
    """
    if shape not in get_args(FaceShape):
        raise ValueError(f"shape is {shape!r}: choose one of {', '.join(get_args(FaceShape))}")
    check_smooth(feather, "feather")
    kept = cv2.resize(_shape_mask(shape), (resolution, resolution), interpolation=cv2.INTER_LINEAR)
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


@lru_cache(maxsize=4)
def ring_mask(resolution: int) -> torch.Tensor:
    """(resolution, resolution) bool: the skin just inside the edge of the repainted region.

    There the source and a good result show the same cheeks and jaw, so their colours can be compared.
    """
    inside = keep_mask(resolution)[0].numpy() < 0.5
    width = max(3, int(0.08 * resolution)) | 1
    core = cv2.erode(np.pad(inside.astype(np.uint8), 1), np.ones((width, width), np.uint8))[1:-1, 1:-1]
    return torch.from_numpy(inside & (core == 0))
