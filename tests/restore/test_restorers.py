"""Restoration: what changes and what must not, how steady it is, and the published files' layouts."""

import hashlib
import os
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_data import directory
from grain import Grain
from pictures import read_png
from safetensors.torch import save_file
from spandrel import MAIN_REGISTRY
from spandrel.architectures.Compact import Compact
from spandrel.architectures.GFPGAN import GFPGAN
from spandrel.architectures.RestoreFormer import RestoreFormer

from latentsync.evaluate.image_metrics import flicker
from latentsync.face.align import FACE_SIDE, FFHQ_FIVE, warp_crop
from latentsync.face.geometry import fit_similarity
from latentsync.face.landmarks import points_from_five
from latentsync.face.masks import face_mask
from latentsync.face.track import FaceTrack
from latentsync.frames import as_float
from latentsync.models.registry import WEIGHTS
from latentsync.restore.apply import Portrait, Restoration, _warp, memory_frames
from latentsync.restore.restorers import NetRestorer, Sharpen, load_restorer
from latentsync.restore.superres import SuperRes, scaled
from latentsync.settings import RestoreSettings

slow = pytest.mark.skipif(not os.environ.get("LATENTSYNC_SLOW"), reason="a minute for each; set LATENTSYNC_SLOW=1")
R = 64
FULL = RestoreSettings(strength=1.0, region="face", temporal=0.0)


class Made:
    """A restorer that does as it is told; by itself nothing."""

    def __init__(self, change=torch.clone):
        self.name, self.change = "made", change

    def __call__(self, faces):
        return self.change(faces)


class Noise:
    """New noise for every face, and a count of the faces in each call."""

    name = "noise"

    def __init__(self):
        self.generator, self.calls = torch.Generator().manual_seed(7), []

    def __call__(self, faces):
        self.calls.append(len(faces))
        coarse = torch.rand(len(faces), 3, 64, 64, generator=self.generator) - 0.5
        return faces + 0.5 * F.interpolate(coarse, FACE_SIDE).permute(0, 2, 3, 1)


def face(resolution: int) -> torch.Tensor:
    """(resolution, resolution, 3): an aligned face of the golden files."""
    picture = as_float(read_png(directory() / "face_512.png")).permute(2, 0, 1)[None]
    small = F.interpolate(picture, (resolution, resolution), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0).contiguous()


def run(crops, restorer, settings=FULL, track=None):
    return Restoration(restorer, crops.shape[2], settings, track)(crops, 0)


def track_of(weight, cuts=None) -> FaceTrack:
    weight = np.asarray(weight, np.float32)
    cuts = np.zeros(len(weight), bool) if cuts is None else np.asarray(cuts, bool)
    return FaceTrack(np.zeros((len(weight), 2, 3), np.float32), weight, weight, cuts, R)


@pytest.mark.parametrize("resolution", [128, 256, 320, 512])
def test_there_and_back_loses_less_than_half_a_level_and_no_change_changes_nothing(resolution):
    crop, portrait = face(resolution), Portrait(resolution)
    # Finer detail than a portrait holds is lost on the way, and kept all the same: only the change goes that way.
    smooth = cv2.GaussianBlur(crop.numpy(), (0, 0), resolution / 64)
    back = _warp(portrait.of(torch.from_numpy(smooth)).numpy(), portrait.matrix, resolution)
    region = face_mask(resolution, "mouth").numpy() > 0
    assert np.abs(back - smooth)[region].mean() * 255 < 0.5
    for area in ("mouth", "face"):
        settings = RestoreSettings(strength=1.0, region=area, temporal=1.0)
        assert torch.equal(run(crop[None].repeat(2, 1, 1, 1), Made(), settings)[1], crop)


def test_portraits_have_their_eyes_and_mouth_where_ffhq_has_them():
    turn = 0.2
    linear = 0.7 * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    five = FFHQ_FIVE @ linear.T + [200, 100]
    rows, columns = np.mgrid[:600, :700]
    portrait = Portrait(256)
    for (x, y), (known_x, known_y) in zip(five, FFHQ_FIVE, strict=True):
        spot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / 60)[..., None].repeat(3, -1)
        matrix = fit_similarity(points_from_five(five), 256)[0]
        seen = portrait.of(warp_crop(torch.from_numpy(spot).float(), matrix, 256))[..., 0].numpy()
        mass = np.where(seen > 0.5, seen, 0)  # the mirrored spots outside the crop are blurred
        centre = np.array([(mass.sum(0) * np.arange(512)).sum(), (mass.sum(1) * np.arange(512)).sum()]) / mass.sum()
        assert np.abs(centre - [known_x, known_y]).max() < 1.5


def test_only_the_region_changes_and_only_frames_with_the_face():
    crops = face(R).repeat(4, 1, 1, 1)
    before = crops.clone()
    settings = RestoreSettings(strength=1.0, region="mouth")
    out = run(crops, Noise(), settings, track_of([1, 0, 0.3, 0]))
    assert torch.equal(crops, before)
    region = face_mask(R, "mouth", 0, 0.5) > 0
    assert torch.equal(out[:, ~region], crops[:, ~region])
    assert torch.equal(out[1], crops[1]) and torch.equal(out[3], crops[3])
    assert all((out[i] - crops[i])[region].abs().mean() * 255 > 2 for i in (0, 2))


def test_strength_is_the_share_of_the_change_and_at_0_nothing_is_called():
    crops, noise = torch.rand(3, R, R, 3).half(), Noise()
    assert torch.equal(run(crops, noise, RestoreSettings(strength=0.0)), crops) and not noise.calls
    crops = face(R)[None] * 0.5 + 0.25
    full, half = (run(crops, Grain(), RestoreSettings(s, "face", 0.0)) - crops for s in (1.0, 0.5))
    assert (half - full / 2).abs().max() < 1e-6 < full.abs().max()


def test_colours_and_light_stay_those_of_the_input():
    tinted = Made(lambda faces: faces * torch.tensor([0.8, 1.0, 0.9]) + torch.tensor([0.1, -0.05, 0.0]))
    crops = torch.full((1, R, R, 3), 0.5)
    assert (run(crops, tinted) - crops).abs().max() * 255 < 0.01
    crops = face(R)[None]
    region = face_mask(R, "face", 0, 0.5) > 0.5
    assert (run(crops, tinted) - crops)[:, region].mean((0, 1)).abs().max() * 255 < 1


def test_the_temporal_blend_lowers_flicker_on_a_noisy_clip():
    crops = face(R).repeat(12, 1, 1, 1) * 0.5 + 0.25
    crops += 0.01 * (torch.rand(crops.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    region = face_mask(R, "face", 0, 0.5) > 0.5
    found = [flicker(run(crops, Noise(), RestoreSettings(1.0, "face", t)), crops, region).mean() for t in (0, 0.5, 1)]
    assert found[0] > 2 and found[1] < 0.7 * found[0] and found[2] < 0.5 * found[1]


def test_the_temporal_blend_keeps_nothing_where_the_picture_moves():
    crops = torch.rand(4, R, R, 3, generator=torch.Generator().manual_seed(2))
    alone, steady = (run(crops, Grain(), RestoreSettings(1.0, "face", t)) for t in (0.0, 1.0))
    assert (alone - steady).abs().max() < 1e-3 < (alone - crops).abs().max()


class Alternating(Noise):
    """One fine pattern, added to the first face, taken from the second, and so on."""

    def __call__(self, faces):
        self.generator.manual_seed(1)
        pattern = super().__call__(faces) - faces
        return faces + pattern * (0.2 if len(self.calls) % 2 else -0.2)


def test_how_much_is_kept_of_the_last_change():
    """0.9 where nothing moves, less by a Gaussian of 0.03 of the mean movement over 0.06 of the side: 3 pixels here."""
    settings = RestoreSettings(1.0, "face", 1.0, batch=1)
    moved = torch.full((2, R, R, 3), 0.5)
    moved[1, :, : R // 2] += 0.02
    moved[1, 40, 45] += 0.27
    first, second = run(moved, Alternating(), settings) - moved
    kept = ((second / first + 1) / 2).nanmedian(-1).values  # the new change is the old one's opposite
    evenly, spot, beside = kept[20, 25], kept[40, 44], kept[40, 47]
    assert evenly == pytest.approx(0.9 * np.exp(-((0.02 / 0.03) ** 2)), abs=2e-3)
    assert spot == pytest.approx(0.9 * np.exp(-1), abs=2e-3) and beside == pytest.approx(0.9, abs=2e-3)


def test_a_change_is_forgotten_when_it_counts_half_a_level():
    known = {1.0: 60, 0.5: 8, 0.1: 3, 0.0: 0}
    assert {t: memory_frames(RestoreSettings(temporal=t)) for t in known} == known


def test_how_wide_the_portraits_blurs_are():
    """A wave of 64 portrait pixels loses exp(-2 (pi sigma / 64) ** 2) of its height: sigma is 20, and 12 outside."""
    portrait, wave = Portrait(256), np.sin(np.arange(512) * 2 * np.pi / 64).astype(np.float32) / 4 + 0.5
    across = torch.from_numpy(np.broadcast_to(wave[None, :, None], (512, 512, 3)).copy())
    whole, fine = _warp(across.numpy(), portrait.matrix, 256), portrait.back(across).numpy()
    middle = np.s_[100:150, 20:230]
    assert fine[middle].std() / whole[middle].std() == pytest.approx(1 - np.exp(-2 * (np.pi * 20 / 64) ** 2), abs=0.02)
    down = portrait.of(torch.from_numpy(_warp(across.numpy().transpose(1, 0, 2).copy(), portrait.matrix, 256)))
    ratio = down[160:352, 30:60].std() / down[160:352, 240:270].std()
    assert ratio == pytest.approx(np.exp(-2 * (np.pi * 12 / 64) ** 2), abs=0.02)


@pytest.mark.parametrize(("side", "ratio", "large"), [(256, 1.5, 384), (512, 2, 1024), (512, 4, 1024), (1100, 2, 1100)])
def test_crops_grow_with_the_frame_up_to_1024_pixels(side, ratio, large):
    track = replace(track_of([0, 0]), resolution=side)
    assert scaled(torch.zeros(2, 8, 8, 3), track, SuperRes(ratio=ratio))[1].resolution == large


def test_nothing_is_carried_over_a_cut_or_a_gap():
    crops = face(R).repeat(6, 1, 1, 1)
    track = track_of([1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 1, 0])
    steady, alone = (run(crops, Grain(), RestoreSettings(1.0, "face", t), track) for t in (1.0, 0.0))
    assert torch.equal(steady[[0, 3, 4]], alone[[0, 3, 4]])
    noisy = run(crops + torch.linspace(0, 0.02, 6)[:, None, None, None], Grain(), RestoreSettings(1.0, "face", 1.0))
    assert not torch.equal(noisy[3:5], run(crops, Grain(), FULL)[3:5])


def test_streamed_equals_whole():
    crops = face(R).repeat(7, 1, 1, 1) + 0.01 * torch.rand(7, R, R, 3, generator=torch.Generator().manual_seed(0))
    track, settings = track_of([1, 1, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 0]), RestoreSettings(0.8, "face", 0.7, batch=2)
    whole = run(crops, Grain(), settings, track)
    for size in (1, 3):
        restore = Restoration(Grain(), R, settings, track)
        parts = [restore(crops[i : i + size], i) for i in range(0, 7, size)]
        assert torch.equal(torch.cat(parts), whole)


def test_out_of_memory_halves_the_batch_for_good_and_other_errors_pass(caplog):
    crops, calls = torch.rand(5, R, R, 3), []

    def one_at_a_time(faces):
        calls.append(len(faces))
        if len(faces) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return Grain()(faces)

    out = run(crops, Made(one_at_a_time), RestoreSettings(1, "face", 0, 4))
    assert torch.equal(out, run(crops, Grain(), FULL))
    assert calls == [4, 2, 1, 1, 1, 1, 1] and "a batch of 1" in caplog.text

    with pytest.raises(RuntimeError, match="must match"):
        run(crops, Made(lambda faces: faces + torch.zeros(7)))


def test_bad_input_and_results_that_cannot_be_used_are_refused_in_a_sentence():
    for bad, match in (
        (lambda x: x * torch.nan, "not finite: load it in float32"),
        (lambda x: x[:, ::2], "their size"),
    ):
        with pytest.raises(ValueError, match=match):
            run(torch.rand(1, R, R, 3), Made(bad))
    for settings, match in (
        ({"strength": 1.1}, "strength is 1.1"),
        ({"temporal": float("nan")}, "temporal is nan"),
        ({"region": "nose"}, "region is 'nose': choose one of mouth, face"),
        ({"batch": 0}, "batch is 0: give 1 or more"),
    ):
        with pytest.raises(ValueError, match=match):
            RestoreSettings(**settings)
    with pytest.raises(ValueError, match="64 x 32 pixels: give the square crops"):
        run(torch.rand(1, 32, 64, 3), Made())
    for crops in (torch.rand(3, R, R, 3), torch.rand(2, 32, 32, 3)):
        with pytest.raises(ValueError, match="do not fit a track of 2 faces of 64 x 64"):
            run(crops, Made(), track=track_of([1, 1]))


def test_sharpening_makes_soft_edges_clearer_without_halos():
    ramp = torch.linspace(0, 1, 17)
    row = torch.cat([torch.full((247,), 0.4), 0.4 + 0.2 * ramp * ramp * (3 - 2 * ramp), torch.full((248,), 0.6)])
    faces = row[None, None, :, None].expand(1, FACE_SIDE, -1, 3).contiguous()
    clear = Sharpen()(faces)
    assert clear.diff(dim=2).max() > 1.1 * faces.diff(dim=2).max()
    assert clear.min() >= 0.4 - 1e-6 and clear.max() <= 0.6 + 1e-6
    assert torch.equal(Sharpen(gain=0.0)(faces), faces)
    grey = torch.rand(1, 32, 32, 1, generator=torch.Generator().manual_seed(0)).expand(-1, -1, -1, 3)
    blurred = torch.from_numpy(cv2.GaussianBlur(grey[0].numpy(), (0, 0), 1))[None]
    known = [-0.06461, -0.03615, 0.05852, -0.04216, -0.04925, -0.07537, 0.0, 0.00946]  # by gain, radius and edge
    np.testing.assert_allclose((Sharpen()(blurred) - blurred)[0, 16, 12:20, 0], known, atol=2e-5)


# --- files ---


def save(tmp_path, net, name, wrapper="params_ema"):
    path, state = tmp_path / name, net.state_dict()
    if path.suffix == ".safetensors":
        save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    else:
        torch.save({wrapper: state} if wrapper else state, path)
    return path


def small_restoreformer():
    torch.manual_seed(0)
    sizes = {"n_embed": 16, "embed_dim": 32, "z_channels": 32, "ch": 32, "num_res_blocks": 1, "head_size": 8}
    return RestoreFormer(**sizes, ch_mult=(1,) * 6)


@pytest.mark.parametrize(("name", "wrapper"), [("a.pth", "params"), ("b.pth", None), ("c.safetensors", None)])
def test_restoreformer_loads_in_every_wrapping_and_sees_pictures_as_published(tmp_path, name, wrapper):
    net, before = small_restoreformer().eval(), [support.architecture.id for support in MAIN_REGISTRY]
    restorer = load_restorer(save(tmp_path, net, name, wrapper))
    assert [support.architecture.id for support in MAIN_REGISTRY] == before  # spandrel's own list stays
    assert (restorer.kind, restorer.name) == ("RestoreFormer", name[0])
    faces = face(64)[None]  # the net takes every multiple of 32
    with torch.no_grad():
        expected = net(faces.permute(0, 3, 1, 2).contiguous() * 2 - 1)[0].permute(0, 2, 3, 1) / 2 + 0.5
    assert torch.allclose(restorer(faces), expected, atol=1e-5)
    assert torch.isfinite(load_restorer(tmp_path / name, dtype=torch.bfloat16)(faces)).all()
    refuses_float16(tmp_path / name)


def refuses_float16(path):
    with pytest.raises(ValueError, match="float16: choose float32 or bfloat16"):
        load_restorer(path, dtype=torch.float16)


def test_an_upscaler_works_at_the_size_of_the_portrait(tmp_path):
    net = Compact(num_in_ch=3, num_out_ch=3, num_feat=8, num_conv=1, upscale=2)
    torch.nn.init.zeros_(net.body[-1].weight)  # then it only doubles the pixels
    torch.nn.init.zeros_(net.body[-1].bias)
    restorer = load_restorer(save(tmp_path, net, "twice.pth", "params"))
    faces = torch.rand(2, 64, 64, 3)
    assert torch.allclose(restorer(faces), faces, atol=1e-5)
    assert torch.allclose(run(face(R)[None], restorer), face(R)[None], atol=1e-5)


def gfpgan():
    sizes = {"out_size": 512, "num_style_feat": 512, "channel_multiplier": 2, "num_mlp": 8, "narrow": 1}
    how = {"fix_decoder": False, "input_is_latent": True, "different_w": True, "sft_half": True}
    return GFPGAN(**sizes, **how, decoder_load_path=None)


def codeformer():
    return pytest.importorskip("spandrel_extra_arches.architectures.CodeFormer").CodeFormer()


@pytest.mark.parametrize(
    ("make", "files", "count", "digest"),
    [
        (gfpgan, ("GFPGANv1.3.pth", "GFPGANv1.4.pth"), 285, "b4d310540debf8e3"),
        (codeformer, ("codeformer.pth",), 515, "69b082da5ee863e9"),
        (RestoreFormer, ("RestoreFormer.pth",), 405, "50f11f8906fd1c68"),
    ],
)
def test_the_nets_below_have_the_tensors_of_the_published_files(make, files, count, digest):
    """Names and shapes are those of the authors' own nets, which load their files strictly; sizes are the files'."""
    with torch.device("meta"):
        state = make().state_dict()
    lines = "\n".join(f"{name} {list(tensor.shape)}" for name, tensor in sorted(state.items()))
    assert (len(state), hashlib.sha256(lines.encode()).hexdigest()[:16]) == (count, digest)
    held = sum(tensor.nbytes for tensor in state.values())
    sizes = [weight.size for weight in WEIGHTS if weight.target.rsplit("/")[-1] in files]
    assert len(sizes) == len(files) and all(0 < size - held < 400 * count for size in sizes)  # a file's own index


@slow
@pytest.mark.parametrize(
    ("make", "kind", "name", "wrapper"),
    [
        (gfpgan, "GFPGAN", "GFPGANv1.3.pth", "params_ema"),
        (gfpgan, "GFPGAN", "GFPGANv1.4.pth", "params_ema"),
        (RestoreFormer, "RestoreFormer", "RestoreFormer.pth", "params"),
    ],
)
def test_gfpgan_and_restoreformer_in_their_published_layouts(tmp_path, make, kind, name, wrapper):
    torch.manual_seed(0)
    restorer, crop = load_restorer(save(tmp_path, make(), name, wrapper)), face(256)[None]
    assert restorer.kind == kind
    refuses_float16(tmp_path / name)
    torch.manual_seed(1)
    out = run(crop, restorer)
    assert not torch.equal(out, crop) and torch.equal(run(crop, restorer), out)  # no noise of its own


@slow
def test_codeformer_in_its_published_layout_and_its_fidelity(tmp_path):
    torch.manual_seed(0)
    path = save(tmp_path, codeformer(), "codeformer.pth")
    faces = face(FACE_SIDE)[None]
    best, alike = (load_restorer(path, fidelity=f)(faces) for f in (0.0, 1.0))
    assert best.shape == faces.shape and not torch.equal(best, alike)
    refuses_float16(path)


CODEFORMER = (
    "position_emb", "idx_pred_layer.1.weight", "quantize.embedding.weight", "ft_layers.0.self_attn.in_proj_weight",
    "encoder.blocks.0.weight",
)  # fmt: skip


def test_codeformer_without_its_package_names_it(tmp_path, monkeypatch):
    torch.save({"params_ema": {key: torch.zeros(4, 4) for key in CODEFORMER}}, tmp_path / "codeformer.pth")
    monkeypatch.setitem(sys.modules, "spandrel_extra_arches", None)
    with pytest.raises(ValueError, match="non-commercial use .* pip install spandrel_extra_arches"):
        load_restorer(tmp_path / "codeformer.pth")
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ValueError, match="pip install spandrel"):
        load_restorer(tmp_path / "codeformer.pth")


def test_files_that_are_no_restorers_say_what_they_are(tmp_path):
    with pytest.raises(ValueError, match="no weight file"):
        load_restorer(tmp_path / "none.pth")
    torch.save({"encoder.conv_in.weight": torch.zeros(1), "decoder.x": torch.zeros(1)}, tmp_path / "vae.pth")
    with pytest.raises(ValueError, match="looks like a VAE: give a file of GFPGAN"):
        load_restorer(tmp_path / "vae.pth")
    state = small_restoreformer().state_dict()
    del state["quant_conv.bias"]
    torch.save(state, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match="tensors do not fit .*fetch it again"):
        load_restorer(tmp_path / "cut.pth")


def test_a_restorer_of_other_pictures_is_refused():
    class Grey:
        input_channels = output_channels = 1

    with pytest.raises(ValueError, match="takes 1 and gives 1 channels"):
        NetRestorer(Grey(), "grey")
    with pytest.raises(ValueError, match="fidelity is 2"):
        NetRestorer(Grey(), "grey", 2)
