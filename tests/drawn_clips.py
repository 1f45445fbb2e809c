"""Short clips of a drawn face that moves, with a track file beside them, so that no detector is needed."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from media_clips import encode_audio, tone

from latentsync.face.landmarks import Detection, Face, points_from_box
from latentsync.face.track_file import write_track_file
from latentsync.media import VideoWriter

HEIGHT, WIDTH = 180, 240


@dataclass(frozen=True)
class Clip:
    video: Path
    audio: Path
    track: Path


def box_at(i: int) -> tuple[float, float, float, float]:
    x, y = 120 + 30 * np.sin(i / 15), 90 + 8 * np.cos(i / 11)
    return (x - 34, y - 46, x + 34, y + 46)


def picture(i: int) -> np.ndarray:
    """(HEIGHT, WIDTH, 3) uint8: a textured wall and a head with eyes, nose and mouth inside `box_at(i)`."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    wall = np.stack([120 + 60 * np.sin(columns / 9 + c) * np.cos(rows / 13) for c in range(3)], -1)
    frame = wall.astype(np.uint8)
    x1, y1, x2, y2 = box_at(i)
    centre = (round((x1 + x2) / 2), round((y1 + y2) / 2))
    cv2.ellipse(frame, centre, (34, 46), 0, 0, 360, (224, 180, 150), -1)
    for side in (-1, 1):
        cv2.circle(frame, (centre[0] + side * 14, centre[1] - 14), 4, (40, 30, 30), -1)
    cv2.line(frame, (centre[0], centre[1] - 6), (centre[0], centre[1] + 6), (180, 130, 110), 2)
    cv2.ellipse(frame, (centre[0], centre[1] + 22), (12, 3 + i % 5), 0, 0, 360, (150, 50, 60), -1)
    return frame


def make_clip(
    folder: Path,
    frames: int = 40,
    seconds: float = 1.6,
    fps: float | Fraction = 25,
    without_face: range = range(0),
    suffix: str = ".mp4",
) -> Clip:
    """`frames` pictures, and audio of so many `seconds`; frames in `without_face` have none in the track file."""
    clip = Clip(folder / f"clip{suffix}", folder / "voice.wav", folder / "track.json")
    with VideoWriter(clip.video, fps, HEIGHT, WIDTH, preset="ultrafast", crf=12) as writer:
        for i in range(frames):
            writer.write(torch.from_numpy(picture(i))[None])
    encode_audio(clip.audio, "pcm_s16le", tone(seconds, 16000), 16000)
    seen = [Face(box_at(i), 0.9, points_from_box(box_at(i))) for i in range(frames)]
    detections = [Detection([] if i in without_face else [face]) for i, face in enumerate(seen)]
    write_track_file(clip.track, detections, WIDTH, HEIGHT, float(fps))
    return clip
