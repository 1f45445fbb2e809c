"""Small files that appear only when they are complete, and logs that survive whatever ends their writer."""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from .errors import InputError

WAYS_OUT = {
    errno.ENOSPC: "free some space or choose another drive",
    errno.EDQUOT: "free some space or choose another drive",
    errno.EFBIG: "choose a drive that takes larger files, or lift the limit on file sizes",
    errno.ENOENT: "create its folder first",
    errno.ENOTDIR: "choose a folder that exists",
    errno.EISDIR: "give the name of a file, not of a folder",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
}


def write_error(path: str | os.PathLike, number: int | None, reason: str | None = None) -> OSError:
    """What to raise where `path` cannot be written: which file, why (`reason`, or what `number` means), the way out."""
    number = number or errno.EIO
    way_out = WAYS_OUT.get(number, "check the drive")
    return OSError(number, f"cannot write {path} ({reason or os.strerror(number)}): {way_out}")


def sentence_of(error: BaseException) -> str:
    """What an error of bad input says: of the system's own errors the file and the reason, without their number."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to in a `with` block; it gets the name `path` at the end, or is removed after an error."""
    path = Path(path)
    # Of this process: two programs that write the same file must not write into each other's.
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    except OSError as error:
        if error.errno is None:
            raise
        raise write_error(path, error.errno) from error
    finally:
        part.unlink(missing_ok=True)


def file_sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file in lower-case hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


class JsonLines(AbstractContextManager):
    """A file of JSON values, one a line, which one process at a time appends to; a context manager.

    A line is written at once and counts when its end is there: what a killed process left of its last one is cut off.

    Attributes:
        values: those that were there at first. Lines that are no JSON are passed over: a power cut can leave anything.
    """

    def __init__(self, path: Path):
        self.values: list = []
        self._file = path.open("a+b")
        try:
            _lock(self._file, path.parent)
        except BaseException:
            self._file.close()
            raise
        self._file.seek(0)
        whole = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                self._file.truncate(whole)
                break
            whole += len(line)
            with suppress(ValueError):
                self.values.append(json.loads(line))

    def append(self, value: object) -> None:
        self._file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())
        self._file.flush()

    def __exit__(self, *_) -> None:
        self._file.close()


def _lock(file, folder: Path) -> None:
    """Keep other runs out until the file is closed, by a lock that ends with the process."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(f"another run is at work in {folder}: wait for it, or give another output folder") from error


def refuse_inputs(out: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse an output that would replace one of the inputs."""
    for path in inputs:
        if os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise InputError(f"the output {out} is also an input: give another output path")
