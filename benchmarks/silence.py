"""How much the mouth moves while the voice is silent, with each choice of --silence, on drawn heads.

    python benchmarks/silence.py [--seeds 0 1 2] [--quality fast]

Each head says old words all the time and is made to say new ones with pauses of `GAP` seconds. A frame counts as silent
where the true mouth of the new words rests in a pause, and its mouth as moving where the opening differs from that of
the frame before by more than `MOVED` of the speaker's greatest. Prints for each head how the pauses are found and the
shares of silent frames with a moving mouth: as drawn, and in the results; the last line has them over all heads.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch

from latentsync.audio import pauses
from latentsync.drawn.demo import SIZE
from latentsync.drawn.heads.clip import render
from latentsync.drawn.heads.corpus import track_clip
from latentsync.evaluate.opening import measure_opening
from latentsync.drawn.heads.speaker import make_speaker
from latentsync.drawn.heads.speech import FPS, Speech, make_speech, speak
from latentsync.face.align import AlignedFaces
from latentsync.models.embedded import EMBEDDED
from latentsync.models.load import load_model
from latentsync.pipelines.lip_sync import LipSyncInput, lip_sync_frames
from latentsync.progress import no_progress
from latentsync.settings import QUALITIES, SILENCE, RunSettings, Settings

TALK, GAP, TURNS = 1.4, 1.2, 3  # seconds, seconds, and how often
MOVED = 0.05  # of the greatest opening, between two frames
AT_REST = 0.005  # the same, of the true mouth


def with_pauses(seed: int) -> Speech:
    """Words in this seed's voice, with a pause after every `TALK` seconds of them and before the first."""
    phones = make_speech(seed + 1, TALK * TURNS).phones
    late = [GAP * (1 + phone.start // TALK) for phone in phones]
    shifted = [replace(p, start=p.start + gap, end=p.end + gap) for p, gap in zip(phones, late, strict=True)]
    return speak([p for p in shifted if p.name != "_"], (TALK + GAP) * TURNS + GAP, seed)


def moving(opening: np.ndarray) -> np.ndarray:
    return np.append(False, np.abs(np.diff(opening)) > MOVED)


def measured(seed: int, settings: Settings, model) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which frames are silent, and in which the mouth moves: as drawn ("true") and by each choice of --silence."""
    new = with_pauses(seed)
    speaker, seconds = make_speaker(seed), len(new) / FPS
    source, truth = (render(speaker, words, SIZE, seed) for words in (make_speech(seed, seconds), new))
    track = track_clip(source, model.resolution)

    def opening(frames) -> np.ndarray:
        crops = AlignedFaces(frames, track.matrices, track.seen, track.resolution)[range(len(track))]
        return measure_opening(crops).numpy()

    # What an opening of 1 measures depends on the speaker; the true pictures tell.
    slope, level = np.polyfit(opening(truth.frames), truth.opening, 1)
    moves = {"true": moving(slope * opening(truth.frames) + level)}
    for silence in SILENCE:
        run = RunSettings(sync=settings, silence=silence)
        given = LipSyncInput(source.frames, FPS, truth.waveform)
        result = lip_sync_frames(given, model, lambda *_: [], run, no_progress, track)
        frames = np.concatenate([window.pictures.numpy() for window in result.windows()])
        moves[silence] = moving(slope * opening(torch.from_numpy(frames)) + level)
    spoken = np.zeros(len(new), bool)
    for phone in new.phones:
        spoken[int(phone.start * FPS) : int(np.ceil(phone.end * FPS))] = True
    # Rests in which the true mouth has come to rest: pauses between words are shorter than a quarter of a second.
    still = ~spoken & (np.abs(np.diff(truth.opening, prepend=truth.opening[0])) < AT_REST)
    return still, moves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quality", choices=tuple(QUALITIES), default="fast")
    parser.add_argument("--loudness", action="store_true", help="find the pauses without silero-vad")
    arguments = parser.parse_args()
    if arguments.loudness:
        pauses.packaged = lambda: None
    print("pauses by", "loudness" if pauses.packaged() is None else "silero-vad")
    model, settings = load_model(EMBEDDED), Settings(**QUALITIES[arguments.quality])
    silent, moved = [], {}
    for seed in arguments.seeds:
        still, moves = measured(seed, settings, model)
        silent.append(still)
        for name, frames in moves.items():
            moved.setdefault(name, []).append(frames)
        shares = ", ".join(f"{name} {100 * frames[still].mean():.1f} %" for name, frames in moves.items())
        print(f"head {seed}: of {still.sum()} silent frames the mouth moves in: {shares}", flush=True)
    silent = np.concatenate(silent)
    shares = ", ".join(f"{name} {100 * np.concatenate(parts)[silent].mean():.1f} %" for name, parts in moved.items())
    print(f"silent frames with a moving mouth: {shares}")


if __name__ == "__main__":
    main()
