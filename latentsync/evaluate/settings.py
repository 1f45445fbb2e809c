"""How videos are evaluated: options of the command, without anything heavy."""

from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..pipelines.options import DetectorOptions
from ..settings import TrackSettings, check, option


@dataclass(frozen=True)
class EvaluateSettings(DetectorOptions):
    detector_model: Path = option(
        None, "the detector's model file; for file, the track file or the folder of NAME.json"
    )
    checkpoints: Path = option(
        Path("checkpoints"), "folder of the weights; embedded judges by the small SyncNet that comes along"
    )
    protocol: str = option(
        "own",
        "published: FVD and sync as the published program's eval scripts have them; not comparable with own",
        choices=("own", "published"),
    )
    sync_codec: str = option(
        "raw",
        "what SyncNets judge: the pictures and sound of each file as they are, or all files through one codec (H.264 "
        "and AAC), so that results of different encoders compare",
        choices=("raw", "h264"),
    )
    language: str = option(None, "what is spoken in the videos, a column of the report")
    syncnet: Path = option(
        None, "the StableSyncNet to judge by, or to judge: a file, or a folder (default: that of --checkpoints)"
    )
    clips: Path = option(None, "aligned clips that syncnet_accuracy draws samples from (see prepare)")
    samples: int = option(2048, "how many samples", low=1)
    region: str = option(
        "frame",
        "the pictures that are compared: whole frames, aligned faces, or the square around mouth and chin in those",
        choices=("frame", "face", "mouth"),
    )
    resolution: int = option(256, "side of the aligned faces, for every region but frame")
    device: str = option(None, "cuda, cuda:1, mps or cpu (default: the best there is)")
    random_weights: bool = option(False, "try LPIPS, FID and FVD out without files: figures mean nothing")
    track: TrackSettings = field(default_factory=TrackSettings)

    def __post_init__(self):
        check(self)
        if self.resolution < 64 or self.resolution % 16:
            raise InputError(f"resolution is {self.resolution}: give a multiple of 16, 64 or more")
