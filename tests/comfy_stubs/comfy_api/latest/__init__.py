"""Stand-in for `comfy_api.latest` of ComfyUI 0.3.64: the same names and arguments, so that a wrong one fails here."""

from abc import ABC, abstractmethod

from . import _io as io
from . import _ui as ui
from ._video import VideoCodec, VideoComponents, VideoContainer, VideoFromComponents, VideoFromFile, VideoInput

__all__ = ["ComfyExtension", "Input", "InputImpl", "Types", "io", "ui"]


class ComfyExtension(ABC):
    @abstractmethod
    async def get_node_list(self) -> list[type[io.ComfyNode]]: ...


class Input:
    Video = VideoInput


class InputImpl:
    VideoFromFile = VideoFromFile
    VideoFromComponents = VideoFromComponents


class Types:
    VideoCodec = VideoCodec
    VideoContainer = VideoContainer
    VideoComponents = VideoComponents
