"""Every file of the registry, in the layout that it is published in, loads by what a user would call.

Values are zeros that take no room on the disk, unless a net has to compute with them; names, shapes, number types and
wrappers are those of the published files.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

import golden_data
import numpy as np
import pytest
import test_detect
import test_restorers as test_restore
import tiny
import torch
from drawn_clips import make_clip, picture
from raw_videos import SIZE, read_manifest, write_track, write_video
from real_clips import media_file
from safetensors.torch import save_file

from latentsync.commands.main import main
from latentsync.drawn.heads.clip import make_clip as make_head
from latentsync.evaluate import frechet
from latentsync.evaluate.perceptual import load_lpips
from latentsync.evaluate.sync_score import load_stable_syncnet
from latentsync.evaluate.tools import EvaluateSettings, Tools
from latentsync.face.detect import load_detector
from latentsync.face.parsing import FaceParser, parser_file
from latentsync.limits import set_limits
from latentsync.media import VideoWriter
from latentsync.models import registry
from latentsync.models.load import find_checkpoints, load_audio_encoder, load_model, load_unet, load_vae
from latentsync.nets.hyperiqa import HyperIQA
from latentsync.nets.syncnet import PIXEL, PIXEL_25, PIXEL_ATTN, StableSyncNet
from latentsync.nets.syncnet_v2 import SyncNetV2
from latentsync.nets.unet import UNet
from latentsync.pipelines.options import restorer_file
from latentsync.prepare.filters import load_net
from latentsync.restore.restorers import load_restorer
from latentsync.train.config import UNetTraining, build
from latentsync.train.init_weights import start_unet
from latentsync.train.trepa import load_trepa

COUNTER = "num_batches_tracked"
LAYOUTS = {}  # by the registry's target: a function of the checkpoints folder that writes the file and loads it


def layout(*targets: str):
    def register(check):
        LAYOUTS.update(dict.fromkeys(targets, check))
        return check

    return register


def zeros(shapes: Mapping[str, Iterable[int]], dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """Tensors of these shapes whose files have one value for each; variances are one, counters whole numbers."""
    return {
        name: torch.tensor(0)
        if name.endswith(COUNTER)
        else torch.full((1,), float(name.endswith("running_var")), dtype=dtype).expand(*shape)
        for name, shape in shapes.items()
    }


def shapes_of(net: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in net.state_dict().items()}


def published(name: str) -> dict[str, list[int]]:
    return golden_data.json_of(f"state_dict_keys/{name}")


def save(path: Path, content: object, legacy: bool = False) -> Path:
    """Writes a PyTorch file; `legacy` is the format from before version 1.6, which is no zip archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def without_counters(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.endswith(COUNTER)}


def parallel(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names that parallel training gives."""
    return {f"module.{name}": tensor for name, tensor in state.items()}


# The lip sync itself


def save_whisper(path: Path, width: int, heads: int, layers: int) -> None:
    from whisper.model import AudioEncoder, ModelDimensions, TextDecoder

    audio, text = (80, 1500, width, heads, layers), (51865, 448, width, heads, layers)
    with torch.device("meta"):
        nets = torch.nn.ModuleDict({"encoder": AudioEncoder(*audio), "decoder": TextDecoder(*text)})
    dims = vars(ModelDimensions(*audio, *text))
    save(path, {"dims": dims, "model_state_dict": zeros(shapes_of(nets), torch.float16)})


def save_vae(folder: Path) -> None:
    """Half precision, the attention's old names, and settings from before they had a scaling_factor."""
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tiny.save_vae(folder)
    settings = json.loads((folder / "config.json").read_text())
    del settings["scaling_factor"], settings["shift_factor"]
    (folder / "config.json").write_text(json.dumps(settings | {"_diffusers_version": "0.4.2"}))
    state = {}
    for name, tensor in tiny.weights(tiny.vae()).items():
        for new, former in old.items():
            name = name.replace(f".{new}.", f".{former}.")
        state[name] = tensor.half()
    assert any("proj_attn" in name for name in state)
    save_file(state, folder / "diffusion_pytorch_model.safetensors")


@layout("vae/config.json", "vae/diffusion_pytorch_model.safetensors")
def check_vae(folder: Path) -> None:
    save_vae(folder / "vae")
    vae = load_vae(find_checkpoints(folder).vae)
    assert (vae.config.scaling_factor, vae.config.shift_factor, vae.dtype) == (0.18215, None, torch.float32)


@layout("latentsync_unet.pt")
def check_unet(folder: Path) -> None:
    save(folder / "latentsync_unet.pt", {"global_step": 0, "state_dict": zeros(published("unet_stage2"))})
    save_whisper(folder / "whisper" / "tiny.pt", 384, 6, 4)
    save_vae(folder / "vae")
    model = load_model(folder, device="cpu")
    assert len(model.unet.state_dict()) == 1246 and model.unet.config.motion == "all"
    assert model.vae.config.scaling_factor == 0.18215 and model.audio_encoder.conv1.weight.dtype == torch.float32


@layout("stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors")
def check_stable_diffusion(folder: Path) -> None:
    """Its U-Net with narrower blocks, as diffusers saves it."""
    from diffusers import UNet2DConditionModel

    net = UNet2DConditionModel(block_out_channels=[32, 32, 64, 64], cross_attention_dim=48, attention_head_dim=8)
    net.save_pretrained(folder / "stable-diffusion-v1-5" / "unet")
    shape = {"block_out_channels": [32, 32, 64, 64], "cross_attention_dim": 32}
    start = str(folder / "stable-diffusion-v1-5")
    assert start_unet(build(UNetTraining, {"start": start, "net": shape})).config.in_channels == 13


@layout("whisper/tiny.pt")
def check_whisper(folder: Path, name: str = "tiny", width: int = 384, heads: int = 6, layers: int = 4) -> None:
    save_whisper(folder / "whisper" / f"{name}.pt", width, heads, layers)
    encoder = load_audio_encoder(find_checkpoints(folder).whisper)
    assert (encoder.conv1.out_channels, len(encoder.blocks), encoder.blocks[0].attn.n_head) == (width, layers, heads)


layout("whisper/small.pt")(partial(check_whisper, name="small", width=768, heads=12, layers=12))


@layout("stable_syncnet.pt")
def check_stable_syncnet(folder: Path) -> None:
    state = zeros(published("stable_syncnet_16_pixel_attn"))
    save(folder / "stable_syncnet.pt", {"global_step": 1, "state_dict": state})
    judge, vae = load_stable_syncnet(folder)
    assert judge.net.config == PIXEL_ATTN and judge.sees_pixels and vae is None


# Detectors


@layout("auxiliary/face_detection_yunet_2023mar.onnx")
def check_yunet(folder: Path) -> None:
    path = folder / "auxiliary" / "face_detection_yunet_2023mar.onnx"
    path.parent.mkdir()
    shutil.copy(media_file("face_detection_yunet.onnx"), path)
    assert load_detector("yunet", checkpoints=folder)(np.zeros((64, 64, 3), np.uint8)) == []


@layout("insightface/models/buffalo_l")
def check_insightface(folder: Path) -> None:
    pytest.importorskip("insightface")
    models = test_detect._buffalo(folder / "insightface" / "models" / "buffalo_l", np.zeros((106, 2)))
    test_detect._onnx(models / "w600k_r50.onnx", [np.arange(512.0)[None]], (112, 112))
    detector = load_detector("insightface", checkpoints=folder, det_size=256, device="cpu", embeddings=True)
    assert len(detector(np.zeros((256, 256, 3), np.uint8))) == 1


@layout("auxiliary/detection_Resnet50_Final.pth")
def check_retinaface(folder: Path) -> None:
    retinaface = pytest.importorskip("facexlib.detection.retinaface")
    shapes = shapes_of(retinaface.RetinaFace(network_name="resnet50", half=False, device="cpu"))
    save(folder / "auxiliary" / "detection_Resnet50_Final.pth", parallel(zeros(shapes)), legacy=True)
    assert load_detector("facexlib", checkpoints=folder)(picture(0)) == []


@layout("auxiliary/parsing_parsenet.pth")
def check_parsenet(folder: Path) -> None:
    parsing = pytest.importorskip("facexlib.parsing")
    with torch.device("meta"):
        shapes = shapes_of(parsing.ParseNet(512, 512, parsing_ch=19))
    save(folder / "auxiliary" / "parsing_parsenet.pth", zeros(shapes), legacy=True)
    assert FaceParser(parser_file(folder, "")).net.state_dict().keys() == shapes.keys()


# Judges and losses


@layout("auxiliary/syncnet_v2.model")
def check_syncnet_v2(folder: Path) -> None:
    """54,573,114 bytes: the values of everything but the counters, and the head of a file that is no zip archive."""
    state = without_counters(zeros(published("syncnet_v2")))
    assert 0 < 54_573_114 - sum(tensor.nbytes for tensor in state.values()) < 200 * len(state)
    save(folder / "auxiliary" / "syncnet_v2.model", state, legacy=True)
    assert Tools(EvaluateSettings(checkpoints=folder, device="cpu")).syncnet_v2.netfcaud[1].running_var[0] == 1


@layout("auxiliary/koniq_pretrained.pkl")
def check_hyperiqa(folder: Path) -> None:
    save(folder / "auxiliary" / "koniq_pretrained.pkl", without_counters(zeros(published("hyperiqa"))), legacy=True)
    net = load_net(HyperIQA, find_checkpoints(folder).hyperiqa, "cpu")
    with torch.inference_mode():
        assert torch.isfinite(net(torch.rand(1, 3, 224, 224))).all()


@layout("auxiliary/i3d_torchscript.pt")
def check_i3d(folder: Path, monkeypatch) -> None:
    path = folder / "auxiliary" / "i3d_torchscript.pt"
    path.parent.mkdir()
    torch.jit.script(Features()).save(str(path))
    # Where only the published program is run, this one has to pass for it.
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(frechet, "I3D_SHA256", digest, raising=False)
    i3d = Tools(EvaluateSettings(checkpoints=folder, device="cpu")).i3d
    assert i3d(torch.zeros(1, 16, 8, 8, 3, dtype=torch.uint8)).shape == (1, 400)


class Features(torch.nn.Module):
    def forward(self, x: torch.Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False):
        return torch.zeros(len(x), 400)


@layout("auxiliary/vit_g_hybrid_pt_1200e_ssv2_ft.pth")
def check_videomae(folder: Path) -> None:
    """ViT-g in half precision with two of its forty blocks."""
    wide = {48: 1408, 144: 3 * 1408, 209: 6144}
    shapes = {name: [wide.get(n, n) for n in shape] for name, shape in published("videomaev2_vit_giant_tiny").items()}
    save(folder / "auxiliary" / "vit_g_hybrid_pt_1200e_ssv2_ft.pth", {"module": zeros(shapes, torch.float16)})
    net = load_trepa(find_checkpoints(folder).videomae)
    config = net.backbone.config
    shape = (config.num_attention_heads, config.num_hidden_layers, net.fc_norm.weight.dtype)
    assert shape == (16, 2, torch.float32)


@layout("auxiliary/vgg16-397923af.pth")
def check_vgg16(folder: Path) -> None:
    from torchvision.models import vgg16

    with torch.device("meta"):
        shapes = shapes_of(vgg16())
    save(folder / "auxiliary" / "vgg16-397923af.pth", zeros(shapes), legacy=True)
    pictures = torch.zeros(1, 3, 32, 32)
    assert load_lpips(find_checkpoints(folder).vgg16)(pictures, pictures).shape == (1, 1, 1, 1)


@layout("auxiliary/weights-inception-2015-12-05-6726825d.pth")
def check_inception(folder: Path) -> None:
    pytest.importorskip("torch_fidelity")
    state = without_counters(zeros(shapes_of(frechet.inception_net(None))))
    save(folder / "auxiliary" / "weights-inception-2015-12-05-6726825d.pth", state, legacy=True)
    inception = Tools(EvaluateSettings(checkpoints=folder, device="cpu")).inception
    assert inception(torch.zeros(1, 64, 64, 3, dtype=torch.uint8)).shape == (1, 2048)


# Restorers


def check_restorer(folder: Path, target: str, make: Callable[[], torch.nn.Module], wrapper: str) -> None:
    pytest.importorskip("spandrel")
    with torch.device("meta"):
        shapes = shapes_of(make())
    kind = Path(target).parent.name
    save(folder / target, {wrapper: zeros(shapes)})
    assert load_restorer(restorer_file(kind, str(folder))).kind == kind


for target, make, wrapper in (
    ("GFPGAN/GFPGANv1.4.pth", test_restore.gfpgan, "params_ema"),
    ("GFPGAN/GFPGANv1.3.pth", test_restore.gfpgan, "params_ema"),
    ("CodeFormer/codeformer.pth", test_restore.codeformer, "params_ema"),
    ("RestoreFormer/RestoreFormer.pth", test_restore.RestoreFormer, "params"),
):
    layout(target)(partial(check_restorer, target=target, make=make, wrapper=wrapper))


# The tests


@pytest.fixture(autouse=True)
def zeros_that_take_no_room():
    set_limits({"expansion": 1e9})
    yield
    set_limits({})


def test_every_row_of_the_registry_has_a_layout():
    assert {weight.target for weight in registry.WEIGHTS} <= LAYOUTS.keys()


@pytest.mark.parametrize("target", LAYOUTS)
def test_the_published_layout_loads(tmp_path, monkeypatch, target):
    check = LAYOUTS[target]
    check(tmp_path, monkeypatch) if check is check_i3d else check(tmp_path)


@pytest.fixture(scope="module")
def half_unet():
    return {name: tensor.half() for name, tensor in tiny.weights(UNet(tiny.unet_config())).items()}


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_state_dict", "model", "module", "params", "params_ema"])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_net_in_every_wrapping(tmp_path, half_unet, wrapper, legacy):
    named = parallel(half_unet)
    content = named if wrapper is None else {"global_step": 7, "train_loss_list": [0.5, 0.25], wrapper: named}
    unet = load_unet(save(tmp_path / "latentsync_unet.pt", content, legacy), dtype=torch.float32)
    assert all(torch.equal(tensor, half_unet[name].float()) for name, tensor in unet.state_dict().items())


@pytest.mark.parametrize(("name", "config"), [("latentsync_syncnet.pt", PIXEL), ("stable_syncnet.pt", PIXEL_25)])
def test_the_other_published_syncnets_are_read_off_their_weights(tmp_path, name, config):
    with torch.device("meta"):
        shapes = shapes_of(StableSyncNet(config))
    beside = {"global_step": 2, "train_step_list": [1, 2], "train_loss_list": [0.69, 0.68], "val_loss_list": []}
    save(tmp_path / name, beside | {"state_dict": zeros(shapes)})
    judge, _ = load_stable_syncnet(tmp_path)
    assert judge.net.config == config and judge.sees_pixels and judge.frames == config.frames


@pytest.mark.parametrize(("net", "name"), [(SyncNetV2, "syncnet_v2"), (HyperIQA, "hyperiqa")])
def test_published_names_and_shapes_of_which_only_counters_may_be_missing(net, name):
    with torch.device("meta"):
        state = net().state_dict()
    assert {name: list(tensor.shape) for name, tensor in state.items()} == published(name)
    counters = [name for name in state if name.endswith(COUNTER)]
    assert counters and net.from_state_dict({name: state[name] for name in state if name not in counters})
    mean = next(name for name in state if name.endswith("running_mean"))
    with pytest.raises(ValueError, match=rf"{net.title}: 1 missing \({mean} .*1 unexpected \(extra"):
        net.from_state_dict({name: state[name] for name in state if name != mean} | {"extra": torch.zeros(1)})


@pytest.mark.parametrize(
    "lost",
    ["conv_in.weight", "conv_out.bias", "time_embedding.linear_1.weight", "down_blocks.1.resnets.0.conv1.weight"],
)
def test_a_unet_that_lacks_one_tensor_names_it(tmp_path, lost):
    shapes = published("unet_stage2")
    del shapes[lost]
    save(tmp_path / "unet.pt", zeros(shapes))
    with pytest.raises(ValueError, match=f"unet.pt looks like a lip-sync U-Net but does not load: .*{lost}"):
        load_unet(tmp_path / "unet.pt")


def save_syncnet_v2(folder: Path, legacy: bool) -> None:
    state = without_counters(golden_data.state_dict(SyncNetV2()))
    save(folder / "auxiliary" / "syncnet_v2.model", state, legacy)


def test_evaluate_measures_sync_with_the_published_file(tmp_path, capsys):
    made = make_clip(tmp_path, frames=8, seconds=0.32)
    with VideoWriter(tmp_path / "spoken.mp4", 25, *picture(0).shape[:2], audio=made.audio) as writer:
        writer.write(torch.from_numpy(np.stack([picture(i) for i in range(8)])))
    save_syncnet_v2(tmp_path / "checkpoints", legacy=True)
    options = ["--metric", "sync", "--detector", "file", "--detector_model", str(made.track), "--device", "cpu"]
    options += ["--checkpoints", str(tmp_path / "checkpoints"), "--json", str(tmp_path / "figures.json")]
    assert main(["evaluate", "--video_path", str(tmp_path / "spoken.mp4"), *options]) == 0
    assert "Sync-C" in capsys.readouterr().out and (tmp_path / "figures.json").is_file()


def test_prepare_judges_with_the_published_files(tmp_path):
    clip, weights = make_head(7, 1.0, SIZE), tmp_path / "checkpoints"
    write_video(tmp_path / "raw" / "a.mp4", [clip])
    write_track(tmp_path / "tracks" / "a.json", [clip])
    save_syncnet_v2(weights, legacy=False)
    check_hyperiqa(weights)
    options = ["--detector", "file", "--detector_model", tmp_path / "tracks", "--checkpoints", weights, "--workers", 0]
    options += ["--min_seconds", 1, "--max_seconds", 2, "--skip", "cuts", "--device", "cpu"]
    options += ["--min_confidence", -1, "--max_offset", 15, "--min_quality", -1]
    main(["prepare", "--input_dir", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out"), *map(str, options)])
    (line,) = read_manifest(tmp_path / "out")
    assert line["clip"] and {"offset", "confidence", "distance", "quality"} <= line["figures"].keys()
