"""A folder of drawn videos, one for each fate, with track files instead of a detector."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latentsync.drawn.heads.clip import DrawnClip, make_clip
from latentsync.face.landmarks import Detection, Face, points_from_box
from latentsync.face.track_file import write_track_file
from latentsync.media import VideoWriter
from latentsync.media.sound import write_wav
from latentsync.prepare.executor import InProcess
from latentsync.prepare.manifest import MANIFEST
from latentsync.prepare.pipeline import prepare
from latentsync.prepare.settings import PrepareSettings, Tools

SIZE = 96
SETTINGS = PrepareSettings(resolution=64, min_seconds=1, max_seconds=2, skip={"sync", "quality"})


def write_video(path: Path, clips: Sequence[DrawnClip], volume: float = 1.0) -> None:
    """The clips one after another, at 25 frames/s, with their sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = path.with_suffix(".wav")
    write_wav(sound, (volume * clip.waveform for clip in clips), clips[0].rate)
    with VideoWriter(path, 25, SIZE, SIZE, preset="ultrafast", audio=sound) as writer:
        for clip in clips:
            writer.write(clip.frames)
    sound.unlink()


def write_track_of(path: Path, boxes: Sequence, size: int, points: Sequence | None = None, without_face=()) -> None:
    """A track file of one face in every frame but those `without_face`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    points = map(points_from_box, boxes) if points is None else points
    faces = (Face(tuple(box), 1.0, triple) for box, triple in zip(boxes, points, strict=True))
    seen = (Detection([] if i in without_face else [face]) for i, face in enumerate(faces))
    write_track_file(path, seen, size, size, 25.0)


def write_track(path: Path, clips: Sequence[DrawnClip], without_face: Sequence[int] = ()) -> None:
    boxes = np.concatenate([clip.boxes for clip in clips])
    write_track_of(path, boxes, SIZE, np.concatenate([clip.landmarks for clip in clips]), without_face)


def make_raw(folder: Path) -> tuple[Path, Tools]:
    """Videos under folder/raw; the tools have their track files.

    good.mp4 has two clips of 1.6 s, more/cut.mp4 one shot for a clip and one that is too short.
    """
    raw, tracks = folder / "raw", folder / "tracks"
    good, other, short = make_clip(1, 3.2, SIZE), make_clip(2, 1.4, SIZE), make_clip(4, 0.8, SIZE)
    videos = {"good": [good], "more/cut": [other, short], "faceless": [other], "silent": [other], "mute": [other]}
    for name, clips in videos.items():
        write_video(raw / f"{name}.mp4", clips, volume=0.0 if name == "silent" else 1.0)
        write_track(tracks / f"{name}.json", clips, [20] if name == "faceless" else [])
    with VideoWriter(raw / "mute.mp4", 25, SIZE, SIZE, preset="ultrafast") as writer:
        writer.write(other.frames)
    (raw / "broken.mp4").write_bytes((raw / "good.mp4").read_bytes()[:2000])
    write_track(tracks / "broken.json", [good])
    (raw / "notes.txt").write_text("no video")
    return raw, Tools("file", tracks)


def again(raw, out, settings=SETTINGS, **options):
    """(stage, item) of the work that a further run in `out` does."""
    done = []

    class Counted(InProcess):
        def results(self, jobs):
            for job, outcome in super().results(jobs):
                done.append((job.stage, job.item))
                yield job, outcome

    prepare(raw[0], out, settings, raw[1], executor=Counted(), **options)
    return done


def read_manifest(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / MANIFEST).read_text(encoding="utf-8").splitlines()]


def clips_of(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "clips").iterdir()}
