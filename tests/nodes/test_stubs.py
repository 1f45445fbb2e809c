"""The stand-ins have the real ComfyUI's names and arguments; needs COMFYUI_PATH, where a real one is."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STUBS = Path(__file__).parents[1] / "comfy_stubs"
COMFYUI = os.environ.get("COMFYUI_PATH")

# Run in a process of its own, once on the stand-ins to list what they have, then on ComfyUI to look the same names up.
LOOK = """
import enum, importlib, inspect, json, sys
sys.path.insert(0, sys.argv[1])
import comfy.cli_args
comfy.cli_args.args.cpu = True
MODULES = [
    "folder_paths", "server", "comfy.model_management", "comfy.model_patcher", "comfy.utils", "comfy.ops",
    "comfy.ldm.modules.attention", "comfy_api.internal", "comfy_api.latest",
]


def facts(value):
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        return {member.name: member.value for member in value}
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return None
    return [[p.name, p.kind.name, p.default is not p.empty] for p in parameters]


def walk(value, name, found, depth=3):
    for key in dir(value):
        if key.startswith("_"):
            continue
        member = getattr(value, key)
        file = getattr(sys.modules.get(getattr(member, "__module__", None)), "__file__", None)
        file = getattr(member, "__file__", file) or ""
        if not file.startswith(sys.argv[1]):
            continue
        if inspect.ismodule(member) and key not in ("io", "ui"):
            continue
        borrowed = getattr(member, "__module__", None) != getattr(value, "__name__", None)
        if inspect.ismodule(value) and borrowed and not hasattr(value, "__path__"):
            continue
        if callable(member):
            found[f"{name}.{key}"] = facts(member)
        if not inspect.isfunction(member) and depth:
            walk(member, f"{name}.{key}", found, depth - 1)
    return found


def resolve(name):
    module = max((m for m in MODULES if name.startswith(m + ".")), key=len)
    value = importlib.import_module(module)
    for part in name[len(module) + 1:].split("."):
        value = getattr(value, part)
    return value


if len(sys.argv) == 2:
    found = {}
    for name in MODULES:
        walk(importlib.import_module(name), name, found, 3)
else:
    # ComfyUI's `nodes` puts its folder comfy on the path, where another `utils` lies: this one has to be first.
    import utils.json_util

    found = {}
    for name in json.loads(sys.argv[2]):
        try:
            found[name] = facts(resolve(name))
        except AttributeError:
            found[name] = "missing"
print("FACTS" + json.dumps(found))
"""


def look(*args: str) -> dict:
    done = subprocess.run([sys.executable, "-c", LOOK, *args], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.split("FACTS")[-1])


def same(ours: list | dict, theirs: list | dict | None) -> bool:
    """Whether a call that the stand-in takes means the same to the original: equal arguments in equal order.

    The stand-in may end earlier (it takes less); where it takes an argument by position only, the name is free. An
    enumeration may have fewer members.
    """
    if isinstance(ours, dict):
        return ours.items() <= theirs.items()
    own, original = (
        [p for p in call if p[1] not in ("VAR_KEYWORD", "VAR_POSITIONAL")] for call in (ours, theirs or [])
    )
    pairs = zip(own, original, strict=False)
    return len(own) <= len(original) and all(a == b or a[1] == "POSITIONAL_ONLY" and a[2] == b[2] for a, b in pairs)


@pytest.mark.skipif(not COMFYUI, reason="set COMFYUI_PATH to a ComfyUI to compare the stand-ins with it")
def test_stand_ins_take_the_same_arguments():
    ours = look(str(STUBS))
    theirs = look(str(COMFYUI), json.dumps(list(ours)))
    assert len(ours) > 60
    missing = [name for name, found in theirs.items() if found == "missing"]
    assert not missing, f"not in ComfyUI: {missing}"
    different = {name: (mine, theirs[name]) for name, mine in ours.items() if mine and not same(mine, theirs[name])}
    assert not different, "\n".join(f"{name}: {mine} is {original}" for name, (mine, original) in different.items())
