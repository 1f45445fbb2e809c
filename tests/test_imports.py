"""Who may import whom, and what importing costs."""

import ast
import graphlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "latentsync"
FILES = sorted(PACKAGE.rglob("*.py"))
# From the ground up: a room may import itself and the rooms before it.
ROOMS = (
    "errors", "limits", "threads", "settings", "frames", "files", "wrapper_workflow", "progress", "nets", "audio",
    "models", "media", "face", "sampling", "restore", "pipelines", "evaluate", "prepare", "ui", "train", "drawn",
    "commands", "__main__",
)  # fmt: skip
HEAVY = {
    "accelerate", "diffusers", "facexlib", "gfpgan", "gradio", "insightface", "kornia", "librosa", "lpips",
    "matplotlib", "onnxruntime", "ray", "scenedetect", "scipy", "spandrel", "tensorboard", "torch_fidelity",
    "torchmetrics", "torchvision", "transformers", "whisper",
}  # fmt: skip


def modules_of(path: Path, top: bool = False) -> list[tuple[int, str]]:
    """(level, dotted name) of every import in a file, or of those at module level; `from .a import b` is (1, "a.b")."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in tree.body if top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [(node.level, f"{node.module}.{a.name}" if node.module else a.name) for a in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_only_rooms_below_it(path):
    inside = path.relative_to(PACKAGE).with_suffix("").parts
    if inside == ("__init__",):
        return
    used = {name.split(".")[0] for level, name in modules_of(path) if level == len(inside)} - {"__version__"}
    assert {room for room in used if ROOMS.index(room) > ROOMS.index(inside[0])} == set()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_are_relative_inside_and_light_at_module_level(path):
    foreign = {name.split(".")[0] for level, name in modules_of(path) if level == 0}
    assert not foreign & {"latentsync", "comfy", "folder_paths", "comfy_api"}
    heavy = {name.split(".")[0] for level, name in modules_of(path, top=True) if level == 0} & HEAVY
    assert not heavy, f"import {heavy} inside the function that needs it"


def parts(path: Path) -> tuple[str, ...]:
    """A module's name; that of a package is its folder's."""
    return path.relative_to(ROOT).with_suffix("").parts[: -1 if path.name == "__init__.py" else None]


def test_no_circle_of_imports():
    """At module level, where the packages around what is imported are run too, but for those that one is in oneself."""
    known, graph = {parts(path) for path in FILES}, {}
    for path in FILES:
        own, needs = parts(path), graph.setdefault(parts(path), set())
        for level, name in modules_of(path, top=True):
            if level:
                target = (*path.relative_to(ROOT).parts[:-level], *name.split("."))
                ways = (target[:length] for length in range(1, len(target) + 1))
                needs.update(way for way in ways if way in known and way != own[: len(way)])
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(FILES)


def test_importing_all_modules_loads_nothing_heavy_and_sets_nothing():
    names = [".".join(parts(path)) for path in FILES if path.name != "__main__.py"]
    code = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\n"
    code += f"print(sorted({{m.split('.')[0] for m in sys.modules}} & set({sorted(HEAVY)})))\n"
    code += "import os; print(os.environ.get('OPENCV_LOG_LEVEL'))"  # OpenCV is quiet for our commands alone
    assert python(code) == "[]\nNone"


def python(code: str) -> str:
    env = {name: value for name, value in os.environ.items() if name != "OPENCV_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_command_line_answers_without_torch():
    """--help in 0.5 s. Counted in modules, which hold on every machine."""
    code = "import sys, latentsync.commands.main as c; c.build_parser(); "
    assert python(code + "print({'torch', 'cv2', 'numpy'} & set(sys.modules))") == "set()"


def test_public_names_are_there_and_found_late():
    code = "import sys, latentsync as l; early = [m for m in sys.modules if m.startswith('latentsync.')]\n"
    code += "assert not early and all(callable(getattr(l, n)) for n in l.__all__) and set(l.__all__) <= set(dir(l))\n"
    code += "print('ok')"
    assert python(code) == "ok"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = importlib.import_module("latentsync").nothing
