"""Small real media files for the tests of `latentsync.media`, made with PyAV alone."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from latentsync.media import VideoReader, VideoWriter

HEIGHT, WIDTH = 64, 96
BLOCK = 16


def numbered(i: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A picture that says its number: bit b of i is whether the block b from the left is bright; red on top."""
    picture = np.full((height, width, 3), (40, 40, 90), dtype=np.uint8)
    picture[: height // 4] = (150, 30, 30)
    for bit in range(WIDTH // BLOCK):
        if i >> bit & 1:
            picture[height // 4 :, bit * BLOCK : (bit + 1) * BLOCK] = 220
    return picture


def clip(count: int, height: int = HEIGHT, width: int = WIDTH) -> torch.Tensor:
    return torch.from_numpy(np.stack([numbered(i, height, width) for i in range(count)]))


def numbers(frames: torch.Tensor) -> list[int]:
    """The numbers that pictures of `numbered` say."""
    row = frames[:, HEIGHT // 2].float().mean(-1)
    centres = range(BLOCK // 2, WIDTH, BLOCK)
    return [sum(1 << bit for bit, x in enumerate(centres) if line[x] > 130) for line in row]


def encode_video(
    path, codec, stamps, *, time_base=Fraction(1, 30), pix_fmt="yuv420p", rate=30, color_range=0, size=1, **options
) -> None:
    """Write `numbered(i)` at the time `stamps[i]`; encoder options with a hyphen are given with an underscore."""
    options = {key.replace("_", "-"): str(value) for key, value in options.items()}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = size * HEIGHT, size * WIDTH, pix_fmt
        stream.codec_context.time_base, stream.codec_context.color_range = time_base, color_range
        for i, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(numbered(i, size * HEIGHT, size * WIDTH), format="rgb24").reformat(
                format=pix_fmt
            )
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def tone(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """(channels, n) float32: a rising tone whose place in time cannot be mistaken, another one in each channel."""
    t = np.arange(round(seconds * rate)) / rate
    envelope = 0.6 + 0.4 * np.sin(2 * np.pi * 3 * t)
    sweep = [0.4 * envelope * np.sin(2 * np.pi * (200 + 60 * c) * t * (1 + t)) for c in range(channels)]
    return np.stack(sweep).astype(np.float32)


def encode_audio(path, codec, samples: np.ndarray, rate: int, layout: str = "mono", start: int = 0) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T).reshape(1, -1), format="flt", layout=layout)
        frame.rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def film(path, start: float, pictures_from: float = 0.0, rate: int = 48000) -> np.ndarray:
    """A film with sound from `start` seconds and pictures from `pictures_from`; the samples."""
    samples = tone(1.0, rate)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.height, video.width, video.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("flac" if path.suffix == ".mkv" else "aac", rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
        frame.rate, frame.pts, frame.time_base = rate, round(start * rate), Fraction(1, rate)
        packets = audio.encode(frame) + audio.encode(None)
        for i in range(25):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            frame.pts, frame.time_base = round(1000 * pictures_from) + 40 * i, Fraction(1, 1000)
            packets += video.encode(frame)
        for packet in sorted(packets + video.encode(None), key=lambda p: p.dts * p.time_base):
            container.mux(packet)
    return samples


def delay(reference, signal) -> int:
    """By how many samples `signal` comes later than `reference`: the peak of their cross-correlation."""
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(signal, dtype=np.float64)
    size = 1 << (len(a) + len(b)).bit_length()
    correlation = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)), size)
    peak = int(correlation.argmax())
    return peak if peak < size // 2 else peak - size


def packet_bytes(path, kind: str) -> list[bytes]:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return [bytes(packet) for packet in container.demux(stream) if packet.size]


def stream_seconds(path, kind: str) -> float:
    with av.open(str(path)) as container:
        stream = getattr(container.streams, kind)[0]
        return float(stream.duration * stream.time_base)


def encode_sounds(folder: Path) -> dict[str, Path]:
    """1.5 seconds of sound in files of many kinds."""
    kinds = {
        "8k.wav": ("pcm_u8", 8000, "mono"),
        "16k.wav": ("pcm_s16le", 16000, "mono"),
        "96k.wav": ("pcm_s16le", 96000, "stereo"),
        "aac.m4a": ("aac", 44100, "stereo"),
        "adts.aac": ("aac", 48000, "mono"),
        "song.mp3": ("libmp3lame", 44100, "stereo"),
        "voice.ogg": ("libopus", 48000, "mono"),
        "alac.m4a": ("alac", 44100, "stereo"),
        "film.ac3": ("ac3", 48000, "5.1"),
        "wide.wav": ("pcm_f32le", 48000, "7.1"),
    }
    for name, (codec, rate, layout) in kinds.items():
        encode_audio(folder / name, codec, tone(1.5, rate, av.AudioLayout(layout).nb_channels), rate, layout)
    return {name: folder / name for name in kinds}


def read_all(path) -> torch.Tensor:
    with VideoReader(path) as reader:
        return reader[list(range(len(reader)))]


def write(path, count=50, fps=25, **options) -> None:
    with VideoWriter(path, fps, HEIGHT, WIDTH, **{"preset": "ultrafast", **options}) as writer:
        writer.write(clip(count))


def stamps(path) -> list[Fraction]:
    with av.open(str(path)) as container:
        found = [p.pts * p.time_base for p in container.demux(video=0) if p.size]
    return sorted(found)
