"""The face: found, followed, cut out, and the mask it is laid back with."""

from typing import get_args

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..latentsync.errors import FileError
from ..latentsync.face.align import AlignedFaces
from ..latentsync.face.detect import load_detector
from ..latentsync.face.detect.retinaface import WEIGHTS as RETINAFACE
from ..latentsync.face.landmarks import Detector
from ..latentsync.face.masks import FaceShape, face_mask, fitted, keep_mask, mask_image_of, tinted
from ..latentsync.face.track import choose_faces, left_alone, place_faces
from ..latentsync.face.track_sheet import GAP, SHOWN_FRAMES, filled, report, strip
from ..latentsync.files import file_version
from ..latentsync.frames import as_float, batches
from ..latentsync.models.load import check_resolution
from ..latentsync.pipelines.lip_sync import watch
from ..latentsync.progress import with_progress
from ..latentsync.settings import RunSettings, TrackSettings
from . import folders, inputs, runtime, sockets
from .base import node
from .landmarks import given_faces

DETECTORS = ["auto", "yunet", "insightface", "facexlib", "centerface"]
DOWNLOAD = "run the node Download LatentSync Models with version none and detector on (YuNet, 230 kB, MIT licence)"
FRAMES_AT_ONCE = 8
SHOWN_CROPS = 4  # side by side in the preview of a mask
NO_CROP = 0.25  # grey of the preview where there are no crops


@node(search_aliases=("yunet", "insightface", "retinaface", "face detection"))
class LoadDetector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncLoadDetector",
            display_name="Load Face Detector",
            category="LatentSync/loaders",
            inputs=[io.Combo.Input("detector", options=[*DETECTORS, *folders.track_files()], default="auto")],
            outputs=[sockets.Detector.Output("detector_out", display_name="detector")],
        )

    @classmethod
    def fingerprint_inputs(cls, detector) -> object:
        """A track file that was edited is read again."""
        if detector not in folders.track_files():
            return detector
        path = folders.input_file(detector)
        return [str(path), file_version(path)]

    @classmethod
    def execute(cls, detector) -> io.NodeOutput:
        inputs.choice("detector", detector, [*DETECTORS, *folders.track_files()])
        if detector not in DETECTORS:
            return io.NodeOutput(load_detector("file", model=folders.input_file(detector)))
        return io.NodeOutput(find_detector(detector))


def find_detector(name: str = "auto") -> Detector:
    """The detector with its weights in models/latentsync; where they are missing, nodes are named that get them."""
    folder = folders.models_folder()
    try:
        return load_detector(name, checkpoints=folder)
    except FileError as error:  # in the words of the command line
        if name in ("auto", "yunet"):
            raise FileError(f"there is no face detector in {folder}: {DOWNLOAD}") from error
        file = RETINAFACE if name == "facexlib" else "models/buffalo_l, unpacked from buffalo_l.zip,"
        raise FileError(
            f"the face detector {name} has no model in {folder}: put {file} into its folder auxiliary, or choose auto "
            f"in Load Face Detector and {DOWNLOAD}"
        ) from error


@node(
    advanced=("index", "x", "y", "smoothing", "max_gap", "fade", "detect_every", "resolution", "max_yaw", "min_face"),
    search_aliases=("face detection", "face tracking", "landmarks"),
)
class TrackFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncTrackFace",
            display_name="Track Face",
            category="LatentSync/face",
            inputs=[
                io.Image.Input("images"),
                sockets.Detector.Input("detector", optional=True),
                sockets.Model.Input("model", optional=True),
                inputs.fps(),
                *inputs.face(),
                *inputs.widgets(TrackSettings, "smoothing", "max_gap", "fade"),
                *inputs.widgets(RunSettings, "detect_every"),
                io.Int.Input("resolution", default=256, min=64, max=1024, step=64),
                io.MultiType.Input("faces", types=[sockets.Landmarks, sockets.Boxes], optional=True),
                *inputs.widgets(TrackSettings, "max_yaw", "min_face", optional=True),
            ],
            outputs=[
                sockets.Track.Output(display_name="track"),
                io.Image.Output(display_name="preview"),
                io.String.Output(display_name="report"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, images, fps, detect_every, resolution, detector=None, model=None, faces=None, **widgets
    ) -> io.NodeOutput:
        resolution = resolution if model is None else model.resolution
        check_resolution(resolution)
        settings = inputs.track_settings(widgets)
        frames = inputs.pictures(images)
        height, width = frames.shape[1:3]
        if faces is not None:
            detector = given_faces(faces, len(frames), height, width)
        detector = find_detector() if detector is None else detector
        seen = watch(frames, fps, detector, settings, detect_every, runtime.progress(cls))
        chosen = choose_faces(seen, fps, settings)
        track = place_faces(chosen, resolution, fps, settings)
        followed = filled(chosen)
        reasons = left_alone(track, followed, settings)
        preview = as_float(torch.from_numpy(strip(frames, track, followed, reasons)))[None]
        tracked = sockets.TrackedFace(track, followed, fps, (height, width))
        shown = ui.PreviewImage(preview, cls=cls).as_dict()
        # What the page needs to know which place in the clip a click on the picture means.
        facts = {"columns": min(SHOWN_FRAMES, int(track.seen.sum())), "gap": GAP, "frame": [width, height]}
        facts |= {"picture": shown["images"][0], "width": preview.shape[2], "height": preview.shape[1]}
        return io.NodeOutput(tracked, preview, report(track, reasons), ui=shown | {"latentsync_faces": [facts]})


@node
class CropFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncCropFaces",
            display_name="Crop Faces",
            category="LatentSync/face",
            inputs=[io.Image.Input("images"), sockets.Track.Input("track")],
            outputs=[io.Image.Output(display_name="crops"), io.Mask.Output(display_name="mask")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, track) -> io.NodeOutput:
        place = track.track
        aligned = AlignedFaces(inputs.pictures(images), place.matrices, place.found, place.resolution)
        windows = (aligned[numbers] for numbers in batches(len(aligned), FRAMES_AT_ONCE))
        windows = with_progress(windows, len(aligned), "cropping", runtime.progress(cls))
        crops = inputs.concat_windows(windows, len(aligned))
        repainted = (1 - keep_mask(place.resolution)).clamp_(0, 1)  # Lanczos overshoots
        return io.NodeOutput(crops, repainted * torch.from_numpy(place.found)[:, None, None])


@node
class FaceMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncFaceMask",
            display_name="Make Face Mask",
            category="LatentSync/face",
            inputs=[
                sockets.Track.Input("track"),
                io.Image.Input("crops", optional=True),
                io.Combo.Input("shape", options=list(get_args(FaceShape)), default="mouth"),
                io.Int.Input("grow", default=0, min=-64, max=64),
                io.Float.Input("feather", default=0.5, min=0.0, max=1.0, step=0.05),
                io.Mask.Input("mask", optional=True),
            ],
            outputs=[io.Mask.Output(display_name="mask"), io.Image.Output(display_name="preview")],
        )

    @classmethod
    def execute(cls, track, shape, grow, feather, crops=None, mask=None) -> io.NodeOutput:
        resolution = track.track.resolution
        own = None if mask is None else mask_image_of(mask)
        mask = face_mask(resolution, shape if own is None else "mouth", grow, feather, own)[None]
        if crops is None:
            pictures = torch.full((1, resolution, resolution, 3), NO_CROP)
        else:
            pictures = _spread(inputs.pictures(crops), track.track.found)
        shown = tinted(pictures, fitted(mask, pictures.shape[1]))
        preview = torch.cat(list(shown), dim=1)[None]
        return io.NodeOutput(mask, preview, ui=ui.PreviewImage(preview, cls=cls))


def _spread(crops: torch.Tensor, found: np.ndarray) -> torch.Tensor:
    """A few of the crops (n, r, r, 3) that show the face, spread over the clip."""
    numbers = np.flatnonzero(found[: len(crops)]) if found[: len(crops)].any() else np.arange(len(crops))
    picked = np.unique(np.linspace(0, len(numbers) - 1, SHOWN_CROPS).round().astype(int))
    return crops[numbers[picked].tolist()]
