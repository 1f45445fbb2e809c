"""Face restoration: more detail in the synced crops."""

from contextlib import nullcontext
from dataclasses import replace

from comfy_api.latest import io

from ..latentsync.errors import InputError
from ..latentsync.files import file_version
from ..latentsync.pipelines.options import RestorerOptions
from ..latentsync.progress import with_progress
from ..latentsync.restore.apply import Restoration
from ..latentsync.restore.restorers import NetRestorer, Restorer, Sharpen, load_restorer
from ..latentsync.settings import RestoreSettings
from . import folders, inputs, runtime, sockets
from .base import node

SHARPEN = Sharpen().name
FRAMES_AT_ONCE = 4
# Beside the weights, for one face of 512 x 512: what ComfyUI reckons with for a tile of this size.
BYTES_PER_FACE = 512 * 512 * 3 * 4 * 384


@node(search_aliases=("gfpgan", "codeformer", "restoreformer"))
class LoadRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncLoadRestorer",
            display_name="Load Face Restorer",
            category="LatentSync/loaders",
            inputs=[io.Combo.Input("restorer", options=[SHARPEN, *folders.restorer_files()], default=SHARPEN)],
            outputs=[sockets.Restorer.Output(display_name="restorer")],
        )

    @classmethod
    def fingerprint_inputs(cls, restorer) -> object:
        """A file that was replaced is read again."""
        path = folders.restorer_files().get(restorer)
        return restorer if path is None else [str(path), file_version(path)]

    @classmethod
    def execute(cls, restorer) -> io.NodeOutput:
        files = folders.restorer_files()
        inputs.choice("restorer", restorer, [SHARPEN, *files])
        return io.NodeOutput(Sharpen() if restorer == SHARPEN else load_restorer(files[restorer]))


@node(advanced=("fidelity", "temporal"), search_aliases=("face restoration", "gfpgan", "codeformer"))
class RestoreFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncRestoreFaces",
            display_name="Restore Faces",
            category="LatentSync/face",
            inputs=[
                io.Image.Input("crops"),
                sockets.Restorer.Input("restorer", optional=True),
                io.UpscaleModel.Input("upscale_model", optional=True),
                inputs.crops_track(),
                *inputs.widgets(RestoreSettings, "strength", "region"),
                *inputs.widgets(RestorerOptions, "superres_fidelity", id="fidelity"),
                *inputs.widgets(RestoreSettings, "temporal"),
            ],
            outputs=[io.Image.Output(display_name="crops")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls, crops, strength, region, fidelity, temporal, restorer=None, upscale_model=None, track=None
    ) -> io.NodeOutput:
        settings = RestoreSettings(strength, region, temporal, FRAMES_AT_ONCE)
        crops, count = inputs.pictures(crops), len(crops)
        inputs.check_track(track, count)
        chosen = _chosen(restorer, upscale_model, fidelity)
        net = getattr(chosen, "net", None)
        with nullcontext() if net is None else runtime.on_device(net, FRAMES_AT_ONCE * BYTES_PER_FACE):
            restore = Restoration(chosen, crops.shape[2], settings, track and track.track)
            restored = (restore(crops[i : i + FRAMES_AT_ONCE], i) for i in range(0, count, FRAMES_AT_ONCE))
            restored = with_progress(restored, count, "restoring", runtime.progress(cls))
            return io.NodeOutput(inputs.concat_windows(restored, count))


def _chosen(restorer: Restorer | None, upscale_model: object | None, fidelity: float) -> Restorer:
    """The one restorer that is connected."""
    if (restorer is None) == (upscale_model is None):
        raise InputError(
            f"{'nothing is' if restorer is None else 'both are'} connected: connect either restorer (from Load Face "
            "Restorer) or upscale_model (from Load Upscale Model)"
        )
    if upscale_model is not None:
        return NetRestorer(upscale_model, "the upscale model", fidelity)
    return replace(restorer, fidelity=fidelity) if isinstance(restorer, NetRestorer) else restorer
