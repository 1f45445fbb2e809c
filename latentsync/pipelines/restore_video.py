"""Restoration of an existing video: track the face, restore its crops, lay the change over the frames."""

import logging
import os
from contextlib import closing, nullcontext
from pathlib import Path

from ..errors import InputError
from ..face.landmarks import Detector
from ..files import refuse_inputs
from ..frames import windows_from
from ..media import VideoReader, output_format
from ..media.audio import AudioReader
from ..models.load import check_resolution
from ..progress import Progress, no_progress, with_progress
from ..restore.superres import restore_frames
from ..settings import RunSettings
from .lip_sync import Summary, track_or_resume, write, written_codec
from .resume import Workspace, plan

log = logging.getLogger(__name__)

RESOLUTION = 512  # of the crops: more than the 297 x 396 pixels of a portrait that they show


def restore_video(
    video: str | os.PathLike,
    out: str | os.PathLike,
    detector: Detector,
    settings: RunSettings,
    *,
    resolution: int = RESOLUTION,
    resume: bool = False,
    progress: Progress | None = None,
) -> Summary:
    """Restore the face in `video` and write the result, with the video's sound, to `out`.

    Memory does not grow with the duration.

    Args:
        video: a file; anything PyAV reads.
        out: .mp4, .mov, .mkv or .webm; it appears only when it is complete.
        detector: from `load_detector`.
        settings: `superres` says what is done; `track`, `blend.mask_smooth`, `fps`, `detect_every` and `encoding` count
            too.
        resolution: side of the face's crops, before they are enlarged.
        resume: keep finished parts beside `out` while running, and go on from those of an interrupted run with the same
            files and settings: the same frames as without an interruption.
        progress: called as (phase, frames done, frames in all); what it raises ends the run.
    """
    if settings.superres is None:
        raise InputError("there is nothing to do: give a restorer or a ratio in the settings' superres")
    progress = progress or no_progress
    check_resolution(resolution)
    check_output(video, out)
    with VideoReader(video, settings.fps, 2 * settings.superres.settings.batch, progress) as reader:
        fps, sound = float(reader.fps), _sound(video)
        planned = plan(video, detector, settings, resolution=resolution, codec=written_codec(out, reader, settings))
        with Workspace(Path(out), planned) if resume else nullcontext() as work:
            track = track_or_resume(reader, fps, detector, resolution, settings, progress, work)
            start = work.frames_done if work else 0
            restored = restore_frames(reader, track, settings.superres, settings.blend.mask_smooth, start)
            with closing(restored):
                windows = windows_from(start, with_progress(restored, len(reader), "restoring", progress, start))
                write(windows, Path(out), reader, settings, sound, work)
        return Summary.of(out, [track], fps)


def check_output(video: str | os.PathLike, out: str | os.PathLike) -> None:
    """Refuse, before any work, an output that cannot be written and one that would replace the video."""
    output_format(out)
    refuse_inputs(out, [video])


def _sound(video: str | os.PathLike) -> dict[str, object]:
    """What `VideoWriter` is told of the video's sound: nothing if it has none."""
    try:
        AudioReader(video).close()
    except InputError as error:
        log.info("the result has no sound: %s", error)
        return {}
    return {"audio": video}
