"""The sampler: new mouths for the crops of a face."""

from collections.abc import Callable

from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..latentsync.errors import InputError
from ..latentsync.face.masks import mask_image_of
from ..latentsync.sampling.preview import LatentPreview, fit_preview
from ..latentsync.sampling.sample import LATENT_SCALE, StepCallback, sync, window_size, windows
from ..latentsync.settings import MOST_STEPS, SAMPLERS, Settings
from . import inputs, runtime, sockets

DEFAULTS = Settings()


class Sampler(io.ComfyNode):
    """`latentsync.sampling.sample.sync` over a batch of crops."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncSampler",
            display_name="Lip Sync Sampler",
            category="LatentSync/sampling",
            description="Repaints the mouth in each crop of the face so that it speaks the audio. Blend the result "
            "over the frames with Blend Faces.",
            inputs=[
                sockets.Model.Input("model", tooltip="The lip-sync model."),
                io.Image.Input("crops", tooltip="Crops of the face from Crop Faces, at the model's resolution."),
                sockets.Audio.Input("features", tooltip="The audio of each frame, from Encode Audio for Lip Sync."),
                inputs.crops_track(),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Another VAE than the model's own, of Stable Diffusion 1 (sd-vae-ft-mse). It decodes in "
                    "tiles where memory is short.",
                ),
                *sampling_widgets(),
                inputs.fraction(
                    "guidance_start",
                    DEFAULTS.guidance_start,
                    "Guidance begins after this part of the steps, from 0 (first step) to 1.",
                ),
                inputs.fraction(
                    "guidance_end",
                    DEFAULTS.guidance_end,
                    "Guidance ends after this part of the steps. Below 1 the last steps are twice as fast.",
                ),
                deep_cache_widget(),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="What is repainted (1, white) and what is kept (0, black) in the crops: one mask for all, "
                    "of any size. Without it the published region. Give Blend Faces the same one.",
                ),
            ],
            outputs=[io.Image.Output(display_name="crops", tooltip="The crops with the new mouth, in order.")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, model, crops, features, track=None, vae=None, mask=None, **widgets) -> io.NodeOutput:
        settings = Settings(**widgets)
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
        synced = sync(model, crops, features, settings, runs, on_step=on_step, mask_image=mask_image)
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


def sampling_widgets() -> list[io.Input]:
    """The widgets of a sampler, in order: steps, guidance, seed, sampler, window, overlap."""
    return [
        io.Int.Input(
            "steps",
            default=DEFAULTS.steps,
            min=1,
            max=MOST_STEPS,
            tooltip="Denoising steps for each window of frames. More are slower and up to about 30 better.",
        ),
        io.Float.Input(
            "guidance",
            default=DEFAULTS.guidance,
            min=0.0,
            max=10.0,
            step=0.1,
            tooltip="How strongly the mouth follows the audio. 1 turns guidance off and is twice as fast; above "
            "about 2.5 the mouth jitters.",
        ),
        io.Int.Input(
            "seed",
            default=DEFAULTS.seed,
            min=0,
            max=2**64 - 1,
            control_after_generate=True,
            tooltip="Where the noise starts. The same seed gives the same video on every device.",
        ),
        io.Combo.Input(
            "sampler",
            options=list(SAMPLERS),
            default=DEFAULTS.sampler,
            tooltip="How the steps are taken. ddim is the published one; dpm++ and unipc need fewer steps.",
        ),
        io.Int.Input(
            "window",
            default=DEFAULTS.window,
            min=1,
            max=240,
            tooltip="Frames denoised together: 16 in training, at most 24 for the published models. Fewer need "
            "less memory.",
        ),
        io.Int.Input(
            "overlap",
            default=DEFAULTS.overlap,
            min=0,
            max=239,
            tooltip="Frames that neighbouring windows share and cross-fade, against jumps between them. It costs "
            "time: 4 of 16 make a run a third longer.",
        ),
    ]


def deep_cache_widget() -> io.Input:
    """The widget for DeepCache, the last of a node and optional: saved workflows and prompts do not have it."""
    return io.Int.Input(
        "deep_cache",
        default=DEFAULTS.deep_cache,
        min=0,
        max=20,
        optional=True,
        tooltip="Run the whole net in every n-th step only, and its outermost layers in between: 3, as the published "
        "scripts have it, takes 2.5 times less computing; fine detail may suffer. 0 is off.",
    )
