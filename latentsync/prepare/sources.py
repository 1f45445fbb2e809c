"""Which videos are prepared, and what can be wrong with one of them."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import FileError, InputError
from ..files import read_text
from ..media.source import VIDEO_SUFFIXES

SHOWN_STEM = 40  # characters of a source's name that its clips are called by


class SourceError(Exception):
    """One source cannot be used; see `executor.Outcome` for what it says."""

    def __init__(self, reason: str, sentence: str, final: bool = True):
        super().__init__(reason, sentence, final)
        self.reason, self.sentence, self.final = reason, sentence, final


@dataclass(frozen=True)
class Source:
    """One video. `name` is its path in the input folder (or as the list says), with / on every system."""

    name: str
    path: Path

    @property
    def label(self) -> str:
        """What its clips' file names begin with: readable, unique, and safe on every system."""
        stem = re.sub(r"[^0-9A-Za-z_]+", "_", Path(self.name).stem)[:SHOWN_STEM].strip("_") or "video"
        return f"{stem}-{hashlib.sha256(self.name.encode()).hexdigest()[:10]}"


def find_sources(inputs: str | os.PathLike, output: str | os.PathLike) -> list[Source]:
    """The videos in a folder and its subfolders, or those that a text file lists, one path per line; by name.

    Paths in a list are relative to its own folder; empty lines and lines that begin with # are skipped.
    """
    inputs, output = Path(inputs).absolute(), Path(output)
    if inputs.is_dir():
        if output.resolve().is_relative_to(inputs.resolve()):
            raise InputError(f"the output folder {output} lies in the input folder {inputs}: choose another place")
        paths = (path for path in inputs.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file())
        found = {path.relative_to(inputs).as_posix(): path for path in paths if not path.name.startswith(".")}
    elif inputs.is_file():
        try:
            lines = [line.strip() for line in read_text(inputs).splitlines()]
        except UnicodeDecodeError as error:
            raise InputError(f"{inputs} is not a text file: give a folder, or a list with one path per line") from error
        found = {line: inputs.parent / line for line in lines if line and not line.startswith("#")}
    else:
        raise FileError(f"there is no folder or list of videos {inputs}: check the path")
    if not found:
        raise InputError(f"there are no videos in {inputs}: give a folder that has some, or a list of their paths")
    return [Source(name, found[name]) for name in sorted(found)]


@contextmanager
def reading(source: Source, reason: str = "broken") -> Iterator[None]:
    """Turn what goes wrong in the block while `source` is read into a `SourceError` with this reason."""
    try:
        yield
    except OSError as error:  # an InputError may be one, too
        sentence = f"{source.name} cannot be read ({os.strerror(error.errno) if error.errno else error})"
        raise SourceError("unreadable", sentence, final=False) from error
    except ValueError as error:
        raise SourceError(reason, str(error).replace(str(source.path), source.name)) from error
