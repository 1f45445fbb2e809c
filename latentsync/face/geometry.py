"""Where a face lies: the canvas that a face is aligned to, and the similarity that takes it there.

Convention
    Points are (x, y), x to the right, y down, pixel centres at integers. A matrix (2, 3) maps FRAME pixels to
    CANVAS pixels: canvas = m[:, :2] @ frame + m[:, 2]. The canvas is higher than wide; the net's square crop is
    the canvas stretched to resolution x resolution (`stretch`).

Template and fit are those of the published LatentSync (arXiv 2412.09262).
"""

import numpy as np
import torch
import torch.nn.functional as F

from ..errors import InputError

# Left brow centre, right brow centre and nose, in units of which the canvas has 75 x 100.
TEMPLATE = np.array([[17.0, 20.0], [58.0, 20.0], [37.5, 40.0]])
CANVAS_UNITS = (75, 100)  # width, height
PIXELS_PER_UNIT_AT_256 = 2.8
BIAS_KEPT = 0.2  # share of the previous frame's bias in the published smoothing


def pixels_per_unit(resolution: int) -> float:
    return PIXELS_PER_UNIT_AT_256 * resolution / 256


def canvas_size(resolution: int) -> tuple[int, int]:
    """(height, width) in pixels of the canvas for a crop of resolution x resolution: (280, 210) at 256."""
    unit = pixels_per_unit(resolution)
    return int(CANVAS_UNITS[1] * unit), int(CANVAS_UNITS[0] * unit)


def resizing(before: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """(3, 3) map of pixels (x, y) from a picture of (height, width) `before` to one of `size`, edges to edges."""
    y, x = size[0] / before[0], size[1] / before[1]
    return np.array([[x, 0, 0.5 * x - 0.5], [0, y, 0.5 * y - 0.5], [0, 0, 1]])


def stretch(resolution: int) -> np.ndarray:
    """(3, 3) map from canvas pixels to crop pixels."""
    return resizing(canvas_size(resolution), (resolution, resolution))


def crop_matrix(matrix: np.ndarray, resolution: int) -> np.ndarray:
    """(2, 3) map from frame pixels to crop pixels, for a frame-to-canvas `matrix`."""
    return stretch(resolution)[:2] @ homogeneous(matrix)


def homogeneous(matrix: np.ndarray) -> np.ndarray:
    return np.vstack([np.asarray(matrix, np.float64), [0, 0, 1]])


def invert(matrix: np.ndarray) -> np.ndarray:
    """The inverse (2, 3) of an affine map (2, 3)."""
    return np.linalg.inv(homogeneous(matrix))[:2]


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`points` (n, 2) mapped by an affine `matrix` (2, 3)."""
    return points @ matrix[:, :2].T + matrix[:, 2]


def fit_similarity(points: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame-to-canvas similarity for three measured points (3, 2), by Procrustes analysis without reflection.

    Returns the matrix (2, 3) and the nose bias (2,): normalised template nose minus normalised measured nose, where
    normalised means centred and divided by the unbiased standard deviation of all six numbers.
    """
    target = TEMPLATE * pixels_per_unit(resolution)
    points = np.asarray(points, np.float64)
    mean, target_mean = points.mean(0), target.mean(0)
    centred, target_centred = points - mean, target - target_mean
    spread, target_spread = centred.std(ddof=1), target_centred.std(ddof=1)
    if not spread > 1e-6:
        raise InputError(f"the three face points coincide at {mean.tolist()}: correct them in the track file")
    centred, target_centred = centred / spread, target_centred / target_spread
    u, _, vt = np.linalg.svd(centred.T @ target_centred)
    flip = np.diag([1.0, np.sign(np.linalg.det(u @ vt))])
    linear = (u @ flip @ vt).T * target_spread / spread
    matrix = np.column_stack([linear, target_mean - linear @ mean])
    return matrix, target_centred[2] - centred[2]


def published_matrices(points: np.ndarray, resolution: int) -> np.ndarray:
    """Matrices (n, 2, 3) of one clip's points (n, 3, 2) as the published program computes them.

    Points are rounded to whole pixels, and the smoothed nose bias is added, unscaled, to the translation.
    """
    matrices, bias = [], None
    for triple in points:
        matrix, bias = published_matrix(triple, resolution, bias)
        matrices.append(matrix)
    return np.stack(matrices).astype(np.float32)


def published_matrix(points: np.ndarray, resolution: int, before: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The next of `published_matrices`, with its smoothed bias; `before` is that of the last one."""
    matrix, bias = fit_similarity(np.rint(points), resolution)
    bias = bias if before is None else BIAS_KEPT * before + (1 - BIAS_KEPT) * bias
    matrix[:, 2] += bias
    return matrix, bias


def to_pose(matrix: np.ndarray, resolution: int) -> np.ndarray:
    """A similarity as (4,), to average over time: canvas centre x, y in frame pixels, log scale, angle in radians."""
    height, width = canvas_size(resolution)
    x, y = apply(invert(matrix), np.array([[(width - 1) / 2, (height - 1) / 2]]))[0]
    return np.array([x, y, np.log(np.hypot(matrix[0, 0], matrix[1, 0])), np.arctan2(matrix[1, 0], matrix[0, 0])])


def from_pose(pose: np.ndarray, resolution: int) -> np.ndarray:
    """Frame-to-canvas matrices (n, 2, 3) of poses (n, 4); the inverse of `to_pose`."""
    height, width = canvas_size(resolution)
    cos, sin = np.exp(pose[:, 2]) * np.cos(pose[:, 3]), np.exp(pose[:, 2]) * np.sin(pose[:, 3])
    linear = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], 1)
    shift = np.array([(width - 1) / 2, (height - 1) / 2]) - np.einsum("nij,nj->ni", linear, pose[:, :2])
    return np.concatenate([linear, shift[..., None]], -1)


def corners(matrix: np.ndarray, resolution: int) -> np.ndarray:
    """The canvas's four corners (4, 2) in frame pixels, clockwise from the top left."""
    height, width = canvas_size(resolution)
    box = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    return apply(invert(matrix), box)


def bilinear(image: torch.Tensor, matrix: np.ndarray, size: tuple[int, int], fill: float = 0.0) -> torch.Tensor:
    """Exact bilinear warp: image (c, h, w) float32 to (c, *size); `matrix` (2, 3) maps OUTPUT to image pixels.

    Used for the published geometry, because OpenCV rounds sampling positions to 1/32 pixel in some versions.
    """
    height, width = image.shape[-2:]
    scale = np.array([[2 / max(width - 1, 1)], [2 / max(height - 1, 1)]])
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    m = torch.from_numpy(np.asarray(matrix, np.float64) * scale)
    grid = torch.stack([columns, rows], -1) @ m[:, :2].T + m[:, 2] - 1
    warped = F.grid_sample((image - fill)[None], grid[None].float(), align_corners=True, padding_mode="zeros")
    return warped[0] + fill


def region(points: np.ndarray, height: int, width: int, margin: int) -> tuple[slice, slice] | None:
    """Rows and columns of the picture (height, width) around `points` (n, 2); None where they do not meet."""
    low = np.floor(points.min(0)).astype(int) - margin
    high = np.ceil(points.max(0)).astype(int) + margin + 1
    x0, y0 = np.maximum(low, 0)
    x1, y1 = np.minimum(high, [width, height])
    if x0 >= x1 or y0 >= y1:
        return None
    return slice(int(y0), int(y1)), slice(int(x0), int(x1))


def shifted(matrix: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """`matrix` for coordinates counted from the region's first row and column instead of the picture's."""
    moved = np.array(matrix, np.float64)
    moved[:, 2] += moved[:, :2] @ [columns.start, rows.start]
    return moved
