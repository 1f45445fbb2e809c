"""The nets and the detector that metrics need, loaded when the first one asks for them."""

from functools import cached_property
from pathlib import Path

import torch

from ..errors import FileError
from ..face.detect import load_detector
from ..face.landmarks import Detector
from ..face.track_file import read_track_file
from ..models.load import default_device, find_checkpoints
from ..models.registry import WEIGHTS
from ..models.state_dict import load_state_dict
from ..nets.hyperiqa import HyperIQA
from ..nets.syncnet_v2 import SyncNetV2
from .faces import DescribeFaces, Embed, load_arcface
from .frechet import Features, load_i3d, load_inception
from .perceptual import load_lpips
from .settings import EvaluateSettings
from .sync_score import SyncScorer, load_stable_syncnet


class Tools:
    """What the settings ask for, loaded once. For a missing weight file the error says how to get it."""

    def __init__(self, settings: EvaluateSettings):
        self.settings = settings
        self.device = settings.device or str(default_device())
        self.found_by: str | None = None  # the detector that looked for faces, if one did

    def _file(self, name: str) -> Path | None:
        """None stands for random weights."""
        return None if self.settings.random_weights else weight_file(self.settings.checkpoints, name)

    @cached_property
    def lpips(self) -> torch.nn.Module:
        return load_lpips(self._file("vgg16")).to(self.device)

    @cached_property
    def inception(self) -> Features:
        return load_inception(self._file("inception"), self.device)

    @cached_property
    def i3d(self) -> Features:
        return load_i3d(self._file("i3d"), self.device)

    @cached_property
    def hyperiqa(self) -> HyperIQA:
        state = load_state_dict(weight_file(self.settings.checkpoints, "hyperiqa"))
        return HyperIQA.from_state_dict(state, dtype=torch.float32, device=self.device)

    @cached_property
    def syncnet_v2(self) -> SyncNetV2:
        state = load_state_dict(weight_file(self.settings.checkpoints, "syncnet_v2"))
        return SyncNetV2.from_state_dict(state, dtype=torch.float32, device=self.device)

    @cached_property
    def stable_syncnet(self) -> tuple[SyncScorer, torch.nn.Module | None]:
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
    def arcface(self) -> Embed | None:
        """facexlib's recognition net, if its file is at hand."""
        path = find_checkpoints(self.settings.checkpoints).arcface
        return path and load_arcface(path, self.device)

    @cached_property
    def _detector(self) -> Detector:
        s = self.settings
        return load_detector(s.detector, model=s.detector_model, checkpoints=s.checkpoints, device=self.device)

    def detector(self, video: Path) -> Detector:
        """What finds the face in `video`."""
        model, detector = self.settings.detector_model, None
        if self.settings.detector == "file" and model is not None and model.is_dir():
            detector = read_track_file(model / f"{video.stem}.json")
        detector = detector or self._detector
        self.found_by = type(detector).__name__
        return detector


def weight_file(folder: Path, name: str) -> Path:
    """The file of this name in `models.folders.Checkpoints`; where it is missing, the error says how to get it."""
    path = getattr(find_checkpoints(folder), name)
    if path is None:
        row = next(weight for weight in WEIGHTS if {"hyperiqa": "koniq"}.get(name, name) in weight.target)
        raise FileError(
            f"{folder} lacks {row.target} (licence: {row.licence}): fetch it with "
            f"`python -m latentsync download --checkpoints {folder} --only {row.group}`"
        )
    return path
