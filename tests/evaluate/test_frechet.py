"""The distance of known Gaussians, and of clips whose features are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from evaluating import measure
from scipy.linalg import sqrtm

from latentsync.errors import FileError
from latentsync.evaluate import frechet
from latentsync.evaluate.frechet import Frechet, FrechetOfClips, frechet_distance, load_i3d, load_inception
from latentsync.files import file_sha256


def clip(frames: int, seed: int, side: int = 16) -> torch.Tensor:
    shape = (frames, side, side, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def normal(mean, covariance) -> SimpleNamespace:
    return SimpleNamespace(mean=np.asarray(mean, float), covariance=covariance)


def test_the_distance_is_that_of_the_definition_symmetric_and_good_for_singular_covariances():
    a, b = normal([0, 0, 0], np.diag([1.0, 4.0, 0.0])), normal([3, 0, 4], np.diag([9.0, 4.0, 0.25]))
    assert frechet_distance(a, b) == pytest.approx(25 + 4 + 0 + 0.25)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-12)
    random = np.random.default_rng(0)
    a, b = (m @ m.T for m in random.standard_normal((2, 6, 6)))
    mean_a, mean_b = random.standard_normal((2, 6))
    expected = np.square(mean_a - mean_b).sum() + np.trace(a + b - 2 * sqrtm(a @ b).real)
    assert frechet_distance(normal(mean_a, a), normal(mean_b, b)) == pytest.approx(expected)
    assert frechet_distance(normal(mean_b, b), normal(mean_a, a)) == pytest.approx(expected)


def fid(made: torch.Tensor, true: torch.Tensor) -> float:
    return measure(Frechet("fid", lambda x: x[:, 0, 0].double()), made, true)["fid"].value


def fvd(features, made: torch.Tensor, true: torch.Tensor) -> float:
    metric = FrechetOfClips("fvd", features)
    return measure(metric, made, true)["fvd"].value


class Corners(torch.nn.Module):
    """A net of 3 features for `torchmetrics`, whose pictures are (n, 3, h, w)."""

    num_features = 3

    def forward(self, pictures):
        return pictures[:, :, 0, 0].double()


def test_fid_is_that_of_torchmetrics():
    image = pytest.importorskip("torchmetrics.image.fid")
    made, true = clip(20, 0), clip(20, 1)  # two windows
    other = image.FrechetInceptionDistance(feature=Corners())
    other.update(true.permute(0, 3, 1, 2), real=True)
    other.update(made.permute(0, 3, 1, 2), real=False)
    assert fid(made, true) == pytest.approx(float(other.compute()), rel=1e-4)
    assert fid(made, made) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="FID needs 2 frames and got 1"):
        fid(made[:1], true[:1])


def test_inception_reads_its_file_as_weights_only(tmp_path):
    pytest.importorskip("torch_fidelity")
    net, pictures = frechet.inception_net(None), clip(2, 0, 32)
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.mul_(1.1)
    old = {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "inception.pth")
    found = load_inception(tmp_path / "inception.pth")(pictures)
    assert found.shape == (2, 2048) and torch.equal(found, net(pictures.permute(0, 3, 1, 2))[0])
    torch.save({"conv.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="do not fit the Inception v3 of FID"):
        load_inception(tmp_path / "other.pth")


class Program(torch.nn.Module):
    """What the published I3D file is asked for."""

    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        return x.mean(dim=(3, 4)).flatten(1) * float(rescale and resize and return_features)


def test_i3d_is_asked_for_features_of_16_frames(tmp_path, monkeypatch):
    torch.jit.script(Program()).save(str(tmp_path / "i3d.pt"))
    monkeypatch.setattr(frechet, "I3D_SHA256", file_sha256(tmp_path / "i3d.pt"))
    features, made, true = load_i3d(tmp_path / "i3d.pt"), clip(50, 0), clip(50, 1)
    stretches = torch.stack([true[i : i + 16] for i in (0, 16, 32)])
    assert torch.allclose(features(stretches), stretches.float().mean((2, 3)).permute(0, 2, 1).flatten(1))
    assert fvd(features, true, true) == pytest.approx(0, abs=1e-3) and fvd(features, made, true) > 1
    monkeypatch.undo()
    monkeypatch.setattr(torch.jit, "load", None)
    with pytest.raises(ValueError, match="not the published one .*, so it is not run: remove it and fetch it"):
        load_i3d(tmp_path / "i3d.pt")
    with pytest.raises(FileError, match="there is no I3D file"):
        load_i3d(tmp_path / "none.pt")


def test_stretches_lie_within_a_shot_and_within_a_video():
    seen = []

    def features(clips: torch.Tensor) -> torch.Tensor:
        seen.append(clips[0, :, 0, 0, 0].tolist())
        return torch.zeros(1, 2)

    frames = torch.arange(60, dtype=torch.uint8)[:, None, None, None].expand(-1, 2, 2, 3)
    metric = FrechetOfClips("fvd", features)
    for numbers in (range(10), range(10, 20), range(22, 42)):
        metric.update(numbers, frames[list(numbers)], frames[list(numbers)])
    metric = FrechetOfClips("fvd", features, (metric.made, metric.true))  # of the next video
    metric.update(range(42, 56), frames[42:56], frames[42:56])
    assert seen[::2] == [list(range(16)), list(range(22, 38))]
    with pytest.raises(ValueError, match="FVD needs 2 stretches of 16 frames and got 1"):
        fvd(load_i3d(None), clip(31, 0), clip(31, 1))
