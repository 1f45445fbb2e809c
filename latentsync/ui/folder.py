"""The private folder of a page: what lies in it, how much that may be, and that nothing of it stays."""

import math
import os
import re
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import FileError, InputError

PREFIX = "latentsync_ui_"
LOCK = ".lock"  # held for as long as the page runs; the system frees it however the page ends
GB = 2**30  # bytes, as gradio counts them
HOUR = 3600.0  # seconds
DAY = 24 * HOUR
SMALLEST = 2**16  # bytes that a file counts at least, so that empty ones cannot go on for ever


class FolderFull(InputError):
    """There is no room for another file."""


class Folder:
    """A new folder in `parent` (None: the system's temp folder) that only this user may enter; `close` removes it.

    It holds everything that a page keeps, up to `quota` bytes. `path` is without symbolic links. Folders in `parent`
    whose page was killed are removed first.
    """

    def __init__(self, parent: str | Path | None = None, quota: float = math.inf):
        if parent is not None and not Path(parent).is_dir():
            raise FileError(f"{parent} is not a folder: create it first, or give another --folder")
        self.quota = quota
        self._coming = 0  # bytes of uploads under way
        self._mutex = threading.Lock()
        parent = Path(parent or tempfile.gettempdir())
        while True:  # until no page that starts at the same time took the folder for a dead one before it was locked
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
            self._lock = FileLock(self.path / LOCK, thread_local=False)
            self._lock.acquire()
            if (self.path / LOCK).exists():
                break
            self._lock.release()
        self._remove_dead(parent)

    def _remove_dead(self, parent: Path) -> None:
        """Remove the folders of pages that were killed: nobody holds their locks. Other users' folders stay."""
        for path in parent.glob(f"{PREFIX}*"):
            with suppress(Timeout, OSError):  # alive; gone meanwhile
                about = path.lstat()
                if not stat.S_ISDIR(about.st_mode) or about.st_uid != self.path.stat().st_uid:
                    continue
                if not (path / LOCK).exists() and time.time() - about.st_mtime < HOUR:
                    continue  # it is just being made
                with FileLock(path / LOCK, timeout=0):
                    shutil.rmtree(path, ignore_errors=True)
                shutil.rmtree(path, ignore_errors=True)  # Windows keeps a locked file

    def holds(self, path: str | Path) -> bool:
        """Whether `path` lies in here, after `..` and symbolic links."""
        try:
            return Path(path).resolve().is_relative_to(self.path)
        except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a zero byte
            return False

    def uploaded(self, value: object, what: str) -> Path:
        """The file that a visitor gave as `what`: a path, or gradio's record of a file."""
        path = value.get("path") if isinstance(value, Mapping) else value
        if not path:
            raise InputError(f"there is no {what}: upload one, record one, or use the sample clip")
        if not isinstance(path, str) or not self.holds(path) or not Path(path).is_file():
            raise InputError(f"the {what} {Path(str(path)).name!r} was not uploaded on this page: upload it again")
        return Path(path).resolve()

    def new_file(self, name: str) -> Path:
        """A path called `name` in a folder of its own, whose name nobody can guess."""
        with self.room(0):
            return Path(tempfile.mkdtemp(dir=self.path)) / name

    def drop(self, path: Path) -> None:
        """Remove what `new_file` gave."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def without_paths(self, sentence: str) -> str:
        """`sentence` with files of this folder called by their name alone."""
        return re.sub(re.escape(str(self.path)) + r"[\\/](?:[^\\/\s]+[\\/])*", "", sentence)

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Keep `size` bytes for a file that is about to come; where there are none, files an hour old make room."""
        with self._mutex:
            self._make_room(self._coming + size)
            self._coming += size
        try:
            yield
        finally:
            with self._mutex:
                self._coming -= size

    def _make_room(self, size: int) -> None:
        files = sorted(self._files(), key=lambda file: file[1].st_mtime)
        missing = sum(max(SMALLEST, about.st_size) for _, about in files) + size - self.quota
        for path, about in files:
            if missing <= 0:
                return
            if about.st_mtime < time.time() - HOUR:
                path.unlink(missing_ok=True)
                missing -= max(SMALLEST, about.st_size)
        if missing > 0:
            raise FolderFull(f"this page keeps at most {in_words(self.quota)} of files, and has them: try again later")

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for folder, _, names in os.walk(self.path):
            for path in (Path(folder, name) for name in names if name != LOCK):
                with suppress(FileNotFoundError):
                    yield path, path.lstat()

    def sweep(self, age: float = DAY) -> None:
        """Remove files that were last written more than `age` seconds ago, and folders that are empty for so long."""
        oldest = time.time() - age
        for path, about in self._files():
            if about.st_mtime < oldest:
                path.unlink(missing_ok=True)
        for folder, *_ in list(os.walk(self.path, topdown=False))[:-1]:
            with suppress(OSError):  # not empty
                if os.stat(folder).st_mtime < oldest:
                    os.rmdir(folder)

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)


def in_words(size: int) -> str:
    """A number of bytes, as people say it."""
    return f"{size / GB:.3g} GB" if size >= GB else f"{1024 * size / GB:.3g} MB"
