"""Peak memory of `run` on a 10 s and on a 60 s clip, with a small random net.

    python benchmarks/memory.py VIDEO AUDIO YUNET.onnx [--superres sharpen]

VIDEO is looped to both lengths, AUDIO too, so that the whole program runs: detection, sync, blending, encoding, and
with --superres the restoration of the face. Prints the peaks, then how many times the memory of the short run the long
one takes, as `1.02x`.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import tiny
import torch

from latentsync.frames import FrameView, batches, end_map
from latentsync.media import VideoReader, VideoWriter, read_audio

LENGTHS = (10, 60)  # seconds
MEASURED = """
import resource, sys
from latentsync.commands.main import main
code = main(sys.argv[1:])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print("peak bytes", peak)
sys.exit(code)
"""


def looped(video: Path, seconds: int, out: Path) -> None:
    with VideoReader(video) as reader:
        frames = FrameView(reader, end_map(len(reader), round(seconds * reader.fps), "loop"))
        with VideoWriter(out, reader.fps, reader.height, reader.width, preset="ultrafast", crf=20) as writer:
            for numbers in batches(len(frames), 16):
                writer.write(frames[numbers])


def looped_audio(audio: Path, seconds: int, out: Path) -> None:
    import wave

    samples, rate = read_audio(audio)
    count = seconds * rate
    long = samples.repeat(1, -(-count // samples.shape[1]))[:1, :count]
    with wave.open(str(out), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((long[0] * 32767).to(torch.int16).numpy().tobytes())


def peak(folder: Path, detector: Path, seconds: int, superres: str | None) -> int:
    files = [f"--video_path={folder / 'video.mp4'}", f"--audio_path={folder / 'audio.wav'}"]
    files += [f"--video_out_path={folder / 'out.mp4'}", f"--checkpoints={folder / 'checkpoints'}"]
    quick = ["--inference_steps=1", "--guidance_scale=1", "--device=cpu", "--detect_every=5"]
    quick += ["--detector=yunet", f"--detector_model={detector}", *([f"--superres={superres}"] if superres else [])]
    command = [sys.executable, "-c", MEASURED, "run", *files, *quick]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    with VideoReader(folder / "out.mp4") as result:
        assert abs(result.duration - seconds) < 1 / result.fps, result.duration
    return int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("detector", type=Path)
    parser.add_argument("--superres", choices=("sharpen",), help="restore the face too, by the filter without weights")
    given = parser.parse_args()
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny.make_checkpoints(folder / "checkpoints", resolution=64)
        for seconds in LENGTHS:
            looped(given.video, seconds, folder / "video.mp4")
            looped_audio(given.audio, seconds, folder / "audio.wav")
            peaks.append(peak(folder, given.detector.resolve(), seconds, given.superres))
            print(f"{seconds} s: peak {peaks[-1] / 1e6:.0f} MB", flush=True)
    print(f"{peaks[1] / peaks[0]:.2f}x")


if __name__ == "__main__":
    main()
