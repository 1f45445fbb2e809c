"""Damaged weight files, by a fixed seed: each loads or is refused in a sentence, soon and with little memory.

They are loaded in a process of their own, for a library that crashes would take the tests along.
"""

import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import traceback
import warnings
from pathlib import Path

import pytest

FOLDERS = Path(__file__).parents[1]
COUNT = 400 if os.environ.get("LATENTSYNC_SLOW") else 60
SECONDS, MEMORY = 20, 2_000_000  # of computing time; kB

JUNK = ("", "null", "[]", "-1", "0", "7", "1e400", "NaN", "x", "9" * 5000, "[" * 100_000, '{"n_audio_head": 0}', "²")
VALUES = (None, -1, 0, 1, 17, 10**6, 10**18, 10**400, 1e308, float("nan"), True, "x", "../..", [], [0], [10**6], {})


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """With some bytes changed, taken out or put in: at the ends, where the structure is, as often as anywhere."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 3, 20))):
        at = rng.randrange(rng.choice((min(len(data), 64), min(len(data), 4096), len(data))))
        at = rng.choice((at, at, len(data) - 1 - at))
        size = rng.choice((1, 8, 100))
        data[at : at + size] = rng.choice(
            (
                b"",
                bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 : at + size],
                rng.choice((b"\0", b"9", b"\x7f", b"\xff")) * size,
                rng.randbytes(size),
                data[at : at + size] * 2,
            )
        )
        if not data or rng.random() < 0.05:
            return bytes(data[:at])
    return bytes(data)


def damaged_tensors(state: dict, rng: random.Random) -> dict:
    """With some tensors lost, renamed, or of another shape, type or content."""
    import torch

    state = dict(state)
    for _ in range(rng.choice((1, 1, 3))):
        name = rng.choice(sorted(state))
        tensor = state.pop(name)
        kinds = (torch.int8, torch.bool, torch.complex64, torch.float8_e4m3fn, torch.float64, torch.uint16)
        shapes = (
            tensor.reshape(-1)[:0],
            tensor.reshape(-1),
            tensor[None],
            torch.zeros(()),
            tensor.repeat([2] * tensor.ndim),
        )
        number = rng.choice((float("nan"), float("inf"), 1e38))
        changed = rng.choice((*shapes, tensor.to(rng.choice(kinds)), torch.full(tensor.shape, number), None))
        if changed is not None:
            state[name if rng.random() < 0.8 else name.replace("0", rng.choice(("9", "1000000", "-1", "x")))] = changed
    return {name: tensor.clone() for name, tensor in state.items()} or {"x": torch.zeros(1)}


def originals() -> dict[str, tuple[dict, dict]]:
    """Tensors and metadata of the smallest nets of each kind."""
    import tiny
    import torch
    from diffusers import AutoencoderKL
    from whisper.model import AudioEncoder

    from latentsync.nets.syncnet import EncoderConfig, StableSyncNet, SyncNetConfig
    from latentsync.nets.unet import UNet, UNetConfig

    shape = {"block_out_channels": (32,), "block_attention": (True,), "layers_per_block": 1, "max_frames": 4}
    encoder = tiny.weights(AudioEncoder(80, 1500, 64, 1, 1))
    vae = {"block_out_channels": (16,) * 4, "down_block_types": ("DownEncoderBlock2D",) * 4, "norm_num_groups": 2}
    vae = AutoencoderKL(**vae, up_block_types=("UpDecoderBlock2D",) * 4)
    encoders = {"visual": (6, [32], [2], [1]), "audio": (1, [32], [2], [0])}
    visual, audio = (EncoderConfig.from_table(*table) for table in encoders.values())
    names = ("in_channels", "block_out_channels", "downsample_factors", "attn_blocks")
    tables = {"frames": "2", "tables": json.dumps({k: dict(zip(names, v, strict=True)) for k, v in encoders.items()})}
    upscaler = {f"{name}.bias": torch.zeros(size) for name, size in (("body.0", 4), ("body.1", 48))}
    upscaler |= {"body.0.weight": torch.zeros(4, 3, 3, 3), "body.1.weight": torch.zeros(4)}
    upscaler |= {"body.2.weight": torch.zeros(48, 4, 3, 3), "body.2.bias": upscaler.pop("body.1.bias")}
    return {
        "unet": (tiny.weights(UNet(UNetConfig(cross_attention_dim=8, **shape))), {"n_head": "8", "groups": "32"}),
        "whisper": ({f"encoder.{k}": v for k, v in encoder.items()}, {"dims": '{"n_audio_head": 1}'}),
        "vae": (tiny.weights(vae), dict(vae.config)),
        "syncnet": (tiny.weights(StableSyncNet(SyncNetConfig(visual, audio, 2))), {"resolution": "64", **tables}),
        "upscaler": (upscaler, {"name": "x"}),
    }


def weight_file(folder: Path, kind: str, nets: dict, rng: random.Random):
    """Writes one damaged file, with what belongs beside it; returns what loads it."""
    import torch
    from safetensors.torch import save_file

    from latentsync.evaluate.sync_score import load_syncnet
    from latentsync.models.convert import convert
    from latentsync.models.load import load_audio_encoder, load_unet, load_vae
    from latentsync.restore.restorers import load_restorer

    state, about = nets[kind]
    damage = rng.choice(("bytes", "tensors", "about"))
    if damage == "tensors":
        state = damaged_tensors(state, rng)
    if kind == "vae":
        settings = about | ({rng.choice(sorted(about)): rng.choice(VALUES)} if damage == "about" else {})
        text = json.dumps(settings).encode()
        (folder / "config.json").write_bytes(damaged_bytes(text, rng) if rng.random() < 0.1 else text)
        about = {}
    elif damage == "about":
        about = about | {rng.choice(sorted(about)): rng.choice(JUNK)}
    form = rng.choice(("safetensors", "zip", "legacy"))
    path = folder / f"{kind}.{'safetensors' if form == 'safetensors' else 'pt'}"
    if form == "safetensors":
        save_file(state, path, about)
    else:
        if damage == "about" and kind == "whisper":
            about = {"dims": rng.choice((*VALUES, *({"n_audio_head": value} for value in VALUES)))}
        content = {**about, "model_state_dict": state} if rng.random() < 0.7 else state
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    if damage == "bytes":
        path.write_bytes(damaged_bytes(path.read_bytes(), rng))
    if rng.random() < 0.1:
        return lambda: convert(path, folder / "converted.safetensors", force=True, half=rng.random() < 0.5)
    loaders = {"unet": load_unet, "whisper": load_audio_encoder, "vae": load_vae, "syncnet": load_syncnet}
    return lambda: loaders.get(kind, load_restorer)(path)


def settings_file(folder: Path, rng: random.Random):
    from latentsync.models.folders import Checkpoints
    from latentsync.models.load import choose_resolution, published_resolution

    if rng.random() < 0.5:
        path = folder / "latentsync.json"
        content = {"version": "1.6", "resolution": 512, "files": {"latentsync_unet.pt": 5}}
        content[rng.choice(sorted(content))] = rng.choice(VALUES)
        text = json.dumps(content).encode()
        path.write_bytes(damaged_bytes(text, rng) if rng.random() < 0.5 else text)
        return lambda: choose_resolution(Checkpoints(folder, unet=folder / "latentsync_unet.pt"), None)
    path = folder / "stage2.yaml"
    value = rng.choice((*JUNK, "2020-99-99", "!!timestamp x", "!!bool x", "&a [*a, *a]", "{[]: 1}"))
    text = f"data:\n  resolution: {value}\n  other: 256\n".encode()
    path.write_bytes(damaged_bytes(text, rng) if rng.random() < 0.5 else text)
    return lambda: published_resolution(path)


def onnx_file(folder: Path, rng: random.Random):
    from latentsync.face.detect import load_detector

    yunet, buffalo = folder / "auxiliary" / "face_detection_yunet_2023mar.onnx", folder / "buffalo"
    models = [yunet, *sorted(buffalo.iterdir())]
    path = rng.choice(models)
    content = path.read_bytes()
    path.write_bytes(damaged_bytes(content, rng))

    def load():
        try:
            if path == yunet:
                load_detector("yunet", model=path)
            else:
                load_detector("insightface", model=buffalo, device="cpu", det_size=256)
        finally:
            path.write_bytes(content)

    return load


def archive_file(folder: Path, rng: random.Random):
    from test_download import archive

    from latentsync.models.download import _unpack
    from latentsync.models.registry import WEIGHTS

    row = next(row for row in WEIGHTS if row.members)
    path = folder / "buffalo_l.zip"
    path.write_bytes(damaged_bytes(archive(row.members, rng.choice((0, 8, 12, 14))), rng))
    return lambda: _unpack(row, path, folder / "unpacked")


def run(folder: Path, count: int) -> None:
    """Prints each damage that does not end as it should; killed by the system at one that computes for too long."""
    import resource

    import numpy as np
    import test_detect
    import test_published_files

    from latentsync.errors import InputError

    warnings.simplefilter("ignore")
    logging.disable()
    nets = originals()
    kinds = [*nets, *nets, "settings", "archive"]
    try:
        test_published_files.check_yunet(folder)
        test_detect._buffalo(folder / "buffalo", np.zeros((106, 2)))
        kinds.append("onnx")
    except pytest.skip.Exception:
        pass
    others = {"settings": settings_file, "archive": archive_file, "onnx": onnx_file}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(count):
        rng, kind = random.Random(seed), kinds[seed % len(kinds)]
        print(f"{seed} {kind}", flush=True)
        load = others[kind](folder, rng) if kind in others else weight_file(folder, kind, nets, rng)
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            load()
        except InputError as error:
            if not 20 < len(str(error)) < 1500:
                print(f"BAD: no sentence: {error!s:.2000}")
        except Exception:
            print("BAD:", traceback.format_exc())
        if (used := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) > MEMORY:
            print(f"BAD: {used} kB")
            before += used
    print("done")


def test_damaged_files_load_or_are_refused_in_a_sentence(tmp_path):
    pytest.importorskip("resource")  # not on Windows
    code = "import sys, test_fuzz_weights as t; t.run(t.Path(sys.argv[1]), int(sys.argv[2]))"
    paths = [
        FOLDERS.parent,
        FOLDERS,
        *(FOLDERS / name for name in ("models", "face", "commands", "prepare", "restore")),
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-X", "faulthandler", "-c", code, str(tmp_path), str(COUNT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    shutil.rmtree(tmp_path)
    assert "BAD" not in done.stdout, done.stdout[-5000:]
    assert done.stdout.endswith("done\n"), (done.returncode, done.stdout[-500:], done.stderr[-3000:])
