"""Laying the synced crops back over their frames, on the region of the face only.

Pixels that the mask does not reach are bit-identical to the source, and no work is done on them.
"""

import math
from collections.abc import Iterable, Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError
from ..frames import Frames, as_float, as_stored, as_uint8
from ..settings import BlendSettings
from .align import published_crop, shrink, warp_crop
from .geometry import apply, bilinear, canvas_size, corners, crop_matrix, homogeneous, invert, region, shifted
from .masks import mouth_mask, ring_mask
from .track import FaceTrack

# Crop pixels per frame pixel: above the first a linear warp is as good as a cubic and much quicker, above the second
# a crop is shrunk to so many first.
LINEAR_FROM, FINEST = 1.2, 1.5
MARGIN = 4  # crop pixels kept around the mask, more than shrinking and a cubic reach


def blend(
    frames: Frames,
    track: FaceTrack,
    crops: Iterable[torch.Tensor],
    settings: BlendSettings = BlendSettings(),  # noqa: B008 - frozen
    mask: torch.Tensor | None = None,
    start: int = 0,
    mask_image: np.ndarray | None = None,
) -> Iterator[torch.Tensor]:
    """Frames with the synced mouth, one window (n, h, w, 3) for each window of `crops`, in the dtype of `frames`.

    Args:
        frames: the source clip.
        track: where the face is; frames without it come out as they went in.
        crops: windows (n, resolution, resolution, 3) float in [0, 1], in order, together at most len(frames).
        settings: see `BlendSettings`.
        mask: (resolution, resolution) float, 1 = crop and 0 = frame, instead of `mouth_mask`; or (n, resolution,
            resolution), one for each frame of the clip.
        start: frame number of the first crop.
        mask_image: what the net has repainted, see `masks`.

    Raises:
        ValueError: crops or mask of another size than the track's, more crops than frames, or masks that are not one
            for each frame.
    """
    weights = _weights(mask, track, settings, mask_image)
    ring = ring_mask(track.resolution, mask_image) if settings.match_colour else None
    side = (track.resolution, track.resolution)
    for window in crops:
        numbers = list(range(start, start + len(window)))
        if tuple(window.shape[1:3]) != side or numbers[-1] >= min(len(frames), len(track)):
            raise InputError(
                f"crops {numbers[0]}..{numbers[-1]} of {tuple(window.shape[1:3])} do not fit a track of "
                f"{len(track)} faces of {side} on {len(frames)} frames: use the track that made the crops"
            )
        out = frames[numbers]
        for frame, crop, i in zip(out, as_float(window).cpu(), numbers, strict=True):
            if track.weight[i] > 0:
                _paste(frame[..., :3], crop, weights[i % len(weights)], track, i, settings, ring)
        yield out
        start += len(window)


def _weights(
    mask: torch.Tensor | None, track: FaceTrack, settings: BlendSettings, mask_image: np.ndarray | None
) -> torch.Tensor:
    """(1, resolution, resolution) float32 for all frames alike, or one for each frame of the track."""
    if mask is None:
        return mouth_mask(track.resolution, settings.mask_smooth, mask_image)[None]
    side = (track.resolution, track.resolution)
    if mask.ndim not in (2, 3) or tuple(mask.shape[-2:]) != side:
        raise InputError(f"the blend mask is {tuple(mask.shape)}: make it {side}, the size of the crops")
    if mask.ndim == 3 and len(mask) not in (1, len(track)):
        raise InputError(f"there are {len(mask)} blend masks for {len(track)} frames: give one, or one for each frame")
    return mask.float().cpu().reshape(-1, *side)


def _paste(
    frame: torch.Tensor,
    crop: torch.Tensor,
    weights: torch.Tensor,
    track: FaceTrack,
    i: int,
    settings: BlendSettings,
    ring: torch.Tensor | None,
) -> None:
    """Lay crop `i` of `track` over `frame` (h, w, 3), in place; with a `ring` its colours are matched there."""
    matrix, resolution = track.matrices[i], track.resolution
    source = as_stored(frame)
    if ring is not None:
        warp = published_crop if settings.published else warp_crop
        crop = match_colour(crop, warp(source, matrix, resolution), ring)
    paste = paste_published if settings.published else paste_crop
    found = paste(source, crop, weights, matrix, float(track.weight[i]))
    if found is not None:
        where, pixels = found
        frame[where] = pixels.to(frame)


def paste_crop(
    source: torch.Tensor, crop: torch.Tensor, weights: torch.Tensor, matrix: np.ndarray, strength: float = 1.0
) -> tuple[tuple[slice, slice], torch.Tensor] | None:
    """Region of `source` (h, w, 3) that `crop` covers, and its blended pixels in the dtype of `source`.

    Crop and mask go through one warp together, cubic or, where the crop is finer than the frame, area and linear.
    `strength` in 0..1 scales the mask.
    """
    used = _used(weights.numpy())
    if used is None:
        return None
    to_crop = crop_matrix(matrix, crop.shape[0])
    box = np.array([[x, y] for x in (used[1].start, used[1].stop) for y in (used[0].start, used[0].stop)], np.float64)
    where = region(apply(invert(to_crop), box), *source.shape[:2], margin=2)
    if where is None:
        return None
    layers = torch.cat([crop[used], weights[used][..., None]], dim=-1).numpy()
    to_crop = shifted(to_crop, *where)
    to_crop[:, 2] -= [used[1].start, used[0].start]
    finer = max(np.hypot(*to_crop[:, 0]), np.hypot(*to_crop[:, 1]))
    interpolation = cv2.INTER_LINEAR if finer > LINEAR_FROM else cv2.INTER_CUBIC
    if finer > FINEST:
        layers, back = shrink(layers, np.eye(3)[:2], FINEST / finer)
        to_crop = (np.linalg.inv(homogeneous(back)) @ homogeneous(to_crop))[:2]
    patch = source[where]
    size = (patch.shape[1], patch.shape[0])
    flags = interpolation | cv2.WARP_INVERSE_MAP
    warped = torch.from_numpy(cv2.warpAffine(layers, to_crop, size, flags=flags))
    warped.clamp_(0, 1)  # a cubic overshoots
    return where, _mix(patch, warped[..., :3], warped[..., 3:] * strength)


def _used(weights: np.ndarray) -> tuple[slice, slice] | None:
    """Rows and columns of `weights` around all that is not 0, and the cubic's reach beyond; None if all is 0."""
    rows, columns = (np.flatnonzero(weights.any(axis)) for axis in (1, 0))
    if rows.size == 0:
        return None
    top, left = (max(0, int(v[0]) - MARGIN) for v in (rows, columns))
    return slice(top, int(rows[-1]) + MARGIN + 1), slice(left, int(columns[-1]) + MARGIN + 1)


def _mix(patch: torch.Tensor, face: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """alpha * face + (1 - alpha) * patch in the dtype of `patch`, exactly `patch` where alpha is 0."""
    mixed = torch.lerp(as_float(patch), face, alpha.expand_as(face))
    return as_uint8(mixed) if patch.dtype == torch.uint8 else mixed


def paste_published(
    source: torch.Tensor, crop: torch.Tensor, weights: torch.Tensor, matrix: np.ndarray, strength: float = 1.0
) -> tuple[tuple[slice, slice], torch.Tensor] | None:
    """`paste_crop` as the published program does it: canvas, bilinear warp, eroded and blurred canvas mask.

    Its mask covers the whole canvas; `weights` only turn it off where they are all zero. `crop` may lie beyond [0, 1].
    """
    size = canvas_size(crop.shape[0])
    where = region(corners(matrix, crop.shape[0]), *source.shape[:2], margin=4)
    if where is None or not weights.any():
        return None
    patch = source[where]
    levels = crop.permute(2, 0, 1)[None] * 255.0
    canvas = F.interpolate(levels, size=size, mode="bicubic", antialias=True, align_corners=False)[0]
    to_canvas = shifted(matrix, *where)
    shape = tuple(patch.shape[:2])
    # Overshoots of the decoder and the cubic are clamped here. What it warps lies in [-1, 1], and beyond it is 127.
    face = bilinear(canvas, to_canvas, shape, fill=(127 / 2 + 0.5) * 255).clamp_(0, 255)
    inside = bilinear(torch.ones(1, *size), to_canvas, shape)[0].numpy()
    covered = cv2.erode(inside, np.ones((2, 2), np.uint8))
    width = max(1, int(math.sqrt(covered.sum())) // 20)
    soft = cv2.erode(covered, np.ones((2 * width, 2 * width), np.uint8))
    kernel = 2 * width + 1
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    soft = cv2.GaussianBlur(soft, (kernel, kernel), sigma, borderType=cv2.BORDER_REFLECT_101)
    # Even boxes are off centre, so the blur can reach a pixel beyond the canvas: those stay the source's.
    alpha = torch.from_numpy(soft * (inside > 0) * strength)[..., None]
    face = face.permute(1, 2, 0) * torch.from_numpy(covered)[..., None]
    mixed = alpha * face + (1 - alpha) * as_float(patch) * 255.0
    mixed = mixed.clamp(0, 255).to(torch.uint8)
    mixed = mixed if patch.dtype == torch.uint8 else as_float(mixed)
    return where, torch.where(alpha > 0, mixed, patch)


def match_colour(crop: torch.Tensor, source_crop: torch.Tensor, ring: torch.Tensor) -> torch.Tensor:
    """`crop` (h, w, 3) shifted so that its mean colour inside `ring` (h, w) bool is that of `source_crop`."""
    shift = source_crop[ring].mean(0) - crop[ring].mean(0)
    return (crop + shift).clamp(0, 1)
