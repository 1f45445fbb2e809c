"""The list of nodes that ComfyUI is given."""

from importlib import import_module

from comfy_api.latest import ComfyExtension, io

#: (module, class) of every node, in the order of use.
NODES = (
    ("load", "LoadModel"),
    ("load", "DownloadModels"),
    ("sample_clip", "SampleClip"),
    ("audio", "EncodeAudio"),
    ("audio", "MatchLength"),
    ("face", "LoadDetector"),
    ("face", "TrackFace"),
    ("face", "CropFaces"),
    ("face", "FaceMask"),
    ("sample", "Sampler"),
    ("restore", "LoadRestorer"),
    ("restore", "RestoreFaces"),
    ("blend", "BlendFaces"),
    ("video", "Video"),
    ("quality", "Quality"),
    ("preview", "Preview"),
)


class LatentSyncExtension(ComfyExtension):
    """The nodes of this pack; making one imports them all."""

    def __init__(self):
        self.nodes = [getattr(import_module(f".{module}", __package__), name) for module, name in NODES]

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(self.nodes)
