"""What is in front of a face, found by face parsing."""

from comfy_api.latest import io

from ..latentsync.face.parsing import FaceParser, ParsedOcclusions
from ..latentsync.frames import as_float
from ..latentsync.progress import with_progress
from . import folders, inputs, runtime, sockets
from .base import node

# Beside the weights, for a portrait of 512 x 512: what the net's widest layers hold at a time.
BYTES_AT_ONCE = 1 << 30


@node(search_aliases=("face parsing", "hand mask", "microphone", "parsenet"))
class SegmentOcclusions(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncSegmentOcclusions",
            display_name="Segment Occlusions",
            category="LatentSync/face",
            inputs=[io.Image.Input("images"), sockets.Track.Input("track")],
            outputs=[io.Mask.Output(display_name="occlusion")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, images, track) -> io.NodeOutput:
        frames = inputs.pictures(images)
        inputs.check_track(track, len(frames), "images")
        parser = FaceParser(folders.parser_file())
        with runtime.on_device(parser.net, BYTES_AT_ONCE):
            masks = ParsedOcclusions(frames, track.track, parser)
            found = (as_float(masks[[i]]) for i in range(len(frames)))
            found = with_progress(found, len(frames), "parsing", runtime.progress(cls))
            return io.NodeOutput(inputs.concat_windows(found, len(frames)))
