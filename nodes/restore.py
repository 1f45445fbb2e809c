"""Face restoration: more detail in the synced crops."""

from contextlib import nullcontext
from dataclasses import replace

from comfy_api.latest import io

from ..latentsync.errors import InputError
from ..latentsync.progress import with_progress
from ..latentsync.restore.apply import restore
from ..latentsync.restore.restorers import NetRestorer, Restorer, Sharpen, load_restorer
from ..latentsync.settings import REGIONS, RestoreSettings
from . import folders, inputs, runtime, sockets

SHARPEN = Sharpen().name
FRAMES_AT_ONCE = 4
# Beside the weights, for one face of 512 x 512: what ComfyUI reckons with for a tile of this size.
BYTES_PER_FACE = 512 * 512 * 3 * 4 * 384
DEFAULTS = RestoreSettings()


class LoadRestorer(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncLoadRestorer",
            display_name="Load Face Restorer",
            category="LatentSync/loaders",
            description="Loads GFPGAN, CodeFormer or RestoreFormer, or the built-in sharpening filter, which needs no "
            "file and makes clearer what is there, without inventing anything.",
            inputs=[
                io.Combo.Input(
                    "restorer",
                    options=[SHARPEN, *folders.restorer_files()],
                    default=SHARPEN,
                    tooltip="Files in models/latentsync/GFPGAN, /CodeFormer and /RestoreFormer, in "
                    "models/facerestore_models and models/upscale_models. CodeFormer is for non-commercial use and "
                    "needs `pip install spandrel_extra_arches`.",
                )
            ],
            outputs=[sockets.Restorer.Output(display_name="restorer", tooltip="Restores faces, for Restore Faces.")],
        )

    @classmethod
    def fingerprint_inputs(cls, restorer) -> object:
        """A file that was replaced is read again."""
        path = folders.restorer_files().get(restorer)
        return restorer if path is None else (str(path), path.stat().st_mtime_ns, path.stat().st_size)

    @classmethod
    def execute(cls, restorer) -> io.NodeOutput:
        files = folders.restorer_files()
        inputs.choice("restorer", restorer, [SHARPEN, *files])
        return io.NodeOutput(Sharpen() if restorer == SHARPEN else load_restorer(files[restorer]))


class RestoreFaces(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncRestoreFaces",
            display_name="Restore Faces",
            category="LatentSync/face",
            description="Adds detail to synced crops, between the sampler and Blend Faces. Colours and light stay "
            "those of the crops. Connect a restorer or an upscale model.",
            inputs=[
                io.Image.Input("crops", tooltip="Crops from the sampler."),
                sockets.Restorer.Input("restorer", optional=True, tooltip="From Load Face Restorer."),
                io.UpscaleModel.Input(
                    "upscale_model",
                    optional=True,
                    tooltip="Instead of a restorer: any model from Load Upscale Model, such as a GFPGAN or "
                    "RestoreFormer file or an upscaler.",
                ),
                inputs.crops_track(),
                inputs.fraction(
                    "strength",
                    DEFAULTS.strength,
                    "How much of the restored detail is taken. 0 gives the crops back unchanged.",
                ),
                io.Combo.Input(
                    "region",
                    options=list(REGIONS),
                    default=DEFAULTS.region,
                    tooltip="mouth: what the lip sync repaints, so that the rest stays the source's. face: the whole "
                    "face; Blend Faces shows it only with a mask of that shape.",
                ),
                inputs.fraction("fidelity", 0.5, "CodeFormer only: 0 is the best picture, 1 the closest to the crop."),
                inputs.fraction(
                    "temporal",
                    DEFAULTS.temporal,
                    "Against flicker: how much of the last frame's detail is kept where the picture does not move. "
                    "0 restores each frame by itself.",
                ),
            ],
            outputs=[io.Image.Output(display_name="crops", tooltip="The restored crops, for Blend Faces.")],
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
            restored = restore(crops.split(FRAMES_AT_ONCE), chosen, track and track.track, settings)
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
