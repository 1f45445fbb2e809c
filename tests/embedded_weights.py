"""A folder of the embedded model's layout: safetensors of float16, with what is needed to load them in their heads."""

import json
from pathlib import Path

import golden_data
import pytest
import tiny
import torch
from safetensors.torch import save_file

from latentsync.models.embedded import EMBEDDED
from latentsync.models.load import missing_checkpoints
from latentsync.nets.unet import UNet

packaged = pytest.mark.skipif(bool(missing_checkpoints(EMBEDDED)), reason=f"no weights in {EMBEDDED}")


def make_embedded(folder: Path, seed: int | None = None, resolution: int = 128) -> Path:
    """Random weights as the packaged ones are stored; no SyncNet."""
    (folder / "whisper").mkdir(parents=True)
    unet = halved(tiny.weights(UNet(tiny.unet_config()), seed))
    save_file(unet, folder / "latentsync_unet.safetensors", {"resolution": str(resolution)})
    encoder = {f"encoder.{key}": value for key, value in halved(tiny.weights(tiny.audio_encoder(), seed)).items()}
    dims = json.dumps(golden_data.json_of("audio")["dims"])
    save_file(encoder, folder / "whisper" / "tiny.safetensors", {"dims": dims})
    tiny.save_vae(folder / "vae", seed)
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file(halved(tiny.weights(tiny.vae(), seed)), file, {"format": "pt"})
    return folder


def halved(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
