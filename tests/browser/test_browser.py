"""The pages of a real ComfyUI in a real browser. Skipped where either is missing.

Environment
    COMFYUI_PATH            a ComfyUI checkout
    COMFYUI_PYTHON          its Python; this one where not given
    CHROMIUM                the browser; /usr/bin/chromium where not given
    PLAYWRIGHT_CORE         folder of the Node package playwright-core; found by Node where not given
    LATENTSYNC_SCREENSHOTS  a folder for pictures of the pages; none are taken where not given
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_server import COMFYUI, Server

HERE = Path(__file__).parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PLAYWRIGHT = os.environ.get("PLAYWRIGHT_CORE", "playwright-core")
TEST_SECONDS = 1800


def has_playwright() -> bool:
    if not COMFYUI or not shutil.which("node"):
        return False
    found = subprocess.run(
        ["node", "-e", "require.resolve(process.argv[1])", PLAYWRIGHT], cwd=HERE, capture_output=True
    )
    return found.returncode == 0


pytestmark = [
    pytest.mark.skipif(not COMFYUI, reason="COMFYUI_PATH names no ComfyUI"),
    pytest.mark.skipif(not shutil.which(CHROMIUM), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.skipif(not shutil.which("node"), reason="no Node.js"),
    pytest.mark.skipif(not has_playwright(), reason="PLAYWRIGHT_CORE names no playwright-core"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A ComfyUI on a free port, with this pack and empty folders, for the tests of this file."""
    server = Server(tmp_path_factory.mktemp("comfyui") / "base")
    yield f"http://127.0.0.1:{server.port}"
    server.close()


@pytest.mark.parametrize("script", sorted({path.name for path in HERE.glob("*.test.mjs")} - {"ui.test.mjs"}))
def test_page(address: str, script: str) -> None:
    result = subprocess.run(
        ["node", "--test", str(HERE / script)],
        env={**os.environ, "COMFYUI_ADDRESS": address, "CHROMIUM": CHROMIUM},
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
    )
    assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr[-2000:]}"
