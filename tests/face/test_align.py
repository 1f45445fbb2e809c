import cv2
import numpy as np
import pytest
import torch
from golden_data import directory, tensors
from pictures import read_png

from latentsync.face.align import OUTSIDE, AlignedFaces, published_crop, warp_crop
from latentsync.face.geometry import crop_matrix, fit_similarity, invert, published_matrices, stretch
from latentsync.frames import as_uint8


@pytest.mark.parametrize("resolution", [256, 512])
@pytest.mark.parametrize("name", ["crop_first", "crop_last", "edge_crop"])
def test_crops_are_the_published_ones(resolution, name):
    golden = tensors(f"align_{resolution}")
    clip = golden["edge_landmarks"][None] if name == "edge_crop" else golden["landmarks"]
    matrix = published_matrices(clip.numpy(), resolution)[0 if name == "crop_first" else -1]
    crop = as_uint8(published_crop(read_png(directory() / "frame.png"), matrix, resolution))
    difference = (crop.float() - golden[name].float()).abs()
    assert difference.max() <= 2 and difference.mean() <= 0.2


def gradient(height, width):
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([x, y, (x + y) / 2], -1)


@pytest.mark.parametrize("scale", [0.4, 1.0, 5.0])
def test_default_crop_samples_where_the_matrix_says(scale):
    """On a linear gradient a pixel's colour is its place in the frame, at any face size."""
    frame = gradient(900, 1200)
    points = np.array([[600.0, 400], [600 + 60 * scale, 402], [600 + 31 * scale, 400 + 40 * scale]])
    matrix = fit_similarity(points, 256)[0]
    crop = warp_crop(frame, matrix, 256)
    back = invert(crop_matrix(matrix, 256))
    rows, columns = np.mgrid[40:216:16, 40:216:16]
    places = np.stack([columns, rows], -1) @ back[:, :2].T + back[:, 2]
    assert np.abs(crop[rows, columns, 0].numpy() - places[..., 0] / 1200).max() < 1.5e-4
    assert np.abs(crop[rows, columns, 1].numpy() - places[..., 1] / 900).max() < 1.5e-4


def test_large_faces_do_not_alias():
    """Stripes finer than a crop pixel become grey instead of a moire pattern."""
    frame = (torch.arange(2000)[None, :, None] % 2 * 1.0).expand(2000, 2000, 3)
    matrix = np.array([[0.2, 0, -60], [0, 0.2, -60]])
    assert warp_crop(frame, matrix, 256).std() < 0.05


@pytest.mark.parametrize(("scale", "shrunk"), [(0.79, True), (0.81, False)])
def test_a_face_is_shrunk_where_a_crop_pixel_is_less_than_0_8_of_the_frame_s(scale, shrunk):
    frame = torch.rand(600, 600, 3, generator=torch.Generator().manual_seed(0))
    matrix = (np.linalg.inv(stretch(256)) @ np.diag([scale, scale, 1]))[:2]
    plain = cv2.warpAffine(frame.numpy(), crop_matrix(matrix, 256), (256, 256), flags=cv2.INTER_LINEAR)
    assert (np.abs(warp_crop(frame, matrix, 256).numpy() - plain).mean() > 0.01) == shrunk


def test_uint8_and_float_frames_give_the_same_crop():
    frame = torch.randint(0, 256, (300, 300, 3), dtype=torch.uint8)
    matrix = np.array([[1.1, 0.1, -40], [-0.1, 1.1, -10]])
    for warp in (warp_crop, published_crop):
        assert torch.equal(warp(frame, matrix, 256), warp(frame.float() / 255, matrix, 256))


def test_face_outside_the_frame_is_grey():
    matrix = np.array([[1.0, 0, 5000], [0, 1.0, 5000]])
    for warp in (warp_crop, published_crop):
        crop = warp(torch.rand(50, 60, 3), matrix, 128)
        assert torch.equal(crop, torch.full_like(crop, OUTSIDE))


def test_frames_without_a_face_are_grey_and_not_read():
    class Counting:
        asked = []

        def __len__(self):
            return 4

        def __getitem__(self, indices):
            self.asked += indices
            return torch.rand(len(indices), 64, 64, 3)

    frames = Counting()
    matrices = np.tile(np.array([[1.0, 0, 20], [0, 1, 20]]), (4, 1, 1))
    crops = AlignedFaces(frames, matrices, np.array([True, False, False, True]), 128)[[3, 1, 0]]
    assert crops.shape == (3, 128, 128, 3) and frames.asked == [3, 0]
    assert (crops[1] == OUTSIDE).all() and crops[0].std() > 0


def test_a_track_of_another_clip_is_refused():
    with pytest.raises(ValueError, match="covers 3 frames and the clip has 4"):
        AlignedFaces(torch.zeros(4, 8, 8, 3), np.zeros((3, 2, 3)), np.ones(3, bool), 128)
