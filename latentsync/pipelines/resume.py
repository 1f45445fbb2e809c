"""What a long run keeps beside its result, so that it can go on after an interruption."""

import json
import os
import re
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError
from ..face.track import FaceTrack
from ..files import replacing
from ..media import VideoWriter

PART_FRAMES = 250  # frames lost at most when a run is interrupted, and frames between forced key frames
TRACK_FIELDS = ("matrices", "weight", "score", "cuts")


def identity(path: str | os.PathLike) -> list:
    """A file as a plan names it: its place, its size, and when it was last changed."""
    stat = os.stat(path)
    return [str(Path(path).resolve()), stat.st_size, stat.st_mtime_ns]


class Workspace:
    """The folder `<out>.parts`: the plan of a run, its face track, and the finished stretches of its video.

    Everything in it is written under another name first, so what is there is whole.

    Args:
        out: the result's path.
        plan: what the pixels depend on (files, model, settings), as JSON types.

    Raises:
        ValueError: the folder holds a run with another plan.
    """

    def __init__(self, out: Path, plan: dict):
        self.folder = out.with_name(out.name + ".parts")
        self.suffix = out.suffix
        self._plan = json.loads(json.dumps(plan))
        file = self.folder / "plan.json"
        old = json.loads(file.read_text(encoding="utf-8")) if file.exists() else self._plan
        changed = sorted(key for key in {*old, *self._plan} if old.get(key) != self._plan.get(key))
        if changed:
            raise InputError(
                f"the unfinished run in {self.folder} was made with another {', '.join(changed)}: give it the same "
                "again, or delete that folder to start anew"
            )

    def track(self) -> FaceTrack | None:
        """The face track, if an earlier run got that far."""
        file = self.folder / "track.npz"
        if not file.exists():
            return None
        with np.load(file, allow_pickle=False) as saved:
            return FaceTrack(*(saved[name] for name in TRACK_FIELDS), resolution=int(saved["resolution"]))

    def keep_track(self, track: FaceTrack) -> None:
        """Write the plan and the track; before, the folder is not there."""
        self.folder.mkdir(exist_ok=True)
        with replacing(self.folder / "plan.json") as part:
            part.write_text(json.dumps(self._plan, indent=1), encoding="utf-8")
        fields = {name: getattr(track, name) for name in TRACK_FIELDS}
        with replacing(self.folder / "track.npz") as part, part.open("wb") as file:
            np.savez(file, **fields, resolution=np.array(track.resolution))

    def parts(self) -> list[Path]:
        """The finished stretches, in order and without a hole."""
        found = {}
        for path in self.folder.glob("*"):
            if match := re.fullmatch(r"(\d{9})-(\d{9})" + re.escape(self.suffix), path.name):
                found[int(match[1])] = (int(match[2]), path)
        parts, frame = [], 0
        while frame in found:
            frame, path = found[frame]
            parts.append(path)
        return parts

    def frames_done(self) -> int:
        parts = self.parts()
        return int(parts[-1].stem.split("-")[1]) if parts else 0

    def write(self, windows: Iterable[torch.Tensor], open_writer: Callable[[Path], VideoWriter]) -> None:
        """Write windows of frames (n, h, w, 3) after those that are there, `PART_FRAMES` or a little more a file."""
        start = self.frames_done()
        windows = iter(windows)
        window = next(windows, None)
        while window is not None:
            unfinished = self.folder / f"unfinished{self.suffix}"
            count = 0
            with open_writer(unfinished) as writer:
                while window is not None and count < PART_FRAMES:
                    writer.write(window)
                    count += len(window)
                    window = next(windows, None)
            os.replace(unfinished, self.folder / f"{start:09d}-{start + count:09d}{self.suffix}")
            start += count

    def remove(self) -> None:
        """Delete the files made here, and the folder if nothing else is in it.

        A run that was killed leaves what it was writing: `NAME.<process>.part`.
        """
        named = [*self.parts(), self.folder / "track.npz", self.folder / "plan.json"]
        killed = [self.folder.glob(f"{name}.*.part") for name in (f"unfinished{self.suffix}", "track.npz", "plan.json")]
        for path in chain(named, *killed):
            path.unlink(missing_ok=True)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()
