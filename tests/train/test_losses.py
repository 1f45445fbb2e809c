"""Noise and losses of training: the published program's numbers, and what must hold of any clip."""

import math
import sys

import golden_data
import pytest
import torch
import torch.nn.functional as F

from latentsync.evaluate.perceptual import load_lpips
from latentsync.sampling.schedulers import make_sampler
from latentsync.train.losses import lpips_loss, mixed_noise, noise_loss, one_step_estimate, sync_loss

# torchvision about the way in which lpips calls it.
pytestmark = pytest.mark.filterwarnings("ignore:.*deprecated since 0.13:UserWarning")


@pytest.fixture(scope="module")
def sampler():
    return make_sampler("ddim", 20)


@pytest.fixture(scope="module")
def abar(sampler):
    return sampler.alphas_cumprod


def clips(seed: int, shape=(2, 3, 2, 48, 32)) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_one_step_estimate_is_the_published_one(abar):
    golden = golden_data.tensors("one_step")
    estimate = one_step_estimate(golden["noisy"], golden["pred_noise"], golden["timesteps"], abar)
    assert (estimate - golden["estimate"]).abs().max() < 1e-5


def test_the_estimate_from_the_true_noise_is_the_clean_latents(sampler, abar):
    latents, noise, timesteps = clips(0), clips(1), torch.tensor([20, 980])
    noisy = sampler.add_noise(latents, noise, timesteps)
    torch.testing.assert_close(noisy[1], abar[980].sqrt() * latents[1] + (1 - abar[980]).sqrt() * noise[1])
    estimate = one_step_estimate(noisy, noise.half(), timesteps, abar)
    torch.testing.assert_close(estimate, latents, atol=1e-2, rtol=1e-3)


def test_errors_count_less_where_there_is_little_noise(abar):
    noise = torch.randn(2, 4, 2, 8, 8, generator=torch.Generator().manual_seed(5))
    steps, predicted = torch.tensor([1, 901]), noise + torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1, 1)
    assert float(noise_loss(predicted, noise, steps, abar)) == pytest.approx(float(F.mse_loss(predicted, noise)))
    snr = abar[1] / (1 - abar[1])
    expected = (2.0 / float(snr) + 4) / 2  # at step 901 there is more noise than signal, and nothing changes
    assert float(noise_loss(predicted, noise, steps, abar, snr_gamma=2.0)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("a", "correlation"), [(1.0, 0.5), (2.0, 0.8), (0.0, 0.0), (None, 1.0)])
def test_mixed_noise_is_unit_normal_with_the_stated_correlation_between_frames(a, correlation):
    noise = mixed_noise((4, 4, 3, 64, 64), torch.Generator().manual_seed(3), a)
    frames = noise.transpose(0, 2).flatten(1)
    assert torch.cov(frames).sub(torch.full((3, 3), correlation).fill_diagonal_(1.0)).abs().max() < 0.02
    assert torch.corrcoef(noise.flatten(1)).fill_diagonal_(0).abs().max() < 0.02  # of other clips
    assert torch.equal(noise, mixed_noise((4, 4, 3, 64, 64), torch.Generator().manual_seed(3), a))


def embeddings(cosines: list[float], dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Non-negative unit vectors with these cosines."""
    cosine = torch.tensor(cosines)
    vision = torch.stack([torch.ones_like(cosine), torch.zeros_like(cosine), torch.zeros_like(cosine)], dim=1)
    audio = torch.stack([cosine, (1 - cosine**2).sqrt(), torch.zeros_like(cosine)], dim=1)
    return vision.to(dtype).requires_grad_(), audio.to(dtype).requires_grad_()


def test_sync_loss_is_the_cross_entropy_of_the_cosine():
    cosines, target = [0.9, 0.2, 0.7, 0.999], torch.tensor([1.0, 0.0, 0.0, 1.0])
    expected = F.binary_cross_entropy(torch.tensor(cosines), target)
    assert sync_loss(*embeddings(cosines), target).item() == pytest.approx(expected.item(), abs=1e-5)
    for cosine, wanted in ((0.0, 1.0), (1.0, 0.0)):  # at most, which bounds the slope
        assert sync_loss(*embeddings([cosine]), wanted).item() == pytest.approx(-math.log(1e-4), rel=1e-3)
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(1, 3\)"):
        sync_loss(torch.ones(2, 3), torch.ones(1, 3), 1.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_sync_loss_and_gradients_are_finite_at_the_ends(dtype, target):
    vision, audio = embeddings([0.0, 1.0, 0.5, 0.0], dtype)
    with torch.no_grad():
        vision[2] = 0  # an embedding whose every ReLU is off
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sync_loss(vision, audio, target)
    loss.backward()
    assert loss.dtype == torch.float32 and loss.isfinite()
    assert vision.grad.isfinite().all() and audio.grad.isfinite().all()
    if target:  # orthogonal embeddings are pulled together
        assert F.cosine_similarity((vision - 1e-2 * vision.grad)[3].float(), audio[3].float(), dim=0) > 0


def test_lpips_is_the_mean_of_the_package_s_distance_over_the_lower_halves():
    torch.manual_seed(0)
    net, predicted, target = load_lpips(None), clips(0).requires_grad_(), clips(1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = lpips_loss(net, predicted, target)
    pairs = zip(*(x.detach().transpose(1, 2).flatten(0, 1)[:, :, 24:] for x in (predicted, target)), strict=True)
    each = [net(one[None], other[None]).item() for one, other in pairs]
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(sum(each) / 4, rel=1e-5)
    assert lpips_loss(net, target, target) == 0
    loss.backward()
    assert predicted.grad[..., 24:, :].abs().sum() > 0 and predicted.grad[..., :24, :].abs().sum() == 0
    assert predicted.grad.isfinite().all() and all(p.grad is None for p in net.parameters())


def test_lpips_computes_the_features_of_torchvision_s_vgg_and_refuses_other_files(tmp_path, monkeypatch):
    with torch.device("meta"):
        features = pytest.importorskip("torchvision").models.vgg16().features
    state = golden_data.state_dict(features)
    weights = {f"features.{name}": tensor for name, tensor in state.items()}
    weights["classifier.0.weight"] = torch.zeros(2, 2)  # of the classifier only a token
    torch.save(weights, tmp_path / "vgg.pth", _use_new_zipfile_serialization=False)  # as the published file is
    net = load_lpips(tmp_path / "vgg.pth")
    features.load_state_dict(state, assign=True)
    pictures = clips(0)[:, :, 0]
    with torch.inference_mode():
        assert torch.equal(net.net(pictures).relu5_3, features[:30](pictures))
    weights["features.31.weight"] = weights.pop("features.28.weight")
    torch.save(weights, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"1 missing \(features.28.weight .*1 unexpected \(features.31.weight"):
        load_lpips(tmp_path / "other.pth")
    with pytest.raises(ValueError, match="nowhere.pth"):
        load_lpips(tmp_path / "nowhere.pth")
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ValueError, match="pip install lpips"):
        load_lpips(None)
