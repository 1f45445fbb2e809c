"""The published program and ours on the same clip, with the same small random weights, stage by stage.

    python benchmarks/end_to_end.py CHECKOUT VIDEO AUDIO YUNET.onnx [--steps 20] [--python PYTHON] [--full_size]

CHECKOUT is a clone of the published program, PYTHON one that has its packages and ours (this one if not given). Each
program runs in a process of its own. What is for CUDA alone in the published one is replaced while it runs: the device,
and InsightFace, whose weights are not free, by YuNet, which ours uses too. Ours runs three times: as it is, in turn
(without threads, so that each stage has the cores to itself as in the published program), and at `--quality balanced`.
Prints ratios: below 1 ours is better. Outside the nets and in them is that of the run in turn.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from functools import partial, wraps
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("decode", "search", "align", "audio", "denoise", "vae", "paste", "encode")
NETS = ("denoise", "vae")
MOST_OUTSIDE, MOST_IN_NETS, MOST_BALANCED = 0.33, 1.0, 0.33  # ours / published


class Stopwatch:
    """Seconds of each stage: what a stage calls that is another stage counts there alone."""

    def __init__(self):
        self.seconds: dict[str, float] = defaultdict(float)
        self._local = threading.local()

    def watch(self, owner, name: str, stage: str) -> None:
        """Count the calls of `owner.name`."""
        function = getattr(owner, name)

        @wraps(function)
        def timed(*args, **kwargs):
            stack = self._local.__dict__.setdefault("stack", [])
            now = time.perf_counter()
            if stack:
                self.seconds[stack[-1][0]] += now - stack[-1][1]
            stack.append([stage, now])
            try:
                return function(*args, **kwargs)
            finally:
                now = time.perf_counter()
                self.seconds[stage] += now - stack.pop()[1]
                if stack:
                    stack[-1][1] = now

        setattr(owner, name, timed)


def run_published(given: argparse.Namespace, folder: Path) -> Stopwatch:
    sys.path.insert(0, str(given.checkout))
    os.chdir(folder)  # its temporary files go into the working folder
    import cv2
    import numpy as np
    import torch
    from accelerate.utils import set_seed
    from diffusers import AutoencoderKL, DDIMScheduler
    from latentsync.models.unet import UNet3DConditionModel
    from latentsync.pipelines import lipsync_pipeline as program
    from latentsync.utils.affine_transform import AlignRestore
    from latentsync.utils.image_processor import ImageProcessor
    from latentsync.whisper.audio2feature import Audio2Feature

    class YuNet:
        """Gives the 106 landmarks that the program averages: brows and nose, here a point each."""

        def __init__(self):
            self.net = cv2.FaceDetectorYN.create(str(given.yunet), "", (640, 640), 0.6, 0.3)

        def __call__(self, frame):
            scale = 640 / max(frame.shape[:2])
            small = cv2.resize(frame[..., ::-1], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            self.net.setInputSize(small.shape[1::-1])
            rows = self.net.detect(small)[1]
            if rows is None:
                return None, None
            row = max(rows, key=lambda r: r[2] * r[3]) / scale
            right, left, nose = row[4:10].reshape(3, 2)
            points = np.zeros((106, 2))
            points[[43, 48, 49, 51, 50]], points[101:106], points[[74, 77, 83, 86]] = right, left, nose
            return row[:4].astype(int).tolist(), points

    def processor(resolution, device, mask_image):
        made = ImageProcessor(resolution, device="cpu", mask_image=mask_image)
        made.restorer = AlignRestore(resolution=resolution, device="cpu", dtype=torch.float32)
        made.face_detector = YuNet()
        return made

    program.ImageProcessor = processor
    config = json.loads((folder / "published.json").read_text())
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    vae.config.scaling_factor, vae.config.shift_factor = 0.18215, 0
    unet, _ = UNet3DConditionModel.from_pretrained(config["unet"], str(folder / "latentsync_unet.pt"), device="cpu")
    encoder = Audio2Feature(str(folder / "whisper" / "tiny.pt"), "cpu", num_frames=16, audio_feat_length=[2, 2])
    pipeline = program.LipsyncPipeline(
        vae=vae, audio_encoder=encoder, unet=unet, scheduler=DDIMScheduler.from_pretrained(given.checkout / "configs")
    )
    watch = Stopwatch()
    for owner, name, stage in (
        (program, "read_video", "decode"), (program, "read_audio", "audio"), (YuNet, "__call__", "search"),
        (AlignRestore, "align_warp_face", "align"), (Audio2Feature, "audio2feat", "audio"),
        (UNet3DConditionModel, "forward", "denoise"), (AutoencoderKL, "encode", "vae"),
        (AutoencoderKL, "decode", "vae"), (program.LipsyncPipeline, "restore_video", "paste"),
        (program, "write_video", "encode"), (program.subprocess, "run", "encode"),
    ):  # fmt: skip
        watch.watch(owner, name, stage)
    set_seed(1247)
    started = time.perf_counter(), time.process_time()
    pipeline(
        video_path=str(given.video), audio_path=str(given.audio), video_out_path=str(folder / "published.mp4"),
        num_frames=16, num_inference_steps=given.steps, guidance_scale=1.5, weight_dtype=torch.float32,
        width=config["resolution"], height=config["resolution"], temp_dir=str(folder / "temp"),
        mask_image_path=str(given.checkout / "latentsync/utils/mask.png"),
    )  # fmt: skip
    report(watch, *started)


def run_ours(given: argparse.Namespace, folder: Path, threaded: bool = True, balanced: bool = False) -> None:
    sys.path.insert(0, str(ROOT))
    from diffusers import AutoencoderKL

    from latentsync import threads
    from latentsync.face.align import AlignedFaces
    from latentsync.face.blend import Blender
    from latentsync.face.detect.yunet import YuNet
    from latentsync.media import VideoReader, VideoWriter
    from latentsync.models.load import load_model
    from latentsync.nets.unet import UNet
    from latentsync.pipelines import lip_sync as program
    from latentsync.settings import QUALITIES, RunSettings, Settings

    model, detector = load_model(folder), YuNet(given.yunet)
    threads.THREADED = threaded
    watch = Stopwatch()
    for owner, name, stage in (
        (VideoReader, "__getitem__", "decode"), (VideoReader, "__init__", "decode"), (YuNet, "find", "search"),
        (YuNet, "measure", "search"), (AlignedFaces, "__getitem__", "align"), (program, "encode_audio", "audio"),
        (program, "load_mono_16k", "audio"), (UNet, "forward", "denoise"), (AutoencoderKL, "encode", "vae"),
        (AutoencoderKL, "decode", "vae"), (Blender, "__call__", "paste"), (VideoWriter, "write", "encode"),
        (VideoWriter, "__exit__", "encode"),
    ):  # fmt: skip
        watch.watch(owner, name, stage)
    started = time.perf_counter(), time.process_time()
    settings = Settings(**QUALITIES["balanced"]) if balanced else Settings(steps=given.steps)
    program.lip_sync(given.video, given.audio, folder / "ours.mp4", model, detector, RunSettings(settings, fps=25))
    report(watch, *started)


def report(watch: Stopwatch, wall: float, cpu: float) -> None:
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    children, own = (resource.getrusage(who) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))
    cpu += children.ru_utime + children.ru_stime
    memory = (own.ru_maxrss + children.ru_maxrss) * 1024
    print(json.dumps({"wall": wall, "cpu": cpu, "memory": memory, "stages": watch.seconds}))


def make_weights(folder: Path, checkout: Path | None) -> None:
    """A checkpoints folder in the published layout, and the U-Net's configuration as the published program has it.

    The nets are small, or, with its `checkout`, of the sizes of version 1.5.
    """
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    import golden_data
    import tiny
    import torch
    import yaml
    from diffusers import AutoencoderKL
    from whisper.model import ModelDimensions, Whisper

    from latentsync.nets.unet import UNet, UNetConfig

    tiny.make_checkpoints(folder, resolution=256)
    whisper = folder / "whisper" / "tiny.pt"
    # Ours needs no decoder, and the published program loads one.
    if checkout is None:
        unet, file = golden_data.json_of("unet_tiny"), torch.load(whisper, weights_only=True)
        net = Whisper(ModelDimensions(**file["dims"])).state_dict() | {
            key: value for key, value in file["model_state_dict"].items() if key.startswith("encoder.")
        }
        dims = file["dims"]
    else:
        unet = yaml.safe_load((checkout / "configs/unet/stage2.yaml").read_text())["model"]
        torch.save({"global_step": 0, "state_dict": UNet(UNetConfig()).state_dict()}, folder / "latentsync_unet.pt")
        config = json.loads((ROOT / "latentsync/assets/sd-vae-ft-mse/config.json").read_text())
        AutoencoderKL.from_config(config).save_pretrained(folder / "vae")
        dims = vars(ModelDimensions(80, 1500, 384, 6, 4, 51865, 448, 384, 6, 4))
        net = Whisper(ModelDimensions(**dims)).state_dict()
    torch.save({"dims": dims, "model_state_dict": net}, whisper)
    (folder / "published.json").write_text(json.dumps({"unet": unet, "resolution": 256}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("checkout", "video", "audio", "yunet"):
        parser.add_argument(name, type=lambda text: Path(text).resolve())
    parser.add_argument("--steps", type=int, default=20, help="of both programs; balanced has its own")
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--full_size", action="store_true", help="random weights of the published sizes: 6 GB")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        kind, folder = given.worker
        runs = {
            "published": run_published,
            "ours": run_ours,
            "in turn": partial(run_ours, threaded=False),
            "balanced": partial(run_ours, balanced=True),
        }
        runs[kind](given, Path(folder))
        return 0
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        make_weights(Path(folder) / "weights", given.checkout if given.full_size else None)
        for kind in ("published", "ours", "in turn", "balanced"):
            command = [given.python, __file__, *sys.argv[1:], "--worker", kind, str(Path(folder) / "weights")]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[kind] = json.loads(done.stdout.splitlines()[-1])
    published, ours = found["published"], found["in turn"]
    print(f"{'':10}{'published':>10}" + "".join(f"{name:>10}{'ratio':>8}" for name in list(found)[1:]))
    units = {"wall": (1, "s"), "cpu": (1, "s"), "memory": (1e9, "GB")}
    rows = [(f"{key}, {unit}", [run[key] / scale for run in found.values()]) for key, (scale, unit) in units.items()]
    rows += [(stage, [run["stages"].get(stage, 0.0) for run in found.values()]) for stage in STAGES]
    for name, (first, *others) in rows:
        print(f"{name:10}{first:10.2f}" + "".join(f"{x:10.2f}{x / first if first else math.nan:8.2f}" for x in others))

    def in_nets(run: dict) -> float:
        return sum(run["stages"].get(stage, 0.0) for stage in NETS)

    outside = (ours["wall"] - in_nets(ours)) / (published["wall"] - in_nets(published))
    nets = in_nets(ours) / in_nets(published)
    whole = found["balanced"]["wall"] / published["wall"]
    print(f"the whole: {found['ours']['wall'] / published['wall']:.2f}")
    print(f"outside the nets: {outside:.2f} (at most {MOST_OUTSIDE})")
    print(f"in the nets: {nets:.2f} (at most {MOST_IN_NETS})")
    print(f"balanced, the whole: {whole:.2f} (at most {MOST_BALANCED} at 20 steps)")
    return 0 if outside <= MOST_OUTSIDE and nets <= MOST_IN_NETS and whole <= MOST_BALANCED else 1


if __name__ == "__main__":
    sys.exit(main())
