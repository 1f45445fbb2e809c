"""A run that is killed goes on where it was, and runs of other processes and programs make the same."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from raw_videos import SETTINGS, again, clips_of

from latentsync.prepare.executor import Local, Ray
from latentsync.prepare.manifest import JOURNAL, MANIFEST
from latentsync.prepare.pipeline import prepare

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("stage, count", [("align", 2), ("clip", 1)])
def test_a_killed_run_goes_on_where_it_was(made, raw, tmp_path, stage, count):
    out = tmp_path / "data"
    program = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
from latentsync.prepare.pipeline import prepare
from latentsync.prepare.settings import Tools
from raw_videos import SETTINGS
def progress(stage, done, total):
    if (stage, done) == ({stage!r}, {count}):
        os.kill(os.getpid(), signal.SIGKILL)
prepare({str(raw[0])!r}, {str(out)!r}, SETTINGS, Tools("file", Path({str(raw[1].detector_model)!r})), progress=progress)
"""
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    done = [tuple(json.loads(line)[:2]) for line in (out / JOURNAL).read_bytes().splitlines()]
    assert done and not (out / MANIFEST).exists()
    files = {path: path.stat().st_ino for path in out.rglob("*.mp4")}
    with (out / JOURNAL).open("ab") as journal:  # the line that was being written
        journal.write(b'["align", "good.mp4@0-40", "12')
    (out / "clips" / "half.mp4.123.part").write_bytes(b"half")
    rest = again(raw, out, keep_work=True)
    assert not set(done) & set(rest)
    assert files.items() <= {path: path.stat().st_ino for path in out.rglob("*.mp4")}.items()
    assert (out / MANIFEST).read_bytes() == (made[0] / MANIFEST).read_bytes()
    assert clips_of(out) == clips_of(made[0])


def test_other_processes_make_the_same(made, raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(os.path.relpath(raw[0]), "data", SETTINGS, raw[1], executor=Local(2))
    assert (tmp_path / "data" / MANIFEST).read_bytes() == (made[0] / MANIFEST).read_bytes()
    assert clips_of(tmp_path / "data") == clips_of(made[0])


def test_a_ray_cluster_that_is_not_there_is_named(raw, tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as closed:  # bound and not listening
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(ValueError, match=f"Ray cannot be started on {address} .*: look into"):
            prepare(raw[0], tmp_path / "data", SETTINGS, raw[1], executor=Ray(address))
