"""Damaged media files end in a result or in one sentence: no bare exception, no hang, no endless memory.

LATENTSYNC_FUZZ=400 tries so many mutations instead of the few of the default run.
"""

import os
import subprocess
import sys
import traceback
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_clips import HEIGHT, WIDTH, clip, encode_audio, encode_video, film, tone, write

from latentsync.errors import InputError
from latentsync.media import VideoReader, VideoWriter, join, read_audio
from latentsync.media.audio import load_mono_16k
from latentsync.media.browser import playable

ROOT = Path(__file__).parents[2]
COUNT = int(os.environ.get("LATENTSYNC_FUZZ", 60))
SECONDS, MEMORY = 20, 2 << 30
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def seeds(folder: Path) -> list[Path]:
    """Small files of the kinds that people have."""
    film(folder / "film.mkv", 0.1)
    film(folder / "film.mp4", 0.0)
    for name in ("h264.mp4", "vp9.webm"):
        write(folder / name, 12, audio=folder / "film.mkv")
    for name, codec in (("mpeg4.avi", "mpeg4"), ("h264.ts", "libx264"), ("raw.h264", "libx264"), ("png.mov", "png")):
        encode_video(folder / name, codec, range(12), pix_fmt="rgb24" if codec == "png" else "yuv420p", g=4)
    encode_video(folder / "clip.gif", "gif", range(0, 40, 4), time_base=Fraction(1, 100), pix_fmt="rgb8")
    sounds = [("a.wav", "pcm_s16le"), ("float.wav", "pcm_f32le"), ("a.flac", "flac"), ("a.mp3", "libmp3lame")]
    for name, codec in [*sounds, ("a.ogg", "libopus"), ("a.m4a", "aac"), ("a.mka", "flac")]:
        encode_audio(folder / name, codec, tone(0.5, 48000, 2), 48000, "stereo")
    return sorted(folder.iterdir())


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes flipped, numbers made extreme, stretches lost or twice; most of it near the front, where headers are."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        reach = len(data) if rng.random() < 0.4 else min(len(data), 1500)
        place, size = int(rng.integers(reach)), int(rng.integers(1, 200))
        match rng.integers(6):
            case 0 | 1:
                data[place] ^= 1 << rng.integers(8)
            case 2 | 3:
                order = "big" if rng.random() < 0.5 else "little"
                data[place : place + 4] = EXTREMES[rng.integers(len(EXTREMES))].to_bytes(4, order)
            case 4:
                data[place : place + size] = b"" if rng.random() < 0.5 else rng.bytes(size)
            case 5:
                data[place:place] = data[place : place + size]
    if rng.random() < 0.15:
        del data[int(rng.integers(1, len(data))) :]
    return bytes(data)


def look(path: Path) -> None:
    with VideoReader(path) as reader:
        for i in (len(reader) - 1, 0, len(reader) // 2):
            reader[[i]]
        reader[range(min(len(reader), 30))]
        tags = {"colour": reader.colour, "sample_aspect_ratio": reader.sample_aspect_ratio}
        reader.warn_of_losses()
    with VideoReader(path, fps=25) as reader:
        reader[[len(reader) - 1, 0]]
    with VideoWriter(path.with_name("tags.mkv"), reader.fps, HEIGHT, WIDTH, **tags) as writer:
        writer.write(clip(1))


def add_sound(path: Path) -> None:
    for name in ("out.mp4", "out.mkv"):
        with VideoWriter(path.with_name(name), 25, HEIGHT, WIDTH, audio=path, pad_audio=True) as writer:
            writer.write(clip(10))


USES = [look, read_audio, load_mono_16k, playable, add_sound, lambda path: join([path], path.with_name("joined.mp4"))]


def try_all(folder: Path, count: int) -> None:
    """In a process of its own: say of each mutation what went wrong, or nothing."""
    import resource
    import signal

    signal.signal(signal.SIGPROF, signal.SIG_DFL)  # of the processor's time: it ends the process in any code
    files = seeds(folder)
    least = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        rng = np.random.default_rng(number)
        seed = files[number % len(files)]
        path = folder / f"{number}{seed.suffix}"
        path.write_bytes(mutated(seed.read_bytes(), rng))
        print("trying", path.name, flush=True)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        for use in USES:
            try:
                use(path)
            except InputError:
                pass
            except Exception:
                print("failed", use, traceback.format_exc(), flush=True)
        signal.setitimer(signal.ITIMER_PROF, 0)
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if most > least + (MEMORY >> 10):
            print("failed: memory", path.name, most, flush=True)
            least = most
        path.unlink()
    print("done")


@pytest.mark.skipif(os.name != "posix", reason="limits of processes are POSIX")
def test_mutations_end_in_a_result_or_a_sentence(tmp_path):
    code = "import sys; sys.path[:0] = ['tests', 'tests/media']\n"
    code += f"from pathlib import Path\nfrom test_fuzz import try_all\ntry_all(Path({str(tmp_path)!r}), {COUNT})"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert "failed" not in result.stdout, result.stdout
    assert result.stdout.endswith("done\n"), (result.returncode, result.stdout[-200:], result.stderr[-2000:])
