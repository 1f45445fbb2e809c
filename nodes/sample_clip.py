"""Drawn clips that come along, so that everything can be tried without a video, an audio or a detector."""

import shutil

from comfy_api.latest import InputImpl, io

from ..latentsync.face.track_file import read_track_file
from ..latentsync.files import replacing
from ..latentsync.frames import as_float
from ..latentsync.media import VideoReader, read_audio
from . import folders, inputs, sockets
from .base import node

CLIPS = ("talking head", "two speakers", "short clip")  # those of latentsync.drawn.heads.samples


@node
class SampleClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncSampleClip",
            display_name="Load Sample Clip",
            category="LatentSync/loaders",
            inputs=[
                io.Combo.Input("clip", options=list(CLIPS), default=CLIPS[0]),
                io.Boolean.Input("copy_to_input", default=False),
            ],
            outputs=[
                io.Video.Output(display_name="video"),
                io.Audio.Output(display_name="audio"),
                io.Audio.Output(display_name="audio_2"),
                sockets.Detector.Output(display_name="detector"),
                io.Image.Output(display_name="images"),
                io.Float.Output(display_name="fps"),
            ],
        )

    @classmethod
    def execute(cls, clip, copy_to_input) -> io.NodeOutput:
        from ..latentsync.models.samples import find_sample

        inputs.choice("clip", clip, CLIPS)
        sample = find_sample(clip)
        if copy_to_input:
            for path in (sample.video, *sample.voices, sample.track):
                with replacing(folders.input_file(path.name)) as part:
                    shutil.copyfile(path, part)
        voices = [{"waveform": wave[None], "sample_rate": rate} for wave, rate in map(read_audio, sample.voices)]
        with VideoReader(sample.video) as reader:
            images, fps = as_float(reader[range(len(reader))]), float(reader.fps)
        video, detector = InputImpl.VideoFromFile(str(sample.video)), read_track_file(sample.track)
        return io.NodeOutput(video, voices[0], voices[-1], detector, images, fps)
