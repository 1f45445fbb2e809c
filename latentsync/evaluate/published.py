"""FVD and Sync-C/D as the published program's eval/ computes them, to be compared with the figures of papers.

What differs: there MediaPipe (FVD) and S3FD (sync) find the faces, here the detector of the settings does; videos and
crops are not encoded anew in between; and a track's boxes are smoothed up to its ends without zeros beyond them.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from ..audio.syncnet import SAMPLES_PER_FRAME, VIDEO_FPS
from ..errors import InputError
from ..face.landmarks import Box, Detection, Detector
from ..face.track_file import FaceFile
from ..frames import Frames, FrameView
from ..media import VideoReader
from ..nets.syncnet_v2 import SyncNetV2
from ..pipelines.lip_sync import watch
from ..progress import Progress
from ..settings import TrackSettings
from .frechet import Features, Gaussian, frechet_distance
from .metrics import MetricValue
from .sync_score import MouthViews, at_25, sync_metrics, sync_scores

FVD_FRAMES, FVD_SIDE = range(20, 36), 224
LEAST_TRACK = 50  # detections; the published script drops a track of exactly 50
LEAST_FACE = 100  # pixels: the longer side of a track's mean box is larger
MOST_STEP = 25  # frames from one detection to the next
SAME_FACE = 0.5  # the overlap of their boxes is larger


def fvd_of_sets(
    i3d: Features, made: Sequence[Path], true: Sequence[Path], detector: Callable[[Path], Detector], progress: Progress
) -> float:
    """FVD, by `frechet.load_i3d`, of two sets of videos, which need not be as many nor go by the same names."""
    if min(len(made), len(true)) < 2:
        raise InputError(
            f"the published FVD takes one clip of each video and got {len(made)} and {len(true)} true ones: give "
            "folders of 2 videos or more as --video_path and --reference"
        )
    found = []
    for videos in (made, true):
        found.append(Gaussian())
        for k, video in enumerate(videos):
            progress("FVD as published", k + len(made) * (videos is true), len(made) + len(true))
            found[-1].add(i3d(face_clip(video, detector(video))[None]))
    return frechet_distance(*found)


def face_clip(path: Path, detector: Detector) -> Tensor:
    """The most certain face in each of frames 20 to 35: (16, 224, 224, 3) float32 in [0, 1]."""
    with VideoReader(path) as video:
        if len(video) < FVD_FRAMES.stop:
            raise InputError(
                f"{path} has {len(video)} frames: the published FVD is of frames {FVD_FRAMES[0]} to {FVD_FRAMES[-1]}, "
                f"give videos of {FVD_FRAMES.stop} or more"
            )
        detector = detector.at(float(video.fps)) if isinstance(detector, FaceFile) else detector
        crops = []
        for i in FVD_FRAMES:
            frame = video[[i]][0].numpy()
            face, crop = max(detector(frame, i), key=lambda face: face.score, default=None), frame[:0]
            if face is not None:
                # A box that begins outside keeps its size, as there.
                left, top = (max(0, int(corner)) for corner in face.box[:2])
                crop = frame[top : top + int(face.height), left : left + int(face.width)]
            if not crop.size:
                raise InputError(f"{path} shows no face in frame {i}: the published FVD needs one in each of 20 to 35")
            crops.append(cv2.resize(crop, (FVD_SIDE, FVD_SIDE), interpolation=cv2.INTER_AREA))
    return torch.from_numpy(np.stack(crops)).float() / 255


def sync_of_video(
    net: SyncNetV2,
    frames: Frames,
    fps: float,
    detector: Detector,
    wave: Tensor,
    progress: Progress,
    source_wave: Tensor | None = None,
) -> dict[str, MetricValue | str]:
    """The metrics of `sync_score.sync_metrics`, of whole pictures and their sound, and the source's, at 16 kHz.

    Each is the mean over the video's face tracks; the offset is cut to a whole number.
    """
    frames = at_25(frames, fps)
    tracks = face_tracks(watch(frames, VIDEO_FPS, detector, TrackSettings(), 1, progress))
    if not tracks:
        raise InputError(
            f"no face of over {LEAST_FACE} pixels is found {LEAST_TRACK} times within one shot, at {VIDEO_FPS} frames "
            "per second: the published protocol judges no shorter ones"
        )
    scores = []
    for start, boxes in tracks:
        stop = start + len(boxes)
        progress("judging lips and sound", start, len(frames))
        views = MouthViews(FrameView(frames, range(start, stop)), boxes)
        sounds = [sound for sound in (wave, source_wave) if sound is not None]
        part = slice(start * SAMPLES_PER_FRAME, stop * SAMPLES_PER_FRAME)
        scores.append(sync_scores(net, views, [sound[part] for sound in sounds]))
    return sync_metrics(np.mean(scores, axis=0))


def face_tracks(detections: Iterable[Detection]) -> list[tuple[int, np.ndarray]]:
    """Every face that is followed long enough within a shot: its first frame, and boxes (n, 4) from there on.

    A face goes on in the box that overlaps its last one most; frames in between are on a straight line.
    """
    tracks: list[dict[int, Box]] = []
    open_tracks: list[dict[int, Box]] = []
    for i, detection in enumerate(detections):
        open_tracks = [] if detection.cut else [t for t in open_tracks if i - next(reversed(t)) <= MOST_STEP]
        left = [face.box for face in detection.faces or []]
        for track in open_tracks:
            last = next(reversed(track.values()))
            best = max(left, key=lambda box, last=last: overlap(box, last), default=None)
            if best is not None and overlap(best, last) > SAME_FACE:
                track[i] = best
                left.remove(best)
        fresh = [{i: box} for box in left]
        tracks += fresh
        open_tracks += fresh
    found = []
    for track in tracks:
        frames = np.arange(min(track), max(track) + 1)
        boxes = np.stack([np.interp(frames, list(track), side) for side in zip(*track.values(), strict=True)], axis=1)
        if len(track) >= LEAST_TRACK and (boxes[:, 2:] - boxes[:, :2]).mean(axis=0).max() > LEAST_FACE:
            found.append((int(frames[0]), boxes))
    return found


def overlap(a: Box, b: Box) -> float:
    """Intersection over union of two boxes."""
    width, height = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / max(sum(areas) - width * height, 1e-9)
