"""Who may import whom, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "latentsync"
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {
    "accelerate", "diffusers", "facexlib", "gfpgan", "gradio", "insightface", "kornia", "librosa", "lpips",
    "matplotlib", "onnxruntime", "ray", "scenedetect", "scipy", "spandrel", "tensorboard", "torch_fidelity",
    "torchmetrics", "torchvision", "transformers", "whisper",
}  # fmt: skip

# From the ground up; a part may import itself and what is listed. What is in no other part is core.
APPLICATIONS = {
    "__init__", "__main__", "batch", "cli", "convert", "demo", "download", "evaluate", "options", "quality", "resume",
    "run", "track", "transfer", "ui",
}  # fmt: skip
# Built on the core, which does not know of them; what each may import beside the core and the leaves.
UPPER = {
    "progress": set(),
    "synthetic": set(),
    "train": {"synthetic", "progress", "prepare", "run"},  # run and SyncNet v2 validate
    "prepare": {"synthetic", "progress"},
}
# Applications that lie in the folder of the core part that they bring to the user.
FRONTS = {"restore/cli.py", "restore/video.py"}
LEAVES = {"media": {"files", "frames"}, "detect": {"landmarks", "layout", "track_file", "weights"}}


def name_of(path: Path) -> str:
    """First part of the module's name below the package: `sync`, `nets`, `media`, ..."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path: Path, module_level: bool = False) -> list[ast.Import | ast.ImportFrom]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if module_level else ast.walk(tree)
    return [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]


def absolute_names(node: ast.Import | ast.ImportFrom) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    return {node.module.split(".")[0]} if node.level == 0 else set()


def own_names(path: Path) -> set[str]:
    """First parts of the package's modules that the file imports relatively."""
    depth = len(path.relative_to(PACKAGE).parts) - 1
    names = set()
    for node in imports(path):
        if isinstance(node, ast.ImportFrom) and node.level > depth:
            names |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_downwards(path):
    own, used = name_of(path), own_names(path)
    if own == "nets":
        assert used <= {"nets"}
    elif own in LEAVES:
        assert used <= LEAVES[own] | {own}
    elif own in UPPER:
        assert not used & ((APPLICATIONS | UPPER.keys()) - UPPER[own] - {own})
    elif own not in APPLICATIONS and path.relative_to(PACKAGE).as_posix() not in FRONTS:
        assert not used & (APPLICATIONS | UPPER.keys() | LEAVES.keys())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_are_relative_inside_and_light_at_module_level(path):
    assert not any("latentsync" in absolute_names(node) for node in imports(path))
    heavy = set().union(*(absolute_names(node) for node in imports(path, module_level=True))) & HEAVY
    assert not heavy, f"import {heavy} inside the function that needs it"
    assert not any({"comfy", "folder_paths", "comfy_api"} & absolute_names(node) for node in imports(path))


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_everything_loads_no_heavy_package():
    modules = [".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in FILES]
    code = f"import importlib, sys, torch; before = set(sys.modules)\nfor m in {modules}: importlib.import_module(m)\n"
    code += f"print(sorted({sorted(HEAVY)} & {{m.split('.')[0] for m in set(sys.modules) - before}}))"
    code = code.replace(f"{sorted(HEAVY)} &", f"set({sorted(HEAVY)}) &")
    assert python(code) == "[]"


def test_importing_the_package_is_quick():
    code = "import torch, time; t = time.perf_counter(); import latentsync; print(time.perf_counter() - t)"
    assert min(float(python(code)) for _ in range(2)) < 0.3


def test_public_names_are_there_and_found_late():
    code = "import sys, latentsync as l; early = [m for m in sys.modules if m.startswith('latentsync.')]\n"
    code += (
        "assert not early and all(callable(getattr(l, n)) for n in l.__all__ * 2) and set(l.__all__) <= set(dir(l))\n"
    )
    code += "print('ok')"
    assert python(code) == "ok"
    import latentsync

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        latentsync.nothing  # noqa: B018
