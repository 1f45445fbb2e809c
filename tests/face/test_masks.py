import random
import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
import torch
from golden_data import tensors

from latentsync.drawn.heads.clip import make_clip
from latentsync.drawn.heads.corpus import align_clip
from latentsync.errors import InputError
from latentsync.face.masks import (
    _polygon_mask,
    face_mask,
    fitted,
    keep_mask,
    mask_image_of,
    read_mask,
    ring_mask,
    skin_mask,
    tinted,
)


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
        mask = face_mask(resolution, feather=smooth)
        assert mask.min() == 0 and mask.max() == 1
        assert (mask[~repainted] > 0).float().mean() < 0.002  # rounding of the polygon's edge
        if previous is not None:
            assert (mask <= previous + 1e-6).all()  # softer means less of the crop
        previous = mask
    assert face_mask(resolution, feather=0).unique().tolist() == [0.0, 1.0]


def test_ring_is_inside_and_leaves_the_mouth_out():
    ring = ring_mask(256)
    assert (keep_mask(256)[0][ring] == 0).all()
    assert not ring[140:205, 80:170].any() and ring.sum() > 2000


@pytest.mark.parametrize("seed", [4, 5])
def test_no_skin_is_where_lips_and_teeth_move(seed):
    crops = align_clip(make_clip(seed, 3.0), 128)
    moving = (crops.amax(0) - crops.amin(0)).mean(-1) > 0.25
    moving[:64] = False  # the eyes
    assert moving.sum() > 200 and skin_mask(128)[moving].max() < 0.1
    repainted = face_mask(128)
    assert (skin_mask(128) * repainted).sum() > 0.5 * repainted.sum()


def test_edge_and_ring_have_their_widths():
    """At 256 pixels the widest edge takes 32 of them, by smoothstep, and the ring 10."""
    image = np.full((256, 256), 255, np.uint8)
    image[50:200, 50:200] = 0
    soft = face_mask(256, feather=1.0, mask_image=image)[125]
    np.testing.assert_allclose(soft[[49, 57, 65, 81, 125]], [0, 0.15625, 0.5, 1, 1])  # 0, 8, 16, 32 and more pixels
    assert torch.nonzero(ring_mask(256, image)[125]).flatten().tolist() == [*range(50, 60), *range(190, 200)]
    lower = face_mask(256, "lower face", feather=0)
    assert not lower[:128].any() and lower[128].any()


def test_shapes_hold_what_they_are_named_after():
    mouth, lower, oval, face = (
        face_mask(256, shape, feather=0) > 0 for shape in ("mouth", "lower face", "oval", "face")
    )
    lips, nose, brow, cheek = (150, 128), (110, 128), (45, 70), (110, 30)  # row, column in a crop of 256
    for mask, inside in (
        (mouth, (True, False, False, True)),
        (lower, (True, False, False, False)),
        (oval, (True, False, False, False)),
        (face, (True, True, True, True)),
    ):
        assert tuple(bool(mask[place]) for place in (lips, nose, brow, cheek)) == inside
    assert (lower & mouth).sum() == lower.sum() and oval.sum() < lower.sum() < mouth.sum() < face.sum()


@pytest.mark.parametrize("resolution", [128, 512])
def test_shapes_scale_with_the_crop_and_grow_by_pixels(resolution):
    for shape in ("mouth", "lower face", "face", "oval"):
        hard = [face_mask(resolution, shape, grow, feather=0) for grow in (-9, 0, 9)]
        assert (hard[0] <= hard[1]).all() and (hard[1] <= hard[2]).all()
        column = resolution // 2
        rows = [np.flatnonzero(mask[:, column].numpy()) for mask in hard]
        assert rows[1][-1] - rows[0][-1] == 9
        assert rows[2][-1] == min(rows[1][-1] + 9, resolution - 1)
        share = face_mask(256, shape, feather=0).mean()
        assert hard[1].mean() == pytest.approx(float(share), abs=0.02)
        soft = face_mask(resolution, shape, feather=1.0)
        assert (soft <= hard[1]).all() and soft.unique().numel() > 10


def test_unknown_shapes_and_feathers_are_refused():
    with pytest.raises(ValueError, match="shape is 'nose': choose one of mouth, lower face, face, oval"):
        face_mask(256, "nose")
    for feather in (-0.01, 1.01):
        with pytest.raises(ValueError, match=f"feather is {feather}"):
            face_mask(256, feather=feather)


def test_masks_are_fitted_and_kept_where_they_fit():
    mask = torch.rand(2, 64, 64)
    assert torch.equal(fitted(mask, 64), mask)
    assert torch.equal(fitted(torch.full((1, 7, 300), 2.0), 64), torch.ones(1, 64, 64))
    back = fitted(fitted(face_mask(256)[None], 512), 256)
    assert (back - face_mask(256)).abs().max() < 0.05


def test_tint_shows_the_mask_only_where_it_is():
    pictures, mask = torch.rand(2, 32, 32, 3), torch.zeros(32, 32)
    mask[8:24, 8:24] = 1
    shown = tinted(pictures, mask)
    assert (
        torch.equal(shown[:, :7], pictures[:, :7])
        and not torch.isclose(shown[:, 9:23, 9:23], pictures[:, 9:23, 9:23]).all()
    )


def picture_file(path, picture: np.ndarray):
    cv2.imwrite(str(path), picture)
    return path


@pytest.mark.parametrize("resolution", [64, 256, 512])
def test_the_published_mask_as_a_picture_is_the_mask(resolution, tmp_path):
    picture = _polygon_mask()
    colours = cv2.merge([picture // 2, picture // 3, picture])  # the red part counts
    for image in (
        read_mask(picture_file(tmp_path / "mask.png", picture)),
        read_mask(picture_file(tmp_path / "mäsk colours.png", colours)),
        mask_image_of(1 - torch.from_numpy(picture / 255.0)[None]),
    ):
        assert torch.equal(keep_mask(resolution, image), keep_mask(resolution))
        assert torch.equal(face_mask(resolution, mask_image=image), face_mask(resolution))
        assert torch.equal(ring_mask(resolution, image), ring_mask(resolution))


def test_greys_of_a_mask_stay_and_only_the_mouth_is_another_shape():
    image = np.full((100, 105), 255, np.uint8)
    image[50:, :] = 51
    mask = keep_mask(128, image)[0]
    assert mask[:60].min() == 1 and (mask[70:] - 0.2).abs().max() < 1e-6
    assert (face_mask(128, feather=0, mask_image=image)[68:-1, 1:-1] == 1).all() and not face_mask(
        128, feather=0, mask_image=image
    )[:63].any()
    assert torch.equal(face_mask(128, "oval", mask_image=image), face_mask(128, "oval"))


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (np.full((8, 8), 255, np.uint8), "mask.png leaves 0.0% of the crop to repaint: make the part black"),
        (np.zeros((100, 111), np.uint8), "mask.png is 111 x 100 pixels: give a square one"),
        (np.repeat([0, 255], [99, 9901]).astype(np.uint8).reshape(100, 100), "leaves 1.0% of the crop to repaint"),
        (None, "mask.png is no picture that can be read"),
    ],
)
def test_pictures_that_are_no_masks_are_refused_in_a_sentence(picture, says, tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(b"nothing") if picture is None else picture_file(path, picture)
    with pytest.raises(ValueError, match=says):
        read_mask(path)
    with pytest.raises(ValueError, match="there is no mask image .*none.png"):
        read_mask(tmp_path / "none.png")
    smallest = np.repeat(np.uint8([0, 255]), [110, 10890]).reshape(100, 110)  # 1 % of the largest squeeze
    assert np.array_equal(read_mask(picture_file(tmp_path / "least.png", smallest)), smallest)


def png_of(width, height, rest=b""):
    """The start of a PNG file that announces so many pixels."""
    chunks = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0), b"IDAT" + zlib.compress(bytes(99)) + rest
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


@pytest.mark.parametrize("side", [2**13 + 1, 100_000, 2**31 - 1])
def test_a_mask_of_a_billion_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch, side):
    monkeypatch.setattr(cv2, "imdecode", None)
    (tmp_path / "mask.png").write_bytes(png_of(side, side))
    with pytest.raises(InputError, match=r"mask.png .* pixels"):
        read_mask(tmp_path / "mask.png")


def test_no_more_of_a_mask_file_is_read_than_its_pixels_can_take(tmp_path):
    path = picture_file(tmp_path / "mask.png", _polygon_mask())
    with path.open("ab") as file:
        file.truncate(2**28)
    tracemalloc.start()
    try:
        assert np.array_equal(read_mask(path), _polygon_mask())
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "pgm", "webp"])
def test_damaged_mask_files_end_in_a_mask_or_a_sentence(tmp_path, kind):
    chance, path = random.Random(0), picture_file(tmp_path / f"mask.{kind}", _polygon_mask())
    whole, sentences = path.read_bytes(), 0
    for _ in range(40):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(chance.choice((50, len(data))))] = chance.choice((0, 255, chance.randrange(256)))
        path.write_bytes(data[: chance.choice((None, chance.randrange(len(data))))])
        try:
            assert read_mask(path).dtype == np.uint8
        except InputError as error:
            assert "\n" not in str(error)
            sentences += 1
    assert 5 < sentences


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (torch.zeros(64, 64), "the mask leaves 0.0% of the crop to repaint: make the part white"),
        (torch.ones(2, 64, 64), r"the mask has shape \(2, 64, 64\): give one mask"),
    ],
)
def test_masks_of_a_graph_are_checked_too(mask, says):
    with pytest.raises(ValueError, match=says):
        mask_image_of(mask)
