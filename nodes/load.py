"""Models: from files into the graph, and from the hub into ComfyUI's models folder."""

from pathlib import Path

from comfy_api.latest import io, ui

from ..latentsync.models.download import download, tree
from ..latentsync.models.folders import read_sidecar
from ..latentsync.models.registry import RESOLUTIONS as VERSIONS
from ..latentsync.models.registry import RUN_GROUPS
from ..latentsync.pipelines.options import NETS
from . import folders, inputs, model_patcher, runtime, sockets
from .base import node
from .model_patcher import PRECISIONS, RESOLUTIONS

NO_MODEL = "none"  # version: only the parts that are ticked


@node(advanced=("precision", "resolution"), search_aliases=("lipsync", "lip sync model", "latentsync checkpoint"))
class LoadModel(io.ComfyNode):
    """A lip-sync model: U-Net, VAE and audio encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncLoadModel",
            display_name="Load LatentSync Model",
            category="LatentSync/loaders",
            inputs=[
                io.Combo.Input("model", options=[folders.EMBEDDED_NAME, *folders.model_files()]),
                io.Combo.Input("precision", options=list(PRECISIONS), default="auto"),
                io.Combo.Input("resolution", options=list(RESOLUTIONS), default="auto"),
            ],
            outputs=[sockets.Model.Output(display_name="model")],
        )

    @classmethod
    def fingerprint_inputs(cls, model, precision, resolution) -> object:
        return [model_patcher.model_fingerprint(model), precision, resolution]

    @classmethod
    def execute(cls, model, precision, resolution) -> io.NodeOutput:
        inputs.choice("resolution", resolution, RESOLUTIONS)
        return io.NodeOutput(model_patcher.load_managed_model(model, precision, resolution))


@node(search_aliases=("latentsync weights", "lipsync", "yunet"))
class DownloadModels(io.ComfyNode):
    """The published weights, into models/latentsync."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncDownloadModels",
            display_name="Download LatentSync Models",
            category="LatentSync/loaders",
            inputs=[
                io.Combo.Input("version", options=[*list(VERSIONS)[::-1], NO_MODEL], default="1.6"),
                io.Boolean.Input("detector", default=True),
                io.Boolean.Input("restorers", default=False),
                io.Boolean.Input("syncnet", default=False),
                io.Boolean.Input("parsing", default=False, optional=True),
            ],
            outputs=[io.String.Output(display_name="report")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, version, detector, restorers, syncnet, parsing=False) -> object:
        # A file that was removed is to be fetched again.
        return [tree(folders.models_folder(), ""), version, detector, restorers, syncnet, parsing]

    @classmethod
    def execute(cls, version, detector, restorers, syncnet=False, parsing=False) -> io.NodeOutput:
        inputs.choice("version", version, (*VERSIONS, NO_MODEL))
        folder = folders.models_folder()
        report = runtime.progress(cls)

        def in_megabytes(done: int, total: int | None, name: str) -> None:
            report(f"downloading {name}, MB:", done // 10**6, total and max(1, total // 10**6))

        nets = ["unet"] if version != NO_MODEL else []
        groups = [group for group in RUN_GROUPS if nets and group not in ("unet", "yunet")]
        groups += ["yunet"] * detector + [name.lower() for name in NETS] * restorers
        groups += ["parsing"] * parsing
        nets += ["syncnet"] * syncnet
        known = version if version != NO_MODEL else read_sidecar(folder).get("version", list(VERSIONS)[-1])
        download(unet_folder(folder, known), known, nets, progress=in_megabytes)
        download(folder, known, groups, progress=in_megabytes)
        text = tree(folder, "Download LatentSync Models, with a version, fetches them")
        return io.NodeOutput(text, ui=ui.PreviewText(text))


def unet_folder(folder: Path, version: str) -> Path:
    """Where the U-Net of `version` goes: into `folder`, unless that has the other version's, of the same name."""
    other = read_sidecar(folder).get("version", version)
    return folder if other == version else folder / f"latentsync-{version}"
