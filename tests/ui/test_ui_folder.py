"""The folder of a page: what lies in it, what does not, and that nothing stays."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_page import everything

from latentsync.ui.folder import LOCK, SMALLEST, Folder, FolderFull

ROOT = Path(__file__).parents[2]


def test_only_files_in_the_folder_are_taken(folder, tmp_path):
    inside = folder.new_file("a b's.mp4")
    inside.write_bytes(b"x")
    assert folder.uploaded({"path": str(inside)}, "video") == inside
    outside = tmp_path / "outside.mp4"
    outside.write_bytes(b"x")
    link = folder.path / "link.mp4"
    link.symlink_to(outside)
    sly = [
        outside,
        "/etc/passwd",
        folder.path / ".." / "outside.mp4",
        link,
        folder.path,
        inside.parent,
        "x\0y",
        "a" * 9999,
    ]
    for path in [*map(str, sly), str(inside) + "x", 7, ["x"], {"path": {"path": "x"}}]:
        with pytest.raises(ValueError, match="was not uploaded on this page: upload it again") as error:
            folder.uploaded({"path": path}, "video")
        assert str(tmp_path) not in str(error.value)
    for nothing in (None, "", {}, {"path": None}):
        with pytest.raises(ValueError, match="there is no voice"):
            folder.uploaded(nothing, "voice")


def test_new_files_are_private_and_have_folders_of_their_own(folder):
    paths = {folder.new_file("result.mp4") for _ in range(5)}
    assert len({path.parent for path in paths}) == 5
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_sentences_lose_the_folder_and_keep_the_name(folder):
    path = folder.path / "0a1b" / "my clip.mp4"
    said = folder.without_paths(f"{path} is not readable as video: /etc/hosts is no better than {path}")
    assert said == "my clip.mp4 is not readable as video: /etc/hosts is no better than my clip.mp4"


def test_old_files_go_and_new_ones_stay(folder):
    old, new, deep = folder.new_file("old.mp4"), folder.new_file("new.mp4"), folder.path / "a" / "b" / "old.wav"
    deep.parent.mkdir(parents=True)
    for path in (old, new, deep):
        path.write_bytes(b"x")
    day = time.time() - 90000
    for path in (old, deep, old.parent, deep.parent, deep.parent.parent):
        os.utime(path, (day, day))
    folder.sweep()
    assert everything(folder.path) == {str(new.relative_to(folder.path)), LOCK}


def test_closing_removes_it_and_a_missing_parent_is_refused(tmp_path):
    folder = Folder(tmp_path)
    folder.new_file("x").write_bytes(b"x")
    folder.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="create it first"):
        Folder(tmp_path / "nothing")
    assert Path(tmp_path).exists()


def filled(folder, size, age=0.0):
    path = folder.new_file("x.mp4")
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_it_has_a_quota_and_old_files_make_room(folder):
    folder.quota = 4 * SMALLEST
    older, old, new = filled(folder, SMALLEST, 3700), filled(folder, SMALLEST, 3650), filled(folder, SMALLEST, 3500)
    with folder.room(SMALLEST):
        assert older.exists()
    with folder.room(SMALLEST + 1):
        assert not older.exists() and old.exists()
        with pytest.raises(FolderFull, match=r"keeps at most 0\.25 MB of files, and has them: try again later"):
            folder.room(2 * SMALLEST).__enter__()
    assert not old.exists() and new.exists()
    filled(folder, 3 * SMALLEST)
    assert folder.new_file("a last one")  # it is full, and not more than that
    filled(folder, 0)  # an empty file counts
    with pytest.raises(FolderFull):
        folder.new_file("y.mp4")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_what_a_killed_page_left_is_swept_and_a_living_page_keeps_its_own(folder, tmp_path):
    code = "import sys, time; from latentsync.ui.folder import Folder; f = Folder(sys.argv[1])\n"
    code += "f.new_file('x').write_bytes(b'x'); print(f.path, flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    dead = Path(process.stdout.readline().strip())
    young, old, foreign = (tmp_path / f"latentsync_ui_{name}" for name in ("young", "old", "link"))
    (tmp_path / "mine").mkdir()
    foreign.symlink_to(tmp_path / "mine")
    (tmp_path / "latentsync_ui_file").write_text("x")
    for path in (young, old):  # of pages without locks
        path.mkdir()
    os.utime(old, (time.time() - 3700,) * 2)
    Folder(tmp_path).close()
    assert dead.exists() and folder.path.exists() and not old.exists()
    process.kill()
    process.communicate()
    Folder(tmp_path).close()
    left = {"mine", "latentsync_ui_file", young.name, foreign.name, folder.path.name}
    assert {path.name for path in tmp_path.iterdir()} == left
