"""Laying the synced crops back over their frames, on the region of the face only.

Pixels that the mask does not reach are bit-identical to the source, and no work is done on them.
"""

import math
from collections.abc import Iterable, Iterator
from functools import partial

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError
from ..frames import Frames, as_float, as_stored, as_uint8
from ..settings import BlendSettings
from .align import published_crop, shrink, warp_crop
from .geometry import apply, bilinear, canvas_size, corners, crop_matrix, homogeneous, invert, region, shifted
from .masks import face_mask, ring_mask, skin_mask
from .track import FaceTrack

# Crop pixels per frame pixel: above the first a linear warp is as good as a cubic and much quicker, above the second
# a crop is shrunk to so many first.
LINEAR_FROM, FINEST = 1.2, 1.5
FINE = 3.0  # crop pixels: sigma of the blur that leaves the coarse part of a picture; the rest is its detail
ALIKE = 0.08  # difference of the coarse parts and mean of the detail, of 1, that together leave 1/e of it
MARGIN = 4  # crop pixels kept around the mask, more than shrinking and a cubic reach


def blend(
    frames: Frames,
    track: FaceTrack,
    crops: Iterable[torch.Tensor],
    settings: BlendSettings = BlendSettings(),  # noqa: B008 - frozen
    mask: torch.Tensor | None = None,
    start: int = 0,
    mask_image: np.ndarray | None = None,
    occlusion: Frames | None = None,
) -> Iterator[torch.Tensor]:
    """Frames with the synced mouth: one window (n, h, w, 3), in the dtype of `frames`, for each window of `crops`.

    Args:
        crops: windows (n, resolution, resolution, 3) float in [0, 1], in order, the first of them frame `start`.
        mask, mask_image: see `Blender`.
        occlusion: how free the crops are, see `Occlusion`.
    """
    blender = Blender(frames, track, settings, mask, mask_image)
    for window in crops:
        free = None if occlusion is None else occlusion[list(range(start, start + len(window)))]
        yield blender(window, start, free)
        start += len(window)


class Blender:
    """Lays crops over `frames` where `track` has the face; frames without it come out as they went in.

    Args:
        mask: (resolution, resolution) float, 1 = crop and 0 = frame, or (n, resolution, resolution), one for each frame
            of the clip; None is the soft-edged mouth of `face_mask`.
        mask_image: what the net has repainted, see `masks`.
    """

    def __init__(
        self,
        frames: Frames,
        track: FaceTrack,
        settings: BlendSettings,
        mask: torch.Tensor | None = None,
        mask_image: np.ndarray | None = None,
    ):
        side = (track.resolution, track.resolution)
        if mask is None:
            mask = face_mask(track.resolution, feather=settings.mask_smooth, mask_image=mask_image)
        elif mask.ndim not in (2, 3) or tuple(mask.shape[-2:]) != side:
            raise InputError(f"the blend mask is {tuple(mask.shape)}: make it {side}, the size of the crops")
        elif mask.ndim == 3 and len(mask) not in (1, len(track)):
            raise InputError(
                f"there are {len(mask)} blend masks for {len(track)} frames: give one, or one for each frame"
            )
        self.frames, self.track, self.settings = frames, track, settings
        self.weights = mask.float().cpu().reshape(-1, *side)
        self.ring = ring_mask(track.resolution, mask_image) if settings.match_colour else None
        self.skin = settings.detail * skin_mask(track.resolution) if settings.detail > 0 else None

    def __call__(
        self, crops: torch.Tensor, start: int, free: torch.Tensor | None = None, out: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Frames `start`, `start` + 1, ... with `crops` (n, resolution, resolution, 3) laid over them.

        `free` (n, resolution, resolution) in [0, 1] is 0 where something is in front of the face: there frames stay.
        `out` are these frames where they are there already, with another face's crops; they are changed.
        """
        track, side = self.track, self.track.resolution
        numbers = list(range(start, start + len(crops)))
        if tuple(crops.shape[1:3]) != (side, side) or numbers[-1] >= min(len(self.frames), len(track)):
            raise InputError(
                f"crops {numbers[0]}..{numbers[-1]} of {tuple(crops.shape[1:3])} do not fit a track of {len(track)} "
                f"faces of {(side, side)} on {len(self.frames)} frames: use the track that made the crops"
            )
        published = self.settings.published
        warp, paste = warp_crop, partial(paste_crop, skin=self.skin)
        if published:
            warp, paste = published_crop, paste_published
        out = self.frames[numbers] if out is None else out
        if free is not None and published:
            raise InputError(
                "the published way of blending knows nothing in front of the face: leave out the occlusion"
            )
        for k, (frame, crop, i) in enumerate(zip(out[..., :3], as_float(crops).cpu(), numbers, strict=True)):
            if track.weight[i] <= 0:
                continue
            source = as_stored(frame)
            if self.ring is not None:
                crop = match_colour(crop, warp(source, track.matrices[i], side), self.ring)
            weights = self.weights[i % len(self.weights)]
            weights = weights if free is None else weights * free[k]
            pasted = paste(source, crop, weights, track.matrices[i], float(track.weight[i]))
            if pasted is not None:
                where, pixels = pasted
                frame[where] = pixels.to(frame)
        return out


def paste_crop(
    source: torch.Tensor,
    crop: torch.Tensor,
    weights: torch.Tensor,
    matrix: np.ndarray,
    strength: float = 1.0,
    skin: torch.Tensor | None = None,
) -> tuple[tuple[slice, slice], torch.Tensor] | None:
    """Region of `source` (h, w, 3) that `crop` covers, and its blended pixels in the dtype of `source`.

    Crop and mask go through one warp together, cubic or, where the crop is finer than the frame, area and linear.
    `strength` in 0..1 scales the mask. `skin` (resolution, resolution) says where to put detail of the source back.
    """
    rows, columns = (np.flatnonzero(weights.numpy().any(axis)) for axis in (1, 0))
    if rows.size == 0:
        return None
    top, left = (max(0, int(used[0]) - MARGIN) for used in (rows, columns))
    bottom, right = (int(used[-1]) + MARGIN + 1 for used in (rows, columns))
    to_crop = crop_matrix(matrix, crop.shape[0])
    box = np.array([[x, y] for x in (left, right) for y in (top, bottom)], np.float64)
    where = region(apply(invert(to_crop), box), *source.shape[:2], margin=2)
    if where is None:
        return None
    used = slice(top, bottom), slice(left, right)
    layers = torch.cat([crop[used], weights[used][..., None]], dim=-1).numpy()
    to_crop = shifted(to_crop, *where)
    to_crop[:, 2] -= [left, top]
    patch = source[where]
    size = (patch.shape[1], patch.shape[0])
    finer = max(np.hypot(*to_crop[:, 0]), np.hypot(*to_crop[:, 1]))
    if skin is not None:
        skin = cv2.warpAffine(skin[used].numpy(), to_crop, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    interpolation = cv2.INTER_LINEAR if finer > LINEAR_FROM else cv2.INTER_CUBIC
    if finer > FINEST:
        layers, back = shrink(layers, np.eye(3), FINEST / finer)
        to_crop = (np.linalg.inv(back) @ homogeneous(to_crop))[:2]
    flags = interpolation | cv2.WARP_INVERSE_MAP
    warped = torch.from_numpy(cv2.warpAffine(layers, to_crop, size, flags=flags))
    warped.clamp_(0, 1)  # a cubic overshoots
    # Where the weight is 0, lerp gives the patch exactly.
    alpha = (warped[..., 3:] * strength).expand(*warped.shape[:2], 3)
    face = warped[..., :3]
    if skin is not None:
        face = with_detail(face, as_float(patch), torch.from_numpy(skin), FINE / finer)
    mixed = torch.lerp(as_float(patch), face, alpha)
    return where, as_uint8(mixed) if patch.dtype == torch.uint8 else mixed


def with_detail(face: torch.Tensor, source: torch.Tensor, skin: torch.Tensor, sigma: float) -> torch.Tensor:
    """`face` (h, w, 3) with the detail of `source`, finer than `sigma` pixels, on its `skin` (h, w) in [0, 1].

    It comes back where the coarse parts of both are alike: where they are not, the face has moved. Outlines, such as
    the jaw's, are stronger than any pore and stay the face's own: they would stand twice where they move a little.
    """
    coarse, coarse_source = (cv2.GaussianBlur(picture.numpy(), (0, 0), sigma) for picture in (face, source))
    fine = source.numpy() - coarse_source
    apart = cv2.GaussianBlur((np.abs(coarse - coarse_source) + np.abs(fine)).mean(-1), (0, 0), sigma)
    share = skin * torch.from_numpy(np.exp(-((apart / ALIKE) ** 2)))
    return torch.addcmul(face, share[..., None], torch.from_numpy(fine + coarse) - face).clamp_(0, 1)


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
