"""The encoders of H.264 and VP9, and what quality and preset are to each."""

import logging
from fractions import Fraction
from functools import cache

import torch
from av.codec.codec import UnknownCodecError
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.frame import VideoFrame

from ..settings import PRESETS, EncodingSettings
from .output import container_format
from .source import PathLike

log = logging.getLogger(__name__)

X264, VP9 = "libx264", "libvpx-vp9"
# FFmpeg's names of the hardware encoders of H.264, in the order in which `auto` tries them.
HARDWARE = {"nvenc": "h264_nvenc", "videotoolbox": "h264_videotoolbox", "qsv": "h264_qsv"}
QP_TO_LAMBDA = 118  # FFmpeg's unit of a codec's quality scale


def codec_for(path: PathLike, encoder: str, height: int, width: int) -> str:
    """FFmpeg's name of what encodes pictures of this size for `path`; where that is not `encoder`, a line says why.

    A hardware encoder is tried with a few frames first, once; where it fails, x264 takes its place. .webm holds VP9.
    """
    return _codec_for(container_format(path), encoder, height + height % 2, width + width % 2)


@cache
def _codec_for(container: str, encoder: str, height: int, width: int) -> str:
    if container == "webm":
        if encoder in HARDWARE:
            log.warning("encoder libvpx: .webm holds VP9, which %s does not encode here", encoder)
        return VP9
    refusals = []
    for name in {"x264": (), "auto": HARDWARE}.get(encoder, (encoder,)):
        if (reason := _refusal(HARDWARE[name], height, width)) is None:
            log.info("encoder %s", name)
            return HARDWARE[name]
        refusals.append(f"{name} does not work here ({reason})")
    if refusals:
        # Whoever asked for one by name expects it.
        log.log(logging.INFO if encoder == "auto" else logging.WARNING, "encoder x264: %s", ", ".join(refusals))
    return X264


def _refusal(codec: str, height: int, width: int) -> str | None:
    """Why an encoder does not encode pictures of this size on this machine; None if it does."""
    try:
        context = CodecContext.create(codec, "w")
        context.height, context.width, context.pix_fmt = height, width, pixel_format(codec)
        context.time_base, context.framerate = Fraction(1, 25), Fraction(25)
        context.options = codec_options(codec, EncodingSettings())
        packets = []
        for i in range(3):
            frame = VideoFrame(width, height, context.pix_fmt)
            frame.pts = i
            packets += context.encode(frame)
        return None if packets + context.encode(None) else "it gives nothing"
    except UnknownCodecError:
        return "this PyAV has none"
    except FFmpegError as error:
        return error.strerror


def pixel_format(codec: str) -> str:
    """That of 8-bit 4:2:0 which an encoder takes."""
    return "nv12" if codec == HARDWARE["qsv"] else "yuv420p"


def codec_options(codec: str, encoding: EncodingSettings) -> dict[str, str]:
    """The options of an encoder; `crf` and `preset` are x264's.

    NVENC and Quick Sync have scales of the same range and direction as x264's, and get the same number (their 0 means
    that they choose). VideoToolbox goes from 100, the best, to 1. libvpx gets the speed of the preset's rank.
    """
    crf, rank = encoding.crf, PRESETS.index(encoding.preset)
    if codec == X264:
        return {"crf": str(crf), "preset": encoding.preset, **_x264_instructions()}
    if codec == VP9:
        speed = len(PRESETS) - 1 - rank
        return {"crf": str(round(crf)), "cpu-used": str(speed), "deadline": "good", "row-mt": "1"}
    if codec == HARDWARE["nvenc"]:
        return {"rc": "vbr", "cq": str(max(1, round(crf))), "b": "0", "preset": f"p{1 + rank * 6 // 8}"}
    if codec == HARDWARE["qsv"]:
        return {"global_quality": str(max(1, round(crf))), "preset": PRESETS[max(2, rank)]}
    quality = max(1, round(100 * (1 - crf / 51)))
    return {"flags": "+qscale", "global_quality": str(QP_TO_LAMBDA * quality)}


def _x264_instructions() -> dict[str, str]:
    """The option that keeps x264 from AVX-512, with which the same pictures give other files from run to run.

    Its macroblock tree then depends on memory that nobody has written (x264 165, as in PyAV 18).
    """
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        return {}
    return {"x264-params": "asm=avx2,fma3,lzcnt,bmi1,bmi2"}
