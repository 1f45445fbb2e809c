"""Files that appear whole or not at all, what killed processes leave, and who is at work."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from latentsync import files
from latentsync.errors import FileError, InputError
from latentsync.files import JsonLines, RunLock, file_version, part_path, replacing, sweep_parts

ROOT = Path(__file__).parents[1]


def python(code, *arguments, **how):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, text=True, **how)


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    process = python("")
    process.wait()
    return process.pid


@pytest.fixture
def order(monkeypatch):
    """What is told to the drive, in order: names of files that are synced and renamed."""
    told = []
    fsync, rename = os.fsync, os.replace
    of = lambda number: Path(os.readlink(f"/proc/self/fd/{number}")).name  # noqa: E731
    monkeypatch.setattr(os, "fsync", lambda number: told.append(("sync", of(number))) or fsync(number))
    monkeypatch.setattr(os, "replace", lambda a, b: told.append(("name", Path(b).name)) or rename(a, b))
    return told


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_a_file_is_on_the_drive_before_it_has_its_name_and_the_name_after(tmp_path, order):
    with replacing(tmp_path / "a.json") as part:
        part.write_text("1")
    assert order == [("sync", part.name), ("name", "a.json"), ("sync", tmp_path.name)]
    order.clear()
    (tmp_path / "step.part" / "state").mkdir(parents=True)
    (tmp_path / "step.part" / "state" / "0.bin").write_bytes(b"1")
    files.publish(tmp_path / "step.part", tmp_path / "step")
    assert sorted(order[:3]) == [("sync", "0.bin"), ("sync", "state"), ("sync", "step.part")]
    assert order[3:] == [("name", "step"), ("sync", tmp_path.name)]
    order.clear()
    with JsonLines(tmp_path / "log.jsonl") as log:
        log.append([1])
        assert order == [("sync", "log.jsonl")] and json.loads((tmp_path / "log.jsonl").read_text()) == [1]


def test_an_error_leaves_the_older_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("older")
    for error, shown in ((KeyError("a bug"), KeyError), (OSError(errno.ENOSPC, "full"), FileError)):
        with pytest.raises(shown) as raised, replacing(path) as part:
            part.write_text("half")
            raise error
    assert (
        str(raised.value) == f"cannot write {path} (No space left on device): free some space or choose another drive"
    )
    assert raised.value.errno == errno.ENOSPC and isinstance(raised.value, (InputError, OSError))
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"] and path.read_text() == "older"


def test_parts_of_dead_processes_are_swept_and_no_others(tmp_path, dead, monkeypatch):
    mine, path = part_path(tmp_path / "a.mp4"), tmp_path / "a.mp4"
    machine = mine.name.split(".")[-2]
    gone = [f"a.mp4.{dead}.part", f"a.mp4.{dead}.{machine}.part", f"a.mp4.{10**12}.{machine}.part"]
    old = f"a.mp4.{dead}.0123abcd.part"
    kept = [mine.name, f"a.mp4.{os.getppid()}.part", f"a.mp4.{os.getppid()}.{machine}.part"]
    kept += [f"b.mp4.{dead}.part", "a.mp4.part", "a.mp4.1x.part", f"a.mp4.{dead}.ffffffff.part"]
    for name in (*gone, old, *kept):
        (tmp_path / name).write_text("half")
    limit = files.FORGOTTEN_SECONDS
    for name, age in ((old, limit + 60), (kept[-1], limit - 60), (kept[1], limit + 60)):
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    sweep_parts(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(kept)
    sweep_parts(tmp_path)  # of all files in a folder
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(set(kept) - {f"b.mp4.{dead}.part"})


HOLD = """
import sys
from pathlib import Path
from latentsync.files import RunLock
with RunLock(Path(sys.argv[1]), "the result"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["by itself", "killed"])
def test_a_lock_says_whose_it_is_and_ends_with_its_process(tmp_path, end):
    path = tmp_path / "run.lock"
    with python(HOLD, path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == "held\n"
        words = (
            rf"another run \(process {other.pid} on .+\) is at work on the result: wait for it, or give another output"
        )
        with pytest.raises(InputError, match=words):
            RunLock(path, "the result")
        if end == "killed":
            other.send_signal(signal.SIGKILL)
        else:
            other.stdin.close()
        other.wait()
        with RunLock(path, "the result"):
            assert str(os.getpid()) in (tmp_path / "run.lock.owner").read_text()
    assert not list(tmp_path.iterdir())


def test_a_log_is_one_run_s_at_a_time_and_takes_what_is_whole(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"a": 1}\nno JSON\n[2]\n{"half": ')
    with JsonLines(path) as log:
        assert log.values == [{"a": 1}, [2]]
        with pytest.raises(InputError, match=f"is at work on {tmp_path}"):
            JsonLines(path)
        log.append("ü")
    assert path.read_text(encoding="utf-8").splitlines()[-1] == '"ü"'
    assert [p.name for p in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_version_is_of_the_file_wherever_it_lies(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "w.pt").write_bytes(b"12345")
    version = file_version(tmp_path / "a" / "w.pt")
    assert file_version(tmp_path / "a") == [["w.pt", *version]] and version[0] == 5
    (tmp_path / "a").rename(tmp_path / "b")
    assert file_version(tmp_path / "b" / "w.pt") == version and file_version(tmp_path / "a") is None
    os.utime(tmp_path / "b" / "w.pt", ns=(1, version[1] + 1))
    assert file_version(tmp_path / "b" / "w.pt") != version
