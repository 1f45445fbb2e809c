import cv2
import numpy as np
import pytest
import torch
from test_blend import R, noise, place, track

from latentsync.face import occlusion
from latentsync.face.align import AlignedFaces, warp_crop
from latentsync.face.blend import blend
from latentsync.face.geometry import apply, crop_matrix, invert
from latentsync.face.occlusion import FreeCrops, Occlusion
from latentsync.settings import BlendSettings

SIZE = (240, 320)
SETTINGS = BlendSettings(mask_smooth=0.0)


def hand(matrix, x=0.5, radius=0.12) -> torch.Tensor:
    """A mask (240, 320) with a disc over the mouth of the face at `matrix`, `x` of the crop from the left."""
    centre = apply(invert(crop_matrix(matrix, R)), np.array([[x * R, 0.66 * R]]))[0]
    pixels = radius * R / np.hypot(*matrix[0, :2])
    mask = cv2.circle(np.zeros(SIZE, np.uint8), tuple(round(v) for v in centre), round(pixels), 1, -1)
    return torch.from_numpy(mask.astype(np.float32))


@pytest.fixture(params=[1.0, 0.5, 2.2], ids=["as large", "large face", "small face"])
def faces(request):
    """A track of three frames, and the frames."""
    return track([place(160 + 3 * i, 118, request.param) for i in range(3)]), noise(3)


def blended(faces, masks, settings=SETTINGS):
    follow, frames = faces
    crops = torch.rand(3, R, R, 3, generator=torch.Generator().manual_seed(2))
    free = None if masks is None else Occlusion(masks, follow)
    return torch.cat(list(blend(frames, follow, crops.split(2), settings, occlusion=free)))


@pytest.mark.parametrize("settings", [SETTINGS, BlendSettings(), BlendSettings(match_colour=True)])
def test_what_is_in_front_stays_the_source_s_and_the_rest_is_as_without(faces, settings):
    follow, frames = faces
    masks = torch.stack([hand(m) for m in follow.matrices])
    out, usual = blended(faces, masks, settings), blended(faces, None, settings)
    assert torch.equal(out[masks > 0], frames[masks > 0])
    assert (usual[masks > 0] != frames[masks > 0]).any(-1).float().mean() > 0.9
    scale = np.hypot(*follow.matrices[0, 0, :2])
    reach = int(np.ceil((occlusion.REACH * max(1, scale) + occlusion.EDGE * R) / scale)) + 3
    grown = cv2.dilate(masks.numpy().transpose(1, 2, 0), np.ones((2 * reach + 1, 2 * reach + 1)))
    near = torch.from_numpy(grown).permute(2, 0, 1)
    assert torch.equal(out[near == 0], usual[near == 0])
    assert (out[near == 0] != frames[near == 0]).any()


def test_nothing_in_front_changes_nothing_and_all_in_front_leaves_the_frames(faces):
    assert torch.equal(blended(faces, torch.zeros(1, *SIZE)), blended(faces, None))
    assert torch.equal(blended(faces, torch.ones(3, *SIZE)), faces[1])
    # 8-bit masks of a video with three channels.
    masks = torch.stack([hand(m) for m in faces[0].matrices])
    coloured = (255 * masks).to(torch.uint8)[..., None].expand(-1, -1, -1, 3)
    assert torch.equal(blended(faces, coloured), blended(faces, masks))


def test_the_edge_is_soft_outside_the_mask_and_of_a_width_in_crop_pixels():
    follow = track([place(160, 118)])
    mask = hand(follow.matrices[0])
    crop = warp_crop(mask[..., None].expand(*SIZE, 3), follow.matrices[0], R)[..., 0]
    (free,) = Occlusion(mask[None], follow)[[0]]
    row, covered = (picture[round(0.66 * R), R // 2 :].numpy() for picture in (free, crop))
    edge = np.flatnonzero(covered < 0.1)[0] - 1
    start, stop = (np.flatnonzero(row > level)[0] for level in (0.0, 0.999))
    assert edge + 1 < start < edge + 4
    assert stop - start == pytest.approx(0.02 * R, abs=1)
    assert (np.diff(row) >= 0).all() and row[0] == 0 and row[-1] == 1


def test_a_veil_lets_the_rest_of_the_result_through():
    follow = track([place(160, 118)])
    (free,) = Occlusion(torch.full((1, *SIZE), 0.09), follow)[[0]]
    assert free.min() == free.max() == pytest.approx(0.91, abs=1e-3)


def test_beyond_the_frame_nothing_is_in_front():
    follow = track([place(10, 118)])
    assert Occlusion(torch.zeros(1, *SIZE), follow)[[0]].min() > 0.999


def test_crops_are_filled_from_the_nearest_free_one():
    follow = track([place(160, 118)] * 8)
    masks = torch.stack([hand(follow.matrices[0], radius=0.2 if i in (1, 2, 7) else 0) for i in range(8)])
    frames = noise(8)
    own = AlignedFaces(frames, follow.matrices, follow.found, R)
    free = Occlusion(masks, follow)
    filled = FreeCrops(own, free.__getitem__)
    numbers = list(range(8))
    before, after, weights = own[numbers], filled[numbers], free[numbers]
    for i, donor in ((1, 0), (2, 3), (7, 6)):
        covered = weights[i] == 0
        assert covered.any() and torch.equal(after[i][covered], before[donor][covered])
        assert torch.equal(after[i][weights[i] == 1], before[i][weights[i] == 1])
    assert torch.equal(after[[0, 3, 6]], before[[0, 3, 6]])
    # Where none is free, they stay as they are.
    assert torch.equal(filled[[1, 2]], before[[1, 2]])
    assert len(filled) == 8


def flickering(covered: str, radius=0.12, cuts=()):
    """`Occlusion` of a face that stands still, with a disc over its mouth where `covered` has an x; "-": no face."""
    follow = track([place(160, 118)] * len(covered), [c != "-" for c in covered])
    follow.cuts[list(cuts)] = True
    masks = torch.stack([hand(follow.matrices[0]) * (c == "x") for c in covered])
    return Occlusion(masks, follow)


@pytest.mark.parametrize(
    ("covered", "steadied", "cuts"),
    [
        ("..x...x..", "..xxxxx..", ()),
        ("..x....x.", "..x....x.", ()),  # too long
        ("..x...x..", "..x...x..", (4,)),
        ("..x.-.x..", "..x...x..", ()),
        ("x..xx.x...", "xxxxxxx...", ()),
        ("...x......", "...x......", ()),
        ("..........", "..........", ()),
        ("xxxxxxxxxx", "xxxxxxxxxx", ()),
    ],
)
def test_short_gaps_of_a_run_are_closed_and_nothing_else(covered, steadied, cuts):
    free = flickering(covered, cuts=cuts)
    alone = {c: Occlusion(hand(place(160, 118))[None] * (c == "x"), track([place(160, 118)]))[[0]][0] for c in "x."}
    whole = free[range(len(covered))]
    for i, c in enumerate(steadied):
        assert torch.equal(whole[i], alone[c]), i
    windows = [free[numbers] for numbers in ([0, 1, 2], [2, 3, 4, 5], [1], list(range(6, len(covered))))]
    assert torch.equal(torch.cat(windows), whole[[0, 1, 2, 2, 3, 4, 5, 1, *range(6, len(covered))]])


def test_no_more_of_the_track_is_asked_for_than_a_mask_depends_on():
    follow, asked = track([place(160, 118)] * 12), []
    free = Occlusion(torch.zeros(12, *SIZE), follow, lambda stop: asked.append(stop) or follow.runs(stop))
    for numbers in ([0, 1], [5], [9, 10, 11]):
        free[numbers]
    assert asked == [5, 9, 12]


def test_frames_without_the_face_are_not_looked_at():
    class Masks:
        def __len__(self):
            return 2

        def __getitem__(self, indices):
            raise AssertionError

    follow = track([place(160, 118)] * 2, weight=[0, 0])
    assert Occlusion(Masks(), follow)[[0, 1]].min() == 1


def test_masks_that_do_not_fit_and_the_published_blending_are_refused(faces):
    with pytest.raises(ValueError, match="there are 2 masks of what is in front of the face for 3 frames"):
        Occlusion(torch.zeros(2, *SIZE), faces[0])
    with pytest.raises(ValueError, match="leave out the occlusion"):
        blended(faces, torch.zeros(1, *SIZE), BlendSettings(published=True))
