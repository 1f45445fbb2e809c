"""The sampler: new mouths for the crops of a face."""

from collections.abc import Iterable, Iterator

from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..latentsync.errors import InputError
from ..latentsync.face.masks import keep_mask, mask_image_of
from ..latentsync.frames import as_uint8
from ..latentsync.progress import Progress
from ..latentsync.sampling.preview import preview
from ..latentsync.sampling.sample import StepCallback, sync, window_size, windows
from ..latentsync.settings import Settings
from . import inputs, runtime, sockets
from .base import node
from .model_patcher import ManagedModel

PREVIEW_EVERY = 4  # steps: one picture through the decoder costs little beside a window of them through the U-Net


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
        report = WindowPreviews(runtime.progress(cls))
        spans = [span for run in runs for span in windows(*run, size, overlap)]
        report("syncing", 0, len(spans) * settings.steps)
        on_step = _reporter(report, model, crops, spans, keep_mask(model.resolution, mask_image))
        synced = sync(model, crops, features, settings, lambda _: runs, on_step=on_step, mask_image=mask_image)
        return io.NodeOutput(inputs.concat_windows(report.shown(synced), len(crops)))


def check_crops(crops: Tensor, resolution: int, track: sockets.TrackedFace | None) -> None:
    """Refuse crops of another size than the model's, and a track of another clip, with an InputError."""
    height, width = crops.shape[1:3]
    if (height, width) != (resolution, resolution):
        raise InputError(
            f"the crops are {width} x {height} pixels and the model works at {resolution} x {resolution}: connect "
            "the model to Track Face too, and the output of Crop Faces here"
        )
    inputs.check_track(track, len(crops))


class WindowPreviews:
    """A `Progress` that shows the middle picture of the last finished window with the report that comes next."""

    def __init__(self, progress: Progress):
        self.progress, self.picture = progress, None

    def __call__(self, phase: str, done: float, total: int, picture: Tensor | None = None) -> None:
        picture, self.picture = self.picture if picture is None else picture, None
        image = None if picture is None else Image.fromarray(as_uint8(picture[..., :3]).cpu().numpy())
        self.progress(phase, done, total, image)

    def shown(self, windows: Iterable[Tensor]) -> Iterator[Tensor]:
        for pictures in windows:
            self.picture = pictures[len(pictures) // 2].clone()  # not the whole window
            yield pictures


def _reporter(
    report: WindowPreviews, model: ManagedModel, crops: Tensor, spans: list[tuple[int, int]], mask: Tensor
) -> StepCallback:
    """A callback for `sync` that counts the steps of all windows and looks at the current one now and then."""
    done = 0

    def on_step(step: int, steps: int, latents: Tensor) -> None:
        nonlocal done
        first, end = spans[done // steps]
        done += 1
        # For a VAE of its own ComfyUI may have to take the U-Net off the device.
        every = PREVIEW_EVERY if model.vae is None else max(PREVIEW_EVERY, steps // 2)
        looks = step % every == 0 and step < steps
        picture = preview(model, latents, crops[first + (end - first) // 2], mask) if looks else None
        report("syncing", done, len(spans) * steps, picture)

    return on_step
