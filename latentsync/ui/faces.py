"""A look at where the face is before a run: frames of the clip with the faces found and the region to be repainted."""

import math
from pathlib import Path

import cv2
import numpy as np
import torch

from ..face.geometry import corners, crop_matrix, invert
from ..face.landmarks import Detection, Face
from ..face.masks import keep_mask, tinted
from ..face.track import Chosen, choose_faces, place_faces
from ..face.track_sheet import BOX, OUTLINE, draw_box, draw_polygon, framed
from ..frames import FrameView, as_float, as_uint8
from ..media import VideoReader
from ..pipelines.lip_sync import watch
from ..settings import RunSettings
from .job import Job
from .models import ModelCache

PICTURES = 6
LOOKS = 36  # frames in which faces are looked for
LONGEST = 60.0  # seconds of the clip that are looked at
LONGER_SIDE = 640  # pixels of a picture
CHOSEN, OTHER = BOX, (235, 170, 60)  # RGB


def face_pictures(job: Job, nets: ModelCache, video: Path, settings: RunSettings) -> list[tuple[np.ndarray, str]]:
    """Pictures (h, w, 3) uint8 of frames spread over the clip, each with a caption.

    The face is followed as in a run, looking less often. The chosen face has a green box and the outline of its crop,
    the part that is repainted is tinted, and other faces have an orange box.
    """
    job.progress("loading the face detector", 0, 0)
    detector = nets.detector(video, settings.track.which)
    with VideoReader(video, fps=settings.fps, progress=job.progress) as reader:
        fps = float(reader.fps)
        count = min(len(reader), max(1, round(LONGEST * fps)))
        every = max(settings.detect_every, math.ceil(count / LOOKS))
        frames = FrameView(reader, range(count))
        seen = list(watch(frames, fps, detector, settings.track, every, job.progress))
        chosen = choose_faces(seen, fps, settings.track)
        track = place_faces(chosen, 256, fps, settings.track)  # the side changes nothing in frame coordinates
        pictures = []
        for i in shown_frames(seen, chosen):
            job.check()
            frame = as_uint8(frames[[i]][0, ..., :3]).cpu().numpy()
            matrix = track.matrices[i] if track.found[i] else None
            picture = drawn(frame, seen[i].faces or [], chosen.faces[i], matrix, settings.mask_image)
            pictures.append((picture, caption(i / fps, len(seen[i].faces or []), chosen.faces[i] is not None)))
    return pictures


def shown_frames(seen: list[Detection], chosen: Chosen) -> list[int]:
    """Numbers of frames that were looked at, spread over the clip; those with the chosen face if there are enough."""
    hits = [i for i, face in enumerate(chosen.faces) if face is not None]
    looked = hits if len(hits) >= PICTURES else [i for i, detection in enumerate(seen) if detection.faces is not None]
    return [looked[k] for k in np.unique(np.linspace(0, len(looked) - 1, PICTURES).round().astype(int))]


def caption(seconds: float, faces: int, found: bool) -> str:
    """What a picture shows, in words."""
    if not faces:
        return f"{seconds:.1f} s, no face"
    others = faces - found
    return f"{seconds:.1f} s" + (f", {others} other{'s' if others > 1 else ''}" if others else "")


def drawn(
    frame: np.ndarray,
    faces: list[Face],
    chosen: Face | None,
    matrix: np.ndarray | None,
    mask_image: np.ndarray | None = None,
) -> np.ndarray:
    """A frame (h, w, 3) uint8, made `LONGER_SIDE` long, with the faces and the repainted region drawn in."""
    picture, scale = framed(frame, LONGER_SIDE)
    if matrix is not None:
        picture = _tinted(picture, matrix, scale, mask_image)
        draw_polygon(picture, corners(matrix, 256), scale, OUTLINE)
    for face in faces:
        draw_box(picture, face, scale, CHOSEN if chosen is not None and face.box == chosen.box else OTHER)
    return picture


def _tinted(picture: np.ndarray, matrix: np.ndarray, scale: float, mask_image: np.ndarray | None) -> np.ndarray:
    """`picture`, `scale` times as large as the frame of `matrix`, tinted where the net repaints it."""
    back = invert(crop_matrix(matrix, 256))  # crop to frame
    back = np.column_stack([back[:, :2], back[:, 2] + 0.5]) * scale - [[0, 0, 0.5]]
    region = 1 - keep_mask(256, mask_image)[0].numpy()
    mask = cv2.warpAffine(region, back, picture.shape[1::-1], flags=cv2.INTER_LINEAR)
    shown = tinted(as_float(torch.from_numpy(picture))[None], torch.from_numpy(mask).clamp(0, 1))
    return as_uint8(shown)[0].numpy()
