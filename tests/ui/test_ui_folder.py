"""The folder of a page: what lies in it, what does not, and that nothing stays."""

import os
import stat
import time
from pathlib import Path

import pytest

from latentsync.ui.guard import Folder


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
    assert [p for p in folder.path.rglob("*") if p.is_file()] == [new] and not deep.exists()


def test_closing_removes_it_and_a_missing_parent_is_refused(tmp_path):
    folder = Folder(tmp_path)
    folder.new_file("x").write_bytes(b"x")
    folder.close()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="create it first"):
        Folder(tmp_path / "nothing")
    assert Path(tmp_path).exists()
