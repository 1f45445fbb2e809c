"""Files that appear only when they are complete, logs that survive whatever ends their writer, and who is at work."""

import errno
import hashlib
import json
import os
import platform
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import FileError, InputError

WAYS_OUT = {
    errno.ENOSPC: "free some space or choose another drive",
    errno.EDQUOT: "free some space or choose another drive",
    errno.EFBIG: "choose a drive that takes larger files, or lift the limit on file sizes",
    errno.ENOENT: "create its folder first",
    errno.ENOTDIR: "choose a folder that exists",
    errno.EEXIST: "choose another name",
    errno.EISDIR: "give the name of a file, not of a folder",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
}
FORGOTTEN_SECONDS = 24 * 3600  # after which another machine's unfinished file counts as left behind


def write_error(path: str | os.PathLike, number: int | None, reason: str | None = None) -> FileError:
    """What to raise where `path` cannot be written: which file, why (`reason`, or what `number` means), the way out."""
    number = number or errno.EIO
    way_out = WAYS_OUT.get(number, "check the drive")
    return FileError(f"cannot write {path} ({reason or os.strerror(number)}): {way_out}", number)


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Around what reads `path`: where the system refuses, the error is a sentence."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        reason = f"cannot read {path} ({error.strerror or error}): check the path and its permissions"
        raise FileError(reason, error.errno) from error


def read_text(path: str | os.PathLike) -> str:
    """The text of a file in UTF-8."""
    with reading(path):
        return Path(path).read_text(encoding="utf-8")


def make_folder(path: str | os.PathLike) -> Path:
    """The folder `path`, made with those above it where it is not there yet."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error.errno) from error
    return Path(path)


def part_path(path: str | os.PathLike) -> Path:
    """Where this process writes what will be called `path`, so that two programs do not write into each other's."""
    path = Path(path)
    return path.with_name(f"{path.name}.{os.getpid()}.{_machine()}.part")


def _machine() -> str:
    return hashlib.sha256(platform.node().encode()).hexdigest()[:8]


def publish(part: str | os.PathLike, path: str | os.PathLike) -> None:
    """Give a complete file or folder its name, after its content is safe from a power cut."""
    part, path = Path(part), Path(path)
    for written in (*part.rglob("*"), part):
        _sync(written)
    os.replace(part, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Have the drive write a file, or the names in a folder, as far as the system can be asked to."""
    folder = path.is_dir()
    if folder and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        with suppress(OSError) if folder else nullcontext():
            os.fsync(handle)
    finally:
        os.close(handle)


def sweep_parts(path: str | os.PathLike) -> None:
    """Remove what killed processes left of the file `path`, or in the folder, and nothing that is still being written.

    A part of another machine, on a shared drive, goes once it is a day old.
    """
    path = Path(path)
    folder, name = (path, ".+") if path.is_dir() else (path.parent, re.escape(path.name))
    for part in folder.glob("*.part"):
        match = re.fullmatch(name + r"\.(\d+)(?:\.([0-9a-f]{8}))?\.part", part.name)
        with suppress(OSError):  # gone by itself; on Windows, open in another process
            if match and _is_forgotten(part, int(match[1]), match[2] or _machine()):
                part.unlink()


def _is_forgotten(part: Path, process: int, machine: str) -> bool:
    if machine != _machine():
        return time.time() - part.stat().st_mtime > FORGOTTEN_SECONDS
    if os.name == "nt":  # no way to ask, and no need: what is open cannot be removed there
        return process != os.getpid()
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to in a `with` block; it gets the name `path` at the end, or is removed after an error."""
    part = part_path(path)
    try:
        yield part
        publish(part, path)
    except FileError:
        raise
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


def file_version(path: str | os.PathLike) -> list | None:
    """Size and time of change, which tell a file's versions apart wherever it lies; of a folder, those of its files.

    None where there is nothing. Quick for weights of gigabytes, which a checksum would not be.
    """
    path = Path(path)
    try:
        if path.is_dir():
            return [[file.name, *file_version(file)] for file in sorted(path.iterdir()) if file.is_file()]
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


class RunLock(AbstractContextManager):
    """Keeps other runs out until it is closed, or its process ends.

    Args:
        path: of the lock; a file beside it says whose it is.
        what: is being made, for the message.
    """

    def __init__(self, path: Path, what: str | os.PathLike):
        self._lock, self._owner = FileLock(path), path.with_name(f"{path.name}.owner")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            owner = ""
            with suppress(OSError, ValueError):  # it has just begun
                owner = f" ({self._owner.read_text(encoding='utf-8')})"
            raise InputError(f"another run{owner} is at work on {what}: wait for it, or give another output") from error
        except (OSError, NotImplementedError) as error:  # some drives have no locks
            raise write_error(path, getattr(error, "errno", None), getattr(error, "strerror", str(error))) from error
        self._owner.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")

    def __exit__(self, *_) -> None:
        self._owner.unlink(missing_ok=True)
        with suppress(OSError):  # Windows removes it with the lock, and not before
            os.unlink(self._lock.lock_file)
        self._lock.release()


class JsonLines(AbstractContextManager):
    """A file of JSON values, one a line, which one process at a time appends to; a context manager.

    A line is on the drive when it counts, and counts when its end is there: what a killed process left of its last one
    is cut off.

    Attributes:
        values: those that were there at first. Lines that are not JSON are passed over: a power cut can leave anything.
    """

    def __init__(self, path: Path):
        self.values: list = []
        self._path, self._lock = path, RunLock(path.with_name(f"{path.name}.lock"), path.parent)
        try:
            self._file = path.open("a+b")
        except OSError as error:
            self._lock.__exit__()
            raise write_error(path, error.errno) from error
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
        try:
            self._file.write((json.dumps(value, ensure_ascii=False) + "\n").encode())
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(self._path, error.errno) from error

    def __exit__(self, *_) -> None:
        with suppress(OSError):  # a full disk has been complained about, and closing writes once more
            self._file.close()
        self._lock.__exit__()


def refuse_inputs(out: str | os.PathLike, inputs: Iterable[str | os.PathLike]) -> None:
    """Refuse an output that would replace one of the inputs."""
    for path in inputs:
        if os.path.exists(out) and os.path.exists(path) and os.path.samefile(out, path):
            raise InputError(f"the output {out} is also an input: give another output path")
