"""The nets and the detector that metrics need, loaded when the first one asks for them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import torch

from ..errors import FileError, InputError
from ..face.detect import load_detector
from ..face.landmarks import Detector
from ..face.track_file import read_track_file
from ..models.load import default_device, find_checkpoints
from ..models.registry import WEIGHTS
from ..models.state_dict import load_state_dict
from ..nets.syncnet_v2 import SyncNetV2
from ..settings import TrackSettings
from .frechet import Features, load_i3d, load_inception
from .image_metrics import DescribeFaces
from .perceptual import load_lpips
from .sync_score import SyncJudge, load_stable_syncnet

Region = Literal["frame", "face", "mouth"]
Protocol = Literal["own", "published"]
RANDOM = ("lpips", "fid", "fvd")  # metrics that can be tried out with random weights
# The registry's target of each file, by its name in `layout.Checkpoints`.
TARGETS = {
    "vgg16": "auxiliary/vgg16-397923af.pth",
    "inception": "auxiliary/weights-inception-2015-12-05-6726825d.pth",
    "i3d": "auxiliary/i3d_torchscript.pt",
    "syncnet_v2": "auxiliary/syncnet_v2.model",
    "insightface": "insightface/models/buffalo_l",
}


@dataclass(frozen=True)
class EvaluateSettings:
    """How videos are evaluated.

    Attributes:
        region: what pictures are compared: whole frames, aligned faces, or the square about mouth and chin in those.
        resolution: side of the aligned crops in pixels.
        detector, detector_model: what finds the face, as `load_detector` takes it; for "file" the model may be a folder
            with NAME.json for each NAME.mp4.
        face: which face, as `TrackSettings` takes it.
        checkpoints: folder of the weights.
        syncnet: StableSyncNet's file, or a folder with it; its VAE lies there or in `checkpoints`. None: `checkpoints`.
        device: of the nets; None: the best there is.
        random_weights: LPIPS, FID and FVD by nets of random weights, whose figures mean nothing.
        protocol: "own", or "published": FVD and Sync-C/D as the published program measures them, see `published`.
        clips: folder or list of aligned clips that `syncnet_accuracy` draws its samples from.
        samples: how many.
    """

    region: Region = "frame"
    resolution: int = 256
    detector: str = "auto"
    detector_model: Path | None = None
    face: str = "largest"
    checkpoints: Path = Path("checkpoints")
    syncnet: Path | None = None
    device: str | None = None
    random_weights: bool = False
    protocol: Protocol = "own"
    clips: Path | None = None
    samples: int = 2048

    def __post_init__(self):
        if self.region not in get_args(Region):
            raise InputError(f"region is {self.region!r}: choose one of {', '.join(get_args(Region))}")
        if self.resolution < 64 or self.resolution % 16:
            raise InputError(f"resolution is {self.resolution}: give a multiple of 16, 64 or more")
        if self.protocol not in get_args(Protocol):
            raise InputError(f"protocol is {self.protocol!r}: choose one of {', '.join(get_args(Protocol))}")
        if self.samples < 1:
            raise InputError(f"samples is {self.samples}: give a number from 1 up")
        TrackSettings(which=self.face)


class Tools:
    """What the settings ask for, loaded once. A missing weight file raises a FileNotFoundError that says how to get it,
    a missing package an ImportError, a file of another kind an InputError."""

    def __init__(self, settings: EvaluateSettings):
        self.settings = settings
        self.device = settings.device or str(default_device())
        self.found_by: str | None = None  # the detector that looked for faces, if one did

    def _file(self, name: str) -> Path | None:
        """None stands for random weights."""
        return None if self.settings.random_weights else weight_file(self.settings.checkpoints, name)

    @cached_property
    def lpips(self) -> torch.nn.Module:
        path = self._file("vgg16")
        return load_lpips(path, random_weights=path is None).to(self.device)

    @cached_property
    def inception(self) -> Features:
        return load_inception(self._file("inception"), self.device)

    @cached_property
    def i3d(self) -> Features:
        return load_i3d(self._file("i3d"), self.device)

    @cached_property
    def syncnet_v2(self) -> SyncNetV2:
        state = load_state_dict(weight_file(self.settings.checkpoints, "syncnet_v2"))
        return SyncNetV2.from_state_dict(state, dtype=torch.float32, device=self.device)

    @cached_property
    def stable_syncnet(self) -> tuple[SyncJudge, torch.nn.Module | None]:
        """StableSyncNet and the VAE that it may need."""
        folder, file = self.settings.checkpoints, self.settings.syncnet
        if file is not None and file.is_dir():
            folder, file = file, None
        syncnet, vae = load_stable_syncnet(folder, file)
        syncnet.net.to(self.device)
        return syncnet, vae if vae is None else vae.to(self.device)

    @cached_property
    def describe_faces(self) -> DescribeFaces:
        """InsightFace's faces with embeddings and landmarks."""
        folder = self.settings.checkpoints
        try:
            return load_detector("insightface", checkpoints=folder, device=self.device, embeddings=True).described
        except FileError:
            weight_file(folder, "insightface")  # says which licence the file has, too
            raise

    @cached_property
    def _detector(self) -> Detector:
        s = self.settings
        return load_detector(s.detector, model=s.detector_model, checkpoints=s.checkpoints, device=self.device)

    def detector(self, video: Path) -> Detector:
        """What finds the face in `video`."""
        model = self.settings.detector_model
        if self.settings.detector == "file" and model is not None and model.is_dir():
            detector = read_track_file(model / f"{video.stem}.json")
        else:
            detector = self._detector
        self.found_by = type(detector).__name__
        return detector


def weight_file(folder: Path, name: str) -> Path:
    """The file that is called `name` in `layout.Checkpoints`; where it is not there, the error says how to get it."""
    path = getattr(find_checkpoints(folder), name)
    if path is None:
        row = next(weight for weight in WEIGHTS if weight.target == TARGETS[name])
        raise FileError(
            f"{folder} lacks {row.target} (licence: {row.licence}): fetch it with "
            f"`python -m latentsync download --checkpoints {folder} --only {row.group}`"
        )
    return path
