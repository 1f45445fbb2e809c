"""How near the distribution of pictures (FID) or of short clips (FVD) is to the true one.

Heusel et al. 2017 and Unterthiner et al. 2018: the Frechet distance between two Gaussians, fitted to what a net sees.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import FileError, InputError
from ..files import file_sha256
from ..frames import as_float, as_uint8
from ..models.registry import I3D_SHA256
from ..models.state_dict import load_state_dict
from ..nets.loading import check_state_dict
from .image_metrics import MISSING_PACKAGE
from .metrics import MetricValue

FID_FEATURES, FVD_FEATURES = 2048, 400
CLIP_FRAMES = 16  # that I3D sees at once; clips do not overlap
Features = Callable[[Tensor], Tensor]


class Gaussian:
    """Mean and unbiased covariance of vectors (n, d) that come in batches, in float64."""

    PARTS = ("count", "sum", "products")

    def __init__(self, count: int = 0, sum: np.ndarray | float = 0.0, products: np.ndarray | float = 0.0):
        self.count, self.sum, self.products = int(count), sum, products

    def add(self, vectors: Tensor) -> None:
        vectors = vectors.detach().cpu().double().numpy()
        self.count += len(vectors)
        self.sum = self.sum + vectors.sum(axis=0)
        self.products = self.products + vectors.T @ vectors

    @property
    def mean(self) -> np.ndarray:
        return self.sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        return (self.products - self.count * np.outer(self.mean, self.mean)) / (self.count - 1)


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|mean_a - mean_b|^2 + tr(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), never below 0.

    The trace of the root is the sum of the roots of the eigenvalues of cov_a^(1/2) cov_b cov_a^(1/2), which is
    symmetric, so that it exists for singular covariances too.
    """
    cov_a, cov_b = a.covariance, b.covariance
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    common = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(min=0)).sum()
    return max(0.0, float(np.square(a.mean - b.mean).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * common))


Sums = tuple[Gaussian, Gaussian]  # of the pictures and of the true ones


class Frechet:
    """FID: a metric, as `FrameMean` is one, of the frames of a video and of all that were added to `sums` before.

    `features` takes pictures (n, h, w, 3) uint8 to vectors (n, d).
    """

    least = "2 frames"

    def __init__(self, name: str, features: Features, sums: Sums | None = None):
        self.name, self.features = name, features
        self.made, self.true = sums or (Gaussian(), Gaussian())

    def update(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        self.made.add(self.features(as_uint8(pictures)))
        self.true.add(self.features(as_uint8(truth)))

    def compute(self) -> dict[str, MetricValue]:
        if (got := self.made.count) < 2:
            raise InputError(f"{self.name.upper()} needs {self.least} and got {got}: give longer or more videos")
        return {self.name: MetricValue(frechet_distance(self.made, self.true))}


class FrechetOfClips(Frechet):
    """FVD: the same of stretches of 16 frames, which follow each other and lie within one shot of one video.

    `features` takes (1, 16, h, w, 3) uint8 to (1, d). What is left of a shot is not judged.
    """

    least = f"2 stretches of {CLIP_FRAMES} frames"

    def __init__(self, name: str, features: Features, sums: Sums | None = None):
        super().__init__(name, features, sums)
        self._next, self._waiting = 0, []  # the frame that would follow; (picture, true one) of an unfinished stretch

    def update(self, numbers: Sequence[int], pictures: Tensor, truth: Tensor) -> None:
        if numbers[0] != self._next:
            self._waiting.clear()
        self._next = numbers[-1] + 1
        for pair in zip(as_uint8(pictures), as_uint8(truth), strict=True):
            self._waiting.append(pair)
            if len(self._waiting) == CLIP_FRAMES:
                for gaussian, clip in zip((self.made, self.true), zip(*self._waiting, strict=True), strict=True):
                    gaussian.add(self.features(torch.stack(clip)[None]))
                self._waiting.clear()


def load_inception(path: str | Path | None, device: str | torch.device = "cpu") -> Features:
    """What FID sees, vectors of 2048, by `inception_net`."""
    net = inception_net(path).to(device)
    return torch.inference_mode()(lambda pictures: net(pictures.permute(0, 3, 1, 2).to(device))[0].flatten(1))


def inception_net(path: str | Path | None) -> nn.Module:
    """torch-fidelity's Inception v3 of FID, on the CPU; None: of random weights, to try it out."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise InputError(f"FID needs the package torch-fidelity: {MISSING_PACKAGE}") from error

    class Inception(FeatureExtractorInceptionV3):
        def load_state_dict(self, state, *args, **options):
            """The constructor reads a file in the way that can run code, or fetches one: it gets an empty one."""
            return super().load_state_dict(state, *args, **options) if state else None

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    with _seeded():
        net = Inception("inception-v3-compat", [str(FID_FEATURES)], feature_extractor_weights_path=empty)
    if path is not None:
        state, own = load_state_dict(path), net.state_dict()
        counters = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")}
        check_state_dict(own, counters | state, "Inception v3 of FID")  # old files lack the counters
        net.load_state_dict(own | state)
    return net


def load_i3d(path: str | Path | None, device: str | torch.device = "cpu") -> Features:
    """I3D of FVD as vectors of 400; None: a small net of random weights in its place, to try it out.

    It takes clips (n, 16, h, w, 3): uint8 ones of any size, or float ones of 224 pixels, which it sees as they are.
    `i3d_torchscript.pt` is a TorchScript program, not only weights: only the published one is run.
    """
    if path is None:
        with _seeded():
            conv, last = nn.Conv3d(3, 32, 5, stride=(1, 4, 4)), nn.Linear(256, FVD_FEATURES)
        stand_in = nn.Sequential(conv, nn.ReLU(), nn.AdaptiveAvgPool3d(2), nn.Flatten(), last).to(device)
        return torch.inference_mode()(lambda clips: stand_in(as_float(clips).permute(0, 4, 1, 2, 3).to(device)))
    if not Path(path).is_file():
        raise FileError(f"there is no I3D file {path}: fetch it with the download command")
    if (actual := file_sha256(path)) != I3D_SHA256:
        raise InputError(
            f"{path} is a program and not the published one (SHA-256 {actual}, expected {I3D_SHA256}), so it is not "
            "run: remove it and fetch it with `python -m latentsync download --only auxiliary`"
        )
    net = torch.jit.load(str(path), map_location=device).eval()

    @torch.inference_mode()
    def features(clips: Tensor) -> Tensor:
        # Its program scales pixels from 0..255 to -1..1 and resizes to 224 by itself, if it is told to.
        fit = clips.dtype == torch.uint8
        clips = clips.permute(0, 4, 1, 2, 3).to(device, torch.float32)
        return net(clips, rescale=fit, resize=fit, return_features=True)

    return features


@contextmanager
def _seeded() -> Iterator[None]:
    """Random weights that are the same every time, and leave the caller's random numbers alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
