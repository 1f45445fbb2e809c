"""Stand-ins of ComfyUI's own nodes that workflows put around the pack, with their ids, inputs and outputs."""

from fractions import Fraction

import av
import folder_paths
import numpy as np
import torch
from comfy_api.latest import InputImpl, Types, io, ui


class LoadVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LoadVideo",
            inputs=[io.Combo.Input("file", options=[], upload=io.UploadType.video)],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, file):
        return io.NodeOutput(InputImpl.VideoFromFile(folder_paths.get_annotated_filepath(file)))


class LoadAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LoadAudio",
            inputs=[io.Combo.Input("audio", options=[], upload=io.UploadType.audio)],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio):
        with av.open(folder_paths.get_annotated_filepath(audio)) as container:
            rate = container.streams.audio[0].rate
            resampler = av.AudioResampler(format="fltp", rate=rate)
            frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        wave = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
        return io.NodeOutput({"waveform": torch.from_numpy(wave)[None], "sample_rate": rate})


class TrimAudioDuration(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TrimAudioDuration",
            inputs=[
                io.Audio.Input("audio"),
                io.Float.Input("start_index", default=0.0, step=0.01),
                io.Float.Input("duration", default=60.0, min=0.0, step=0.01),
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio, start_index, duration):
        rate = audio["sample_rate"]
        first, last = round(start_index * rate), round((start_index + duration) * rate)
        return io.NodeOutput({"waveform": audio["waveform"][..., first:last], "sample_rate": rate})


class ImageFromBatch(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ImageFromBatch",
            inputs=[
                io.Image.Input("image"),
                io.Int.Input("batch_index", default=0, min=0, max=4095),
                io.Int.Input("length", default=1, min=1, max=4096),
            ],
            outputs=[io.Image.Output()],
        )

    @classmethod
    def execute(cls, image, batch_index, length):
        return io.NodeOutput(image[batch_index : batch_index + length].clone())


class GetVideoComponents(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="GetVideoComponents",
            inputs=[io.Video.Input("video")],
            outputs=[io.Image.Output(), io.Audio.Output(), io.Float.Output()],
        )

    @classmethod
    def execute(cls, video):
        parts = video.get_components()
        return io.NodeOutput(parts.images, parts.audio, float(parts.frame_rate))


class CreateVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="CreateVideo",
            inputs=[
                io.Image.Input("images"),
                io.Float.Input("fps", default=30.0, min=1.0, max=120.0, step=1.0),
                io.Audio.Input("audio", optional=True),
            ],
            outputs=[io.Video.Output()],
        )

    @classmethod
    def execute(cls, images, fps, audio=None):
        parts = Types.VideoComponents(images=images, audio=audio, frame_rate=Fraction(fps))
        return io.NodeOutput(InputImpl.VideoFromComponents(parts))


class SaveVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="SaveVideo",
            inputs=[
                io.Video.Input("video"),
                io.String.Input("filename_prefix", default="video/ComfyUI"),
                io.Combo.Input("format", options=Types.VideoContainer.as_input(), default="auto"),
                io.Combo.Input("codec", options=Types.VideoCodec.as_input(), default="auto"),
            ],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, video, filename_prefix, format, codec):
        folder = folder_paths.get_output_directory()
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, folder)
        file = f"{name}_{counter:05}_.mp4"
        video.save_to(f"{folder}/{file}", format=format, codec=codec)
        return io.NodeOutput(ui=ui.PreviewVideo([ui.SavedResult(file, subfolder, io.FolderType.output)]))


class PreviewImage(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="PreviewImage", inputs=[io.Image.Input("images")], is_output_node=True)

    @classmethod
    def execute(cls, images):
        return io.NodeOutput(ui=ui.PreviewImage(images))


class PreviewAny(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="PreviewAny", inputs=[io.AnyType.Input("source")], is_output_node=True)

    @classmethod
    def execute(cls, source):
        return io.NodeOutput(ui=ui.PreviewText(str(source)))


class AudioMerge(io.ComfyNode):
    """Two sounds of one rate and length into one; what does not fit is refused."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="AudioMerge",
            inputs=[
                io.Audio.Input("audio1"),
                io.Audio.Input("audio2"),
                io.Combo.Input("merge_method", options=["add", "mean", "subtract", "multiply"]),
            ],
            outputs=[io.Audio.Output()],
        )

    @classmethod
    def execute(cls, audio1, audio2, merge_method):
        rate, a, b = audio1["sample_rate"], audio1["waveform"], audio2["waveform"]
        if merge_method != "add" or rate != audio2["sample_rate"] or a.shape != b.shape:
            raise ValueError(f"the stand-in adds sounds of one rate and length, not {a.shape} and {b.shape}")
        return io.NodeOutput({"waveform": a + b, "sample_rate": rate})


NODES = [
    LoadVideo, LoadAudio, TrimAudioDuration, ImageFromBatch, GetVideoComponents, CreateVideo, SaveVideo,
    PreviewImage, PreviewAny, AudioMerge,
]  # fmt: skip
