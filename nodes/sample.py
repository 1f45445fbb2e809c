"""The sampler: new mouths for the crops of a face."""

from collections.abc import Callable

from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..latentsync.errors import InputError
from ..latentsync.face.masks import mask_image_of
from ..latentsync.sampling.preview import LatentPreview, fit_preview
from ..latentsync.sampling.sample import LATENT_SCALE, StepCallback, sync, window_size, windows
from ..latentsync.settings import Settings
from . import inputs, runtime, sockets
from .base import node


@node(
    advanced=("sampler", "window", "overlap", "guidance_start", "guidance_end", "deep_cache"),
    search_aliases=("lipsync", "ksampler lip sync", "talking head", "wav2lip"),
)
class Sampler(io.ComfyNode):
    """`latentsync.sampling.sample.sync` over a batch of crops."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncSampler",
            display_name="Lip Sync Sampler",
            category="LatentSync/sampling",
            inputs=[
                sockets.Model.Input("model"),
                io.Image.Input("crops"),
                sockets.Audio.Input("features"),
                inputs.crops_track(),
                io.Vae.Input("vae", optional=True),
                *inputs.widgets(Settings, *inputs.SAMPLING, "guidance_start", "guidance_end"),
                *inputs.widgets(Settings, "deep_cache", optional=True),
                io.Mask.Input("mask", optional=True),
                inputs.quality(),
            ],
            outputs=[io.Image.Output(display_name="crops")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, crops, features, track=None, vae=None, mask=None, **widgets) -> io.NodeOutput:
        settings = inputs.sampling_settings(widgets)
        mask_image = None if mask is None else mask_image_of(mask)
        crops = inputs.pictures(crops)
        runs = [(0, len(crops))] if track is None else track.track.runs()
        check_crops(crops, model.resolution, track)
        if vae is not None:
            model = model.with_vae(vae)
        size, overlap = window_size(model, settings)
        model.on_device(size)
        report = runtime.progress(cls)
        count = sum(len(windows(start, stop, size, overlap)) for start, stop in runs)
        report("syncing", 0, count * settings.steps)
        shown = [i for start, stop in runs for i in range(start, stop)]
        preview = fit_preview(model, crops, shown) if shown else None
        on_step = _reporter(report, preview, count)
        synced = sync(model, crops, features, settings, lambda _: runs, on_step=on_step, mask_image=mask_image)
        return io.NodeOutput(inputs.concat_windows(synced, len(crops)))


def check_crops(crops: Tensor, resolution: int, track: sockets.TrackedFace | None) -> None:
    """Refuse crops of another size than the model's, and a track of another clip, with an InputError."""
    height, width = crops.shape[1:3]
    if (height, width) != (resolution, resolution):
        raise InputError(
            f"the crops are {width} x {height} pixels and the model works at {resolution} x {resolution}: connect "
            "the model to Track Face too, and the output of Crop Faces here"
        )
    inputs.check_track(track, len(crops))


def _reporter(report: Callable[..., None], preview: LatentPreview | None, count: int) -> StepCallback:
    """A callback for `sync` that counts the steps of all windows and shows the middle frame of the current one."""
    done = 0

    def on_step(step: int, steps: int, latents: Tensor) -> None:
        nonlocal done
        done += 1
        picture = None
        if preview is not None:
            small = Image.fromarray(preview.picture(latents[0, :, latents.shape[2] // 2]))
            picture = small.resize([side * LATENT_SCALE for side in small.size], Image.Resampling.BILINEAR)
        report("syncing", done, count * steps, picture)

    return on_step
