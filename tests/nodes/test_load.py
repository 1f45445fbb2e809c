"""Loading and downloading models."""

import os
import shutil
from types import SimpleNamespace

import pytest
import tiny
import torch
from heads import SIDE, STEPS, crops_of

from latentsync.models.registry import select

EMBEDDED = "embedded (small)"


@pytest.fixture
def installed(comfy_folders):
    """The tiny random model in models/latentsync, as the published files lie there."""
    return tiny.make_checkpoints(comfy_folders.models / "latentsync")


def load(pack, model, precision="fp32", resolution="auto"):
    return pack.run("LatentSyncLoadModel", model=model, precision=precision, resolution=resolution)[0]


def test_files_are_found_and_their_resolution_read(pack, installed):
    assert pack.nodes.folders.model_files() == ["latentsync_unet.pt"]
    model = load(pack, "latentsync_unet.pt")
    assert model.resolution == SIDE and model.source == str(installed / "latentsync_unet.pt")
    assert load(pack, "latentsync_unet.pt", resolution="256").resolution == 256
    embedded = load(pack, EMBEDDED, "auto")
    assert (embedded.resolution, embedded.dtype, embedded.device.type) == (128, torch.float32, "cpu")


def test_parts_are_found_beside_in_the_folder_and_in_those_of_other_nodes(pack, installed, comfy_folders):
    shutil.move(installed / "whisper", comfy_folders.models / "audio_encoders")
    shutil.move(installed / "vae", comfy_folders.models / "vae" / "sd-vae-ft-mse")
    assert load(pack, "latentsync_unet.pt").resolution == SIDE
    tiny.make_checkpoints(installed / "latentsync-1.5", version="1.5", resolution=256)
    shutil.rmtree(installed / "latentsync-1.5" / "whisper")
    name = os.path.join("latentsync-1.5", "latentsync_unet.pt")
    assert name in pack.nodes.folders.model_files()
    assert load(pack, name).resolution == 256


def test_missing_files_are_named_with_the_way_to_get_them(pack, installed):
    shutil.rmtree(installed / "vae")
    with pytest.raises(ValueError, match="needs vae, .*Download LatentSync Models"):
        load(pack, "latentsync_unet.pt")
    with pytest.raises(ValueError, match="no model 'gone.pt'.*Download LatentSync Models"):
        load(pack, "gone.pt")


@pytest.mark.parametrize("value", [{"precision": "fp8"}, {"resolution": "100"}])
def test_values_that_the_server_does_not_check_are_refused(pack, value):
    with pytest.raises(ValueError, match="{} is '{}': choose one of auto".format(*next(iter(value.items())))):
        load(pack, EMBEDDED, **value)


def test_a_replaced_file_is_loaded_again(pack, installed):
    node = pack.node("LatentSyncLoadModel")
    values = {"model": "latentsync_unet.pt", "precision": "auto", "resolution": "auto"}
    before = node.fingerprint_inputs(**values)
    assert node.fingerprint_inputs(**values) == before
    os.utime(installed / "vae" / "diffusion_pytorch_model.safetensors", ns=(1, 1))
    assert node.fingerprint_inputs(**values) != before
    node.fingerprint_inputs(**values | {"model": "gone.pt"})  # the sentence comes from execute


def synced(pack, model, frames=2):
    wave = torch.linspace(-0.5, 0.5, 8_000)
    features = pack.latentsync.audio.whisper.encode_audio(model.loaded_audio_encoder(), wave, 16_000, 25.0)
    settings = pack.latentsync.sampling.sample.Settings(steps=STEPS, window=4)
    return torch.cat(list(pack.latentsync.sampling.sample.sync(model, crops_of(frames), features, settings)))


def one_window(pack, model, frames=2):
    return synced(pack, model.on_device(frames), frames)


def test_nets_may_be_half_loaded_or_unloaded_between_two_runs(pack, installed):
    from comfy import model_management

    model = load(pack, "latentsync_unet.pt")
    first = one_window(pack, model)
    for name in ("vae", "audio"):  # of plain layers: whole or not at all
        patcher = model.patchers[name]
        patcher.partially_load(model.device, patcher.model_size() // 2)
        assert patcher.loaded_size() == patcher.model_size() and patcher.partially_unload(model.device, 1) == 0
    patcher = model.patchers["unet"]
    patcher.detach()
    patcher.partially_load(model.device, patcher.model_size() // 2)
    assert patcher.model.model_lowvram and 0 < patcher.loaded_size() < patcher.model_size()
    assert torch.equal(synced(pack, model), first)
    model_management.unload_all_models()
    assert not any(patcher.loaded_size() for patcher in model.patchers.values())
    assert torch.equal(one_window(pack, model), first)


def test_the_unet_is_held_by_the_patcher_that_the_core_has_by_then(pack, installed, monkeypatch):
    """Newer ComfyUI chooses it after the packs are imported."""
    from comfy import model_patcher

    core = type("CoreModelPatcher", (model_patcher.ModelPatcher,), {})
    monkeypatch.setattr(model_patcher, "CoreModelPatcher", core, raising=False)
    patchers = load(pack, "latentsync_unet.pt").patchers
    assert [name for name, patcher in patchers.items() if isinstance(patcher, core)] == ["unet"]


def test_half_precision_is_kept_and_computed_in(pack, installed):
    model = load(pack, "latentsync_unet.pt", "bf16")
    assert {p.dtype for net in (model.model.unet, model.model.vae) for p in net.parameters()} == {torch.bfloat16}
    assert next(model.audio_encoder.parameters()).dtype == torch.float32
    exact = load(pack, "latentsync_unet.pt")
    assert (one_window(pack, model, frames=1) - one_window(pack, exact, frames=1)).abs().mean() < 0.02


class Vae:
    """What ComfyUI's VAE object does, around a diffusers net."""

    latent_dim = 2

    def __init__(self, net, channels=4, scale=8):
        self.net, self.latent_channels, self.scale = net, channels, scale

    def spacial_compression_encode(self):
        return self.scale

    def encode(self, pixels):
        return self.net.encode(pixels.movedim(-1, 1) * 2 - 1).latent_dist.mode()

    def decode(self, latents):
        return ((self.net.decode(latents).sample + 1) / 2).clamp(0, 1).movedim(1, -1)


def test_a_vae_of_a_socket_takes_the_place_of_the_models(pack, installed):
    model = load(pack, "latentsync_unet.pt")
    scale = pack.nodes.model_patcher.SD_SCALE
    net = model.model.vae
    net.register_to_config(scaling_factor=scale, shift_factor=0.0)
    other = model.with_vae(Vae(net))
    assert set(other.patchers) == {"unet", "audio"}
    # ComfyUI's VAE clamps what it decodes, which shows on the soft edge between the new mouth and the old crop alone.
    mask = pack.latentsync.face.masks.keep_mask(SIDE)[0]
    flat = (mask == 0) | (mask == 1)
    assert torch.allclose(one_window(pack, other)[:, flat], one_window(pack, model)[:, flat], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "vae", "sentence"),
    [
        ("latentsync_unet.pt", {"channels": 16}, "16 channels, 8 times smaller, and this U-Net takes 4"),
        ("latentsync_unet.pt", {"scale": 32}, "4 channels, 32 times smaller"),
        (EMBEDDED, {}, "disconnect the other VAE"),
    ],
)
def test_a_vae_that_does_not_fit_is_refused(pack, installed, name, vae, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(pack, name).with_vae(Vae(None, **vae))


def test_memory_grows_with_the_window_and_the_precision(pack, installed):
    model = load(pack, "latentsync_unet.pt", resolution="512")
    assert model.memory_required(32) == 2 * model.memory_required(16) > model.memory_required(1) > 0
    assert 2 * load(pack, "latentsync_unet.pt", "fp16", "512").memory_required(16) == model.memory_required(16)
    # With guidance 2 x 16 frames of 512 x 512 pixels, 130 values of 4 bytes each, and a fifth for workspace.
    assert model.memory_required(16) == int(2 * 16 * 512**2 * 130 * 4 * 1.2)
    assert model.memory_required(1) == int(512**2 * 768 * 4 * 1.2)  # one frame in the VAE takes more


def download(pack, **values):
    usual = {"version": "1.6", "detector": True, "restorers": False, "syncnet": False, "parsing": False}
    return pack.run("LatentSyncDownloadModels", **usual | values)


def test_download_asks_for_the_ticked_parts_and_puts_a_second_version_beside(pack, comfy_folders, monkeypatch):
    asked, folder = [], comfy_folders.models / "latentsync"
    monkeypatch.setattr(pack.nodes.load, "download", lambda folder, version, only, **_: asked.append((folder, only)))
    assert str(folder) in download(pack, detector=False)[0]
    assert asked == [(folder, ["unet"]), (folder, ["whisper", "vae"])]
    asked.clear()
    tiny.make_checkpoints(folder)
    download(pack, version="1.5", restorers=True, syncnet=True, parsing=True)
    assert asked[0] == (folder / "latentsync-1.5", ["unet", "syncnet"])
    assert asked[1] == (folder, ["whisper", "vae", "yunet", "gfpgan", "codeformer", "restoreformer", "parsing"])


def test_the_detector_can_be_fetched_alone(pack, comfy_folders, monkeypatch):
    asked, (yunet,) = [], select("1.6", ["yunet"])
    monkeypatch.setattr(pack.latentsync.models.download, "_fetch", lambda folder, row, *_: asked.append(row))
    report = download(pack, version="none")[0]
    assert [row.target for row in asked] == [yunet.target]
    assert "python" not in report and "Download LatentSync Models, with a version" in report


@pytest.mark.parametrize("content", [b"hello", bytes(range(256)), b"", "other tensors"])
def test_a_file_that_is_no_unet_is_called_that(pack, comfy_folders, content):
    """Before anything else is asked for: here whisper and vae are missing too."""
    path = comfy_folders.models / "latentsync" / "junk.pt"
    path.parent.mkdir()
    torch.save({"a": torch.zeros(3)}, path) if isinstance(content, str) else path.write_bytes(content)
    with pytest.raises(ValueError, match="junk.pt is no U-Net of LatentSync: choose another file in Load LatentSync"):
        load(pack, "junk.pt")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("file", "models.latentsync is a file: give the folder to put the weights in$"),
        ("size", "latentsync_unet.pt has [0-9,]+ bytes and the file at .* 1: move it away, or replace it$"),
        ("version", "latentsync-1.5 has LatentSync 1.6 and .* choose another folder, or replace the 1.6 files$"),
        ("full", "models.latentsync has 1.00B of free space .*: make room, or choose another folder$"),
    ],
)
def test_what_stops_a_download_is_said_without_flags_of_the_command_line(
    pack, comfy_folders, monkeypatch, wrong, sentence
):
    folder, downloading = comfy_folders.models / "latentsync", pack.latentsync.models.download
    monkeypatch.setattr(downloading, "_published_size", lambda row, found: 1)
    monkeypatch.setattr(downloading.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1))
    if wrong == "file":
        folder.write_bytes(b"")
    elif wrong != "full":
        for place in (folder, folder / "latentsync-1.5"):
            tiny.make_checkpoints(place, version="1.6", resolution=SIDE)
    with pytest.raises(ValueError, match=sentence):
        download(pack, version="1.5" if wrong == "version" else "1.6")


def test_download_without_a_network_names_address_and_target(pack, comfy_folders, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="127.0.0.1:9/.*latentsync_unet.pt.*models.latentsync"):
        download(pack)
