"""Stand-in for ComfyUI's VIDEO: a file, or pictures with sound and a frame rate."""

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import av
import numpy as np
import torch


class VideoCodec(str, Enum):
    AUTO = "auto"
    H264 = "h264"

    @classmethod
    def as_input(cls):
        return [member.value for member in cls]


class VideoContainer(str, Enum):
    AUTO = "auto"
    MP4 = "mp4"

    @classmethod
    def as_input(cls):
        return [member.value for member in cls]


@dataclass
class VideoComponents:
    images: torch.Tensor
    frame_rate: Fraction
    audio: dict | None = None
    metadata: dict | None = None


class VideoInput(ABC):
    @abstractmethod
    def get_components(self) -> VideoComponents: ...

    @abstractmethod
    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None): ...

    def get_stream_source(self):
        buffer = io.BytesIO()
        self.save_to(buffer)
        buffer.seek(0)
        return buffer

    def get_dimensions(self):
        """(width, height)."""
        images = self.get_components().images
        return images.shape[2], images.shape[1]

    def get_duration(self):
        parts = self.get_components()
        return float(len(parts.images) / parts.frame_rate)


class VideoFromFile(VideoInput):
    def __init__(self, file):
        self.__file = file

    def get_stream_source(self):
        if isinstance(self.__file, io.BytesIO):
            self.__file.seek(0)
        return self.__file

    def get_dimensions(self):
        with av.open(self.get_stream_source()) as container:
            return container.streams.video[0].width, container.streams.video[0].height

    def get_duration(self):
        with av.open(self.get_stream_source()) as container:
            return float(container.duration / av.time_base)

    def get_components(self):
        with av.open(self.get_stream_source()) as container:
            rate = Fraction(container.streams.video[0].average_rate or 1)
            frames = [torch.from_numpy(f.to_ndarray(format="rgb24")) / 255.0 for f in container.decode(video=0)]
            images = torch.stack(frames) if frames else torch.zeros(0, 3, 0, 0)
            audio = None
            if container.streams.audio:
                container.seek(0)
                sound = [frame.to_ndarray() for frame in container.decode(audio=0)]
                wave = torch.from_numpy(np.concatenate(sound, axis=1))[None]
                audio = {"waveform": wave, "sample_rate": container.streams.audio[0].sample_rate}
        return VideoComponents(images, rate, audio)

    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        """The streams as they are."""
        kind = {"format": "mp4"} if isinstance(path, io.BytesIO) else {}
        with av.open(self.get_stream_source()) as container, av.open(path, "w", **kind) as out:
            streams = {s: out.add_stream_from_template(s) for s in container.streams if s.type in ("video", "audio")}
            for packet in container.demux(list(streams)):
                if packet.dts is not None:
                    packet.stream = streams[packet.stream]
                    out.mux(packet)


class VideoFromComponents(VideoInput):
    def __init__(self, components: VideoComponents):
        self.__components = components

    def get_components(self):
        parts = self.__components
        return VideoComponents(parts.images, parts.frame_rate, parts.audio)

    def save_to(self, path, format=VideoContainer.AUTO, codec=VideoCodec.AUTO, metadata=None):
        """H.264 and AAC; like the original it opens a path by its ending, so a buffer is refused by PyAV."""
        parts = self.__components
        rate = Fraction(round(parts.frame_rate * 1000), 1000)
        with av.open(path, "w") as out:
            video = out.add_stream("h264", rate=rate)
            video.height, video.width = parts.images.shape[1:3]
            video.pix_fmt = "yuv420p"
            sound = out.add_stream("aac", rate=int(parts.audio["sample_rate"])) if parts.audio else None
            for picture in parts.images:
                pixels = (picture * 255).clamp(0, 255).byte().cpu().numpy()
                out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")))
            out.mux(video.encode(None))
            if sound is not None:
                self._encode_sound(out, sound, rate)

    def _encode_sound(self, out, stream, rate):
        parts = self.__components
        length = -int(-stream.rate / rate * len(parts.images) // 1)
        wave = parts.audio["waveform"][:1, :, :length].movedim(2, 1).reshape(1, -1).float().numpy()
        layout = "mono" if parts.audio["waveform"].shape[1] == 1 else "stereo"
        frame = av.AudioFrame.from_ndarray(wave, format="flt", layout=layout)
        frame.sample_rate, frame.pts = stream.rate, 0
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
