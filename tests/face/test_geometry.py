import numpy as np
import pytest
from golden_data import tensors

from latentsync.face.geometry import (
    TEMPLATE,
    apply,
    bilinear,
    canvas_size,
    corners,
    crop_matrix,
    fit_similarity,
    from_pose,
    invert,
    pixels_per_unit,
    published_matrices,
    region,
    to_pose,
)

RESOLUTIONS = (256, 512)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_matrices_are_the_published_ones(resolution):
    golden = tensors(f"align_{resolution}")
    assert canvas_size(resolution) == tuple(golden["crop_size_hw"].tolist())
    matrices = published_matrices(golden["landmarks"].numpy(), resolution)
    assert np.abs(matrices - golden["matrices"].numpy()).max() <= 1e-3
    edge = published_matrices(golden["edge_landmarks"][None].numpy(), resolution)
    assert np.abs(edge[0] - golden["edge_matrix"].numpy()).max() <= 1e-3


def similarity(angle, scale, x, y):
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[cos, -sin, x], [sin, cos, y]])


@pytest.mark.parametrize("angle", [-1.2, 0.0, 0.3, 3.0])
def test_fit_recovers_a_similarity(angle):
    truth = similarity(angle, 0.7, 30, -12)
    points = apply(invert(truth), TEMPLATE * pixels_per_unit(256))
    assert np.abs(fit_similarity(points, 256)[0] - truth).max() < 1e-9


def test_fit_never_mirrors():
    mirrored = TEMPLATE[[1, 0, 2]] * [1, 1]
    assert np.linalg.det(fit_similarity(mirrored, 256)[0][:, :2]) > 0


def test_resolution_only_scales_the_canvas():
    points = np.array([[100.0, 100], [160, 96], [131, 140]])
    small, large = (fit_similarity(points, r)[0] for r in RESOLUTIONS)
    assert np.allclose(large, 2 * small)


def test_pose_is_invertible():
    rng = np.random.default_rng(0)
    truth = np.stack([similarity(*rng.normal(size=1), 0.5 + rng.random(), *rng.normal(size=2) * 50) for _ in range(20)])
    poses = np.stack([to_pose(m, 256) for m in truth])
    assert np.abs(from_pose(poses, 256) - truth).max() < 1e-9


def test_crop_matrix_takes_canvas_edges_to_crop_edges():
    height, width = canvas_size(256)
    edges = np.array([[-0.5, -0.5], [width - 0.5, height - 0.5]])
    assert np.allclose(apply(crop_matrix(np.eye(3)[:2], 256), edges), [[-0.5, -0.5], [255.5, 255.5]])


def test_corners_are_the_canvas_in_the_frame():
    box = corners(np.array([[1.0, 0, -10], [0, 1, -20]]), 256)
    assert np.allclose(box, [[10, 20], [219, 20], [219, 299], [10, 299]])


def test_region_is_clipped_and_none_outside():
    points = np.array([[-3.0, 4.2], [6.8, 9.0]])
    assert region(points, 10, 100, margin=1) == (slice(3, 10), slice(0, 9))
    assert region(points - 50, 10, 100, margin=1) is None


def test_bilinear_between_pixels():
    import torch

    image = torch.arange(12.0).view(1, 3, 4)
    half = np.array([[1.0, 0, 0.5], [0, 1, 0.25]])
    assert torch.allclose(bilinear(image, half, (2, 3)), image[:, :2, :3] + 0.5 + 0.25 * 4, atol=1e-5)


def test_coinciding_points_are_refused():
    with pytest.raises(ValueError, match="coincide"):
        fit_similarity(np.full((3, 2), 7.0), 256)
