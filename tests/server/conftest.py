"""One ComfyUI for all tests of this folder; without COMFYUI_PATH they are skipped."""

import json
from pathlib import Path

import pytest
from comfy_server import COMFYUI, Server

PROMPTS = Path(__file__).parents[1] / "nodes" / "api"


def pytest_collection_modifyitems(items):
    if not COMFYUI:
        skip = pytest.mark.skip(reason="set COMFYUI_PATH to a ComfyUI, and COMFYUI_PYTHON to its Python")
        for item in items:
            if Path(item.path).parent == Path(__file__).parent:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "base")
    yield server
    server.close()


@pytest.fixture
def server(shared_server):
    """The running server, with nothing cached and no lines shown yet."""
    shared_server.free()
    shared_server.events.lines.clear()
    return shared_server


@pytest.fixture
def steps() -> dict:
    """The prompt that does everything node by node."""
    return json.loads((PROMPTS / "step_by_step.json").read_text(encoding="utf-8"))


@pytest.fixture
def one_node() -> dict:
    """The prompt that does everything in the node Lip Sync Video."""
    return json.loads((PROMPTS / "one_node.json").read_text(encoding="utf-8"))
