"""What only the real ComfyUI can show, in this process and on the CPU."""

import gc
import os
import subprocess
import sys
import weakref
from types import SimpleNamespace

import pytest
import tiny
import torch
from heads import STEPS, crops_of

pytestmark = pytest.mark.skipif(not os.environ.get("COMFYUI_PATH"), reason="COMFYUI_PATH names no ComfyUI")


@pytest.fixture
def model(pack, comfy_folders):
    tiny.make_checkpoints(comfy_folders.models / "latentsync")
    return pack.nodes.model_patcher.load_managed_model("latentsync_unet.pt", "fp32")


def synced(pack, model):
    states = torch.randn(40, 3, model.audio_encoder.conv1.out_channels, generator=torch.Generator().manual_seed(2))
    features = pack.latentsync.audio.whisper.AudioFeatures(states, 25.0, 4)
    settings = pack.latentsync.sampling.sample.Settings(steps=STEPS, window=4, deep_cache=2)
    return torch.cat(list(pack.latentsync.sampling.sample.sync(model, crops_of(4), features, settings)))


def test_comfys_layers_give_what_torchs_give(pack, model, comfy_folders):
    plain = pack.latentsync.models.load.load_model(comfy_folders.models / "latentsync", device="cpu")
    assert torch.equal(synced(pack, model.on_device(4)), synced(pack, plain))


def test_every_share_of_the_weights_gives_the_same(pack, model):
    patcher = model.patchers["unet"]
    expected = synced(pack, model.on_device(4))
    for part in (4, 2):
        patcher.detach()
        patcher.partially_load(patcher.load_device, patcher.model_size() // part)
        assert 0 < patcher.loaded_size() < patcher.model_size()
        assert torch.equal(synced(pack, model), expected)
    patcher.partially_unload(patcher.offload_device, patcher.loaded_size() // 2)
    assert torch.equal(synced(pack, model), expected)


@pytest.mark.parametrize("state", ["NORMAL_VRAM", "LOW_VRAM", "NO_VRAM"])
def test_every_state_of_vram_gives_the_same(pack, model, monkeypatch, state):
    """--lowvram and --novram, which ComfyUI does not take together with --cpu: as if this were a GPU."""
    from comfy import model_management

    expected = synced(pack, model.on_device(4))
    model_management.unload_all_models()
    monkeypatch.setattr(model_management, "vram_state", model_management.VRAMState[state])
    monkeypatch.setattr(model_management, "is_device_cpu", lambda device: False)
    assert torch.equal(synced(pack, model.on_device(4)), expected)
    unet = model.patchers["unet"]
    assert unet.loaded_size() < unet.model_size() / 2 if state == "NO_VRAM" else unet.loaded_size() > 0
    for name in ("vae", "audio"):  # of layers that cannot compute with weights elsewhere
        assert model.patchers[name].loaded_size() == model.patchers[name].model_size()


def test_dynamic_vram_gives_the_same(pack, comfy_folders, monkeypatch):
    """The patcher of newer ComfyUI, without the memory that a GPU's driver gives it."""
    import comfy.model_patcher

    if not hasattr(comfy.model_patcher, "ModelPatcherDynamic"):
        pytest.skip("this ComfyUI has none")
    tiny.make_checkpoints(comfy_folders.models / "latentsync")
    load = pack.nodes.model_patcher.load_managed_model
    expected = synced(pack, load("latentsync_unet.pt", "fp32").on_device(4))
    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcherDynamic)
    monkeypatch.setattr(comfy.model_patcher.comfy_aimdo.host_buffer, "HostBuffer", lambda *_: SimpleNamespace(size=0))
    monkeypatch.setattr(comfy.model_management, "is_device_cpu", lambda device: False)
    model = load("latentsync_unet.pt", "fp32")
    assert [patcher.is_dynamic() for patcher in model.patchers.values()] == [True, False, False]
    assert torch.equal(synced(pack, model.on_device(4)), expected)


def test_comfys_attention_agrees_with_torchs(pack):
    from comfy.ldm.modules import attention

    q, k, v = torch.randn(3, 5, 2, 7, 16)
    out = attention.optimized_attention(q, k, v, 2, skip_reshape=True).unflatten(-1, (2, -1)).transpose(1, 2)
    assert torch.allclose(out, pack.nodes.model_patcher.attention(q, k, v), atol=1e-5)


def test_a_dropped_model_is_forgotten(pack, comfy_folders):
    from comfy import model_management

    tiny.make_checkpoints(comfy_folders.models / "latentsync")
    model = pack.nodes.model_patcher.load_managed_model("latentsync_unet.pt", "fp32").on_device(4)
    assert len(model_management.current_loaded_models) == 3
    nets = [weakref.ref(net) for net in (model.model.unet, model.model.vae, model.audio_encoder)]
    del model
    gc.collect()
    assert not any(ref() for ref in nets)


def test_core_vae_in_the_socket(pack, model):
    """ComfyUI's own VAE object with the weights of sd-vae-ft-mse's shape gives what diffusers' gives."""
    import comfy.sd
    from diffusers import AutoencoderKL

    load = pack.latentsync.models.load
    assets = load.__file__.replace("models/load.py", "assets/sd-vae-ft-mse/config.json")
    torch.manual_seed(0)
    net = AutoencoderKL.from_config(AutoencoderKL.load_config(assets)).eval()
    model.model.vae.register_to_config(scaling_factor=net.config.scaling_factor, shift_factor=None)
    other = model.with_vae(comfy.sd.VAE(sd=dict(net.state_dict())))
    pictures = crops_of(1).movedim(-1, 1)[..., ::2, ::2] * 2 - 1
    with torch.no_grad():
        latents = load.encode_pictures(net, pictures)
        assert torch.allclose(other.encode(pictures), latents, atol=1e-3)
        assert torch.allclose(other.decode(latents), load.decode_latents(net, latents).clamp(-1, 1), atol=1e-3)


def test_importing_the_nodes_imports_no_heavy_package(pack):
    """Beside what ComfyUI has imported itself by then."""
    code = f"""
import sys
sys.path[:0] = [{os.environ["COMFYUI_PATH"]!r}, {os.path.dirname(__file__)!r}]
import comfy.cli_args
comfy.cli_args.args.cpu = True
import comfy.sd, nodes, asyncio
before = set(sys.modules)
import conftest
conftest.load_pack()
heavy = ("diffusers", "whisper", "insightface", "onnxruntime", "facexlib", "lpips", "kornia", "spandrel")
print(sorted(set(heavy) & (set(sys.modules) - before)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split()[-1] == "[]"
