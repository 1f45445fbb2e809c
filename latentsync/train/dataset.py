"""Samples to train on: which clip, where in it, and what a net gets of it.

A dataset has samples without end, numbered from 0. Everything random about sample n follows from (seed, n) alone, so
order, workers, processes and resuming change nothing. Each pass over the clips has an order of its own.
"""

import logging
import math
from functools import lru_cache

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..audio.syncnet import MEL_COLUMNS_PER_SECOND, VIDEO_FPS, mel_columns, mel_window
from ..audio.whisper import STATES_AFTER, STATES_BEFORE, STATES_PER_SECOND, AudioFeatures
from ..errors import InputError
from ..face.masks import keep_mask, read_mask
from ..frames import for_net
from ..progress import Progress, no_progress
from .cache import Feature, FeatureCache, Latents, Mel, States
from .clips import BrokenClip, Clip, OpenClips, list_clips, scan_clips
from .config import DataConfig

log = logging.getLogger(__name__)

SYNCNET_LEAST_WINDOWS = 2  # of a clip (published program)
UNET_LEAST_WINDOWS = 3  # so that every target leaves room for a reference (published program)
STATES_PER_FRAME = STATES_PER_SECOND // VIDEO_FPS
FRAMES_BEFORE = math.ceil(STATES_BEFORE / STATES_PER_FRAME)  # whose states are in a frame's window
PERMUTATION = 1  # sets the random numbers of a pass apart from those of a sample


class ClipSamples(Dataset):
    """What the datasets share. A subclass gives `sample` and `features`; `least` are the frames that a clip must have.

    It may be pickled and forked: readers and nets stay behind. A clip that can no longer be read is reported once,
    and its samples come from the next clip of the same pass.
    """

    features: tuple[Feature, ...]

    def __init__(self, data: DataConfig, least: int, seed: int, progress: Progress = no_progress):
        self.seed, self.frames = seed, data.frames
        self.clips = scan_clips(list_clips(data.clips), least, data.resolution, progress)
        self.pictures = OpenClips(data.resolution, data.frames)
        self.cache = FeatureCache(data.cache)
        self._broken: set[int] = set()

    def sample(self, clip: Clip, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        """Sample `n`, from `clip`; raises `BrokenClip`."""
        raise NotImplementedError

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        if n < 0:
            raise IndexError(f"sample {n}: samples are numbered from 0 up")
        count = len(self.clips)
        epoch, place = divmod(n, count)
        order = pass_order(self.seed, epoch, count)
        for k in range(count):
            number = int(order[(place + k) % count])
            if number in self._broken:
                continue
            rng = np.random.default_rng((self.seed, n))
            seed = torch.tensor(rng.integers(2**63), dtype=torch.int64)
            try:
                return self.sample(self.clips[number], n, rng) | {"seed": seed}
            except BrokenClip as error:
                self._leave_out(number, error)
        raise self._nothing_left()

    def fill(self, progress: Progress | None = None) -> None:
        """Make every clip's features that are not in the cache folder yet, so that worker processes only read them.

        To be called in the process that has the nets, once they are on their device; does nothing without a folder.
        """
        if self.cache.folder is None:
            return
        for number, clip in enumerate(self.clips):
            if number not in self._broken:
                try:
                    for feature in self.features:
                        self.cache.read(feature, clip, 0, 1)
                except BrokenClip as error:
                    self._leave_out(number, error)
            (progress or no_progress)("features", number + 1, len(self.clips))
        if len(self._broken) == len(self.clips):
            raise self._nothing_left()

    def keep_in_memory(self) -> None:
        """From now on neither read nor write the cache folder; to be called before the first sample."""
        self.cache = FeatureCache(None)

    def _leave_out(self, number: int, error: BrokenClip) -> None:
        self._broken.add(number)
        if (reader := self.pictures.readers.pop(self.clips[number].path, None)) is not None:
            reader.close()
        log.warning("%s: other clips take its place", error)

    def _nothing_left(self) -> InputError:
        return InputError(f"none of the {len(self.clips)} clips can be read any more: check the drive they are on")

    def read_pictures(self, clip: Clip, first: int) -> Tensor:
        """The frames of a sample from `first` on: (f, 3, h, w) float32 in [-1, 1]."""
        return for_net(self.pictures(clip)[range(first, first + self.frames)])

    def read_latents(self, feature: Latents, clip: Clip, first: int) -> Tensor:
        """Of the same frames: (f, c, h / 8, w / 8) float32."""
        return self.cache.read(feature, clip, first, first + self.frames).float()

    def read_mel(self, clip: Clip, first: int) -> Tensor:
        """What `mel_window` gives of the same frames: (1, 80, 52) for 16 of them."""
        start = int(MEL_COLUMNS_PER_SECOND * first / VIDEO_FPS)
        rows = self.cache.read(self.mel, clip, start, start + mel_columns(self.frames))
        return mel_window(rows.T, 0, frames=self.frames).contiguous()


class UNetClips(ClipSamples):
    """Samples for the U-Net: f frames with their sound, and f reference frames elsewhere in the same clip.

    A sample is a dict of
        audio: (f, 50, width) float32, the Whisper windows of the f frames;
        mel: (1, 80, 52) float32 where f is 16, what StableSyncNet hears with them, see `mel_columns`;
        pixels, reference_pixels: (3, f, h, w) float32 in [-1, 1]; or, with `data.cache_latents`,
        latents, masked_latents, reference_latents: (c, f, h / 8, w / 8) float32, scaled;
        seed: int64 scalar, for the noise and the time step of this sample.

    `vae` is needed for `data.cache_latents`. Give it the dtype that it will have, as that is part of the cache's key.
    """

    def __init__(self, data: DataConfig, encoder: nn.Module, vae: nn.Module | None = None, seed: int = 0):
        _check_workers(data)
        super().__init__(data, UNET_LEAST_WINDOWS * data.frames, seed)
        self.states = States(encoder)
        self.mel = Mel()
        self.latents = self.masked_latents = None
        if data.cache_latents:
            mask = keep_mask(data.resolution, None if data.mask is None else read_mask(data.mask))
            self.latents, self.masked_latents = (Latents(vae, data.resolution, kept) for kept in (None, mask))
        kinds = (self.states, self.mel, self.latents, self.masked_latents)
        self.features = tuple(kind for kind in kinds if kind is not None)

    def sample(self, clip: Clip, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        first, reference = _two_places(rng, clip.frames - self.frames, self.frames)
        sample = {"audio": self.read_audio(clip, first), "mel": self.read_mel(clip, first)}
        if self.latents is None:
            sample["pixels"] = self.read_pictures(clip, first)
            sample["reference_pixels"] = self.read_pictures(clip, reference)
        else:
            sample["latents"] = self.read_latents(self.latents, clip, first)
            sample["masked_latents"] = self.read_latents(self.masked_latents, clip, first)
            sample["reference_latents"] = self.read_latents(self.latents, clip, reference)
        for name in sample.keys() - {"audio", "mel"}:
            sample[name] = rearrange(sample[name], "f c h w -> c f h w").contiguous()
        return sample

    def read_audio(self, clip: Clip, first: int) -> Tensor:
        """The Whisper windows of the frames from `first` on: (f, 50, width)."""
        # A window's rows at the ends of the clip are repeated, so that those in its middle must not end at the slice.
        skipped = max(0, first - FRAMES_BEFORE)
        stop = STATES_PER_FRAME * (first + self.frames - 1) + STATES_AFTER + 1
        states = self.cache.read(self.states, clip, STATES_PER_FRAME * skipped, stop)
        return AudioFeatures(states, VIDEO_FPS, clip.frames)[range(first - skipped, first - skipped + self.frames)]


class SyncNetClips(ClipSamples):
    """Samples for StableSyncNet: f frames and the sound of f frames, which belong together where n is even.

    A sample is a dict of
        frames: (f * 3, h / 2, w) float32 in [-1, 1], the lower halves, frame by frame; or, with a VAE,
            (f * c, h / 8, w / 8) float32, the scaled latents of the whole crops;
        mel: (1, 80, 52) float32 where f is 16, see `mel_columns`;
        target: float32 scalar, 1 in sync (even n), 0 for frames of another place of the clip (odd n);
        seed: int64 scalar.

    `vae` is for a SyncNet that sees latents. Give it the dtype that it will have, as that is part of the cache's key.
    """

    def __init__(self, data: DataConfig, vae: nn.Module | None = None, seed: int = 0, progress: Progress = no_progress):
        self.distance = data.negative_distance
        if vae is not None:
            _check_workers(data)
        least = max(SYNCNET_LEAST_WINDOWS * data.frames, data.frames + self.distance)
        super().__init__(data, least, seed, progress)
        self.mel = Mel()
        self.latents = None if vae is None else Latents(vae, data.resolution)
        self.features = (self.mel,) if self.latents is None else (self.mel, self.latents)

    def sample(self, clip: Clip, n: int, rng: np.random.Generator) -> dict[str, Tensor]:
        heard, elsewhere = _two_places(rng, clip.frames - self.frames, self.distance)
        seen = elsewhere if n % 2 else heard
        if self.latents is None:
            pictures = self.read_pictures(clip, seen)
            frames = pictures[:, :, pictures.shape[2] // 2 :]
        else:
            frames = self.read_latents(self.latents, clip, seen)
        return {
            "frames": rearrange(frames, "f c h w -> (f c) h w").contiguous(),
            "mel": self.read_mel(clip, heard),
            "target": torch.tensor(float(seen == heard)),
        }


def _check_workers(data: DataConfig) -> None:
    if data.cache is None and data.workers:
        raise InputError(
            f"data.workers is {data.workers} and data.cache is null: worker processes have no nets to compute "
            "features with, so set data.cache to a folder that they can read them from, or data.workers=0"
        )


@lru_cache(maxsize=4)
def pass_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` clips, or other things, in one pass over them."""
    return np.random.default_rng((seed, epoch, PERMUTATION)).permutation(count)


def _two_places(rng: np.random.Generator, last: int, distance: int) -> tuple[int, int]:
    """Two frame numbers in 0 .. last that are `distance` or more apart; last >= distance.

    The first is uniform over those that have a second, the second over those it can be.
    """
    all_places = np.arange(last + 1)
    one = int(rng.choice(all_places[(all_places >= distance) | (all_places <= last - distance)]))
    other = int(rng.choice(all_places[np.abs(all_places - one) >= distance]))
    return one, other
