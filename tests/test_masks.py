import cv2
import numpy as np
import pytest
import torch
from golden_data import tensors

from latentsync.masks import _polygon_mask, keep_mask, mouth_mask, ring_mask


def test_mask_at_128_is_the_published_one():
    golden = tensors("denoise")
    assert (keep_mask(128) - golden["mask"]).abs().max() <= 1e-2
    small = torch.nn.functional.interpolate(keep_mask(128)[None], size=(16, 16), mode="nearest")[0]
    assert (small - golden["mask_latent"]).abs().max() <= 1e-2


def test_mask_at_256_is_the_polygon():
    mask = keep_mask(256)[0].numpy()
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert np.array_equal(mask * 255, _polygon_mask())
    # One region, under the eyes and down to the chin.
    count, _, stats, _ = cv2.connectedComponentsWithStats((mask == 0).astype(np.uint8))
    assert count == 2
    x, y, width, height, _ = stats[1]
    assert (x, y, x + width - 1, y + height - 1) == (9, 95, 247, 242)


@pytest.mark.parametrize("resolution", [128, 256, 512])
def test_soft_edge_lies_inside_the_repainted_region(resolution):
    repainted = keep_mask(resolution)[0] < 0.5
    previous = None
    for smooth in (0.0, 0.25, 0.5, 1.0):
        mask = mouth_mask(resolution, smooth)
        assert mask.min() == 0 and mask.max() == 1
        assert (mask[~repainted] > 0).float().mean() < 0.002  # rounding of the polygon's edge
        if previous is not None:
            assert (mask <= previous + 1e-6).all()  # softer means less of the crop
        previous = mask
    assert mouth_mask(resolution, 0.0).unique().tolist() == [0.0, 1.0]


def test_ring_is_inside_and_leaves_the_mouth_out():
    ring = ring_mask(256)
    assert (keep_mask(256)[0][ring] == 0).all()
    assert not ring[140:205, 80:170].any() and ring.sum() > 2000


def test_smoothness_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match="mask_smooth is 1.5"):
        mouth_mask(256, 1.5)
