"""The pack where packages are missing that only some of it needs."""

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from heads import from_images, head
from test_pack import LOAD, ROOT, STUBS
from test_video import WIDGETS
from without import Without

OPTIONAL = ("insightface", "facexlib", "whisper", "diffusers", "gradio", "spandrel")


@pytest.fixture
def without(monkeypatch):
    """Call it with the packages that are not installed from here on."""

    def remove(*names):
        for name in [name for name in sys.modules if name.partition(".")[0] in names]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(sys, "meta_path", [Without(names)])

    return remove


def test_the_pack_loads_without_any_of_them(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from without import Without\n"
    code += f"sys.path.pop(0); sys.meta_path[:] = [Without({OPTIONAL})]\n" + LOAD.format(
        stubs=str(STUBS), root=str(ROOT)
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["cv2", "av"])
def test_without_a_package_that_all_nodes_need_the_log_says_how_to_get_it(pack, without, caplog, monkeypatch, name):
    """`pack`, for ComfyUI's modules; this is a second copy of it, which does not stay."""
    without(name)
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    spec = importlib.util.spec_from_file_location("copy_of_the_pack", ROOT / "__init__.py")
    copy = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    with pytest.raises(ModuleNotFoundError):
        asyncio.run(copy.comfy_entrypoint())
    (record,) = caplog.records
    assert f"do not load (`pip install -r requirements.txt` in {ROOT}, with ComfyUI's Python" in record.message
    assert f"No module named '{name}'" in caplog.text


def test_lip_sync_video_works_without_those_that_it_does_not_use(pack, model, without):
    without("insightface", "facexlib", "gradio", "spandrel", "matplotlib")
    source = head(pack)
    given = {"video": from_images(source.images), "audio": source.audio, "model": model, "detector": source.detector}
    video = pack.run("LatentSyncVideo", **given | WIDGETS)[0]
    assert len(video.get_components().images) == len(source.images)


def load_model(pack):
    pack.run("LatentSyncLoadModel", model="embedded (small)", precision="fp32", resolution="auto")


def load_detector(name):
    return lambda pack: pack.run("LatentSyncLoadDetector", detector=name)


def parse(pack):
    pack.latentsync.face.parsing.FaceParser(pack.nodes.folders.parser_file())


def sample(pack):
    pack.latentsync.sampling.schedulers.make_sampler("ddim", 1)


def hear(pack):
    pack.latentsync.audio.whisper.log_mel(torch.zeros(16_000))


@pytest.mark.parametrize(
    ("name", "action", "sentence"),
    [
        ("whisper", load_model, "the audio encoder needs the whisper package: pip install openai-whisper"),
        ("whisper", hear, "the audio encoder needs the whisper package: pip install openai-whisper"),
        ("diffusers", load_model, 'the VAE needs the diffusers package: pip install "diffusers<0.36"'),
        ("diffusers", sample, 'the samplers need the diffusers package: pip install "diffusers<0.36"'),
        ("insightface", load_detector("insightface"), "the detector insightface needs its package .*pip install insig"),
        ("facexlib", load_detector("facexlib"), "the detector facexlib needs its package .*pip install facexlib"),
        ("facexlib", parse, "face parsing needs the package facexlib .*: pip install facexlib"),
    ],
)
def test_what_is_missing_is_named_when_it_is_needed(pack, comfy_folders, without, name, action, sentence):
    folder = comfy_folders.models / "latentsync" / "auxiliary"
    (folder / "models" / "buffalo_l").mkdir(parents=True)
    (folder / "models" / "buffalo_l" / "det_10g.onnx").touch()
    for file in ("detection_Resnet50_Final.pth", "parsing_parsenet.pth"):
        torch.save({"a": torch.zeros(3)}, folder / file)
    without(name)
    with pytest.raises(ValueError, match=sentence):
        action(pack)
