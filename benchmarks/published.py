"""The published program's crop and paste, over the whole frame, as the paper's code does them.

Written from their description (LatentSync, arXiv 2412.09262): float tensors of the whole 1080 x 1920 frame,
kornia for warps, small erosion and blur. Only the benchmarks use it, to measure ours beside it.
"""

import math

import cv2
import kornia
import numpy as np
import torch
import torch.nn.functional as F

from latentsync.face.geometry import canvas_size, invert


def crop(frame: np.ndarray, matrix: np.ndarray, resolution: int) -> np.ndarray:
    """Frame (h, w, 3) uint8 to crop (resolution, resolution, 3) uint8."""
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    place = torch.from_numpy(matrix.astype(np.float32))[None]
    canvas = kornia.geometry.warp_affine(
        picture, place, canvas_size(resolution), padding_mode="fill", fill_value=torch.full((3,), 127.0)
    )
    eight_bit = canvas[0].permute(1, 2, 0).numpy().astype(np.uint8)
    return cv2.resize(eight_bit, (resolution, resolution), interpolation=cv2.INTER_LANCZOS4)


def paste(frame: np.ndarray, face: torch.Tensor, matrix: np.ndarray) -> np.ndarray:
    """Frame (h, w, 3) uint8 with `face` (3, resolution, resolution), 0..255, laid over it."""
    height, width = frame.shape[:2]
    size = canvas_size(face.shape[-1])
    back = torch.from_numpy(invert(matrix).astype(np.float32))[None]
    canvas = F.interpolate(face[None], size=size, mode="bicubic", antialias=True)
    warped = kornia.geometry.warp_affine(canvas, back, (height, width))
    covered = kornia.geometry.warp_affine(torch.ones(1, 1, *size), back, (height, width))
    covered = kornia.morphology.erosion(covered, torch.ones(2, 2))
    edge = max(1, int(math.sqrt(covered.sum())) // 20)
    # The large box by OpenCV: kornia's erosion would take seconds and flatter the comparison.
    soft = cv2.erode(covered[0, 0].numpy(), np.ones((2 * edge, 2 * edge), np.uint8))
    soft = torch.from_numpy(soft)[None, None]
    kernel = 2 * edge + 1
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    soft = kornia.filters.gaussian_blur2d(soft, (kernel, kernel), (sigma, sigma))
    picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float()
    mixed = soft * (covered * warped) + (1 - soft) * picture
    return mixed[0].clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)
