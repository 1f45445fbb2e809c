"""Work against lips and picture: which settings spare the most, on drawn heads that the embedded model never saw.

    python benchmarks/frontier.py [--clips 8] [--all] [--points FILE] [--plot frontier.svg]

Work is counted on the meta device for the published nets at 256, in TFLOP per second of video: the U-Net's passes, two
encodes and one decode by the VAE. Lips and picture are the embedded model's with another clip's audio. Without --all
only what `--quality` offers is measured. The last lines set that beside the targets.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from embedded import FIRST_SEED, Case, flicker_at, make_case, say, synced, table, window_borders

from latentsync.evaluate.opening import measure_opening
from latentsync.evaluate.charts import new_figure, style
from latentsync.evaluate.curves import correlation
from latentsync.evaluate.image_metrics import psnr
from latentsync.face.masks import keep_mask
from latentsync.models.embedded import EMBEDDED
from latentsync.models.load import LipSyncModel, load_model
from latentsync.nets.unet import UNet, UNetConfig
from latentsync.sampling.sample import LATENT_SCALE, windows
from latentsync.settings import QUALITIES, Settings

SIDE, FPS = 256, 25
PUBLISHED = Settings()
# quality: most work, and how far correlation and PSNR (dB) may fall; all relative to published
TARGETS = {"balanced": (0.35, 0.01, 0.7), "fast": (0.18, 0.01, 0.7)}


def candidates() -> list[Settings]:
    """DPM++ by steps, guidance in all, half or none of them or once, with and without DeepCache; a longer window."""
    ways = {"guidance": 1.0}, {"guidance_end": 0.5}, {}, {"uncond": "once"}
    choices = itertools.product((3, 4, 5, 6, 8, 10), ways, (0, 2, 3))
    found = [Settings(sampler="dpm++", steps=steps, deep_cache=n, **way) for steps, way, n in choices]
    return [*found, Settings(window=24), Settings(deep_cache=3)]


@dataclass(frozen=True)
class Point:
    """`work` in TFLOP per second of video; the rest are means over the clips."""

    settings: Settings
    work: float
    correlation: float
    psnr: float
    at_edges: float
    inside: float


@cache
def _pass_costs(frames: int) -> tuple[int, int]:
    """Operations of one U-Net pass over a window: whole, and with what DeepCache kept."""
    side = SIDE // LATENT_SCALE
    with torch.device("meta"), torch.inference_mode():
        net, costs, kept = UNet(UNetConfig()), [], []
        sample, audio = torch.empty(1, 13, frames, side, side), torch.empty(1, frames, 50, 384)
        for _ in range(2):
            with FlopCounterMode(display=False) as counter:
                net(sample, 500, audio, kept)
            costs.append(counter.get_total_flops())
    return tuple(costs)


@cache
def _vae_cost() -> int:
    """Operations of two encodes and one decode of one frame."""
    from diffusers import AutoencoderKL

    config = json.loads((Path(EMBEDDED).parent / "sd-vae-ft-mse" / "config.json").read_text())
    with torch.device("meta"), torch.inference_mode(), FlopCounterMode(display=False) as counter:
        vae = AutoencoderKL.from_config(config)
        latent = vae.encode(torch.empty(2, 3, SIDE, SIDE)).latent_dist.mode()
        vae.decode(latent[:1])
    return counter.get_total_flops()


def work(settings: Settings) -> float:
    """TFLOP per second of video at full size."""
    full, shallow = _pass_costs(settings.window)
    once = settings.uncond == "once" and settings.guidance != 1
    total, kept = once * _pass_costs(1)[0], 0
    for k in range(settings.steps):
        guided = settings.guidance_start <= k / settings.steps < settings.guidance_end
        passes = 2 if guided and settings.guidance != 1 and not once else 1
        if settings.deep_cache > 1 and k % settings.deep_cache and kept >= passes:
            total += passes * shallow
        else:
            total += passes * full
            kept = passes
    return (total / settings.window + _vae_cost()) * FPS / 1e12


def measure(model: LipSyncModel, cases: Sequence[Case], settings: Settings) -> Point:
    region = keep_mask(model.resolution)[0] < 0.5
    figures = []
    for case in cases:
        result = synced(model, case.crops, case.new, settings)
        borders = window_borders(windows(0, len(result), settings.window, settings.overlap))
        moved = correlation(measure_opening(result).numpy(), case.scene.truth.opening)
        flickers = flicker_at(borders, result, case.truth, region)
        figures.append((moved, psnr(result, case.truth, region), *flickers))
    point = Point(settings, work(settings), *np.array(figures).mean(0).tolist())
    say(f"{named(settings)}: {point.work:.0f} TFLOP, {point.correlation:.3f}, {point.psnr:.2f} dB")
    return point


def named(settings: Settings) -> str:
    """What differs from the published settings, in a few words."""
    guided = "no guidance" if settings.guidance == 1 else f"guidance {settings.guidance:g}"
    if settings.guidance != 1 and (settings.guidance_start, settings.guidance_end) != (0, 1):
        guided += f" in {settings.guidance_start:g} to {settings.guidance_end:g}"
    words = [f"{settings.sampler} {settings.steps}", guided]
    words += ["silence once"] * (settings.uncond == "once")
    words += [f"deep cache {settings.deep_cache}"] * (settings.deep_cache > 1)
    words += [f"window {settings.window}"] * (settings.window != PUBLISHED.window)
    return ", ".join(words)


def read_points(path: Path) -> dict[Settings, Point]:
    found = [Point(**fields | {"settings": Settings(**fields["settings"])}) for fields in json.loads(path.read_text())]
    return {point.settings: point for point in found}


def plot(points: Sequence[Point], path: Path) -> None:
    """Lips and picture by work, the qualities in colour; the line is the best that so much work gives."""
    import matplotlib

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "frontier"})  # small, the same each time
    figure = new_figure(
        1100, 460, "Settings by their work for the published nets at 256, as the embedded model does them"
    )
    points = {point.settings: point for point in sorted(points, key=lambda point: point.work)}
    panels = {"correlation": ("correlation of the mouth's opening", 0.035), "psnr": ("PSNR of the mouth, dB", 1.8)}
    for axis, (name, (title, below)) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        works, values = np.array([(point.work, getattr(point, name)) for point in points.values()]).T
        axis.step(works, np.maximum.accumulate(values), color="#d9dce1", where="post", zorder=1)
        axis.scatter(works, values, s=9, color="#9aa0a6", zorder=2)
        for (quality, fields), colour in zip(QUALITIES.items(), ("#262a32", "#2f6fb5", "#d1495b"), strict=True):
            point = points[Settings(**fields)]
            axis.scatter(point.work, getattr(point, name), s=42, color=colour, label=quality, zorder=3)
        style(axis, title, "TFLOP per second of video")
        axis.set_xscale("log")
        axis.set_xticks([40, 60, 80, 120, 200, 300], [40, 60, 80, 120, 200, 300])
        axis.set_xticks([], minor=True)
        axis.set_ylim(
            getattr(points[PUBLISHED], name) - below, values.max() + below / 8
        )  # the few that are worse are of no interest
    axis.legend(fontsize=8, loc="lower right", frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first clip")
    parser.add_argument("--seconds", type=float, default=2.56, help="of each clip: whole windows of 16 frames")
    parser.add_argument("--all", action="store_true", help="measure all candidates, not the qualities alone")
    parser.add_argument("--plot", type=Path, help="a picture of the frontier, .svg or .png")
    parser.add_argument("--points", type=Path, help="JSON of what was measured of these clips before, to go on from")
    given = parser.parse_args()
    qualities = {name: Settings(**fields) for name, fields in QUALITIES.items()}
    tried = dict.fromkeys([*qualities.values(), *(candidates() if given.all else [])])
    points = read_points(given.points) if given.points and given.points.exists() else {}
    if missing := [settings for settings in tried if settings not in points]:
        model = load_model(EMBEDDED)
        cases = [make_case(model, given.seed + 2 * k, given.seconds) for k in range(given.clips)]
    for settings in missing:
        points[settings] = measure(model, cases, settings)
        if given.points:
            given.points.write_text(json.dumps([asdict(point) for point in points.values()]))
    published = points[PUBLISHED]
    rows = [
        (named(p.settings), f"{p.work:.0f}", f"{p.work / published.work:.2f}", p.correlation, f"{p.psnr:.1f} dB",
         f"{p.at_edges:.2f}", f"{p.inside:.2f}")
        for p in sorted(points.values(), key=lambda p: p.work)
    ]  # fmt: skip
    head = ("settings", "TFLOP per second of video", "of published", "correlation", "PSNR of the mouth",
            "flicker at window edges", "inside windows")  # fmt: skip
    table(head, rows)
    if given.plot:
        plot(list(points.values()), given.plot)
    met = True
    for name, (most_work, most_lips, most_picture) in TARGETS.items():
        point = points[qualities[name]]
        share, lips = point.work / published.work, point.correlation - published.correlation
        picture = point.psnr - published.psnr
        met &= share <= most_work and lips >= -most_lips and picture >= -most_picture
        print(
            f"{name}: {share:.3f} of the work (at most {most_work}), correlation {lips:+.3f} (at least -{most_lips}), "
            f"PSNR {picture:+.2f} dB (at least -{most_picture})"
        )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
