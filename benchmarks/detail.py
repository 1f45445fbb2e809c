"""What `--detail` gives: how sharp the skin around the new mouth is, and how near to the truth.

    python benchmarks/detail.py [--clips 4] [--seed 910000] [--sizes 256 512] [--sheet FILE.png]

Drawn heads, smooth ones and ones with pores and blemishes that move with the skin, say other words by the embedded
model, whose crops are 128 pixels wide. For pictures of each size it prints, without and with all of the detail, the
sharpness of the repainted skin (root mean square of what a blur of one pixel takes away, over that of the true
pictures: 1 is as sharp), PSNR there and of all that is repainted, and the worst change of the latter in a frame.
"""

import argparse
import sys
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from embedded import FIRST_SEED, say, table

from latentsync.audio.whisper import encode_audio
from latentsync.drawn.heads import clip as drawn
from latentsync.drawn.heads.clip import DrawnClip, render
from latentsync.drawn.heads.corpus import align_clip, track_clip
from latentsync.drawn.heads.portrait import draw_face
from latentsync.drawn.heads.speaker import Speaker, make_speaker
from latentsync.drawn.heads.speech import make_speech, speak
from latentsync.evaluate.image_metrics import psnr
from latentsync.face.blend import Blender
from latentsync.face.geometry import crop_matrix
from latentsync.face.masks import face_mask, skin_mask
from latentsync.face.track_sheet import write_png
from latentsync.frames import as_float
from latentsync.models.embedded import load_embedded
from latentsync.models.load import LipSyncModel
from latentsync.sampling.sample import sync
from latentsync.settings import QUALITIES, BlendSettings, Settings

SECONDS = 1.28  # two windows
PORES, BLEMISHES = (0.004, 0.04), (0.009, 0.03)  # size in face coordinates, and how much lighter and darker they are


def rough_face(speaker: Speaker, unit: float) -> np.ndarray:
    """`draw_face` with a skin that has a texture; what the jaw moves, moves it too."""
    face, rng = draw_face(speaker, unit), np.random.default_rng((speaker.seed, 7))
    gain = np.ones(face.shape[:2], np.float32)
    for size, strength in (PORES, BLEMISHES):
        noise = cv2.GaussianBlur(rng.standard_normal(gain.shape).astype(np.float32), (0, 0), size * unit)
        gain += strength * noise / noise.std()
    coloured = np.minimum(face[..., :3] * gain[..., None], face[..., 3:])  # premultiplied
    return np.concatenate([np.rint(coloured).astype(np.uint8), face[..., 3:]], -1)


def clips_of(seed: int, size: int, rough: bool) -> tuple[DrawnClip, DrawnClip]:
    """A head that says something, and the same one saying other words."""
    old, speaker = make_speech(seed, SECONDS), make_speaker(seed)
    new = speak(make_speech(seed + 1, SECONDS).phones, SECONDS, seed)
    drawn._sheets.cache_clear()  # it does not know which face is drawn
    with patch.object(drawn, "draw_face", rough_face if rough else draw_face):
        return render(speaker, old, size, seed), render(speaker, new, size, seed)


def sharpness(pictures: torch.Tensor, region: torch.Tensor) -> float:
    """Root mean square of the finest detail of pictures (n, h, w, 3) in `region` (n, h, w) bool."""
    fine = [picture - cv2.GaussianBlur(picture, (0, 0), 1.0) for picture in as_float(pictures).numpy()]
    return float(np.sqrt(np.mean(np.square(np.stack(fine)[region.numpy()]))))


def decibels(pictures: torch.Tensor, truth: torch.Tensor, region: torch.Tensor) -> np.ndarray:
    """PSNR of each frame in `region` (n, h, w)."""
    pairs = zip(pictures.split(1), truth.split(1), region, strict=True)
    return np.array([psnr(picture, true, where) for picture, true, where in pairs])


def measure(model: LipSyncModel, source: DrawnClip, truth: DrawnClip) -> tuple[np.ndarray, torch.Tensor]:
    """(sharpness, PSNR of the skin, PSNR) without and with detail, the worst change of the last; and the pictures."""
    track = track_clip(source, model.resolution)
    heard = encode_audio(model.audio_encoder, truth.waveform, truth.rate, truth.fps)
    crops = torch.cat(list(sync(model, align_clip(source, model.resolution), heard, Settings(**QUALITIES["fast"]))))
    results = [Blender(source.frames, track, BlendSettings(detail=amount))(crops, 0) for amount in (0.0, 1.0)]
    size, flags = source.frames.shape[2:0:-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    layers = torch.stack([face_mask(model.resolution), skin_mask(model.resolution)], -1).numpy()
    warped = [
        cv2.warpAffine(layers, crop_matrix(matrix, model.resolution), size, flags=flags) for matrix in track.matrices
    ]
    repainted, skin = torch.from_numpy(np.stack(warped) > 0.5).unbind(-1)
    skin &= repainted
    near = [decibels(result, truth.frames, repainted) for result in results]
    figures = [
        (
            sharpness(result, skin) / sharpness(truth.frames, skin),
            decibels(result, truth.frames, skin).mean(),
            db.mean(),
        )
        for result, db in zip(results, near, strict=True)
    ]
    return np.array([*sum(figures, ()), (near[1] - near[0]).min()]), torch.stack(
        [source.frames, *results, truth.frames]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seed", type=int, default=FIRST_SEED + 10_000)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[256, 512], help="of the pictures; a head is 0.6 as high"
    )
    parser.add_argument("--sheet", type=Path, help="PNG of source, result, result with detail and truth")
    given = parser.parse_args()
    model, rows, tiles = load_embedded(), [], []
    for size in given.sizes:
        for skin in ("smooth", "rough"):
            found = []
            for k in range(given.clips):
                figures, pictures = measure(model, *clips_of(given.seed + 2 * k, size, skin == "rough"))
                found.append(figures)
                say(f"{size} pixels, {skin} skin, clip {k + 1} of {given.clips}")
            tiles.append(np.hstack([cv2.resize(clip[10].numpy(), (512, 512)) for clip in pictures]))
            *means, _ = np.mean(found, 0)
            pairs = [f"{before:.2f} -> {after:.2f}" for before, after in zip(means[:3], means[3:], strict=True)]
            rows.append((size, skin, *pairs, f"{np.min(found, 0)[-1]:+.2f} dB"))
    table(("pictures", "skin", "sharpness", "PSNR of the skin", "PSNR of all repainted", "worst frame"), rows)
    if given.sheet:
        write_png(given.sheet, np.vstack(tiles))


if __name__ == "__main__":
    main()
