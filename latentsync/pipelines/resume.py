"""What a long run keeps beside its result, so that it can go on after an interruption."""

import hashlib
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..face.landmarks import Detector
from ..face.track import TRACK_FIELDS, FaceTrack
from ..files import RunLock, file_sha256, file_version, make_folder, publish, replacing
from ..frames import Window
from ..media import VideoWriter
from ..settings import RunSettings
from ..threads import behind

log = logging.getLogger(__name__)

# Frames after which a part is completed, and which a killed run loses at most. A part begins with a key frame: with 96
# files are half a percent larger than with 250, the encoder's own distance of key frames.
PART_FRAMES = 96


def plan(video: str | os.PathLike, detector: Detector, settings: RunSettings, **more: object) -> dict[str, object]:
    """Everything that the pixels of a result depend on, for a `Workspace`; `more` is what not all commands have."""
    superres, mask = settings.superres, settings.mask_image
    detector = getattr(detector, "detector", detector)  # one that remembers is as good as what it asks
    path = getattr(detector, "path", None)
    return {
        "video": file_version(video),
        "detector": [type(detector).__name__, path and file_version(path)],
        "settings": asdict(replace(settings, superres=None, mask_image=None)),
        "mask image": None if mask is None else [*mask.shape, hashlib.sha256(mask.tobytes()).hexdigest()],
        "superres": superres and [superres.plan(), *map(file_version, superres.files)],
        **more,
    }


class Workspace(AbstractContextManager):
    """The folder `<out>.parts`: the plan of a run, its face track, and the finished parts of its video.

    One run at a time works in it. The name of a file says by its checksum that it is whole and of this plan; what is
    not counts as absent, with a warning.

    Args:
        out: the result's path.
        plan: what the pixels depend on (files, model, settings), as JSON types.

    Attributes:
        track: the face track, if an earlier run came to its end; else it is the same when it is found again.
        parts: the finished parts, in order and without a hole.
        frames_done: how many frames they have.
    """

    def __init__(self, out: Path, plan: dict):
        self.folder, self.suffix = out.with_name(f"{out.name}.parts"), out.suffix
        self.track: FaceTrack | None = None
        self.parts: list[Path] = []
        self.frames_done = 0
        self._plan = json.loads(json.dumps(plan))
        make_folder(self.folder)
        self._lock = RunLock(self.folder / "run.lock", out)
        try:
            self._find_kept()
        except BaseException:
            self.__exit__()
            raise

    def _find_kept(self) -> None:
        """Take up what an earlier run kept, and remove what is damaged or follows on something damaged."""
        file = self.folder / "plan.json"
        whole = self._whole_files() if self._is_planned(file) else {}
        if "track" in whole:
            with np.load(whole["track"], allow_pickle=False) as saved:
                self.track = FaceTrack(*(saved[name] for name in TRACK_FIELDS), resolution=int(saved["resolution"]))
        starts = {int(stem[:9]): path for stem, path in whole.items() if stem != "track"}
        while path := starts.get(self.frames_done):
            self.parts.append(path)
            self.frames_done = int(path.name[10:19])
        kept = {*self.parts, *([whole["track"]] if self.track is not None else [])}
        kept |= {file} if kept else set()
        useless = [path for path in self._own_files() if path not in kept]
        for path in useless:
            path.unlink()
        if damaged := sorted(path.name for path in useless if "-" in path.name):
            how = f"going on from frame {self.frames_done}" if kept else "starting anew"
            log.warning("%s is damaged (%s, or what comes before it): %s", self.folder, damaged[0], how)

    def _is_planned(self, file: Path) -> bool:
        """Whether the folder holds a run with this very plan; one with another plan is refused."""
        try:
            old = json.loads(file.read_bytes())
        except (FileNotFoundError, ValueError, RecursionError):
            return False
        if not old or not isinstance(old, dict):
            return False
        if changed := sorted(key for key in {*old, *self._plan} if old.get(key) != self._plan.get(key)):
            raise InputError(
                f"the unfinished run in {self.folder} was made with another {', '.join(changed)}: give it the same "
                "again, or delete that folder to start anew"
            )
        return True

    def _own_files(self) -> list[Path]:
        """All that a run writes here but the lock, with what a killed one was writing."""
        names = r"plan\.json|unfinished\.\w+|(track|\d{9}-\d{9})-\w+\.\w+|.*\.part"
        return [path for path in self.folder.iterdir() if re.fullmatch(names, path.name)]

    def _whole_files(self) -> dict[str, Path]:
        """The track and the parts by the names that they have before their checksum."""
        stems = {path: path.name.rpartition("-")[0] for path in self._own_files()}
        return {stem: path for path, stem in stems.items() if stem and path.name == self._name(stem, path)}

    def _name(self, stem: str, content: Path) -> str:
        """`<stem>-<checksum>.<ending>`; the checksum is of the content, the stem and the plan."""
        facts = [self._plan, stem, file_sha256(content)]
        return f"{stem}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]}{content.suffix}"

    def keep_track(self, track: FaceTrack) -> None:
        """Write the track, for runs with this plan."""
        self._keep_plan()
        unfinished = self.folder / "unfinished.npz"
        with replacing(unfinished) as part, part.open("wb") as file:
            fields = {name: getattr(track, name) for name in TRACK_FIELDS}
            np.savez(file, **fields, resolution=np.array(track.resolution))
        publish(unfinished, self.folder / self._name("track", unfinished))
        self.track = track

    def _keep_plan(self) -> None:
        with replacing(self.folder / "plan.json") as part:
            part.write_text(json.dumps(self._plan, indent=1), encoding="utf-8")

    def write(self, windows: Iterator[Window], open_writer: Callable[[Path], VideoWriter]) -> None:
        """Write windows after those that are there, in parts; also what there is of one when the windows end early.

        Parts end at the first window beyond a multiple of `PART_FRAMES`, wherever the run began.
        """
        writer: VideoWriter | None = None
        self._keep_plan()

        def encode(window: Window) -> None:
            nonlocal writer
            writer = writer or open_writer(self.folder / f"unfinished{self.suffix}")
            try:
                writer.write(window.pictures)
            except BaseException:
                unfinished, writer = writer, None
                unfinished.discard()
                raise
            if window.numbers.stop // PART_FRAMES > self.frames_done // PART_FRAMES:
                done, writer = writer, None
                self._keep_part(done)

        # What has come before an interruption is worth keeping, and Ctrl-C does not come in the middle of a window.
        try:
            for _ in behind(encode, windows, finish=True):
                pass
        finally:
            if writer is not None:
                self._keep_part(writer)
            if not self.parts and self.track is None:
                self.remove()  # the plan alone is of no use

    def _keep_part(self, writer: VideoWriter) -> None:
        writer.close()
        stop = self.frames_done + writer.count
        part = self.folder / self._name(f"{self.frames_done:09d}-{stop:09d}", Path(writer.path))
        publish(writer.path, part)
        self.parts.append(part)
        self.frames_done = stop

    def remove(self) -> None:
        """Delete the files made here; the folder goes at the end of the block, if nothing else is in it."""
        for path in self._own_files():
            path.unlink()

    def __exit__(self, kind=None, error=None, _=None) -> None:
        self._lock.__exit__()
        with suppress(OSError):  # what is kept is in it
            self.folder.rmdir()
        if kind is KeyboardInterrupt:
            begun = self.track is not None or self.parts
            left = f"goes on from frame {self.frames_done}" if begun else "starts anew"
            raise KeyboardInterrupt(f"the same command {left}") from error
