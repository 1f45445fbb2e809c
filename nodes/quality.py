"""How well the lips fit the sound, in figures and a chart."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from comfy_api.latest import io, ui

from ..latentsync.errors import FileError
from ..latentsync.models.embedded import EMBEDDED, is_embedded
from ..latentsync.models.folders import find_checkpoints
from . import folders, inputs, runtime, sockets
from .base import node

# Beside the weights: 16 crops through the VAE's encoder, which is what takes most.
BYTES_AT_ONCE = 3 << 30
DRAWN_ONLY = (
    "Note: this SyncNet is the small one that comes with the pack and knows drawn faces only. Its figures mean nothing "
    "for other faces."
)


@node(search_aliases=("lipsync score", "syncnet", "lse-c"))
class Quality(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncQuality",
            display_name="Measure Sync Quality",
            category="LatentSync/video",
            inputs=[
                io.Image.Input("crops"),
                io.Audio.Input("audio"),
                inputs.fps(),
                sockets.Model.Input("model", optional=True),
                io.Image.Input("reference", optional=True),
            ],
            outputs=[
                io.String.Output(display_name="report"),
                io.Image.Output(display_name="plot"),
                io.Float.Output(display_name="confidence"),
                io.Int.Output(display_name="offset"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, crops, audio, fps, model=None, reference=None) -> io.NodeOutput:
        from ..latentsync.evaluate import sync_report, sync_score

        crops, wave = inputs.pictures(crops), inputs.mono_16k(audio)
        mouth = None if reference is None else sync_report.mouth_metrics(crops, inputs.pictures(reference))
        embedded = model is not None and is_embedded(model)
        folder = folders.models_folder()
        if embedded or (model is None and find_checkpoints(folder).syncnet is None):
            folder = EMBEDDED
        elif find_checkpoints(folder).syncnet is None:
            raise FileError(f"{folder} lacks stable_syncnet.pt: run Download LatentSync Models with syncnet on")
        watched = _Watched(crops, runtime.progress(cls))
        syncnet, vae = sync_score.load_stable_syncnet(folder)
        with ExitStack() as lent:
            for net in filter(None, (syncnet.net, vae)):
                lent.enter_context(runtime.on_device(net, BYTES_AT_ONCE))
            curve = sync_score.sync_curve(syncnet, vae, watched, wave, fps)
        name = "the embedded SyncNet" if folder == EMBEDDED else str(find_checkpoints(folder).syncnet)
        report = sync_report.describe(curve, name, mouth, sync_report.unsteadiness(crops))
        if folder == EMBEDDED and not embedded:
            report += f"\n{DRAWN_ONLY}"
        title = f"Sync: confidence {curve.confidence:.2f}, offset {curve.offset:+d}, margin {curve.margin:.2f}"
        plot = torch.from_numpy(sync_report.chart(curve, title)).float()[None] / 255
        return io.NodeOutput(report, plot, curve.confidence, curve.offset, ui=ui.PreviewText(report))


class _Watched:
    """Crops as `Frames`, whose reading is counted and can be cancelled."""

    def __init__(self, crops: torch.Tensor, report: runtime.Progress):
        self.crops, self.report = crops, report

    def __len__(self) -> int:
        return len(self.crops)

    def __getitem__(self, indices: Sequence[int]) -> torch.Tensor:
        self.report("listening", min(indices[-1] + 1, len(self)), len(self))
        return self.crops[indices]
