"""Weight files: found in every layout, loaded strictly, refused with a sentence, converted without a changed bit."""

import json
import logging
import os
import pickle
import re
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace

import golden_data
import pytest
import tiny
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from latentsync.errors import FileError, InputError
from latentsync.models import convert as convert_module
from latentsync.models import load as checkpoint
from latentsync.models.convert import convert
from latentsync.models.load import (
    LipSyncModel,
    default_device,
    find_checkpoints,
    load_audio_encoder,
    load_model,
    load_state_dict,
    load_unet,
    load_vae,
)
from latentsync.models.state_dict import read_checkpoint, recognise


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tiny.make_checkpoints(tmp_path_factory.mktemp("made") / "weights", resolution=128)


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "weights")


def assert_same(module: torch.nn.Module, expected: dict[str, torch.Tensor]) -> None:
    state = module.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], value) for key, value in expected.items())


def touch(root, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


# Finding


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (  # the published program's
            [
                *("latentsync_unet.pt", "stable_syncnet.pt", "whisper/tiny.pt", "whisper/small.pt", "vae/config.json"),
                *("vae/diffusion_pytorch_model.safetensors", "auxiliary/face_detection_yunet_2023mar.onnx"),
                *("auxiliary/syncnet_v2.model", "auxiliary/models/buffalo_l/det_10g.onnx", "CodeFormer/codeformer.pth"),
                *("GFPGAN/GFPGANv1.3.pth", "GFPGAN/GFPGANv1.4.pth"),
            ],
            {
                "unet": "latentsync_unet.pt",
                "syncnet": "stable_syncnet.pt",
                "whisper": "whisper/tiny.pt",
                "vae": "vae",
                "yunet": "auxiliary/face_detection_yunet_2023mar.onnx",
                "insightface": "auxiliary/models/buffalo_l",
                "syncnet_v2": "auxiliary/syncnet_v2.model",
                "codeformer": "CodeFormer/codeformer.pth",
                "gfpgan": "GFPGAN/GFPGANv1.4.pth",
            },
        ),
        (  # safetensors first
            ["latentsync_unet.pt", "latentsync_unet.safetensors", "latentsync_syncnet.pt", "latentsync_unet.pt.part"],
            {"unet": "latentsync_unet.safetensors", "syncnet": "latentsync_syncnet.pt"},
        ),
        (  # longer names are other files
            ["whisper/tiny.en.pt", "latentsync_unet.pt", "latentsync_unet.zold.pt"],
            {"unet": "latentsync_unet.pt"},
        ),
        (  # ComfyUI's models folder; the newest U-Net
            [
                *("latentsync/latentsync_unet_1.5.safetensors", "latentsync/latentsync_unet_1.6.safetensors"),
                *(
                    "audio_encoders/whisper_tiny.safetensors",
                    "vae/flux_ae.safetensors",
                    "vae/sd-vae-ft-mse.safetensors",
                ),
                *("facerestore_models/codeformer-v0.1.0.pth", "diffusion_models/latentsync_old.safetensors"),
            ],
            {
                "unet": "latentsync/latentsync_unet_1.6.safetensors",
                "whisper": "audio_encoders/whisper_tiny.safetensors",
                "vae": "vae/sd-vae-ft-mse.safetensors",
                "codeformer": "facerestore_models/codeformer-v0.1.0.pth",
            },
        ),
        (  # what lies in its own sub-folder first
            ["latentsync/whisper/tiny.pt", "audio_encoders/whisper_tiny.safetensors"],
            {"whisper": "latentsync/whisper/tiny.pt"},
        ),
        ([], {}),
    ],
)
def test_files_are_found_in_every_layout(tmp_path, there, expected):
    touch(tmp_path / "weights", *there)
    found = vars(find_checkpoints(tmp_path / "weights")).items()
    assert {k: str(p.relative_to(tmp_path / "weights")) for k, p in found if p and k != "folder"} == expected


# The whole model


def test_load_model_has_every_weight(made):
    model = load_model(made, device="cpu")
    assert_same(model.unet, load_state_dict(made / "latentsync_unet.pt"))
    assert_same(model.vae, tiny.weights(tiny.vae()))
    assert_same(model.audio_encoder, tiny.weights(tiny.audio_encoder()))
    assert (model.device, model.dtype) == (torch.device("cpu"), torch.float32)
    assert (model.resolution, model.latent_channels, model.max_frames) == (128, 4, 24)
    assert str(made) in model.source
    assert not any(p.requires_grad for p in model.unet.parameters()) and not model.unet.training


def test_compiling_is_off_unless_asked_for(made):
    for compile in (False, True):
        model = load_model(made, device="cpu", compile=compile)
        replaced = ["forward" in vars(net) for net in (model.unet, model.vae.encoder, model.vae.decoder)]
        assert replaced == [compile] * 3


def test_cast_reaches_unet_and_vae_but_not_the_audio_encoder(made, caplog):
    model = load_model(made, device="cpu", dtype=torch.bfloat16)
    assert {p.dtype for module in (model.unet, model.vae) for p in module.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.audio_encoder.parameters()} == {torch.float32}
    assert model.to(dtype=torch.float32) is model and model.vae.dtype == torch.float32
    assert not caplog.records


def test_default_device_and_dtype(made, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert load_model(made).dtype == torch.float32
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert default_device() == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_device() == torch.device("cuda")


def test_missing_files_are_listed_with_the_command(made, tmp_path):
    shutil.copy(made / "latentsync_unet.pt", tmp_path)
    command = f"python -m latentsync download --checkpoints {tmp_path} --only whisper,vae"
    with pytest.raises(InputError, match=f"{tmp_path} lacks whisper, vae: fetch with `{command}`"):
        load_model(tmp_path, device="cpu")


def test_resolution_argument_sidecar_metadata_name(folder, caplog):
    assert load_model(folder, device="cpu", resolution=192).resolution == 192
    convert(folder / "latentsync_unet.pt", folder / "latentsync_unet.safetensors")
    (folder / "latentsync.json").unlink()
    assert load_model(folder, device="cpu").resolution == 128
    (folder / "latentsync_unet.safetensors").unlink()
    with caplog.at_level(logging.INFO):
        assert load_model(folder, device="cpu").resolution == 512
    assert "does not say its resolution" in caplog.text
    (folder / "latentsync_unet.pt").rename(folder / "latentsync_unet_1.5.pt")
    assert load_model(folder, device="cpu").resolution == 256
    (folder / "latentsync_unet_1.5.pt").rename(folder / "latentsync_unet_512.pt")
    assert load_model(folder, device="cpu").resolution == 512
    (folder / "latentsync_unet_512.pt").rename(folder / "latentsync_unet.pt")
    assert load_model(folder.rename(folder.with_name("LatentSync-1.5")), device="cpu").resolution == 256


@pytest.mark.parametrize(
    "name, version",
    [
        ("LatentSync-1.5/unet.pt", "1.5"),
        ("a/unet_1_6.pt", "1.6"),
        ("latentsync_512.safetensors", "1.6"),
        ("256/latentsync_unet.pt", "1.5"),
        ("1.6/old-1.5/unet.pt", "1.5"),  # the nearest folder
        ("1.6/unet_256.pt", "1.5"),  # the file's own name first
        ("1.5 and 1.6/unet.pt", None),
        ("unet_11.5.pt", None),
        ("unet_1.55.pt", None),
        ("step2560.pt", None),
        ("unet_15.pt", None),
    ],
)
def test_the_version_that_a_name_tells(tmp_path, name, version):
    assert checkpoint._version_in_names(tmp_path / "c" / name, tmp_path / "c") == version
    # Folders above that of the checkpoints tell nothing.
    assert checkpoint._version_in_names(tmp_path / "1.5" / "c" / "u.pt", tmp_path / "1.5" / "c") is None


@pytest.mark.parametrize("version, wrong, right", [("1.6", 256, 512), ("1.5", 512, 256)])
def test_resolution_of_the_other_version_is_warned_of(folder, caplog, version, wrong, right):
    (folder / "latentsync.json").write_text(json.dumps({"version": version}))
    model = load_model(folder, device="cpu", resolution=wrong)
    assert model.resolution == wrong
    assert f"LatentSync {version} works at {right} pixels, not at {wrong}" in caplog.text


@pytest.mark.parametrize("resolution", ["wide", [512], None, 512.5, 10**400, "-1"])
def test_a_sidecar_whose_resolution_is_no_number_is_named(folder, resolution):
    (folder / "latentsync.json").write_text(json.dumps({"resolution": resolution, "version": [1]}))
    with pytest.raises(InputError, match="latentsync_unet.pt is no whole number: give it \(--resolution\)"):
        load_model(folder, device="cpu")


@pytest.mark.parametrize("resolution", [0, 100, 1088])
def test_resolution_out_of_range(made, resolution):
    for side in (64, 1024):
        checkpoint.check_resolution(side)
    with pytest.raises(ValueError, match=f"resolution is {resolution}: choose a multiple of 64 from 64 to 1024"):
        load_model(made, device="cpu", resolution=resolution)


def test_whisper_of_another_width(made):
    from whisper.model import AudioEncoder

    model = load_model(made, device="cpu")
    with pytest.raises(ValueError, match="audio of width 32 and this Whisper encoder gives 16"):
        LipSyncModel(model.unet, model.vae, AudioEncoder(80, 1500, 16, 2, 1), 128)


def test_whisper_of_the_right_width_beside_it_is_taken_and_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    touch(tmp_path, "tiny.pt", "small.safetensors")
    unet = SimpleNamespace(config=SimpleNamespace(cross_attention_dim=768))
    assert checkpoint.fitting_whisper(tmp_path / "tiny.pt", unet) == tmp_path / "tiny.pt"
    assert not caplog.messages
    touch(tmp_path, "small.pt")
    assert checkpoint.fitting_whisper(tmp_path / "tiny.pt", unet) == tmp_path / "small.pt"
    assert caplog.messages == [
        f"taking {tmp_path / 'small.pt'} instead of tiny.pt: this U-Net was trained with audio of width 768"
    ]
    unet.config.cross_attention_dim = 32
    assert checkpoint.fitting_whisper(tmp_path / "tiny.pt", unet) == tmp_path / "tiny.pt"


# Reading files


class Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "plain"])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, kind):
    path, proof = tmp_path / "evil.pt", tmp_path / "ran"
    content = {"state_dict": {"a": torch.zeros(2)}, "extra": Attack(proof)}
    if kind == "plain":
        path.write_bytes(pickle.dumps(content["extra"]))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match="evil.pt"):
        load_state_dict(path)
    assert not proof.exists()


def nested(path) -> None:
    """Lists of two lists each, fifty deep: written out 10^15 of them; and one that has itself in it."""
    laughs = []
    for _ in range(50):
        laughs = [laughs, laughs]
    circle = []
    circle.append(circle)
    torch.save({"state_dict": {"a": torch.zeros(2)}, "x": laughs, "y": circle, "z": [1]}, path)


def test_what_surrounds_the_tensors_is_kept_where_it_is_plain(tmp_path):
    nested(tmp_path / "a.pt")
    assert read_checkpoint(tmp_path / "a.pt")[1] == {"z": "[1]"}
    assert convert(tmp_path / "a.pt", tmp_path / "a.safetensors").is_file()


@pytest.mark.parametrize("version, safe", [("2.5.1+cu124", False), ("2.6.0a0+nv25.01", True), ("2.10.0", True)])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_is_refused_where_torch_could_be_made_to_run_its_code(tmp_path, monkeypatch, version, safe, legacy):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=not legacy)
    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    monkeypatch.setattr(torch, "__version__", version)
    assert load_state_dict(tmp_path / "a.safetensors").keys() == {"a"}
    if safe:
        assert load_state_dict(tmp_path / "a.ckpt").keys() == {"a"}
        return
    with pytest.raises(
        InputError, match=r"a.ckpt is a pickle.*torch 2.5.1.*convert it to .safetensors.*or update torch"
    ):
        load_state_dict(tmp_path / "a.ckpt")


class Bytes:
    def __reduce__(self):
        return bytearray, (1 << 60,)


def compressed(path) -> None:
    torch.save({"a": torch.zeros(9)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def announced(path) -> None:
    """A legacy file whose storage has 2^40 floats, of which it holds three."""
    torch.save({"a": torch.arange(3.0)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    size = b"K\x03Ntq"
    assert content.count(size) == 1
    path.write_bytes(content.replace(size, b"\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"Ntq"))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: torch.save({"a": torch.zeros(1).expand(1 << 44)}, path), "bytes of content.*--limit expansion="),
        (lambda path: torch.save(dict.fromkeys(map(str, range(20)), torch.zeros(1 << 20)), path), "expansion="),
        (lambda path: torch.save({"a": torch.zeros(1), "b": Bytes()}, path), "holds byte arrays"),
        (lambda path: torch.save(Bytes(), path, _use_new_zipfile_serialization=False), "holds byte arrays"),
        (lambda path: torch.save({"a": torch.zeros(1 << 40, device="meta")}, path), "other things than tensors"),
        (lambda path: torch.save({"a": torch.zeros(4).to_sparse()}, path), "other things than tensors"),
        (lambda path: torch.save({"\x1b[2J": torch.zeros(4)}, path), r"other things than tensors .\\x1b\[2J"),
        (lambda path: torch.save({3: torch.zeros(4)}, path), "other things than tensors .3"),
        (announced, "a.pt (is damaged|asks for more memory)"),
        (compressed, "is compressed"),
    ],
    ids=["view", "shared", "bytes", "bytes legacy", "meta", "sparse", "name", "number", "storage", "compressed"],
)
def test_a_small_file_that_asks_for_much_is_refused(tmp_path, write, words):
    write(tmp_path / "a.pt")
    with pytest.raises(InputError, match=words):
        read_checkpoint(tmp_path / "a.pt")


TEMPORAL = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0"


@pytest.mark.parametrize(
    "changes",
    [
        {  # a table of 10^6 frames of 64,000 channels
            f"{TEMPORAL}.attention_blocks.0.pos_encoder.pe": (1, 10**6, 1),
            "down_blocks.0.resnets.0.conv1.weight": (64_000, 1, 1, 1),
        },
        {"down_blocks.0.resnets.0.conv1.weight": (1 << 40, 0, 3, 3)},
        {"conv_in.weight": (1 << 60, 13, 0)},
        {f"down_blocks.{i}.resnets.0.x": (1,) for i in range(500)}
        | {f"down_blocks.0.resnets.{i}.x": (1,) for i in range(500)},
    ],
    ids=["table", "width", "input", "layers"],
)
def test_a_unet_of_absurd_shapes_is_refused_before_it_is_built(made, tmp_path, changes):
    state = load_state_dict(made / "latentsync_unet.pt")
    save_file(state | {name: torch.zeros(shape) for name, shape in changes.items()}, tmp_path / "a.safetensors")
    with pytest.raises(InputError, match="a.safetensors looks like a lip-sync U-Net"):
        load_unet(tmp_path / "a.safetensors")


def test_nets_that_load_and_could_not_work_are_named(made, tmp_path):
    from diffusers import AutoencoderKL
    from whisper.model import AudioEncoder

    unet = load_state_dict(made / "latentsync_unet.pt")
    unet |= {"conv_out.weight": torch.zeros(5, 32, 3, 3), "conv_out.bias": torch.zeros(5)}
    save_file(unet, tmp_path / "unet.safetensors")
    with pytest.raises(InputError, match="unet.safetensors .* it gives 5 channels, not 4"):
        load_unet(tmp_path / "unet.safetensors")
    for mels, states in ((128, 1500), (80, 1499)):
        encoder = tiny.weights(AudioEncoder(mels, states, 64, 1, 1))
        save_file({f"encoder.{key}": value for key, value in encoder.items()}, tmp_path / "large.safetensors")
        with pytest.raises(InputError, match=f"hears {mels} mels and {states} states: give Whisper tiny"):
            load_audio_encoder(tmp_path / "large.safetensors")
    for channels, blocks, words in ((16, 4, "16 channels, 8 times"), (4, 3, "4 channels, 4 times")):
        types = {"down_block_types": ["DownEncoderBlock2D"] * blocks, "up_block_types": ["UpDecoderBlock2D"] * blocks}
        vae = AutoencoderKL(block_out_channels=[32] * blocks, latent_channels=channels, **types)
        vae.save_pretrained(tmp_path / "vae")
        with pytest.raises(InputError, match=f"safetensors makes latents of {words} smaller: give the VAE of Stable"):
            load_vae(tmp_path / "vae")


def cut(path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def test_files_that_are_no_weights(tmp_path):
    tensors = {"a": torch.randn(50, 50)}
    torch.save(tensors, tmp_path / "cut.pt")
    cut(tmp_path / "cut.pt")
    torch.save(tensors, tmp_path / "cut_old.pt", _use_new_zipfile_serialization=False)
    cut(tmp_path / "cut_old.pt")
    save_file(tensors, tmp_path / "cut.safetensors")
    cut(tmp_path / "cut.safetensors")
    (tmp_path / "page.pt").write_text("<!doctype html><title>Not found</title>")
    (tmp_path / "pointer.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello, these are no weights\n" * 20)
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"optimizer": {"lr": 1}, "step": 2}, tmp_path / "other.pt")
    expected = {
        "cut.pt": "cut off",
        "cut_old.pt": "fetch it again",
        "cut.safetensors": "cut off",
        "page.pt": "text file",
        "pointer.pt": "Git LFS pointer",
        "empty.pt": "fetch it again",
        "empty.safetensors": "fetch it again",
        "text.pt": "fetch it again",
        "list.pt": "holds a list",
        "other.pt": r"other things than tensors \(optimizer, step\)",
    }
    for name, sentence in expected.items():
        with pytest.raises(ValueError, match=rf"{name}.*{sentence}"):
            load_state_dict(tmp_path / name)
    with pytest.raises(InputError, match="absent.pt"):
        load_state_dict(tmp_path / "absent.pt")


def published_names(name: str) -> dict[str, torch.Tensor]:
    """The names and shapes of a published file, without its bytes."""
    shapes = json.loads((golden_data.HERE / "state_dict_keys" / f"{name}.json").read_text())
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


@pytest.mark.parametrize(
    "name, kind",
    [
        ("unet_stage1", "a lip-sync U-Net"),
        ("unet_stage2", "a lip-sync U-Net"),
        ("stable_syncnet_16_pixel_attn", "a StableSyncNet"),
        ("syncnet_v2", "a SyncNet v2"),
        ("hyperiqa", "a hyperIQA model"),
        ("videomaev2_vit_giant_tiny", "a VideoMAE"),
    ],
)
def test_published_files_are_recognised(name, kind):
    assert recognise(published_names(name)) == kind


def test_wrong_file_for_the_unet_is_named(made, tmp_path):
    vae = made / "vae" / "diffusion_pytorch_model.safetensors"
    names = ("conv_in.weight", "time_embedding.linear_1.weight")
    save_file({names[0]: torch.zeros(8, 4, 3, 3), names[1]: torch.zeros(4, 4)}, tmp_path / "sd.safetensors")
    save_file({"audio_encoder.conv_in.weight": torch.zeros(4)}, tmp_path / "sync.safetensors")
    for path, kind in {
        vae: "a VAE",
        made / "whisper" / "tiny.pt": "an OpenAI Whisper model",
        tmp_path / "sd.safetensors": "a Stable Diffusion U-Net with 4 input channels",
        tmp_path / "sync.safetensors": "a StableSyncNet",
    }.items():
        with pytest.raises(ValueError, match=f"{path.name} looks like {kind}, not a lip-sync U-Net"):
            load_unet(path)


def test_an_incomplete_vae_names_the_tensor(made, tmp_path):
    vae = load_file(made / "vae" / "diffusion_pytorch_model.safetensors")
    vae.pop("decoder.conv_out.bias")
    save_file(vae, tmp_path / "vae.safetensors")
    shutil.copy(made / "vae" / "config.json", tmp_path)
    with pytest.raises(ValueError, match="vae.safetensors looks like a VAE.*decoder.conv_out.bias"):
        load_vae(tmp_path / "vae.safetensors")


# Whisper


def test_whisper_from_safetensors_is_the_same_encoder(made, tmp_path):
    convert(made / "whisper" / "tiny.pt", tmp_path / "tiny.safetensors")
    encoder = load_audio_encoder(tmp_path / "tiny.safetensors")
    assert_same(encoder, tiny.weights(tiny.audio_encoder()))
    assert encoder.blocks[0].attn.n_head == golden_data.json_of("audio")["dims"]["n_audio_head"]
    assert not hasattr(encoder, "decoder")


def test_wrong_file_for_whisper_is_named(made, tmp_path):
    with pytest.raises(ValueError, match="latentsync_unet.pt looks like a lip-sync U-Net: give an OpenAI Whisper file"):
        load_audio_encoder(made / "latentsync_unet.pt")
    save_file({"model.encoder.embed_positions.weight": torch.zeros(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="a Whisper model of the transformers package"):
        load_audio_encoder(tmp_path / "model.safetensors")


# VAE

LDM = {
    "mid_block.resnets.0.": "mid.block_1.",
    "mid_block.resnets.1.": "mid.block_2.",
    "mid_block.attentions.0.group_norm.": "mid.attn_1.norm.",
    "mid_block.attentions.0.to_q.": "mid.attn_1.q.",
    "mid_block.attentions.0.to_k.": "mid.attn_1.k.",
    "mid_block.attentions.0.to_v.": "mid.attn_1.v.",
    "mid_block.attentions.0.to_out.0.": "mid.attn_1.proj_out.",
    "conv_norm_out.": "norm_out.",
    "conv_shortcut.": "nin_shortcut.",
    **{f"encoder.down_blocks.{i}.resnets.": f"encoder.down.{i}.block." for i in range(4)},
    **{f"encoder.down_blocks.{i}.downsamplers.0.": f"encoder.down.{i}.downsample." for i in range(4)},
    **{f"decoder.up_blocks.{i}.resnets.": f"decoder.up.{3 - i}.block." for i in range(4)},
    **{f"decoder.up_blocks.{i}.upsamplers.0.": f"decoder.up.{3 - i}.upsample." for i in range(4)},
}


def ldm_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    result = {}
    for key, value in state.items():
        wide = ".attentions.0.to_" in key and value.ndim == 2
        for ours, theirs in LDM.items():
            key = key.replace(ours, theirs)
        result[key] = value[:, :, None, None] if wide else value
    return result


def vae_with_shortcuts() -> tuple[dict, dict[str, torch.Tensor]]:
    """A VAE whose widths differ, so that it has every kind of layer, and its weights."""
    from diffusers import AutoencoderKL

    config = golden_data.json_of("denoise")["vae"] | {"block_out_channels": (32, 64, 64, 96), "layers_per_block": 2}
    model = AutoencoderKL(**config)
    return dict(model.config), tiny.weights(model)


@pytest.mark.parametrize("prefix", ["", "first_stage_model."])
def test_vae_in_one_file(tmp_path, prefix):
    config, state = vae_with_shortcuts()
    (tmp_path / "config.json").write_text(json.dumps(config))
    ldm = {prefix + key: value for key, value in ldm_names(state).items()}
    torch.save(
        {"state_dict": ldm | {"loss.logvar": torch.zeros(()), "model_ema.decay": torch.zeros(())}}, tmp_path / "v.ckpt"
    )
    assert_same(load_vae(tmp_path / "v.ckpt"), state)
    save_file(state, tmp_path / "new.safetensors")
    assert_same(load_vae(tmp_path / "new.safetensors"), state)


def test_vae_with_the_old_attention_names_in_half_precision(folder):
    path = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state, renamed = load_file(path), {}
    for key, value in state.items():
        for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            key = key.replace(f".{new}.", f".{old}.")
        renamed[key] = value.half()
    assert "encoder.mid_block.attentions.0.proj_attn.weight" in renamed
    save_file(renamed, path)
    assert_same(load_vae(folder / "vae"), {key: value.half().float() for key, value in state.items()})
    path.unlink()
    with pytest.raises(InputError, match="diffusion_pytorch_model.safetensors"):
        load_vae(folder / "vae")


def test_settings_that_come_along_are_those_of_the_published_vae(made, tmp_path):
    from diffusers import AutoencoderKL

    from latentsync.models import load as checkpoint

    path = checkpoint.Path(checkpoint.__file__).parents[1] / "assets" / "sd-vae-ft-mse" / "config.json"
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(json.loads(path.read_text()))
    # The published file has 334,643,276 bytes: four for each value, and its head.
    assert sum(p.numel() for p in vae.parameters()) == 83_653_863
    assert vae.config.scaling_factor == 0.18215
    shutil.copy(made / "vae" / "diffusion_pytorch_model.safetensors", tmp_path)
    with pytest.raises(ValueError, match="of the wrong shape.*expected"):
        load_vae(tmp_path)


# Converting


@pytest.mark.parametrize("half", [False, True])
def test_conversion_keeps_names_and_bits(made, tmp_path, half):
    source = load_state_dict(made / "latentsync_unet.pt")
    path = convert(made / "latentsync_unet.pt", tmp_path / "sub" / "unet.safetensors", half=half)
    result = load_file(path)
    assert result.keys() == source.keys()
    for key, value in source.items():
        assert torch.equal(result[key], value.half() if half else value)
    with safe_open(path, "pt") as file:
        assert {"global_step": "7", "version": "1.6", "resolution": "128"}.items() <= file.metadata().items()
    with torch.inference_mode():
        assert_same(load_unet(path, dtype=torch.float32), {key: value.float() for key, value in result.items()})


def test_shared_and_strided_tensors_are_written_once_each(tmp_path):
    base = torch.arange(12.0).view(3, 4)
    state = {"a": base, "tied": base, "row": base[1], "turned": base.T, "count": torch.tensor(3)}
    torch.save(state, tmp_path / "tied.pt")
    result = load_file(convert(tmp_path / "tied.pt", tmp_path / "tied.safetensors"))
    assert all(torch.equal(result[key], value) for key, value in state.items())
    assert result["count"].dtype == torch.int64


def test_conversion_does_not_overwrite_or_leave_halves(made, tmp_path, monkeypatch):
    source, target = made / "whisper" / "tiny.pt", tmp_path / "tiny.safetensors"
    with pytest.raises(ValueError, match="ends in .safetensors"):
        convert(source, tmp_path / "tiny.bin")
    target.write_bytes(b"mine")
    with pytest.raises(InputError, match="force"):
        convert(source, target)

    def full(tensors, path, metadata):
        path.write_bytes(b"half a file")
        raise SafetensorError("I/O error: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(convert_module, "save_file", full)
        with pytest.raises(FileError, match="No space left on device.*free some space"):
            convert(source, target, force=True)
    assert target.read_bytes() == b"mine" and [path.name for path in tmp_path.iterdir()] == ["tiny.safetensors"]
    convert(source, target, force=True)
    with pytest.raises(InputError):
        convert(target, target, force=True)
    assert load_audio_encoder(target).conv1.out_channels == 32


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o027])
def test_a_converted_file_has_the_rights_that_the_umask_gives(tmp_path, umask):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt")
    before = os.umask(umask)
    try:
        path = convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask


def test_what_cannot_be_converted_is_said(tmp_path):
    torch.save({"a": torch.ones(2, dtype=torch.complex128)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="tensors of the type torch.complex128"):
        convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
    torch.save({"a": torch.ones(2)}, tmp_path / "b.pt")
    with pytest.raises(InputError, match="cannot write .*b.pt"):
        convert(tmp_path / "b.pt", tmp_path / "b.pt" / "b.safetensors")
    with pytest.raises(InputError, match="no weight file .*none.pt"):
        convert(tmp_path / "none.pt", tmp_path / "b.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pt", "b.pt"]


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("name", ["large.pt", "large.safetensors"])
def test_reading_a_large_file_takes_no_memory_of_its_size(tmp_path, name):
    def memory() -> int:
        """Bytes of this process that no file backs."""
        return int(re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

    save = save_file if name.endswith("safetensors") else torch.save
    save({f"{i}": torch.ones(1 << 23) for i in range(6)}, tmp_path / name)
    before = memory()
    state = load_state_dict(tmp_path / name)
    assert all(bool(tensor[::512].sum() == 1 << 14) for tensor in state.values())  # every page has been read
    assert memory() - before < (tmp_path / name).stat().st_size / 4


def test_value_too_large_for_half_is_named(tmp_path):
    torch.save({"fine": torch.ones(2), "huge": torch.tensor([1e6])}, tmp_path / "huge.pt")
    with pytest.raises(ValueError, match="huge has values that float16 cannot hold"):
        convert(tmp_path / "huge.pt", tmp_path / "huge.safetensors", half=True)
