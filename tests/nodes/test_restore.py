"""The restorer nodes: what the library gives, from files and from an upscale model, with progress and cancelling."""

import pytest
import torch
from heads import SIDE, crops_of, track_of

WIDGETS = {"strength": 1.0, "region": "face", "fidelity": 0.5, "temporal": 0.5}


def sharpened(pack, crops, **inputs):
    inputs = {"restorer": pack.latentsync.restore.restorers.Sharpen()} | inputs
    return pack.run("LatentSyncRestoreFaces", crops=crops, **WIDGETS | inputs)[0]


def doubler():
    """What Load Upscale Model gives: a small net with random weights that doubles the size."""
    from spandrel import ModelLoader
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    net = Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=1, upscale=2)
    return ModelLoader().load_from_state_dict(net.state_dict()).eval()


def test_result_is_the_librarys_bit_for_bit_and_inputs_stay(pack):
    crops, library = crops_of(10), pack.latentsync.restore
    before = crops.clone()
    track = track_of(pack, [1, 1, 1, 0, 1, 1, 1, 1, 1, 1], cuts=[6])
    settings = library.apply.RestoreSettings(1.0, "face", 0.5)
    expected = library.apply.Restoration(library.restorers.Sharpen(), SIDE, settings, track.track)(crops, 0)
    out = sharpened(pack, crops, track=track)
    assert torch.equal(out, expected) and torch.equal(crops, before)
    assert torch.equal(out[3], crops[3]) and not torch.equal(out[4], crops[4])
    assert torch.equal(sharpened(pack, crops, strength=0.0), crops)


def test_rgba_half_and_single_crops_are_taken(pack):
    crops = crops_of(1).half()
    alpha = torch.cat([crops, torch.rand(1, SIDE, SIDE, 1).half()], -1)
    assert torch.equal(sharpened(pack, alpha), sharpened(pack, crops.float()))


def test_an_upscale_model_restores_and_is_back_on_the_cpu_without_hooks(pack):
    crops, upscaler = crops_of(3), doubler()
    out = sharpened(pack, crops, restorer=None, upscale_model=upscaler)
    assert out.shape == crops.shape and not torch.equal(out, crops)
    assert not any(module._forward_pre_hooks for module in upscaler.model.modules())
    library = pack.latentsync.restore
    settings = library.apply.RestoreSettings(1.0, "face", 0.5)
    expected = library.apply.Restoration(library.restorers.NetRestorer(upscaler, "x"), SIDE, settings)(crops, 0)
    assert torch.allclose(out, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"restorer": None}, "nothing is connected: connect either restorer"),
        ({"upscale_model": object()}, "both are connected"),
        ({"region": "nose"}, "region is 'nose': choose one of mouth, face"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(pack, inputs, sentence):
    with pytest.raises(ValueError, match=sentence):
        sharpened(pack, crops_of(1), **inputs)
    with pytest.raises(ValueError, match="covers 2 frames and there are 3 crops"):
        sharpened(pack, crops_of(3), track=track_of(pack, [1, 1]))


def test_a_cancel_inside_a_net_ends_the_run_and_leaves_no_hooks(pack):
    from comfy import model_management as mm

    upscaler = doubler()
    first = next(module for module in upscaler.model.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda *_: mm.interrupt_current_processing())
    with pytest.raises(mm.InterruptProcessingException):
        sharpened(pack, crops_of(9), restorer=None, upscale_model=upscaler)
    assert not any(module._forward_pre_hooks for module in upscaler.model.modules())


def save_restoreformer(path):
    from spandrel.architectures.RestoreFormer import RestoreFormer

    torch.manual_seed(0)
    net = RestoreFormer(n_embed=16, embed_dim=32, z_channels=32, ch=32, ch_mult=(1,) * 6, num_res_blocks=1, head_size=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params": net.state_dict()}, path)


def test_restorers_are_listed_from_all_folders_and_loaded(pack, comfy_folders):
    for place in ("latentsync/RestoreFormer", "facerestore_models", "upscale_models"):
        save_restoreformer(comfy_folders.models / place / f"{place.replace('/', '_')}.pth")
    (comfy_folders.models / "upscale_models" / "notes.txt").write_text("no weights")
    load = pack.node("LatentSyncLoadRestorer")
    names = list(load.define_schema().inputs[0].options)
    own = "RestoreFormer/latentsync_RestoreFormer.pth"
    assert names == ["sharpen (built in)", own, "facerestore_models.pth", "upscale_models.pth"]
    restorer = pack.run(load, restorer=own)[0]
    assert restorer.kind == "RestoreFormer"
    assert pack.run(load, restorer=names[0])[0] == pack.latentsync.restore.restorers.Sharpen()
    with pytest.raises(ValueError, match="gone.pth"):
        pack.run(load, restorer="gone.pth")
    before = load.fingerprint_inputs(own)
    with (comfy_folders.models / "latentsync" / own).open("ab") as file:
        file.write(b" ")
    assert load.fingerprint_inputs(own) != before


def test_fidelity_reaches_the_net_and_leaves_the_loaded_one_alone(pack):
    restorer = pack.latentsync.restore.restorers.NetRestorer(doubler(), "x", fidelity=0.1)
    chosen = pack.nodes.restore._chosen(restorer, None, 0.9)
    assert (chosen.fidelity, restorer.fidelity) == (0.9, 0.1) and chosen.net is restorer.net
