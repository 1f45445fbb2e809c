"""The page of the command ui in a real browser, with the embedded model. Skipped where there is no browser.

Environment
    CHROMIUM                the browser; /usr/bin/chromium where not given
    PLAYWRIGHT_CORE         folder of the Node package playwright-core; found by Node where not given
    LATENTSYNC_SCREENSHOTS  a folder for pictures of the page; none are taken where not given
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_weights import packaged
from media_clips import encode_audio, tone

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
PLAYWRIGHT = os.environ.get("PLAYWRIGHT_CORE", "playwright-core")
TEST_SECONDS = 1500


def has_playwright() -> bool:
    if not shutil.which("node"):
        return False
    found = ["node", "-e", "require.resolve(process.argv[1])", PLAYWRIGHT]
    return subprocess.run(found, cwd=HERE, capture_output=True).returncode == 0


pytestmark = [
    packaged,
    pytest.mark.skipif(not shutil.which(CHROMIUM), reason=f"no browser at {CHROMIUM}"),
    pytest.mark.skipif(not has_playwright(), reason="no Node.js, or PLAYWRIGHT_CORE names no playwright-core"),
]


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A page on a free port, in an empty folder: without checkpoints."""
    command = [sys.executable, "-m", "latentsync", "ui", "--port", "0", "--folder", str(tmp_path), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    server = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        yield re.search(r"http://[\d.:]+", server.stdout.readline())[0]
    finally:
        server.terminate()
        server.wait(timeout=60)


def test_page(address: str, tmp_path: Path) -> None:
    encode_audio(tmp_path / "voice.wav", "pcm_s16le", tone(0.48, 16000), 16000)
    (tmp_path / "text.mp4").write_bytes(b"this is not a video\n" * 100)
    with (tmp_path / "large.mp4").open("wb") as file:
        file.truncate(2 * 2**30)  # takes no room on the disk
    files = {f"PAGE_{name.upper()}": str(next(tmp_path.glob(f"{name}.*"))) for name in ("voice", "text", "large")}
    result = subprocess.run(
        ["node", "--test", str(HERE / "ui.test.mjs")],
        env={**os.environ, **files, "PAGE_ADDRESS": address, "CHROMIUM": CHROMIUM, "PLAYWRIGHT_CORE": PLAYWRIGHT},
        capture_output=True,
        text=True,
        timeout=TEST_SECONDS,
    )
    assert result.returncode == 0, f"{result.stdout[-6000:]}\n{result.stderr[-2000:]}"
