"""The synced crops, back on their frames."""

from comfy_api.latest import io

from ..latentsync.errors import InputError
from ..latentsync.face.blend import blend
from ..latentsync.face.masks import fitted
from ..latentsync.face.occlusion import Occlusion
from ..latentsync.progress import with_progress
from ..latentsync.settings import BlendSettings
from . import inputs, runtime, sockets
from .base import node

FRAMES_AT_ONCE = 8


@node(advanced=("match_colour", "detail"), search_aliases=("paste face back", "uncrop"))
class BlendFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncBlendFaces",
            display_name="Blend Faces",
            category="LatentSync/face",
            inputs=[
                io.Image.Input("images"),
                sockets.Track.Input("track"),
                io.Image.Input("crops"),
                io.Mask.Input("mask", optional=True),
                *inputs.widgets(BlendSettings, "mask_smooth", "match_colour"),
                inputs.occlusion(),
                *inputs.widgets(BlendSettings, "detail", optional=True),
            ],
            outputs=[io.Image.Output("images_out", display_name="images")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, track, crops, mask=None, occlusion=None, **widgets) -> io.NodeOutput:
        if not len(images) == len(crops) == len(track.faces):
            raise InputError(
                f"there are {len(images)} images, {len(crops)} crops and a track of {len(track.faces)} frames: give "
                "the images and the track that the crops were made of"
            )
        frames = inputs.pictures(images) if images.shape[-1] != 4 else images  # transparency stays
        settings = inputs.from_widgets(BlendSettings, widgets)
        if mask is not None:
            mask = fitted(mask.reshape(-1, *mask.shape[-2:]), track.track.resolution)
        free = None if occlusion is None else Occlusion(inputs.masks(occlusion, frames.shape[1:3]), track.track)
        finished = blend(frames, track.track, crops.split(FRAMES_AT_ONCE), settings, mask, occlusion=free)
        finished = with_progress(finished, len(images), "blending", runtime.progress(cls))
        return io.NodeOutput(inputs.concat_windows(finished, len(images)))
