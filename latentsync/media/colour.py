"""Between 8-bit RGB and the YUV of video files, by the colour tags of the file."""

from typing import NamedTuple

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

# Code points of ITU-T H.273, which FFmpeg uses as they are. Ranges are FFmpeg's: 0 unknown, 1 limited, 2 full.
LIMITED, FULL = 1, 2
UNSPECIFIED = 2
BT709, BT601 = 1, 6

# H.273 matrix -> the number of that matrix in libswscale, which knows no others.
SWS_MATRIX = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}

# Flags of libswscale. Without full_chroma_int (0x2000) and accurate_rnd (0x40000) pictures come back 1 to 2
# levels too dark. Bilinear (0x2) chroma reads twice as fast as bicubic (0x4) and is as near.
READ_FLAGS = 0x2 | 0x2000 | 0x40000
WRITE_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000

# From this height on an untagged video is taken for BT.709 (HD), below for BT.601 (SD), as players do.
HD_HEIGHT = 720


class Colour(NamedTuple):
    """Colour tags of a video: range 0 unknown, 1 limited, 2 full; the rest code points of ITU-T H.273.

    `matrix`, `primaries` and `transfer` are 2 where the file does not say; 1 is BT.709, 5 and 6 are BT.601.
    """

    range: int = 0
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED


def written_colour(colour: Colour | None, height: int) -> Colour:
    """The tags to write for H.264 or VP9 made from RGB: gaps filled by the rule that readers follow.

    None gives limited-range BT.709. A matrix that cannot be made (RGB, YCgCo, ICtCp) becomes BT.709 or BT.601.
    """
    if colour is None:
        return Colour(LIMITED, BT709, BT709, BT709)
    matrix = colour.matrix if colour.matrix in SWS_MATRIX else _untagged_matrix(height)
    return colour._replace(range=colour.range or LIMITED, matrix=matrix)


def lost_by_output(pixels: VideoFormat | None) -> str:
    """What pictures of a pixel format lose as 8-bit 4:2:0, in words; empty for nothing."""
    if pixels is None:
        return ""
    bits = max(component.bits for component in pixels.components)
    found = [f"{bits} bits"] if bits > 8 else []
    if not pixels.is_rgb and len(pixels.components) >= 3:
        chroma = (pixels.chroma_width(16), pixels.chroma_height(16))
        found += [{(16, 16): "4:4:4", (8, 16): "4:2:2"}[chroma]] if chroma in ((16, 16), (8, 16)) else []
    found += ["alpha"] if any(component.is_alpha for component in pixels.components) else []
    return ", ".join(found)


def to_rgb(frame: VideoFrame, colour: Colour, size: tuple[int, int], reformatter: VideoReformatter) -> np.ndarray:
    """A decoded frame of any pixel format as (h, w, 3) uint8 RGB of `size` (h, w); alpha is dropped.

    Transfer curve and primaries are left alone: an HDR video is not tone-mapped.
    """
    matrix = SWS_MATRIX.get(colour.matrix) or SWS_MATRIX[_untagged_matrix(frame.height)]
    full = colour.range == FULL or frame.format.name.startswith("yuvj")
    height, width = size
    picture = reformatter.reformat(
        frame,
        width=width,
        height=height,
        format="rgb24",
        src_colorspace=matrix,
        dst_colorspace=_other(matrix),
        src_color_range=FULL if full else LIMITED,
        dst_color_range=FULL,
        interpolation=READ_FLAGS,
    )
    return picture.to_ndarray()


def to_yuv420(picture: np.ndarray, colour: Colour, pixels: str, reformatter: VideoReformatter) -> VideoFrame:
    """An (h, w, 3) uint8 RGB picture of even size as a frame in a pixel format of 8 bits and 4:2:0."""
    matrix = SWS_MATRIX[colour.matrix]
    return reformatter.reformat(
        VideoFrame.from_numpy_buffer(picture, format="rgb24"),
        format=pixels,
        src_colorspace=_other(matrix),
        dst_colorspace=matrix,
        src_color_range=FULL,
        dst_color_range=colour.range,
        interpolation=WRITE_FLAGS,
    )


def _untagged_matrix(height: int) -> int:
    return BT709 if height >= HD_HEIGHT else BT601


def _other(matrix: int) -> int:
    """A matrix for the RGB side, where it has no effect; PyAV 14 ignores the range if both sides have the same."""
    return SWS_MATRIX[BT601] if matrix == SWS_MATRIX[BT709] else SWS_MATRIX[BT709]
