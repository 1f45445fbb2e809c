"""The one folder of a page: what its visitors upload, and what is made of it."""

import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

PREFIX = "latentsync_ui_"
DAY = 24 * 3600.0  # seconds


class Folder:
    """A new folder that only this user may enter, with everything that a page keeps; `close` removes it.

    Args:
        parent: where to make it; None is the system's folder for temporary files.

    Attributes:
        path: where it is, without symbolic links.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, parent: str | Path | None = None):
        if parent is not None and not Path(parent).is_dir():
            raise NotADirectoryError(f"{parent} is no folder: create it first, or give another --folder")
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()

    def holds(self, path: str | Path) -> bool:
        """Whether `path` lies in here, after `..` and symbolic links."""
        try:
            return Path(path).resolve().is_relative_to(self.path)
        except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a zero byte
            return False

    def uploaded(self, value: object, what: str) -> Path:
        """The file that a visitor gave as `what`: a path, or gradio's record of a file.

        Raises:
            ValueError: none was given, or something else than a file in here.
        """
        path = value.get("path") if isinstance(value, Mapping) else value
        if not path:
            raise ValueError(f"there is no {what}: upload one, record one, or use the sample clip")
        if not isinstance(path, str) or not self.holds(path) or not Path(path).is_file():
            raise ValueError(f"the {what} {Path(str(path)).name!r} was not uploaded on this page: upload it again")
        return Path(path).resolve()

    def new_file(self, name: str) -> Path:
        """A path called `name` in a folder of its own, whose name nobody can guess."""
        return Path(tempfile.mkdtemp(dir=self.path)) / name

    def drop(self, path: Path) -> None:
        """Remove what `new_file` gave."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def without_paths(self, sentence: str) -> str:
        """`sentence` with files of this folder called by their name alone."""
        return re.sub(re.escape(str(self.path)) + r"[\\/](?:[^\\/\s]+[\\/])*", "", sentence)

    def sweep(self, age: float = DAY) -> None:
        """Remove files that were last written more than `age` seconds ago, and folders that this leaves empty."""
        oldest = time.time() - age
        for path in sorted(self.path.rglob("*"), reverse=True):  # what is in a folder comes before the folder
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()) and path.stat().st_mtime < oldest:
                    path.rmdir()
            elif path.lstat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
