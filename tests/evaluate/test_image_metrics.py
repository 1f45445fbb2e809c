"""Metrics of pictures, by hand and against other implementations of them."""

import math

import numpy as np
import pytest
import torch
from evaluating import measure
from scipy.ndimage import gaussian_filter

from latentsync.evaluate import metrics
from latentsync.evaluate.faces import Identity, SeenFaces, mouth_distance
from latentsync.evaluate.image_metrics import (
    Flicker,
    flicker,
    lpips_metric,
    ms_ssim_metric,
    psnr,
    psnr_metric,
    seam,
    ssim,
)
from latentsync.evaluate.metrics import FrameMean, windows
from latentsync.evaluate.perceptual import load_lpips
from latentsync.face.landmarks import Face, points_from_box
from latentsync.face.masks import face_mask
from latentsync.frames import as_uint8

REGION = torch.zeros(16, 16, dtype=torch.bool)
REGION[8:, 4:12] = True
SIDE = 128


def noise(frames: int, side: int, seed: int = 0) -> torch.Tensor:
    """(frames, side, side, 3) in 0..1, smooth enough to have structure."""
    rough = torch.rand(frames, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, (side, side), mode="bilinear").permute(0, 2, 3, 1).contiguous()


def pair(frames: int, side: int) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """A clip with errors, the true one, and both as (n, 3, h, w)."""
    truth = noise(frames, side)
    made = (truth + 0.2 * noise(frames, side, 3)).clamp(0, 1)
    return made, truth, [x.permute(0, 3, 1, 2) for x in (made, truth)]


def test_psnr_is_of_the_error_of_the_whole_clip():
    truth = torch.full((2, 8, 8, 3), 0.5)
    made = truth.clone()
    made[0] += 0.1
    assert psnr(made, truth) == pytest.approx(-10 * math.log10(0.1**2 / 2), abs=1e-4)
    found = measure(psnr_metric(), made, truth)["psnr"]
    assert found.value == pytest.approx(psnr(made, truth))
    assert found.curve[0] == pytest.approx(20, abs=1e-4) and found.curve[1] == math.inf
    with pytest.raises(ValueError, match="psnr got no frame"):
        measure(psnr_metric(), truth[:0], truth[:0])


def test_only_the_region_counts():
    truth = noise(5, 16) * 0.5
    other = truth.clone()
    other[::2, ~REGION] += 0.5
    assert psnr(other, truth, REGION) == math.inf and flicker(other, truth, REGION).abs().max() == 0
    other[:, REGION] += 0.1
    assert psnr(other, truth, REGION) == pytest.approx(20, abs=1e-3)
    truth, other = noise(1, 64), noise(1, 64)
    other[:, :, 32:] = 0
    left = (torch.arange(64) < 32 - 5).expand(64, 64)  # the window is 11 wide
    assert ssim(other, truth, left) == 1 and ssim(other, truth, ~left) < 0.9


def test_psnr_ssim_and_ms_ssim_are_those_of_torchmetrics():
    image = pytest.importorskip("torchmetrics.functional.image")
    made, truth, nchw = pair(3, 176)
    expected = float(image.peak_signal_noise_ratio(*nchw, data_range=1.0))
    assert psnr(made, truth) == pytest.approx(expected, abs=1e-3)
    assert psnr(as_uint8(made), as_uint8(truth)) == pytest.approx(expected, abs=0.02)
    expected = image.structural_similarity_index_measure(*nchw, data_range=1.0, reduction="none")
    assert ssim(made, truth).tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    expected = float(image.multiscale_structural_similarity_index_measure(*nchw, data_range=1.0))
    assert measure(ms_ssim_metric(), made, truth)["ms_ssim"].value == pytest.approx(expected, abs=1e-5)
    assert measure(ms_ssim_metric(), truth, truth)["ms_ssim"].value == 1


def test_grey_ssim_is_of_the_brightness_within_6_pixels():
    made, truth, _ = pair(1, 48)
    a, b = (x[0].double().mean(-1).numpy() for x in (made, truth))
    mean_a, mean_b, aa, bb, ab = (gaussian_filter(x, 1.5, mode="mirror", radius=6) for x in (a, b, a * a, b * b, a * b))
    similarity = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    similarity *= (2 * (ab - mean_a * mean_b) + 9e-4) / (aa - mean_a**2 + bb - mean_b**2 + 9e-4)
    assert ssim(made, truth, grey=True)[0] == pytest.approx(similarity.mean(), abs=1e-6)
    assert psnr(made, made) == math.inf and ssim(made, made).tolist() == [1]


def test_lpips_is_that_of_its_package():
    pytest.importorskip("lpips")
    net = load_lpips(None)
    a, b = noise(2, 32), noise(2, 32, 1)
    with torch.no_grad():
        expected = net(a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2), normalize=True).mean()
    assert measure(lpips_metric(net), a, b)["lpips"].value == pytest.approx(float(expected), rel=1e-4)
    assert measure(lpips_metric(net), a, a)["lpips"].value == 0


@pytest.mark.parametrize(("name", "title", "least"), [("ssim", "SSIM", 11), ("ms_ssim", "MS-SSIM", 176)])
def test_pictures_that_are_too_small_are_refused(name, title, least):
    metric = FrameMean(name, lambda a, b: torch.ones(len(a)), least)
    assert measure(metric, noise(1, 176)[:, :least], noise(1, 176)[:, :least])[name].value == 1
    with pytest.raises(ValueError, match=f"^{title} needs pictures of at least {least} x {least} and got 176 x"):
        measure(metric, noise(1, 176)[:, : least - 1], noise(1, 176)[:, : least - 1])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_metrics_do_not_depend_on_the_windows(size, monkeypatch):
    made, true = torch.rand(2, 9, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    whole = measure(psnr_metric(), made, true)["psnr"]
    monkeypatch.setattr(metrics, "MOST_FRAMES", size)
    parts = measure(psnr_metric(), made, true)["psnr"]
    assert parts.value == pytest.approx(whole.value) and np.allclose(parts.curve, whole.curve)
    unsteady = measure(Flicker(), made, true)["flicker"]
    assert unsteady.value == pytest.approx(float(flicker(made, true).mean()), rel=1e-5)
    assert np.isnan(unsteady.curve[0]) and np.allclose(unsteady.curve[1:], flicker(made, true))


def test_windows_are_short_where_pictures_are_large():
    assert windows(torch.zeros(20, 4, 4, 3), [(0, 18), (19, 20)]) == [list(range(16)), [16, 17], [19]]
    for height, frames in ((256, 16), (257, 15), (1024, 4), (1025, 3), (4097, 1)):
        clip = torch.zeros(1, 1, 1, 3).expand(40, height, 256, 3)
        assert len(windows(clip, [(0, 40)])[0]) == frames


def test_flicker_is_the_bend_that_the_truth_lacks():
    truth = torch.linspace(0, 0.5, 20)[:, None, None, None].expand(20, 16, 16, 3).clone()
    jumping = truth.clone()
    jumping[8:16] += 0.1
    expected = torch.zeros(18)
    expected[[6, 7, 14, 15]] = 25.5  # of 255 levels, on both sides of a jump
    assert torch.allclose(flicker(jumping, truth), expected, atol=1e-3)
    assert torch.allclose(flicker(truth, jumping), -expected, atol=1e-3)
    assert torch.allclose(flicker(jumping), expected, atol=1e-3)


def test_flicker_does_not_look_across_a_gap():
    dark, light = torch.zeros(4, 2, 2, 3), torch.ones(4, 2, 2, 3)
    metric = Flicker()
    metric.update([0, 1, 2, 3], dark, dark)
    metric.update([6, 7, 8, 9], light, dark)
    assert metric.compute()["flicker"].value == 0 and list(metric.values) == [1, 2, 7, 8]
    with pytest.raises(ValueError, match="flicker got fewer than 3 frames in a row"):
        measure(Flicker(), dark[:2], dark[:2])


def test_a_hard_edge_is_a_seam_and_texture_and_soft_edges_are_none():
    flat = torch.full((1, SIDE, SIDE, 3), 0.4)
    pasted = {softness: face_mask(SIDE, feather=softness)[..., None] * 20 / 255 for softness in (0.0, 1.0)}
    assert seam(flat) == pytest.approx(0, abs=1e-4)
    assert seam(flat + (pasted[0.0] > 10 / 255) * 20 / 255) == pytest.approx(20, abs=1e-3)
    # Skin: noise of 4 levels on a slope of half a level a pixel.
    grain = torch.rand(2, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0)) * 4
    skin = (100 + torch.arange(SIDE)[:, None, None] * 0.5 + grain) / 255
    assert seam(skin).abs().max() < 0.15
    assert seam(skin + pasted[0.0]).min() > 17 and seam(skin + pasted[1.0]).max() < 1


BOX = (10.0, 10.0, 30.0, 40.0)
FAR = (50.0, 10.0, 70.0, 40.0)


def lips(width: float, x: float = 20.0) -> np.ndarray:
    """106 landmarks, of which the 20 of the lips lie on a circle."""
    angle = np.arange(20) / 20 * 2 * math.pi
    points = np.full((106, 2), -99.0)
    points[52:72] = np.stack([x + width * np.cos(angle), 30 + width * np.sin(angle)], axis=1)
    return points


def faces_in(picture: np.ndarray) -> list[tuple[Face, np.ndarray]]:
    """A stranger, and a face with lips as wide as the red says, whom green turns into another; in black nobody."""
    red, green, _ = (int(v) for v in picture[0, 0])
    if not red:
        return []
    embedding = np.array([math.cos(green / 100), math.sin(green / 100)])
    stranger = Face(FAR, 0.9, points_from_box(FAR), np.array([0.0, 1.0]))
    known = Face(BOX, 0.9, points_from_box(BOX), embedding)
    return [(stranger, lips(1, 60)), (known, lips(red, 20 + green))]


def identity(made: list[tuple[int, int]], true: list[tuple[int, int]], box: tuple[float, ...] = BOX):
    clips = [torch.tensor([(*c, 0) for c in colours], dtype=torch.uint8) for colours in (made, true)]
    clips = [clip[:, None, None].expand(-1, 50, 80, 3) for clip in clips]
    return measure(Identity(SeenFaces(np.array([box] * len(made)), faces_in)), *clips)


def test_lips_are_compared_about_their_own_mean_and_identity_is_the_cosine_of_the_face_that_counts():
    assert mouth_distance(lips(5), lips(3, x=44)) == pytest.approx(2)
    assert identity([(5, 10), (9, 10)], [(3, 0), (9, 0)])["lmd"].value == pytest.approx(1)
    for green, cosine in ((50, math.cos(0.5)), (0, 1)):
        assert identity([(5, green)], [(5, 0)])["identity"].value == pytest.approx(cosine)


def test_frames_in_which_one_of_the_two_shows_no_face_do_not_count():
    made, true = [(5, 0), (0, 0), (7, 0)], [(3, 0), (3, 0), (3, 0)]
    found = identity(made, true)["lmd"]
    assert found.value == pytest.approx(3) and np.isnan(found.curve[1])
    with pytest.raises(ValueError, match="lmd found no frame that shows the face in both"):
        identity([(0, 0)], [(3, 0)])
    # The face counts within half the diagonal of the box, 12.5 here: its middle is (20, 25).
    assert identity(made, true, (20.0, 10.0, 35.0, 30.0))["lmd"].value == pytest.approx(3)
    with pytest.raises(ValueError, match="found no frame that shows the face"):
        identity(made, true, (25.1, 15.0, 40.1, 35.0))
