"""Pictures and sound in, pictures and sound out: the whole run in one node, with no encoding in between."""

from comfy_api.latest import io

from ..latentsync.pipelines.lip_sync import LipSyncInput, lip_sync_frames
from . import inputs, model_patcher, runtime, sockets
from .audio import of_length
from .base import node
from .face import find_detector
from .sample import WindowPreviews


@node(advanced=inputs.SELDOM_TURNED, search_aliases=inputs.LIP_SYNC_ALIASES)
class Frames(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncFrames",
            display_name="Lip Sync Frames",
            category="LatentSync/video",
            hidden=[io.Hidden.unique_id],
            inputs=[
                io.Image.Input("images"),
                io.Audio.Input("audio"),
                sockets.Model.Input("model", optional=True),
                sockets.Detector.Input("detector", optional=True),
                inputs.fps(),
                *inputs.run_widgets(),
                inputs.occlusion(),
                *inputs.more_run_widgets(),
            ],
            outputs=[
                io.Image.Output("images_out", display_name="images"),
                io.Audio.Output("audio_out", display_name="audio"),
            ],
        )

    @classmethod
    def execute(cls, images, audio, fps, model=None, detector=None, occlusion=None, **widgets) -> io.NodeOutput:
        settings = inputs.run_settings(widgets)
        frames = inputs.pictures(images)
        given = LipSyncInput(frames, fps, inputs.mono_16k(audio), inputs.masks(occlusion, frames.shape[1:3]))
        runtime.check_room(len(given.order(settings)), *given.frames.shape[1:3])
        detector = find_detector() if detector is None else detector
        model = model_patcher.default_model() if model is None else model
        model = model.on_device(settings.sync.window)
        report = WindowPreviews(runtime.progress(cls))
        result = lip_sync_frames(given, model, detector, settings, report)
        windows = report.shown(window.pictures for window in result.windows())
        synced = inputs.concat_windows(windows, len(result))
        return io.NodeOutput(synced, of_length(audio, len(result), fps))
