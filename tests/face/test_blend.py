import cv2
import numpy as np
import pytest
import torch
from golden_data import directory, tensors
from pictures import read_png

from latentsync.errors import InputError
from latentsync.face.align import warp_crop
from latentsync.face.blend import blend, match_colour, paste_crop, paste_published
from latentsync.face.geometry import apply, canvas_size, corners, crop_matrix, published_matrices
from latentsync.face.masks import face_mask, ring_mask, skin_mask
from latentsync.face.track import FaceTrack
from latentsync.frames import as_float, as_uint8
from latentsync.settings import BlendSettings, RunSettings

R = 128
MODES = [
    BlendSettings(),
    BlendSettings(published=True),
    BlendSettings(match_colour=True),
    BlendSettings(mask_smooth=0.0),
    BlendSettings(detail=1.0),
]


def track(matrices, weight=None, resolution=R) -> FaceTrack:
    matrices = np.asarray(matrices, np.float32)
    weight = np.ones(len(matrices), np.float32) if weight is None else np.asarray(weight, np.float32)
    return FaceTrack(matrices, weight, weight, np.zeros(len(matrices), bool), resolution)


def place(x, y, scale=1.0, angle=0.05):
    """A face whose canvas centre is at (x, y) in the frame."""
    height, width = canvas_size(R)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([linear, [width / 2, height / 2] - linear @ [x, y]])


def noise(n, height=240, width=320):
    return torch.randint(0, 256, (n, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("resolution", [256, 512])
@pytest.mark.parametrize("name", ["pasted_last", "edge_pasted"])
def test_pasted_frames_are_the_published_ones(resolution, name):
    golden = tensors(f"align_{resolution}")
    clip = golden["edge_landmarks"][None] if name.startswith("edge") else golden["landmarks"]
    matrix = published_matrices(clip.numpy(), resolution)[-1]
    source = read_png(directory() / "frame.png")[None]
    crop = as_float(read_png(directory() / f"face_{resolution}.png"))[None]
    out = list(blend(source, track([matrix], resolution=resolution), [crop], BlendSettings(published=True)))[0][0]
    difference = (out.float() - golden[name].float()).abs()
    assert difference.max() <= 2 and difference.mean() <= 0.1
    box = corners(matrix, resolution)
    outside = torch.ones(source.shape[1:3], dtype=torch.bool)
    (x0, y0), (x1, y1) = np.floor(box.min(0)).astype(int), np.ceil(box.max(0)).astype(int)
    outside[max(y0, 0) : y1 + 1, max(x0, 0) : x1 + 1] = False
    assert torch.equal(out[outside], source[0][outside])


@pytest.mark.parametrize("settings", MODES)
def test_pixels_outside_the_face_are_the_source_bit_for_bit(settings):
    source = noise(2)
    before, (height, width) = source.clone(), canvas_size(R)
    faces = track([place(150, 120, 0.9), place(20, 30, 0.7)])
    out = torch.cat(list(blend(source, faces, [torch.rand(2, R, R, 3)], settings)))
    assert torch.equal(source, before) and out.dtype == torch.uint8 and not torch.equal(out, source)
    rows, columns = np.mgrid[: source.shape[1], : source.shape[2]]
    places = np.stack([columns, rows], -1).reshape(-1, 2)
    for result, frame, matrix in zip(out, source, faces.matrices, strict=True):
        x, y = apply(matrix, places).T
        kept = (x <= -2) | (y <= -2) | (x >= width + 1) | (y >= height + 1)
        if not settings.published:  # not even the eyes change
            mask = face_mask(R, feather=settings.mask_smooth).numpy()
            kept |= apply(crop_matrix(matrix, R), places)[:, 1] < np.nonzero(mask)[0].min() - 3
        assert torch.equal(result.view(-1, 3)[kept], frame.view(-1, 3)[kept])


@pytest.mark.parametrize("settings", MODES)
def test_zero_mask_zero_weight_and_faces_outside_change_nothing(settings):
    source = noise(1)
    crop = torch.rand(1, R, R, 3)
    inside = track([place(150, 120)])
    assert torch.equal(list(blend(source, inside, [crop], settings, mask=torch.zeros(R, R)))[0], source)
    assert torch.equal(list(blend(source, track([place(150, 120)], [0.0]), [crop], settings))[0], source)
    assert torch.equal(list(blend(source, track([place(5000, 120)]), [crop], settings))[0], source)


@pytest.mark.parametrize("settings", MODES)
def test_uint8_and_float_frames_give_the_same_picture(settings):
    source, crops = noise(2), torch.rand(2, R, R, 3)
    faces = track([place(150, 120), place(200, 100, 1.4)])
    levels = list(blend(source, faces, [crops], settings))[0]
    floats = list(blend(as_float(source), faces, [crops], settings))[0]
    assert floats.dtype == torch.float32
    assert torch.equal(as_uint8(floats), levels)


@pytest.mark.parametrize("scale", [0.3, 0.8, 1.1])
def test_what_is_left_out_around_the_mask_does_not_matter(scale, monkeypatch):
    """Only the crop's pixels near the mask are warped; a mask of one hard-edged square is the worst case."""
    source, crop = noise(1), torch.rand(1, R, R, 3, generator=torch.Generator().manual_seed(2))
    mask = torch.zeros(R, R)
    mask[50:70, 40:80] = 1
    faces = track([place(150, 120, scale)])
    part = list(blend(source, faces, [crop], mask=mask))[0]
    monkeypatch.setattr("latentsync.face.blend.MARGIN", R)
    whole = list(blend(source, faces, [crop], mask=mask))[0]
    assert not torch.equal(part, source) and (part.int() - whole.int()).abs().max() <= 1  # OpenCV's 1/32 pixel


@pytest.mark.parametrize(
    ("finer", "how"),
    [(1.15, "cubic"), (1.25, "linear"), (1.45, "linear"), (1.6, "shrunk")],
)
def test_a_crop_is_warped_by_how_much_finer_than_the_frame_it_is(finer, how):
    crop = torch.rand(R, R, 3, generator=torch.Generator().manual_seed(3))
    matrix = place(100, 100, finer * canvas_size(R)[1] / R, angle=0.0)
    where, pixels = paste_crop(torch.zeros(200, 200, 3), crop, torch.ones(R, R), matrix)
    errors = {}
    for name, flag in (("cubic", cv2.INTER_CUBIC), ("linear", cv2.INTER_LINEAR)):
        whole = cv2.warpAffine(crop.numpy(), crop_matrix(matrix, R), (200, 200), flags=flag | cv2.WARP_INVERSE_MAP)
        errors[name] = np.abs(whole.clip(0, 1)[where] - pixels.numpy())[8:-8, 8:-8].mean()
    nearest = min(errors, key=errors.get)
    assert (nearest if errors[nearest] < 0.01 else "shrunk") == how, errors


@pytest.mark.parametrize("level, shown", [(3.0, 177), (1.0, 177), (0.0, 50), (-2.0, 50)])
def test_published_pasting_clamps_the_picture_before_it_is_mixed(level, shown):
    source = torch.full((1, 240, 320, 3), 100, dtype=torch.uint8)
    faces, crop = track([place(150, 120)], [0.5]), torch.full((1, R, R, 3), level)
    middle = list(blend(source, faces, [crop], BlendSettings(published=True)))[0][0, 110:130, 140:160]
    assert (middle.int() - shown).abs().max() <= 1


def smooth_picture(height=400, width=500):
    y, x = torch.meshgrid(torch.linspace(0, 6, height), torch.linspace(0, 7, width), indexing="ij")
    return torch.stack([0.5 + 0.4 * torch.sin(x + i) * torch.cos(y - i) for i in range(3)], -1)[None]


@pytest.mark.parametrize("scale", [0.3, 1.0, 2.5])
def test_there_and_back_is_nearly_the_identity(scale):
    """The untouched crop pasted back gives the frame again, whatever the face's size."""
    source = smooth_picture(int(400 / min(scale, 1)), int(500 / min(scale, 1)))
    middle = (source.shape[2] / 2, source.shape[1] / 2)
    faces = track([place(*middle, scale)])
    crop = warp_crop(source[0], faces.matrices[0], R)[None]
    out = list(blend(source, faces, [crop]))[0]
    changed = (out != source).any(-1)
    assert changed.any()
    assert (out - source).abs()[changed].mean() * 255 < 0.5


def test_mask_smooth_widens_the_edge():
    source = torch.zeros(1, 300, 300, 3)
    faces = track([place(150, 150, 0.8, 0.0)])

    def edge(smooth):
        out = list(blend(source, faces, [torch.ones(1, R, R, 3)], BlendSettings(mask_smooth=smooth)))[0]
        return int(((out > 0.02) & (out < 0.98)).any(-1).sum())

    assert edge(0.0) < edge(0.3) < edge(1.0)


def test_fading_frames_are_between_source_and_crop():
    source, crop = torch.zeros(1, 300, 300, 3), torch.ones(1, R, R, 3)
    full = list(blend(source, track([place(150, 150)]), [crop]))[0]
    half = list(blend(source, track([place(150, 150)], [0.5]), [crop]))[0]
    assert (half - full / 2).abs().max() < 1e-6
    published = list(blend(source, track([place(150, 150)], [0.5]), [crop], BlendSettings(published=True)))[0]
    assert 0.49 < published.max() < 0.51


def test_streamed_equals_whole_and_starts_anywhere():
    source, crops = noise(7), torch.rand(7, R, R, 3)
    faces = track([place(100 + 10 * i, 120) for i in range(7)])
    whole = list(blend(source, faces, [crops]))[0]
    assert torch.equal(torch.cat(list(blend(source, faces, crops.split(3)))), whole)
    assert torch.equal(torch.cat(list(blend(source, faces, crops[4:].split(2), start=4))), whole[4:])


def test_colour_match_undoes_a_tint():
    crop = torch.rand(R, R, 3, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    tinted = crop + torch.tensor([0.08, -0.05, 0.02])
    assert (match_colour(tinted, crop, ring_mask(R)) - crop).abs().max() < 1e-5


@pytest.mark.parametrize("apart, height", [(0.0, 0.02), (0.05, 0.02), (0.2, 0.02), (0.0, 0.1), (0.0, 0.3)])
def test_detail_of_the_skin_comes_back_where_the_face_is_alike(apart, height):
    faces = track([place(150, 120)])
    to_crop = crop_matrix(faces.matrices[0], R)
    finer = max(np.hypot(*to_crop[:, 0]), np.hypot(*to_crop[:, 1]))
    waves = height * np.sin(2 * np.pi * np.arange(320) * finer / 12)  # twelve crop pixels long
    source = torch.from_numpy(np.tile(0.5 + waves[:, None], (240, 1, 3))).float()[None]
    crop = torch.full((1, R, R, 3), 0.5 + apart)
    without, half, whole = (
        list(blend(source, faces, [crop], BlendSettings(0.0, detail=amount)))[0][0] for amount in (0.0, 0.5, 1.0)
    )
    mask, skin = (
        torch.from_numpy(cv2.warpAffine(part.numpy(), to_crop, (320, 240), flags=cv2.WARP_INVERSE_MAP))
        for part in (face_mask(R, feather=0.0), skin_mask(R))
    )
    lips, skin = (mask > 0.99) & (skin < 1e-3), (mask > 0.99) & (skin > 0.99)
    assert lips.sum() > 500 and skin.sum() > 500
    torch.testing.assert_close(whole[lips], without[lips], atol=1e-4, rtol=0)
    returned = ((whole - without)[skin].std() / (source[0] - 0.5)[skin].std()).item()
    # A blur with a sigma of three leaves exp(-2 (3 pi / 12)^2) of such waves: that much is no detail. The mean of a
    # sine without its sign is 2 / pi.
    coarse = np.exp(-2 * (np.pi / 4) ** 2)
    difference = apart or 2 / np.pi * coarse * height
    share = np.exp(-(((difference + 2 / np.pi * (1 - coarse) * height) / 0.08) ** 2))
    assert returned == pytest.approx(share * (1 - coarse), abs=0.03)
    torch.testing.assert_close(half - without, (whole - without) / 2, atol=1e-5, rtol=0)


def test_published_blending_puts_no_detail_back():
    with pytest.raises(InputError, match="detail is 0.5 and the published way"):
        RunSettings(blend=BlendSettings(detail=0.5)).as_published()


def test_four_channels_keep_their_alpha():
    source = torch.rand(1, 240, 320, 4)
    out = list(blend(source, track([place(150, 120)]), [torch.rand(1, R, R, 3)]))[0]
    assert torch.equal(out[..., 3], source[..., 3]) and not torch.equal(out, source)


@pytest.mark.parametrize("settings", MODES)
def test_half_precision_frames_and_uint8_crops(settings):
    source, crop = noise(1), (torch.rand(1, R, R, 3) * 255).to(torch.uint8)
    faces = track([place(150, 120)])
    out = list(blend(source.half() / 255, faces, [crop], settings))[0]
    expected = list(blend((source.half() / 255).float(), faces, [crop.float() / 255], settings))[0]
    assert out.dtype == torch.float16 and (out.float() - expected).abs().max() < 1e-3


def test_crops_and_masks_that_do_not_fit_are_refused():
    source, faces = noise(2), track([place(150, 120)] * 2)
    for crops, mask, says in (
        ([torch.rand(3, R, R, 3)], None, "crops 0..2"),
        ([torch.rand(1, 64, 64, 3)], None, r"\(64, 64\)"),
        ([], torch.ones(3, 3), r"blend mask is \(3, 3\): make it \(128, 128\)"),
        ([], torch.ones(3, R, R), "there are 3 blend masks for 2 frames: give one, or one for each frame"),
    ):
        with pytest.raises(ValueError, match=says):
            list(blend(source, faces, crops, mask=mask))


@pytest.mark.parametrize("settings", MODES)
def test_each_frame_may_have_its_own_mask(settings):
    source, crops = noise(4), torch.rand(4, R, R, 3)
    faces = track([place(150, 120)] * 4)
    masks = torch.stack(
        [face_mask(R, feather=0.5), torch.zeros(R, R), face_mask(R, feather=0.1), face_mask(R, feather=0.5)]
    )
    out = torch.cat(list(blend(source, faces, [crops], settings, masks)))
    alone = [torch.cat(list(blend(source, faces, [crops], settings, mask))) for mask in masks]
    assert torch.equal(out, torch.stack([whole[i] for i, whole in enumerate(alone)]))
    assert torch.equal(out[1], source[1])
    # A run that starts later takes the masks of its own frames.
    assert torch.equal(torch.cat(list(blend(source, faces, [crops[2:]], settings, masks, start=2))), out[2:])
    assert torch.equal(torch.cat(list(blend(source, faces, [crops], settings, masks[:1]))), alone[0])


def test_published_paste_covers_the_whole_aligned_face():
    source = torch.zeros(300, 300, 3)
    _, pixels = paste_published(source, torch.ones(R, R, 3), torch.ones(R, R), place(150, 150))
    height, width = canvas_size(R)
    assert 0.8 < (pixels[..., 0] > 0.5).sum() / (height * width) < 1
