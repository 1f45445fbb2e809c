"""What the page computes with: loaded when it is first needed, and kept."""

import argparse
import filecmp
from dataclasses import replace
from pathlib import Path

import torch

from ..face.landmarks import Detector
from ..face.track_file import read_track_file
from ..models.embedded import EMBEDDED, choose_folder
from ..models.load import LipSyncModel, default_device, load_model, needed_checkpoints
from ..models.samples import Sample, find_sample
from ..pipelines.options import CHECKPOINTS, chosen_detector, named_device

SAMPLE = "talking head"


class ModelCache:
    """The model and the detectors that the page's options ask for, in the terms of `run`. Not thread-safe."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.folder = Path(choose_folder(options.checkpoints, CHECKPOINTS))
        self.embedded = self.folder == EMBEDDED
        needed_checkpoints(self.folder)
        self.device = named_device(options.device) if options.device else default_device()
        self._model: LipSyncModel | None = None
        self._detectors: dict[bool, Detector] = {}

    def model(self, resolution: int | None = None) -> LipSyncModel:
        """The model, for crops of `resolution` pixels; None is its own."""
        if self._model is None:
            dtype = getattr(torch, self.options.dtype) if self.options.dtype else None
            self._model = load_model(self.folder, device=self.device, dtype=dtype, compile=self.options.compile)
        return self._model if resolution is None else replace(self._model, resolution=resolution)

    def detector(self, video: Path, face: str) -> Detector:
        """What finds the `face` (see `TrackSettings.which`) in a video; the sample clip brings its own."""
        sample = sample_clip()
        if filecmp.cmp(video, sample.video, shallow=False):
            return read_track_file(sample.track)
        options = argparse.Namespace(**{**vars(self.options), "face": face})
        embeddings = face == "similar"
        if embeddings not in self._detectors:
            self._detectors[embeddings] = chosen_detector(options, self.device)
        return self._detectors[embeddings]


def sample_clip() -> Sample:
    """The drawn clip that comes along, with other words and where its face is."""
    return find_sample(SAMPLE)
