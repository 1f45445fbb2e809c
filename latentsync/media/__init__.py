"""Video and audio files: reading and writing, with PyAV alone."""

from .audio import read_audio
from .colour import Colour
from .encoders import codec_for
from .join import join
from .output import output_format
from .read import VideoReader
from .write import VideoWriter

__all__ = ["Colour", "VideoReader", "VideoWriter", "codec_for", "join", "output_format", "read_audio"]
