"""The list of nodes that ComfyUI is given."""

from comfy_api.latest import ComfyExtension, io

from . import (
    audio,
    blend,
    face,
    lip_sync_frames,
    load,
    occlusion,
    preview,
    quality,
    replace,
    restore,
    sample,
    sample_clip,
    speaker,
    video,
)

#: In the order of use.
NODES = [
    load.LoadModel, load.DownloadModels, sample_clip.SampleClip, audio.EncodeAudio, audio.MatchLength,
    face.LoadDetector, face.TrackFace, face.CropFaces, face.FaceMask, sample.Sampler, restore.LoadRestorer,
    restore.RestoreFaces, occlusion.SegmentOcclusions, blend.BlendFaces, speaker.AddSpeaker, video.Video,
    lip_sync_frames.Frames, quality.Quality, preview.Preview,
]  # fmt: skip


class LatentSyncExtension(ComfyExtension):
    async def on_load(self) -> None:
        await replace.register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
