"""Small files that appear only when they are complete, and the checksum of large ones."""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
    """A path to write to in a `with` block; it gets the name `path` at the end, or is removed after an error.

    Raises:
        OSError: it cannot be written; says which file, why and what to do.
    """
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
