"""PSNR, SSIM, MS-SSIM and LPIPS by hand and against other implementations of them."""

import math

import numpy as np
import pytest
import torch

from latentsync.evaluate import metrics as meters
from latentsync.evaluate.metrics import measured, windows
from latentsync.evaluate.perceptual import load_lpips
from latentsync.evaluate.pictures import Psnr, lpips, ms_ssim, psnr, ssim
from latentsync.frames import as_uint8


def noise(frames: int, side: int, seed: int = 0) -> torch.Tensor:
    """(frames, side, side, 3) in 0..1, smooth enough to have structure."""
    rough = torch.rand(frames, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(rough, (side, side), mode="bilinear").permute(0, 2, 3, 1).contiguous()


def test_psnr_is_of_the_error_of_the_whole_clip():
    truth = torch.full((2, 8, 8, 3), 0.5)
    made = truth.clone()
    made[0] += 0.1
    assert psnr(made, truth) == pytest.approx(-10 * math.log10(0.1**2 / 2), abs=1e-4)
    figure = measured(Psnr(), made, truth)["psnr"]
    assert figure.curve[0] == pytest.approx(20, abs=1e-4) and figure.curve[1] == math.inf


def test_psnr_is_that_of_torchmetrics_and_bytes_are_as_good_as_floats():
    image = pytest.importorskip("torchmetrics.functional.image")
    made, truth = noise(3, 32, 1), noise(3, 32, 2)
    expected = image.peak_signal_noise_ratio(made, truth, data_range=1.0)
    assert psnr(made, truth) == pytest.approx(float(expected), abs=1e-3)
    assert psnr(as_uint8(made), as_uint8(truth)) == pytest.approx(float(expected), abs=0.02)


def test_ssim_is_that_of_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    pytest.importorskip("torchmetrics")
    truth = noise(2, 48)
    made = (truth + 0.2 * noise(2, 48, 3)).clamp(0, 1)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    # It leaves a border of 5 pixels out; torchmetrics mirrors the pictures there instead.
    mirrored = [np.pad(x.numpy(), ((0, 0), (5, 5), (5, 5), (0, 0)), mode="reflect") for x in (made, truth)]
    expected = [
        metrics.structural_similarity(*pair, channel_axis=-1, **settings) for pair in zip(*mirrored, strict=True)
    ]
    assert ssim(made, truth) == pytest.approx(np.mean(expected), abs=1e-4)


def test_a_clip_against_itself_is_perfect():
    pytest.importorskip("torchmetrics")
    clip = noise(2, 176)
    assert psnr(clip, clip) == math.inf
    assert ssim(clip, clip) == pytest.approx(1) and ms_ssim(clip, clip) == pytest.approx(1)
    assert ms_ssim((clip + 0.2 * noise(2, 176, 1)).clamp(0, 1), clip) < 0.99


def test_pictures_that_are_too_small_are_refused():
    pytest.importorskip("torchmetrics")
    with pytest.raises(ValueError, match="^MS-SSIM needs pictures of at least 176 x 176 and got 64 x 64"):
        ms_ssim(noise(1, 64), noise(1, 64))
    with pytest.raises(ValueError, match="^SSIM needs pictures of at least 11 x 11 and got 8 x 8"):
        ssim(noise(1, 8), noise(1, 8))
    with pytest.raises(ValueError, match="psnr got no frame"):
        psnr(noise(1, 8)[:0], noise(1, 8)[:0])


def test_lpips_is_that_of_its_package():
    pytest.importorskip("lpips")
    net = load_lpips(random_weights=True)
    a, b = noise(2, 32), noise(2, 32, 1)
    with torch.no_grad():
        expected = net(a.permute(0, 3, 1, 2), b.permute(0, 3, 1, 2), normalize=True).mean()
    assert lpips(net, a, b) == pytest.approx(float(expected), rel=1e-4)
    assert lpips(net, a, a) == 0 < lpips(net, a, b)


def test_figures_do_not_depend_on_the_windows(monkeypatch):
    made, truth = noise(7, 16, 1), noise(7, 16, 2)
    whole = measured(Psnr(), made, truth)["psnr"]
    monkeypatch.setattr(meters, "MOST_FRAMES", 3)
    parts = measured(Psnr(), made, truth)["psnr"]
    assert parts.value == pytest.approx(whole.value) and np.allclose(parts.curve, whole.curve)


def test_windows_are_short_where_pictures_are_large():
    assert windows(torch.zeros(20, 4, 4, 3), [(0, 18), (19, 20)]) == [list(range(16)), [16, 17], [19]]
    large = torch.zeros(1, 1080, 1920, 3, dtype=torch.uint8).expand(4, -1, -1, -1)
    assert windows(large, [(0, 4)]) == [[0], [1], [2], [3]]
