"""The node pack, loaded the way ComfyUI does it: on stand-ins, or in the real ComfyUI where COMFYUI_PATH names one."""

import asyncio
import importlib.util
import os
import sys
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
REAL = os.environ.get("COMFYUI_PATH")
# ComfyUI calls the package by its path, which is no name that anything could import.
PACK_NAME = "/ComfyUI/custom_nodes/latentsync-nodes"

sys.path.insert(0, str(REAL or ROOT / "tests" / "comfy_stubs"))
if REAL:
    import comfy.cli_args
    import utils.json_util  # noqa: F401  ComfyUI's `nodes` puts a folder with another `utils` on the path

    # Before anything imports model_management, which looks for a GPU while it is imported.
    comfy.cli_args.args.cpu = True


class Pack:
    """The loaded pack: `pack.nodes.<module>`, `pack.latentsync.<module>`, `pack.node("LatentSyncTrackFace")`."""

    def __init__(self, package):
        self.package = package
        self.nodes = _Modules(f"{PACK_NAME}.nodes")
        self.latentsync = _Modules(f"{PACK_NAME}.latentsync")

    @cached_property
    def classes(self) -> dict[str, type]:
        """All nodes by id, in the order of the extension's list."""

        async def nodes():
            return await (await self.package.comfy_entrypoint()).get_node_list()

        return {node.GET_SCHEMA().node_id: node for node in asyncio.run(nodes())}

    def node(self, node_id: str) -> type:
        return self.classes[node_id]

    def run(self, node: str | type, **inputs):
        """The `NodeOutput` of a node, by id or class, executed like ComfyUI: class locked, id "1", inference mode."""
        import torch
        from comfy_api.internal import make_locked_method_func
        from comfy_api.latest import io

        node = self.node(node) if isinstance(node, str) else node
        clone = node.PREPARE_CLASS_CLONE({io.Hidden.unique_id: "1"})
        with torch.inference_mode():
            return make_locked_method_func(node, "execute", clone)(**inputs)


class _Modules:
    """Modules of a package by attribute, imported at first use."""

    def __init__(self, package: str):
        self._package = package

    def __getattr__(self, name: str):
        return importlib.import_module(f"{self._package}.{name}")


def load_pack() -> Pack:
    spec = importlib.util.spec_from_file_location(PACK_NAME, ROOT / "__init__.py")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACK_NAME] = package
    spec.loader.exec_module(package)
    asyncio.run(package.comfy_entrypoint())  # so that all modules are there, whichever test runs first
    return Pack(package)


@pytest.fixture
def comfy_folders(tmp_path, monkeypatch):
    """ComfyUI's folders below tmp_path/ComfyUI, and its state as after a start: `.models .input .output .temp`.

    The temp folder is not there yet, as in a ComfyUI that has just started.
    """
    import comfy.utils
    import folder_paths
    from comfy import model_management

    base = tmp_path / "ComfyUI"
    folders = {name: base / name for name in ("models", "input", "output", "temp")}
    for name in ("models", "input", "output"):
        folders[name].mkdir(parents=True)
    for name in ("input", "output", "temp"):
        monkeypatch.setattr(folder_paths, f"{name}_directory", str(folders[name]))
    monkeypatch.setattr(folder_paths, "base_path", str(base))
    monkeypatch.setattr(folder_paths, "models_dir", str(folders["models"]))
    names = {name: ([str(folders["models"] / name)], set(ends)) for name, (_, ends) in _shipped_folders().items()}
    monkeypatch.setattr(folder_paths, "folder_names_and_paths", names)
    folder_paths.filename_list_cache.clear()
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", _interrupt_hook)
    yield SimpleNamespace(base=base, **folders)
    model_management.interrupt_current_processing(False)
    model_management.unload_all_models()
    model_management.current_loaded_models.clear()


def _shipped_folders() -> dict:
    """ComfyUI's own model folders, without what the pack registered in an earlier test."""
    import folder_paths

    return {name: value for name, value in folder_paths.folder_names_and_paths.items() if name != "latentsync"}


def _interrupt_hook(value, total, preview=None, node_id=None):
    """What ComfyUI's server hangs on the progress bar: a cancelled run ends here."""
    from comfy import model_management

    model_management.throw_exception_if_processing_interrupted()


@pytest.fixture(scope="session")
def loaded_pack() -> Pack:
    return load_pack()


@pytest.fixture
def pack(comfy_folders, loaded_pack) -> Pack:
    return loaded_pack


@pytest.fixture
def model(pack):
    """The embedded model, in ComfyUI's hands."""
    return pack.nodes.model_patcher.load_managed_model("embedded (small)", "fp32")


@pytest.fixture
def rendered(pack, monkeypatch):
    """The frames that Lip Sync Video hands to its encoder."""
    frames, writer = [], pack.nodes.video.VideoWriter

    class Recorder(writer):
        def write(self, window):
            frames.append(window.clone())
            super().write(window)

    monkeypatch.setattr(pack.nodes.video, "VideoWriter", Recorder)
    return frames
