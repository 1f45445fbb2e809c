"""The synced crops, back on their frames."""

from comfy_api.latest import io

from ..latentsync.errors import InputError
from ..latentsync.face.blend import blend
from ..latentsync.face.masks import fitted
from ..latentsync.progress import with_progress
from ..latentsync.settings import BlendSettings
from . import inputs, runtime, sockets

FRAMES_AT_ONCE = 8


class BlendFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncBlendFaces",
            display_name="Blend Faces",
            category="LatentSync/face",
            description="Lays synced crops over the frames they were cut from. Pixels outside the mask stay as they "
            "are, bit for bit.",
            inputs=[
                io.Image.Input("images", tooltip="The frames that the crops were cut from."),
                sockets.Track.Input("track", tooltip="The face track that the crops were cut with."),
                io.Image.Input("crops", tooltip="Synced or restored crops, one for each frame."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Where the crop is shown (1) and where the frame (0), in the crop: one for all frames or "
                    "one for each. Another size is resized. Without it the region around the mouth. A mask that the "
                    "sampler had belongs here too.",
                ),
                inputs.mask_smooth(),
                inputs.match_colour(),
            ],
            outputs=[io.Image.Output("images_out", display_name="images", tooltip="The finished frames.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, track, crops, mask_smooth, match_colour, mask=None) -> io.NodeOutput:
        if not len(images) == len(crops) == len(track.faces):
            raise InputError(
                f"there are {len(images)} images, {len(crops)} crops and a track of {len(track.faces)} frames: give "
                "the images and the track that the crops were made of"
            )
        frames = inputs.pictures(images) if images.shape[-1] != 4 else images  # transparency stays
        settings = BlendSettings(mask_smooth, match_colour)
        if mask is not None:
            mask = fitted(mask.reshape(-1, *mask.shape[-2:]), track.track.resolution)
        finished = blend(frames, track.track, crops.split(FRAMES_AT_ONCE), settings, mask)
        finished = with_progress(finished, len(images), "blending", runtime.progress(cls))
        return io.NodeOutput(inputs.concat_windows(finished, len(images)))
