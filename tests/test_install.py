"""The script that ComfyUI-Manager runs: what it finds missing, and that it changes nothing by itself."""

import ast
import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.version import Version

from latentsync.models.state_dict import SAFE_TORCH

ROOT = Path(__file__).parents[1]
UV = shutil.which("uv") or shutil.which("uv", path=Path(sys.executable).parent)
# What a new ComfyUI had of the packages that ours lead to, in October 2025 (0.3.64) and in November 2026.
AUTUMN_2025 = """
    av==16.0.1 certifi==2025.10.5 charset-normalizer==3.4.4 einops==0.8.1 filelock==3.20.0 fsspec==2025.9.0
    hf-xet==1.1.10 huggingface-hub==0.36.0 idna==3.11 jinja2==3.1.6 kornia==0.8.1 markupsafe==3.0.3 mpmath==1.3.0
    networkx==3.5 numpy==2.3.4 packaging==25.0 pillow==12.0.0 psutil==7.1.1 pydantic==2.12.3 pydantic-core==2.41.4
    pyyaml==6.0.3 regex==2025.9.18 requests==2.32.5 safetensors==0.6.2 scipy==1.16.2 setuptools==80.9.0
    spandrel==0.4.1 sympy==1.14.0 tokenizers==0.22.1 torch==2.9.0 torchaudio==2.9.0 torchvision==0.24.0 tqdm==4.67.1
    transformers==4.57.1 triton==3.5.0 typing-extensions==4.15.0 urllib3==2.5.0
"""
AUTUMN_2026 = """
    anyio==4.16.0 av==19.0.2 certifi==2026.10.19.post1 charset-normalizer==3.5.2 click==8.5.1 einops==0.8.2
    filelock==4.2.12 fsspec==2026.9.0 h11==0.16.0 hf-xet==1.8.0 httpcore2==2.16.2 httpx2==2.16.2
    huggingface-hub==2.4.0 idna==3.20 jinja2==3.1.6 kornia==0.9.0 markupsafe==3.0.4 mpmath==1.3.0 networkx==3.7
    numpy==2.5.5 packaging==26.3 pillow==13.0.0 psutil==7.2.2 pydantic==2.14.4 pydantic-core==2.50.5 pyyaml==6.0.4
    regex==2026.11.19 requests==2.34.2 safetensors==0.8.0 scipy==1.18.1 setuptools==84.2.1 spandrel==0.4.2
    sympy==1.14.0 tokenizers==0.23.3 torch==2.15.0 torchaudio==2.11.0 torchvision==0.29.2 tqdm==4.70.1
    transformers==5.24.0 triton==3.9.0 truststore==0.10.5 typing-extensions==4.16.0 urllib3==2.8.0
"""
try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = None


@pytest.fixture(scope="module")
def install():
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lacking(install, tmp_path, text: str) -> list:
    (tmp_path / "requirements.txt").write_text(text)
    return list(install.missing(tmp_path / "requirements.txt"))


def test_what_is_missing_or_of_another_version_is_named_and_met_requirements_are_silent(install, tmp_path):
    met = f"torch\ntorch>=1.0  # a note\n\n# only a note\ntorch>=1,!={version('torch')}.9\ntorch>= 1.9,<2\n"
    assert lacking(install, tmp_path, met) == []
    found = lacking(install, tmp_path, "no-such-package>=1.0\ntorch>=99.1\n")
    assert found == [("no-such-package>=1.0", None), ("torch>=99.1", version("torch"))]


@pytest.mark.parametrize("name", ["opencv-python", "opencv-python-headless", "opencv-contrib-python-headless"])
def test_opencv_counts_in_any_variety(install, tmp_path, monkeypatch, name):
    def number(asked):
        if asked != name:
            raise install.PackageNotFoundError(asked)
        return "4.9.0.80"

    monkeypatch.setattr(install, "version", number)
    assert lacking(install, tmp_path, "opencv-python>=4.8\n") == []
    assert lacking(install, tmp_path, "opencv-python>=5\n") == [("opencv-python>=5", "4.9.0.80")]


def test_an_opencv_that_cannot_be_imported_is_named_with_the_way_out(install, capsys, monkeypatch):
    """opencv-python on a server without libGL, or two varieties that have overwritten each other's module."""
    others = dict.fromkeys(install.OPENCV) | {"opencv-python": "4.12.0.88", "opencv-python-headless": "4.8.0.76"}
    monkeypatch.setattr(install, "_version", lambda name: others.get(name, "20990101"))
    assert install.main([]) == 0 and capsys.readouterr().out == ""
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert install.main([]) == 0
    assert "`pip uninstall opencv-python opencv-python-headless`, then `pip install" in capsys.readouterr().out


def run(pack: Path, *arguments: str, env: dict | None = None) -> subprocess.CompletedProcess:
    command = [sys.executable, "install.py", *arguments]
    return subprocess.run(command, cwd=pack, capture_output=True, text=True, timeout=120, env=env)


def test_a_missing_package_comes_with_its_pip_line_and_models_without_a_place_are_refused(tmp_path):
    shutil.copy(ROOT / "install.py", tmp_path)
    (tmp_path / "requirements.txt").write_text("no-such-package>=1.0\n")
    done = run(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no-such-package>=1.0, and it is not installed" in done.stdout
    assert f'"{sys.executable}" -m pip install "no-such-package>=1.0"\n' in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["install.py", "requirements.txt"]
    (tmp_path / "requirements.txt").write_text("")
    done = run(tmp_path, "--models")
    assert done.returncode == 1 and "--folder" in done.stdout


@pytest.mark.parametrize(("number", "said"), [("2.5.1+cu124", True), ("2.6.0", False), ("2.11.0+cpu", False)])
def test_a_torch_that_reads_no_pickles_is_named(install, capsys, monkeypatch, number, said):
    others = install._version
    monkeypatch.setattr(install, "_version", lambda name: number if name == "torch" else others(name))
    assert install.main([]) == 0
    assert (f"torch {number} cannot keep a .pt file from running code" in capsys.readouterr().out) == said
    assert Version(install.SAFE_TORCH).release == SAFE_TORCH


def test_models_go_to_comfyui_or_where_they_are_told(install, tmp_path, monkeypatch):
    pack = tmp_path / "ComfyUI" / "custom_nodes" / "latentsync-nodes"
    pack.mkdir(parents=True)
    monkeypatch.setattr(install, "PACK", pack)
    assert install.models_folder() is None
    (tmp_path / "ComfyUI" / "models").mkdir()
    assert install.models_folder() == tmp_path / "ComfyUI" / "models" / "latentsync"
    monkeypatch.setattr(install, "PACK", tmp_path)
    assert install.models_folder() is None


def test_models_offline_end_in_a_sentence(tmp_path):
    # Nobody listens on the discard port: an address that refuses, as a machine without a network does.
    env = os.environ | {"HF_ENDPOINT": "http://127.0.0.1:9", "PYTHONDONTWRITEBYTECODE": "1"}
    done = run(ROOT, "--models", "--folder", str(tmp_path / "models"), env=env)
    assert done.returncode == 0
    assert "127.0.0.1:9" in done.stdout and str(tmp_path / "models") in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pt", ".part")]


def test_the_pack_never_installs_packages():
    for path in (ROOT / "install.py", ROOT / "__init__.py", *ROOT.glob("nodes/*.py"), *ROOT.glob("latentsync/**/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            listed = [e.value for e in getattr(node, "elts", []) if isinstance(e, ast.Constant)]
            assert "pip" not in listed, f"{path}:{node.lineno}"


@pytest.mark.skipif(tomllib is None, reason="tomllib is part of Python 3.11")
def test_metadata_is_what_the_registry_of_custom_nodes_asks_for():
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project, comfy = data["project"], data["tool"]["comfy"]
    assert "comfyui" not in project["name"].lower()
    assert project["license"] == {"file": "LICENSE"} and (ROOT / "LICENSE").is_file()
    assert project["urls"]["Repository"].startswith("https://github.com/")
    assert set(comfy) == {"PublisherId", "DisplayName", "Icon", "requires-comfyui"}
    assert (ROOT / comfy["Icon"].split("/main/")[-1]).is_file()
    assert data["tool"]["setuptools"]["packages"]["find"]["include"] == ["latentsync*"]


def test_requirements_suit_a_shared_environment():
    """The Manager installs line by line: no options. ComfyUI brings torch and its kin, so that nothing may pin them."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    names = [line.split(">")[0].split("=")[0].split("<")[0] for line in lines if line]
    assert not [line for line in lines if line.startswith("-") or "==" in line]
    assert not {"torch", "torchvision", "torchaudio"} & set(names)
    assert not {"insightface", "facexlib", "gradio"} & set(names)
    assert len([name for name in names if name.startswith("opencv")]) == 1
    assert len([name for name in names if name.startswith("onnxruntime")]) <= 1


@pytest.mark.skipif(
    not (UV and os.environ.get("RESOLVE_REQUIREMENTS")), reason="needs uv, a network and RESOLVE_REQUIREMENTS=1"
)
@pytest.mark.parametrize("others", ["", "opencv-contrib-python-headless==4.12.0.88 diffusers==0.39.0"])
@pytest.mark.parametrize("environment", [AUTUMN_2025, AUTUMN_2026], ids=["2025", "2026"])
def test_installing_changes_no_version_of_what_comfyui_has(install, tmp_path, monkeypatch, environment, others):
    """Each line alone, as the Manager installs them, or those that install.py names where other packs have brought
    another OpenCV and a newer diffusers; uv keeps the versions of a former result wherever it can."""
    had = dict(package.split("==") for package in f"{environment} {others}".split())
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    if others:
        monkeypatch.setattr(install, "_version", had.get)
        lines = [line for line, _ in install.missing(ROOT / "requirements.txt")]
    for line in lines:
        (tmp_path / "line.txt").write_text(line)
        (tmp_path / "all.txt").write_text("\n".join(f"{name}=={number}" for name, number in had.items()))
        command = [UV, "pip", "compile", "line.txt", "--output-file", "all.txt", "--python-version", "3.12"]
        command += ["--python-platform", "x86_64-manylinux_2_28", "--no-annotate", "--no-header"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        new = dict(package.split("==") for package in (tmp_path / "all.txt").read_text().split())
        assert {name: new[name] for name in had.keys() & new} == {name: had[name] for name in had.keys() & new}, line
        assert not others or not {"opencv-python", "diffusers"} & new.keys(), line
