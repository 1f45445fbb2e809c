"""How well the embedded model speaks, on drawn heads and words that it was not trained on.

    python benchmarks/embedded.py [--clips 6] [--guidance 1 1.5 2] [--overlap 0 4 8] [--stage1 UNET] [--speech WAV ...]
    python benchmarks/embedded.py --only deep_cache --clips 2

Prints Markdown tables: lips and pictures for each guidance, unsteadiness for each overlap (of a net without motion
modules too, where one is given), quality and cost for each interval of DeepCache, the SyncNet's accuracy, and what the
lips do to real or spoken-by-espeak speech, where only the loudness is known. Everything is measured on aligned crops,
without video files.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch.utils.flop_counter import FlopCounterMode


sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from latentsync.audio.whisper import SAMPLE_RATE, AudioFeatures, encode_audio, resample, to_mono
from latentsync.models.load import LipSyncModel, find_checkpoints, load_model, load_unet, load_vae
from latentsync.drawn.demo import Scene, make_scene
from latentsync.models.embedded import EMBEDDED
from latentsync.evaluate.curves import best_lag, correlation
from latentsync.evaluate.image_metrics import flicker, psnr
from latentsync.face.masks import keep_mask
from latentsync.media import read_audio
from latentsync.nets.unet import UNet, UNetConfig
from latentsync.audio.syncnet import SYNCNET_FRAMES
from latentsync.sampling.sample import LATENT_SCALE, sync, windows
from latentsync.settings import Settings
from latentsync.drawn.heads.clip import make_clip
from latentsync.drawn.heads.corpus import align_clip
from latentsync.evaluate.opening import measure_opening
from latentsync.drawn.heads.speech import make_speech, mouth_shapes
from latentsync.drawn.heads.voice import Phone


FIRST_SEED = 900_000  # of clips that nothing was trained on
STRIDE = 2  # frames between the SyncNet's windows
APART = 8  # frames; less is half the same window
LOUDNESS_SMOOTHING = 0.032  # s, as the mouths of drawn heads are smoothed
TABLES = ("lips", "steadiness", "deep_cache", "syncnet", "speech")


@dataclass(frozen=True, eq=False)
class Case:
    """A scene as the model gets it: aligned crops of both clips, and what it hears of both speeches."""

    scene: Scene
    crops: torch.Tensor
    truth: torch.Tensor
    old: AudioFeatures
    new: AudioFeatures


def make_case(model: LipSyncModel, seed: int, seconds: float) -> Case:
    scene = make_scene(seed, seconds)
    clips = scene.source, scene.truth
    crops = (align_clip(clip, model.resolution) for clip in clips)
    heard = (encode_audio(model.audio_encoder, clip.waveform, clip.rate, clip.fps) for clip in clips)
    return Case(scene, *crops, *heard)


def synced(model: LipSyncModel, crops: torch.Tensor, heard: AudioFeatures, settings: Settings) -> torch.Tensor:
    return torch.cat(list(sync(model, crops, heard, settings)))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print Markdown; floats with three digits after the point, nan as a dash."""

    def shown(cell: object) -> str:
        if isinstance(cell, float):
            return "-" if np.isnan(cell) else f"{cell:.3f}"
        return str(cell)

    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(shown, row))} |", flush=True)


def say(words: str, start: float = time.monotonic()) -> None:  # noqa: B008 - the start of the program
    print(f"[{time.monotonic() - start:5.0f} s] {words}", file=sys.stderr, flush=True)


def lips(model: LipSyncModel, cases: Sequence[Case], guidances: Sequence[float], steps: int) -> None:
    """The mouth's course and its picture, for each guidance: means over the clips, and the worst correlation."""
    mask = keep_mask(model.resolution)[0]
    rows = []
    for guidance in guidances:
        figures = []
        for k, case in enumerate(cases):
            settings = Settings(steps=steps, guidance=guidance)
            own = synced(model, case.crops, case.old, settings)
            new = synced(model, case.crops, case.new, settings)
            moves, spoken = measure_opening(own).numpy(), measure_opening(new).numpy()
            source, truth = case.scene.source.opening, case.scene.truth.opening
            figures.append(
                (
                    correlation(moves, source),
                    best_lag(moves, source),
                    correlation(spoken, truth),
                    best_lag(spoken, truth),
                    correlation(spoken, source),
                    psnr(new, case.truth, mask < 0.5),
                    max(largest_change(picture, case.crops, mask == 1) for picture in (own, new)),
                )
            )
            say(f"guidance {guidance:g}, clip {k + 1} of {len(cases)}: {figures[-1][2]:.2f} with the new audio")
        own, own_lag, new, lag, old, db, change = np.array(figures).T
        lags = (" ".join(f"{int(v):d}" for v in column) for column in (own_lag, lag))
        own_lags, new_lags = lags
        worst = f"{new.mean():.3f} ({new.min():.3f})"
        rows.append(
            (
                f"{guidance:g}",
                own.mean(),
                own_lags,
                worst,
                new_lags,
                old.mean(),
                f"{db.mean():.1f} dB",
                int(change.max()),
            )
        )
    head = ("guidance", "own audio: correlation", "best lags", "new audio: correlation (worst)", "best lags",
            "with the old audio", "PSNR of the mouth", "change outside the mask, levels")  # fmt: skip
    table(head, rows)


def steadiness(
    nets: dict[str, LipSyncModel], cases: Sequence[Case], overlaps: Sequence[int], steps: int, guidance: float
) -> None:
    """Flicker for each net and overlap, with the new audio: means over the clips, in 8-bit levels."""
    rows = []
    for name, model in nets.items():
        region = keep_mask(model.resolution)[0] < 0.5
        for overlap in overlaps:
            settings = Settings(steps=steps, guidance=guidance, overlap=overlap)
            figures = []
            for case in cases:
                result = synced(model, case.crops, case.new, settings)
                borders = window_borders(windows(0, len(result), settings.window, overlap))
                moved = correlation(measure_opening(result).numpy(), case.scene.truth.opening)
                figures.append((*flicker_at(borders, result, case.truth, region), moved))
            rows.append((name, overlap, *np.array(figures).mean(0).tolist()))
            say(f"{name}, overlap {overlap}")
    table(("net", "overlap", "flicker at window edges", "inside windows", "correlation with the new audio"), rows)


def deep_cache(model: LipSyncModel, cases: Sequence[Case], intervals: Sequence[int], steps: int) -> None:
    """What DeepCache spares and what it costs, with the new audio: means over the clips; 0 is the run without it.

    Operations are the U-Net's in a window, counted on the meta device: of this model, and of the published one at 256.
    """
    region = keep_mask(model.resolution)[0] < 0.5
    whole: list[torch.Tensor] = []
    rows = []
    for interval in [0, *intervals]:
        settings = Settings(steps=steps, deep_cache=interval)
        figures = []
        for k, case in enumerate(cases):
            started = time.process_time()  # the machine may have other work
            result = synced(model, case.crops, case.new, settings)
            seconds = time.process_time() - started
            if not interval:
                whole.append(result)
            borders = window_borders(windows(0, len(result), settings.window, settings.overlap))
            figures.append(
                (
                    correlation(measure_opening(result).numpy(), case.scene.truth.opening),
                    psnr(result, case.truth, region),
                    psnr(result, whole[k], region) if interval else np.nan,
                    flicker_at(borders, result, case.truth, region)[1],
                    seconds,
                )
            )
        means = np.array(figures).mean(0).tolist()
        spared = [operations(c, side, steps, 0) / operations(c, side, steps, interval)
                  for c, side in ((model.unet.config, model.resolution), (UNetConfig(), 256))]  # fmt: skip
        rows.append((interval, *means, *(f"1 / {share:.2f}" for share in spared)))
        say(f"deep cache {interval}")
    head = ("deep cache", "new audio: correlation", "PSNR of the mouth, dB", "PSNR against 0, dB",
            "flicker inside windows", "CPU seconds a clip", "operations", "of the published net")  # fmt: skip
    table(head, rows)


@cache
def operations(config: UNetConfig, side: int, steps: int, interval: int) -> int:
    """Operations of a U-Net for a window of 16 frames with guidance, at crops of `side` pixels."""
    with torch.device("meta"), torch.inference_mode():
        net = UNet(config)
        sample = torch.empty(2, config.in_channels, 16, side // LATENT_SCALE, side // LATENT_SCALE)
        audio, deep, costs = torch.empty(2, 16, 50, config.cross_attention_dim), [], []
        for _ in range(2):  # the whole net, then what runs in between
            with FlopCounterMode(display=False) as counter:
                net(sample, 500, audio, deep)
            costs.append(counter.get_total_flops())
    full = len(range(0, steps, max(1, interval)))
    return full * costs[0] + (steps - full) * costs[1]


def syncnet_accuracy(syncnet: Path, vae: Path, resolution: int, clips: int) -> None:
    """Share of windows judged rightly (cosine above 0.5 = in sync): sound in place, and from so many frames later.

    The accuracy is that of pairs half of which are in sync, and the others `APART` or more frames off.
    """
    from latentsync.evaluate.sync_score import SyncScorer
    from latentsync.evaluate.sync_score import load_syncnet
    from latentsync.evaluate.sync_score import audio_embeddings, video_embeddings

    judge, net = SyncScorer(*load_syncnet(syncnet)), load_vae(vae)
    shifts = [0, 2, 4, 8, 16, 32]
    judged: dict[int, list[torch.Tensor]] = {shift: [] for shift in shifts}
    for k in range(clips):
        clip = make_clip(FIRST_SEED + 1000 + k)
        crops = align_clip(clip, resolution)
        starts = range(0, len(crops) - SYNCNET_FRAMES + 1, STRIDE)
        seen = video_embeddings(judge, net, crops, starts)
        heard = audio_embeddings(judge, clip.waveform, len(crops), starts)
        for shift in shifts:
            moved = shift // STRIDE
            judged[shift].append((seen[: len(seen) - moved] * heard[moved:]).sum(1))
        say(f"SyncNet, clip {k + 1} of {clips}")
    cosines = {shift: torch.cat(found) for shift, found in judged.items()}
    right = [float((c > 0.5).float().mean()) for c in cosines.values()]
    right[1:] = [1 - share for share in right[1:]]
    accuracy = (right[0] + np.mean([share for shift, share in zip(shifts, right, strict=True) if shift >= APART])) / 2
    head = ("SyncNet", "in sync", *(f"{shift} frames off" for shift in shifts[1:]), "accuracy")
    means = (float(c.mean()) for c in cosines.values())
    table(head, [("judged rightly", *right, float(accuracy)), ("mean cosine", *means, "")])


def real_speech(
    model: LipSyncModel, voices: Sequence[tuple[str, torch.Tensor, Sequence[Phone]]], seconds: float, settings: Settings
) -> None:
    """How the opening goes with the loudness: of speech, and of the words that the net was trained on.

    Where the sounds are known, the mouths that belong to them show how far loudness and opening go together at all.
    """
    clip = make_clip(FIRST_SEED, seconds)
    crops = align_clip(clip, model.resolution)
    rows = []
    for name, wave, phones in voices:
        frames = min(len(crops), round(len(wave) / SAMPLE_RATE * clip.fps))
        wave = wave[: round(frames / clip.fps * SAMPLE_RATE)]
        result = synced(model, crops[:frames], encode_audio(model.audio_encoder, wave, SAMPLE_RATE, clip.fps), settings)
        opening, level = measure_opening(result).numpy(), loudness(wave, SAMPLE_RATE, clip.fps, frames)
        due = mouth_shapes(phones, (np.arange(frames) + 0.5) / clip.fps)[:, 0] if phones else None
        known = ("", "") if due is None else (correlation(due, level), correlation(due, opening))
        rows.append((name, f"{frames / clip.fps:.1f} s", correlation(opening, level), best_lag(opening, level), *known))
        say(f"speech: {name}")
    drawn = [make_speech(FIRST_SEED + k, seconds) for k in range(20)]
    true = [correlation(s.opening, loudness(s.waveform, s.rate, s.fps, len(s))) for s in drawn]
    rows.append(("(true mouths of 20 drawn clips)", f"{seconds:.1f} s", "", "", float(np.mean(true)), ""))
    head = ("speech", "length", "opening with loudness", "best lag", "mouths due with loudness", "opening with those")
    table(head, rows)


def largest_change(pictures: torch.Tensor, before: torch.Tensor, region: torch.Tensor) -> int:
    """Greatest difference between two clips inside the region (h, w) bool, in 8-bit levels."""
    return round(float((pictures - before)[:, region].abs().max()) * 255)


def window_borders(spans: Sequence[tuple[int, int]]) -> set[int]:
    """Frames b that come from another window, or another mix of two, than b - 1; windows are (first, end)."""
    return {
        b for (_, end), (first, _) in zip(spans[:-1], spans[1:], strict=True) for b in range(first, max(first, end) + 1)
    }


def flicker_at(
    borders: set[int], pictures: torch.Tensor, truth: torch.Tensor, region: torch.Tensor
) -> tuple[float, float]:
    """Mean flicker of the frames whose neighbours lie on both sides of a border, and of all others; nan if none."""
    excess = flicker(pictures, truth, region)
    at_border = torch.tensor([bool({i, i + 1} & borders) for i in range(1, len(pictures) - 1)])
    return float(excess[at_border].mean()), float(excess[~at_border].mean())


def loudness(waveform: torch.Tensor, rate: int, fps: float, frames: int) -> np.ndarray:
    """Root mean square of a mono waveform (samples,) within each video frame, smoothed as mouths are: (frames,)."""
    edges = np.rint(np.arange(frames + 1) * rate / fps).astype(int).clip(0, len(waveform))
    energy = np.concatenate([[0.0], np.cumsum(waveform.numpy().astype(np.float64) ** 2)])
    level = np.sqrt(np.diff(energy[edges]) / np.maximum(np.diff(edges), 1))
    return gaussian_filter1d(level, LOUDNESS_SMOOTHING * fps, mode="nearest")


def voices_of(paths: Sequence[Path]) -> list[tuple[str, torch.Tensor, Sequence[Phone]]]:
    """Names, 16 kHz waveforms and, where they are known, sounds: of the files, and of what espeak-ng speaks."""
    found = [(path.name, *read_audio(path)) for path in paths]
    voices = [(name, resample(to_mono(wave), rate), []) for name, wave, rate in found]
    if importlib.util.find_spec("espeakng_loader") is None:
        say("espeak-ng is left out: pip install espeakng-loader")
        return voices
    from spoken import SENTENCES, espeak

    for voice, text in SENTENCES:
        spoken = espeak(text, voice)
        voices.append((f"espeak-ng, {voice}", spoken.wave, spoken.phones))
    return voices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=Path, default=EMBEDDED)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=2.56, help="of each clip: whole windows of 16 frames")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, nargs="+", default=[1.0, 1.5, 2.0])
    parser.add_argument("--overlap", type=int, nargs="+", default=[0, 4, 8])
    parser.add_argument("--deep_cache", type=int, nargs="+", default=[2, 3, 5])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=TABLES, help="tables to print")
    parser.add_argument("--steady_clips", type=int, default=2, help="clips for the overlaps")
    parser.add_argument("--stage1", type=Path, help="a U-Net without motion modules to set beside it")
    parser.add_argument("--sync_clips", type=int, default=20, help="clips for the SyncNet")
    parser.add_argument("--speech", type=Path, nargs="*", default=[], help="files with real speech")
    given = parser.parse_args()
    model = load_model(given.checkpoints)
    usual = Settings(steps=given.steps)
    cases = [make_case(model, FIRST_SEED + 2 * k, given.seconds) for k in range(given.clips)]
    say(f"{given.clips} clips of {given.seconds:g} s drawn")
    if "lips" in given.only:
        lips(model, cases, given.guidance, given.steps)
    if "steadiness" in given.only:
        nets = {"embedded": model}
        if given.stage1:
            unet = load_unet(given.stage1, model.device, model.dtype)
            nets["stage 1, no motion modules"] = replace(model, unet=unet, source=str(given.stage1))
        steadiness(nets, cases[: given.steady_clips], given.overlap, given.steps, usual.guidance)
    if "deep_cache" in given.only:
        deep_cache(model, cases, given.deep_cache, given.steps)
    paths = find_checkpoints(given.checkpoints)
    if "syncnet" in given.only and paths.syncnet:
        syncnet_accuracy(paths.syncnet, paths.vae, model.resolution, given.sync_clips)
    elif "syncnet" in given.only:
        say(f"no SyncNet in {given.checkpoints}: its accuracy is left out")
    if "speech" in given.only:
        real_speech(model, voices_of(given.speech), 4.0, usual)


if __name__ == "__main__":
    main()
