"""Masks in crop pixels: what the net repaints, and how softly the result is laid over the frame."""

import json
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

POLYGON_FILE = Path(__file__).parent / "assets" / "keep_mask.json"
WIDEST_EDGE = 0.125  # of the crop's side: the soft edge at mask_smooth = 1


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


def check_smooth(mask_smooth: float) -> None:
    """Refuse a `mask_smooth` outside 0..1 with a ValueError."""
    if not 0 <= mask_smooth <= 1:
        raise ValueError(f"mask_smooth is {mask_smooth}: give a number from 0 (hard edge) to 1 (widest)")


def mouth_mask(resolution: int, mask_smooth: float = 0.5) -> torch.Tensor:
    """The mask that lays a crop over its frame: (resolution, resolution) float32, 1 = crop, 0 = frame.

    It is the repainted region with a soft edge that lies wholly inside it, so that nothing outside the mouth
    changes. Its width is `mask_smooth` * resolution / 8 pixels; 0 gives a hard edge.

    Raises:
        ValueError: `mask_smooth` outside 0..1.
    """
    check_smooth(mask_smooth)
    kept = cv2.resize(_polygon_mask(), (resolution, resolution), interpolation=cv2.INTER_LINEAR)
    repaint = (kept < 128).astype(np.uint8)
    # The crop's border counts as outside: a mask that touched it would end in a hard line.
    distance = cv2.distanceTransform(np.pad(repaint, 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    ramp = np.clip(distance / max(mask_smooth * WIDEST_EDGE * resolution, 1.0), 0.0, 1.0)
    return torch.from_numpy((ramp * ramp * (3 - 2 * ramp)).astype(np.float32))


@lru_cache(maxsize=4)
def ring_mask(resolution: int) -> torch.Tensor:
    """(resolution, resolution) bool: the skin just inside the edge of the repainted region.

    There the source and a good result show the same cheeks and jaw, so their colours can be compared.
    """
    inside = keep_mask(resolution)[0].numpy() < 0.5
    width = max(3, int(0.08 * resolution)) | 1
    core = cv2.erode(np.pad(inside.astype(np.uint8), 1), np.ones((width, width), np.uint8))[1:-1, 1:-1]
    return torch.from_numpy(inside & (core == 0))
