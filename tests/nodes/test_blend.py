import pytest
import torch
from heads import head, track_face, unchanged

R = 128


@pytest.fixture
def made(pack):
    """Frames, their track, and crops of another colour."""
    source = head(pack, missing=(5, 6))
    source.track = track_face(pack, source)[0]
    source.crops = torch.rand(12, R, R, 3, generator=torch.Generator().manual_seed(3))
    return source


def blend(pack, made, **inputs):
    usual = {"images": made.images, "track": made.track, "crops": made.crops}
    return pack.run("LatentSyncBlendFaces", **{"mask_smooth": 0.5, "match_colour": False} | usual | inputs)[0]


@pytest.mark.parametrize("match_colour", [False, True])
def test_an_empty_mask_returns_the_frames_bit_for_bit(pack, made, match_colour):
    alpha = torch.cat([made.images, torch.rand(12, 160, 201, 1)], -1)
    for images in (made.images, alpha):
        out = blend(pack, made, images=images, mask=torch.zeros(1, R, R), match_colour=match_colour)
        assert torch.equal(out, images)


def test_what_is_in_front_of_the_face_stays(pack, made):
    covered = torch.zeros(12, 160, 201)
    covered[:4] = 1
    out = blend(pack, made, occlusion=covered)
    assert torch.equal(out[:4], made.images[:4]) and torch.equal(out[7:], blend(pack, made)[7:])
    with pytest.raises(ValueError, match="is 128 x 128 and the frames are 201 x 160: resize it"):
        blend(pack, made, occlusion=torch.zeros(12, R, R))


def test_pixels_outside_the_face_are_bit_identical_and_inputs_stay(pack, made):
    mask = torch.ones(1, R, R)
    with unchanged(made.images, made.crops, mask):
        out = blend(pack, made, mask=mask)
    assert torch.equal(out[5:7], made.images[5:7])  # no face
    corners = pack.latentsync.face.geometry.corners
    for i in (0, 11):
        low, high = (getattr(corners(made.track.track.matrices[i], R), end)(0) for end in ("min", "max"))
        rows, columns = torch.meshgrid(torch.arange(160), torch.arange(201), indexing="ij")
        outside = (columns < low[0] - 2) | (columns > high[0] + 2) | (rows < low[1] - 2) | (rows > high[1] + 2)
        assert outside.any() and torch.equal(out[i][outside], made.images[i][outside])
        assert not torch.equal(out[i], made.images[i])


def test_masks_of_other_sizes_and_one_for_each_frame(pack, made):
    mask = pack.run("LatentSyncFaceMask", track=made.track, shape="mouth", grow=0, feather=0.5)[0]
    usual = blend(pack, made)
    assert torch.equal(blend(pack, made, mask=mask), usual)
    assert torch.equal(blend(pack, made, mask=mask[0]), usual)
    large = torch.nn.functional.interpolate(mask[:, None], size=(300, 400), mode="bilinear")[:, 0]
    assert (blend(pack, made, mask=large) - usual).abs().mean() < 5e-3
    each = mask.repeat(12, 1, 1)
    each[3:] = 0
    out = blend(pack, made, mask=each)
    assert torch.equal(out[:3], usual[:3]) and torch.equal(out[3:], made.images[3:])
    with pytest.raises(ValueError, match="there are 5 blend masks for 12 frames"):
        blend(pack, made, mask=each[:5])


def test_inputs_of_different_clips_are_refused(pack, made):
    with pytest.raises(ValueError, match="12 images, 11 crops and a track of 12 frames"):
        blend(pack, made, crops=made.crops[1:])
    with pytest.raises(ValueError, match="of 12 frames.*|do not fit a track"):
        blend(pack, made, crops=torch.rand(12, 64, 64, 3))
