"""What is computed once for each clip and then kept: mel spectrogram, Whisper states, latents of every frame."""

import hashlib
import logging
import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch
from einops import rearrange
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.utils.data import get_worker_info

from ..audio.syncnet import VIDEO_FPS, syncnet_mel
from ..audio.whisper import SAMPLE_RATE, encode_audio
from ..files import file_sha256, make_folder, replacing
from ..frames import batches, for_net
from ..sampling.latents import encode_clips
from ..sampling.sample import PIXELS_AT_ONCE
from .clips import Clip, Pictures, read_sound, reading

log = logging.getLogger(__name__)

VERSION = 1  # of what the features are: another number makes all of them anew
KEPT_CLIPS = 16  # whose features stay in memory where there is no folder


class Feature:
    """One kind of feature: `name` is that of the kind, `identity` all that its values depend on beside the clip.

    `make` gives that of a whole clip, on the CPU; its first axis is time. A net that makes it stays in the process that
    loaded it: worker processes only read.
    """

    name: str
    identity = ""
    _net: nn.Module | None = None
    make: Callable[[Clip], torch.Tensor]

    @property
    def net(self) -> nn.Module:
        if self._net is None or get_worker_info() is not None:
            raise RuntimeError(
                f"a worker process needs {self.name} that nobody has made yet: set data.cache to a folder and call "
                "fill() before the workers start, or set data.workers=0"
            )
        return self._net

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_net": None, "mask": None}


class Mel(Feature):
    """`syncnet_mel`, columns first: (columns, 80) float32."""

    name = "mel"

    def make(self, clip: Clip) -> torch.Tensor:
        return syncnet_mel(read_sound(clip)).T.contiguous()


class States(Feature):
    """The Whisper states of `encode_audio`: (t50, layers + 1, width) float32."""

    name = "states"

    def __init__(self, encoder: nn.Module):
        self._net = encoder
        self.identity = f"n_head {encoder.blocks[0].attn.n_head} {weights_sha256(encoder)}"

    def make(self, clip: Clip) -> torch.Tensor:
        return encode_audio(self.net, read_sound(clip), SAMPLE_RATE, VIDEO_FPS).states


class Latents(Feature):
    """Scaled latents of every frame, as the U-Net's condition has them: (frames, c, h / 8, w / 8) float16.

    With a `mask` (1, resolution, resolution) they are those of the crop whose repainted region is blank.
    """

    def __init__(self, vae: nn.Module, resolution: int, mask: torch.Tensor | None = None):
        self.name = "latents" if mask is None else "masked_latents"
        self._net, self.resolution, self.mask = vae, resolution, mask
        masked = "" if mask is None else f" mask {hashlib.sha256(_bytes(mask)).hexdigest()}"
        scaled = f"shift {vae.config.shift_factor} scale {vae.config.scaling_factor}"
        self.identity = f"resolution {resolution} {scaled}{masked} {weights_sha256(vae)}"

    def make(self, clip: Clip) -> torch.Tensor:
        net, size, rows = self.net, max(1, PIXELS_AT_ONCE // self.resolution**2), []
        with Pictures(clip, self.resolution, cache=size) as pictures:
            for numbers in batches(clip.frames, size):
                shown = for_net(pictures[numbers])
                if self.mask is not None:
                    shown = shown * self.mask
                latents = encode_clips(net, rearrange(shown, "f c h w -> 1 c f h w").to(net.device))
                rows.append(rearrange(latents, "1 c f h w -> f c h w").to("cpu", torch.float16))
        return torch.cat(rows)


def weights_sha256(net: nn.Module) -> str:
    """Of a net's weights: names, dtypes, shapes and bits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def _bytes(tensor: torch.Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


class FeatureCache:
    """Features of clips, in `folder` or, where it is None, in memory for the clips used last.

    Files are named by the content of the clip and by what made the feature, so that clips of the same name, changed
    clips and other nets never meet. They appear when they are complete; any number of processes may share a folder.
    """

    def __init__(self, folder: str | os.PathLike | None):
        self.folder = None if folder is None else Path(folder)
        self._hashes: dict[Path, str] = {}
        self._memory: OrderedDict[tuple[str, Path], torch.Tensor] = OrderedDict()

    def read(self, feature: Feature, clip: Clip, start: int, stop: int) -> torch.Tensor:
        """Rows start .. stop - 1 of a clip's feature, as far as it goes; made first if it is not there."""
        if self.folder is None:
            key = feature.name, clip.path
            if key not in self._memory:
                self._memory[key] = feature.make(clip)
            self._memory.move_to_end(key)
            if len(self._memory) > KEPT_CLIPS:
                self._memory.popitem(last=False)
            return self._memory[key][start:stop]
        path = self.path(feature, clip)
        try:
            with safe_open(path, framework="pt") as file:
                return file.get_slice(feature.name)[start:stop]
        except FileNotFoundError:
            pass
        except (SafetensorError, ValueError) as error:
            log.warning("%s is damaged (%s): it is made again", path, error)
        rows = feature.make(clip)
        make_folder(path.parent)
        with replacing(path) as part:
            part.write_bytes(save({feature.name: rows.contiguous()}))
        return rows[start:stop]

    def path(self, feature: Feature, clip: Clip) -> Path:
        """The file of a clip's feature."""
        if clip.path not in self._hashes:
            with reading(clip.path):
                self._hashes[clip.path] = file_sha256(clip.path)
        key = f"{VERSION} {feature.name} {feature.identity} {self._hashes[clip.path]}"
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / feature.name / name[:2] / f"{name}.safetensors"

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_memory": OrderedDict()}
