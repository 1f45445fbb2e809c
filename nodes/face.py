"""The face: found, followed, cut out, and the mask it is laid back with."""

from typing import get_args

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..latentsync.face.align import AlignedFaces
from ..latentsync.face.detect import load_detector
from ..latentsync.face.masks import FaceShape, face_mask, fitted, keep_mask, mask_image_of, tinted
from ..latentsync.face.track import choose_faces, place_faces
from ..latentsync.face.track_sheet import filled, report, strip
from ..latentsync.frames import as_float, batches
from ..latentsync.models.load import check_resolution
from ..latentsync.pipelines.lip_sync import watch
from ..latentsync.progress import with_progress
from ..latentsync.settings import TrackSettings
from . import folders, inputs, runtime, sockets

DETECTORS = ["auto", "yunet", "insightface", "facexlib"]
FRAMES_AT_ONCE = 8
SHOWN_CROPS = 4  # side by side in the preview of a mask
NO_CROP = 0.25  # grey of the preview where there are no crops


class LoadDetector(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncLoadDetector",
            display_name="Load Face Detector",
            category="LatentSync/loaders",
            description="Loads what finds the faces: a detector, or a track file with faces marked by hand.",
            inputs=[
                io.Combo.Input(
                    "detector",
                    options=[*DETECTORS, *folders.track_files()],
                    default="auto",
                    tooltip="auto: InsightFace where its package and models are, else YuNet. yunet: small and free. "
                    "insightface: what the models were trained with, for non-commercial use. facexlib: RetinaFace. "
                    "Or a track file (*.faces.json) in ComfyUI's input folder.",
                )
            ],
            outputs=[
                sockets.Detector.Output(
                    "detector_out", display_name="detector", tooltip="Finds the faces, for Track Face."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, detector) -> object:
        """A track file that was edited is read again."""
        if detector not in folders.track_files():
            return detector
        state = folders.input_file(detector).stat()
        return detector, state.st_mtime_ns, state.st_size

    @classmethod
    def execute(cls, detector) -> io.NodeOutput:
        inputs.choice("detector", detector, [*DETECTORS, *folders.track_files()])
        if detector not in DETECTORS:
            return io.NodeOutput(load_detector("file", model=folders.input_file(detector)))
        return io.NodeOutput(load_detector(detector, checkpoints=folders.models_folder()))


class TrackFace(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncTrackFace",
            display_name="Track Face",
            category="LatentSync/face",
            description="Follows one face through the frames, steadily and across short gaps. Frames without it are "
            "left as they are by all that follows.",
            inputs=[
                io.Image.Input("images", tooltip="The frames of the clip, in order."),
                sockets.Detector.Input("detector", tooltip="Finds the faces in each frame."),
                sockets.Model.Input(
                    "model", optional=True, tooltip="Gives the crops the size that this model works at."
                ),
                inputs.fps(),
                *inputs.face(),
                inputs.smoothing(),
                inputs.max_gap(),
                inputs.seconds(
                    "fade",
                    TrackSettings.fade,
                    "Seconds over which the synced face fades in and out at both ends of a longer gap.",
                ),
                inputs.detect_every(),
                io.Int.Input(
                    "resolution",
                    default=256,
                    min=64,
                    max=1024,
                    step=64,
                    tooltip="Side of the crops in pixels, where no model is connected.",
                ),
            ],
            outputs=[
                sockets.Track.Output(display_name="track", tooltip="Where the face is in each frame."),
                io.Image.Output(
                    display_name="preview",
                    tooltip="Some of the frames with the crop's outline, the face's box and its "
                    "points, and their crops below.",
                ),
                io.String.Output(
                    display_name="report", tooltip="In how many frames the face was found, and how steady the crop is."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, detector, fps, detect_every, resolution, model=None, **which) -> io.NodeOutput:
        resolution = resolution if model is None else model.resolution
        check_resolution(resolution)
        settings = track_settings(**which)
        frames = inputs.pictures(images)
        seen = watch(frames, fps, detector, settings, detect_every, runtime.progress(cls))
        chosen = choose_faces(seen, fps, settings)
        track = place_faces(chosen, resolution, fps, settings)
        faces = filled(chosen)
        preview = as_float(torch.from_numpy(strip(frames, track, faces)))[None]
        tracked = sockets.TrackedFace(track, faces, fps, tuple(frames.shape[1:3]))
        return io.NodeOutput(tracked, preview, report(track), ui=ui.PreviewImage(preview, cls=cls))


def track_settings(
    face: str, index: int, x: float, y: float, smoothing: float, max_gap: float, fade: float = TrackSettings.fade
) -> TrackSettings:
    """How a face is followed, from the widgets of a node."""
    return TrackSettings(inputs.which_face(face, index, x, y), max_gap=max_gap, fade=fade, smoothing=smoothing)


class CropFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncCropFaces",
            display_name="Crop Faces",
            category="LatentSync/face",
            description="Cuts the followed face out of each frame, upright and always in the same place, as the "
            "lip-sync model wants to see it.",
            inputs=[
                io.Image.Input("images", tooltip="The frames of the clip."),
                sockets.Track.Input("track", tooltip="Where the face is in these frames."),
            ],
            outputs=[
                io.Image.Output(
                    display_name="crops", tooltip="The face of each frame; plain grey where there is none."
                ),
                io.Mask.Output(
                    display_name="mask", tooltip="Where the model repaints the crop (1); all 0 without a face."
                ),
            ],
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


class FaceMask(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncFaceMask",
            display_name="Make Face Mask",
            category="LatentSync/face",
            description="Makes a mask of a part of the cropped face: where Blend Faces shows the crop.",
            inputs=[
                sockets.Track.Input("track", tooltip="Gives the size of the crops."),
                io.Image.Input("crops", optional=True, tooltip="Crops to show the mask on, in the preview."),
                io.Combo.Input(
                    "shape",
                    options=list(get_args(FaceShape)),
                    default="mouth",
                    tooltip="mouth: what the model repaints, cheeks to chin. lower face: its part below the nose. "
                    "face: forehead to chin. oval: an ellipse over mouth and chin.",
                ),
                io.Int.Input(
                    "grow",
                    default=0,
                    min=-64,
                    max=64,
                    tooltip="Crop pixels by which the shape grows; below 0 it shrinks.",
                ),
                inputs.fraction(
                    "feather",
                    0.5,
                    "Width of the soft edge inside the shape, 0 (hard) to 1 (an eighth of the crop).",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="A shape of your own (1), in the crop, instead of the one above: grow and feather shape "
                    "its edge.",
                ),
            ],
            outputs=[
                io.Mask.Output(display_name="mask", tooltip="One mask for all crops, for Blend Faces."),
                io.Image.Output(display_name="preview", tooltip="Some crops with the mask in colour."),
            ],
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
