"""GPU memory of a window at full size, counted without a GPU: `python benchmarks/memory_estimate.py`.

The nets run on fake tensors, which have a device, a size and no content; what operations allocate on the device is
added up, and taken off when it is freed. Weights and activations are float16, as on a GPU. The CUDA context (about
0.4 GB), cuDNN's workspaces and the gaps in the allocator's memory are not in it.
"""

import json
import sys
from pathlib import Path
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

from latentsync.models.load import LipSyncModel
from latentsync.nets.unet import UNet, UNetConfig
from latentsync.sampling.sample import BatchSizes, initial_noise, synced_window
from latentsync.settings import Settings
from latentsync.train.memory import LiveBytes

TARGETS = {256: 5.0, 512: 8.0}  # GB, weights included: versions 1.5 and 1.6


def fused_attention(query, key, value, **_) -> torch.Tensor:
    """What the kernel allocates that PyTorch takes in half precision on a GPU: the result alone."""
    return torch.empty_like(query)


def full_size(resolution: int) -> LipSyncModel:
    from diffusers import AutoencoderKL
    from whisper.model import AudioEncoder

    config = json.loads((ROOT / "latentsync/assets/sd-vae-ft-mse/config.json").read_text())
    with torch.device("cuda"):
        torch.set_default_dtype(torch.float16)
        nets = UNet(UNetConfig(), attention=fused_attention).eval(), AutoencoderKL.from_config(config).eval()
        torch.set_default_dtype(torch.float32)
        model = LipSyncModel(*nets, AudioEncoder(80, 1500, 384, 6, 4), resolution)
    return model


def size(net: torch.nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))


def largest_layer(net: torch.nn.Module) -> int:
    return max(sum(t.numel() * t.element_size() for t in m.parameters(recurse=False)) for m in net.modules())


def peaks(model: LipSyncModel, frames: int, guidance: float, sizes: BatchSizes) -> dict[str, int]:
    """Bytes at the highest point of each stage of a window, without the weights."""
    settings = Settings(steps=1, guidance=guidance, window=frames)
    side = model.resolution
    pictures, audio = torch.zeros(frames, 3, side, side), torch.zeros(frames, 50, model.unet.config.cross_attention_dim)
    found: dict[str, int] = {}

    def end_of(stage: str) -> None:
        if stage not in found:
            found[stage], live.peak = live.peak, live.now

    def denoise(*args):
        end_of("encode")
        return LipSyncModel.denoise(model, *args)

    with LiveBytes("cuda") as live, patch.object(model, "denoise", denoise):
        noise = initial_noise(model, 0)
        synced_window(model, pictures, audio, noise, settings, lambda *_: end_of("denoise"), sizes)
        end_of("decode")
    return found


def main() -> int:
    print(f"{'side':>4} {'frames':>6} {'guidance':>10} {'encode':>7} {'denoise':>8} {'decode':>7}   weights: all "
          "on the device / a layer at a time, GB")  # fmt: skip
    least = {}
    for side in TARGETS:
        # Fake tensors cannot be pinned.
        unpinned = patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor)
        with unpinned, FakeTensorMode(allow_non_fake_inputs=True):
            model = full_size(side)
            weights = sum(map(size, (model.unet, model.vae, model.audio_encoder)))
            layer = max(map(largest_layer, (model.unet, model.vae)))
            for frames in (16, 8):
                for name, guidance, together in (("off", 1.0, True), ("together", 1.5, True), ("2 passes", 1.5, False)):
                    found = peaks(model, frames, guidance, BatchSizes(batch_cfg=together))
                    whole, streamed = (max(found.values()) + held for held in (weights, layer))
                    least.setdefault(side, {})[frames, name] = whole / 1e9, streamed / 1e9
                    print(f"{side:4} {frames:6} {name:>10} "
                          + " ".join(f"{value / 1e9:7.2f}" for value in found.values())
                          + f"   {whole / 1e9:5.2f} / {streamed / 1e9:.2f}")  # fmt: skip
    met = True
    for side, target in TARGETS.items():
        whole, streamed = least[side][16, "together"]
        met &= whole <= target
        print(f"{side}: {whole:.2f} GB with all weights on the device, at most {target:.0f} are wanted")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
