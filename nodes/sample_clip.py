"""Drawn clips that come along, so that everything can be tried without a video, an audio or a detector."""

import shutil

from comfy_api.latest import InputImpl, io

from ..latentsync.face.track_file import read_track_file
from ..latentsync.files import replacing
from ..latentsync.frames import as_float
from ..latentsync.media import VideoReader, read_audio
from . import folders, inputs, sockets

CLIPS = ("talking head", "two speakers", "short clip")  # those of latentsync.drawn.heads.samples


class SampleClip(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LatentSyncSampleClip",
            display_name="Load Sample Clip",
            category="LatentSync/loaders",
            description="A drawn person who speaks, and other words in the same voice: made for the small model that "
            "comes along, so that a first run needs no download.",
            inputs=[
                io.Combo.Input(
                    "clip",
                    options=list(CLIPS),
                    default=CLIPS[0],
                    tooltip="talking head: one person, 3 s. two speakers: two people who speak in turn. short clip: "
                    "a video much shorter than its words.",
                ),
                io.Boolean.Input(
                    "copy_to_input",
                    default=False,
                    tooltip="Copy the video, the words and the track file to ComfyUI's input folder as well, to load "
                    "them with other nodes.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The clip, with the sound of its old words."),
                io.Audio.Output(display_name="audio", tooltip="The new words; of two speakers the left one's."),
                io.Audio.Output(
                    display_name="audio_2", tooltip="The right speaker's new words; with one speaker the same as audio."
                ),
                sockets.Detector.Output(
                    display_name="detector", tooltip="Knows where the faces are, from the clip's track file."
                ),
                io.Image.Output(display_name="images", tooltip="The frames of the clip."),
                io.Float.Output(display_name="fps", tooltip="Its frames per second."),
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
