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
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACK = HERE.parents[1]
COMFYUI = os.environ.get("COMFYUI_PATH")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PLAYWRIGHT = os.environ.get("PLAYWRIGHT_CORE", "playwright-core")
START_SECONDS, TEST_SECONDS = 300, 900


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
    base = tmp_path_factory.mktemp("comfyui")
    (base / "custom_nodes").mkdir()
    (base / "custom_nodes" / "latentsync-nodes").symlink_to(PACK, target_is_directory=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [os.environ.get("COMFYUI_PYTHON", sys.executable), "main.py", "--cpu", "--port", str(port)]
    command += ["--base-directory", str(base), "--disable-api-nodes"]
    log_path = base / "server.log"
    with log_path.open("wb") as log:
        server = subprocess.Popen(command, cwd=COMFYUI, stdout=log, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        wait_for(address, server, log_path)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=30)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/system_stats", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"ComfyUI did not start:\n{log.read_text()[-3000:]}")


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
