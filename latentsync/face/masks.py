"""Masks in crop pixels: what the net repaints, and how softly the result is laid over the frame.

A mask image, where a function takes one, is (h, w) uint8 of about the same height and width: 0 where the net repaints
the crop and 255 where it keeps it, as in the published program's mask.png. None is that picture.
"""

import json
import math
import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from ..errors import FileError, InputError
from ..limits import check_limit

POLYGON_FILE = Path(__file__).parents[1] / "assets" / "keep_mask.json"
LEAST_REPAINTED = 0.01  # of the crop, that a mask image must leave to the net
MOST_SQUEEZED = 1.1  # longer by shorter side of a mask image: it is squeezed to a square
WIDEST_EDGE = 0.125  # of the crop's side: the soft edge at mask_smooth = 1

FaceShape = Literal["mouth", "lower face", "face", "oval"]
# Where the parts of an aligned face lie in a crop of 256 (measured on drawn and real heads): eyes at y 70, nostrils
# at 120, lips at 150, chin at 200, and at 240 with the mouth wide open; cheeks at x 10 and 246.
BELOW_NOSE = 128  # first row under the notch that the polygon leaves for the nose
OVALS = {"oval": ((128, 168), (72, 46)), "face": ((128, 124), (119, 118))}  # centre (x, y), half axes
LIPS = ((128, 164), (66, 48))  # centre and half axes, with room for a mouth that opens
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
    """The mask image in a picture file, white = keep and black = repaint; only red counts of colours, as published."""
    picture = read_picture(path, "mask image", "give a PNG, black where the face is repainted")
    return _checked(np.ascontiguousarray(picture[..., 0]), str(path), "black")


def read_picture(path: str | os.PathLike, what: str, way_out: str) -> np.ndarray:
    """The picture in a file, (h, w, 3) uint8 RGB. `what` it is and the `way_out` are for the error."""
    if not os.path.isfile(path):
        raise FileError(f"there is no {what} {path}: check the path")
    pixels, picture = 0, None
    try:
        with Image.open(path) as header:  # decodes nothing
            pixels = math.prod(header.size)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} has more pixels than a {what} can need: give a smaller one") from error
    except (ArithmeticError, EOFError, OSError, SyntaxError, TypeError, ValueError):  # what damaged files raise
        pass
    check_limit("pixels", pixels, f"{path}")
    if pixels:
        # No more of the file than so many pixels take; not by cv2.imread, which cannot open every path on Windows.
        data = np.fromfile(path, np.uint8, 2**20 + 8 * pixels)
        with suppress(cv2.error):
            picture = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f"{path} is no picture that can be read: {way_out}")
    return np.ascontiguousarray(picture[..., ::-1])


def mask_image_of(repainted: torch.Tensor) -> np.ndarray:
    """The mask image of one mask (h, w) or (1, h, w), float in [0, 1], whose ones are repainted."""
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
        feather: width of the soft edge, 0 (hard) to 1 (resolution / 8 pixels). The edge lies wholly inside the shape,
            so that nothing outside it changes.
        mask_image: what the net repaints, in place of the usual "mouth"; the other shapes stay what they are.
    """
    if shape not in get_args(FaceShape):
        raise InputError(f"shape is {shape!r}: choose one of {', '.join(get_args(FaceShape))}")
    if not 0 <= feather <= 1:
        raise InputError(f"feather is {feather}: give a number from 0 (hard edge) to 1 (widest)")
    picture = _polygon_mask()
    if shape == "mouth" and mask_image is not None:
        picture = mask_image
    elif shape == "lower face":
        picture = np.vstack([np.full_like(picture[:BELOW_NOSE], 255), picture[BELOW_NOSE:]])
    elif shape in OVALS:
        picture = cv2.ellipse(np.full_like(picture, 255), *OVALS[shape], 0, 0, 360, 0, -1)
    kept = cv2.resize(picture, (resolution, resolution), interpolation=cv2.INTER_LINEAR)
    inside = (kept < 128).astype(np.uint8)
    if grow > 0:
        inside = (cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= grow).astype(np.uint8)
    elif grow < 0:
        inside = (_depth(inside) > -grow).astype(np.uint8)
    ramp = np.clip(_depth(inside) / max(feather * WIDEST_EDGE * resolution, 1.0), 0.0, 1.0)
    return torch.from_numpy((ramp * ramp * (3 - 2 * ramp)).astype(np.float32))


def skin_mask(resolution: int) -> torch.Tensor:
    """(resolution, resolution) float32: 0 on lips and teeth, wherever they move, and 1 on all else; a soft edge."""
    lips = cv2.ellipse(np.zeros((256, 256), np.float32), *LIPS, 0, 0, 360, 1, -1)
    lips = cv2.resize(cv2.GaussianBlur(lips, (0, 0), 5), (resolution, resolution), interpolation=cv2.INTER_LINEAR)
    return 1 - torch.from_numpy(lips)


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
