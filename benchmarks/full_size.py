"""Memory and time of the full-size stage-2 U-Net: `python benchmarks/full_size.py`, from the repository root.

The weights are made, not downloaded: 5.07 GB in float32, filled tensor by tensor and loaded without a second copy.
"""

import resource
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import golden_data

from latentsync.nets.motion import position_table
from latentsync.nets.unet import UNet, UNetConfig

FRAMES, LATENT = 2, 32
PEAK_LIMIT_GB = 8.0


def made_weights(config: UNetConfig) -> dict[str, torch.Tensor]:
    """Weights by name and seed for every tensor of the net; only these are ever in memory, not a net beside them."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in UNet(config).state_dict().items()}
    fill, seed = golden_data.golden_init().golden_array, golden_data.seed()
    return {
        name: position_table(*shape[1:]) if name.endswith(".pe") else torch.from_numpy(fill(name, shape, seed))
        for name, shape in shapes.items()
    }


def peak_gb() -> float:
    """Largest resident memory of this process so far, in 10^9 bytes (Linux counts KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> int:
    started = time.perf_counter()
    weights = made_weights(UNetConfig())
    filled = time.perf_counter()
    net = UNet.from_state_dict(weights)
    loaded = time.perf_counter()
    parameters = sum(p.numel() for p in net.parameters())
    tables = sum(b.numel() for b in net.buffers())
    print(f"parameters        {parameters / 1e6:.1f} M, and {tables / 1e6:.1f} M in position tables")
    print(f"making weights    {filled - started:.1f} s")
    print(f"loading           {loaded - filled:.2f} s, peak memory {peak_gb():.2f} GB")

    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, net.config.in_channels, FRAMES, LATENT, LATENT, generator=generator)
    audio = torch.randn(1, FRAMES, 50, net.config.cross_attention_dim, generator=generator)
    with torch.inference_mode():
        started = time.perf_counter()
        out = net(sample, 741, audio)
        seconds = time.perf_counter() - started
    print(f"one step          {seconds:.2f} s for {FRAMES} frames of {LATENT} x {LATENT} latents")
    print(f"output            standard deviation {out.std():.4f}, finite: {bool(out.isfinite().all())}")
    print(f"peak memory       {peak_gb():.2f} GB (limit {PEAK_LIMIT_GB:.0f} GB)")
    return 0 if peak_gb() < PEAK_LIMIT_GB and out.isfinite().all() else 1


if __name__ == "__main__":
    sys.exit(main())
