"""Small files that appear only when they are complete."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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
        way_out = "free some space or choose another drive" if error.errno in SPACE else "choose another place"
        raise OSError(error.errno, f"cannot write {path} ({os.strerror(error.errno)}): {way_out}") from error
    finally:
        part.unlink(missing_ok=True)
