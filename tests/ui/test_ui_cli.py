"""The command ui: what stops it before it starts, and that it leaves nothing behind."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from latentsync.commands.main import main
from latentsync.commands.ui import free_port

ROOT = Path(__file__).parents[2]


def refused(capsys, *argv) -> str:
    assert main(["ui", *argv]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("latentsync: error:")]
    assert len(lines) == 1
    return lines[0]


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused(capsys, "--port", str(port))
    assert f"cannot listen at 127.0.0.1, port {port} (" in said and "give another --port" in said
    assert free_port("127.0.0.1", port) == port and free_port("127.0.0.1", 0) > 0


@pytest.mark.parametrize(
    "argv, says",
    [
        (["--port", "70000"], "port is 70000: give 1 to 65535"),
        (["--port", "0", "--host", "not.a.host.invalid"], "cannot listen at not.a.host.invalid"),
        (["--port", "0", "--max_upload", "0"], "max_upload is 0.0"),
        (["--port", "0", "--max_upload", "nan"], "max_upload is nan"),
        (["--port", "0", "--max_folder", "0.5"], "max_folder is 0.5: give GB, at least the 1.0 of one file"),
        (["--port", "0", "--max_folder", "inf"], "max_folder is inf"),
        (["--port", "0", "--max_queue", "0"], "max_queue is 0: let 1 run or more wait"),
        (["--port", "0", "--checkpoints", "no/such/folder"], "no/such/folder lacks unet, whisper, vae"),
        (["--port", "0", "--checkpoints", "embedded", "--folder", "no/such/folder"], "no/such/folder is not a folder"),
        (["--port", "0", "--checkpoints", "embedded", "--device", "abacus"], "device is 'abacus'"),
    ],
)
def test_bad_options_are_refused(capsys, argv, says):
    assert says in refused(capsys, *argv)


def test_without_gradio_the_way_to_it_is_said(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert 'the page needs gradio: pip install "gradio>=5,<7"' in refused(capsys)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_it_serves_until_it_is_stopped_and_leaves_nothing(tmp_path):
    command = [sys.executable, "-m", "latentsync", "ui", "--port", "0", "--folder", str(tmp_path), "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        line = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", line)[0]
        assert httpx.get(address).status_code == 200 and httpx.get(f"{address}/file=/etc/passwd").status_code == 403
        folders = list(tmp_path.iterdir())
        assert len(folders) == 1 and folders[0].name.startswith("latentsync_ui_")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0 and process.stdout.read() == ""
    finally:
        process.kill()
    assert list(tmp_path.iterdir()) == []
