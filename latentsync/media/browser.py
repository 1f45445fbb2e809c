"""What browsers play: whether they do it with a file as it is, and what to write where they do not."""

from pathlib import Path

from .source import PathLike, open_source, video_stream

LONGEST_SIDE = 1280  # pixels of a video that is only looked at
QUALITY = {"crf": 20, "preset": "veryfast"}  # of `VideoWriter`, for the same
# FFmpeg's names of the codecs that browsers play, by suffix, and of pixel formats.
CODECS = {".mp4": {"h264"}, ".m4v": {"h264"}, ".webm": {"vp8", "vp9"}}
PIXELS = {"yuv420p", "yuvj420p"}


def playable(path: PathLike) -> bool:
    """Whether every browser plays this video file."""
    with open_source(path, "video") as container:
        stream = video_stream(container)
        known = stream is not None and stream.codec_context.name in CODECS.get(Path(path).suffix.lower(), ())
        return known and stream.codec_context.pix_fmt in PIXELS


def fitted_size(height: int, width: int, longest: int = LONGEST_SIDE) -> tuple[int, int]:
    """The size of a video of `height` x `width` to look at: at most `longest` pixels long, and even."""
    scale = min(1.0, longest / max(height, width))
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))
