"""What the buttons of the page do, for each visitor apart. No gradio in here."""

import argparse
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..media.audio import AudioReader
from ..media.source import moving_pictures, open_source
from ..sampling.sample import out_of_memory
from ..settings import RunSettings
from .controls import Control, checked, default_arguments, run_options, shown_controls
from .faces import face_pictures
from .guard import Folder
from .job import Cancelled, Job, JobQueue
from .models import ModelCache, sample_clip
from .work import Request, speak

#: What bad input raises; anything else is a fault of the program.
EXPECTED = InputError
LESS_MEMORY = "try a window of 8, a guidance scale of 1 or a smaller resolution"


class Sessions:
    """The visitors of a page, by their session, and the jobs that they started.

    `controls` are the settings that are shown, in the order of their values.
    """

    def __init__(self, nets: ModelCache, folder: Folder, restoration: bool = False):
        self.nets, self.folder = nets, folder
        self.controls = shown_controls(restoration)
        self.options = run_options()
        self.queue = JobQueue()
        self._jobs: dict[str, Job] = {}

    def lip_sync(self, session: str, video: object, audio: object, values: Sequence[object]) -> Job:
        """Begin a run, or wait for those before it; its result is a `work.Result`."""
        request = Request(self._video(video), self.folder.uploaded(audio, "voice"), *self._chosen(values))
        AudioReader(request.audio).close()  # refuses what has no sound
        return self._begin(session, lambda job: speak(job, self.nets, self.folder, request))

    def show_faces(self, session: str, video: object, values: Sequence[object]) -> Job:
        """Begin a look at where the face is; its result is that of `faces.face_pictures`."""
        path, (_, settings) = self._video(video), self._chosen(values)
        return self._begin(session, lambda job: face_pictures(job, self.nets, path, settings))

    def sample(self) -> tuple[Path, Path]:
        """The video and the new words of the sample clip, as if they had been uploaded."""
        sample = sample_clip()
        video, audio = (
            Path(shutil.copyfile(path, self.folder.new_file(path.name))) for path in (sample.video, sample.voices[0])
        )
        return video, audio

    def cancel(self, session: str) -> None:
        """End this visitor's job, if there is one, and nobody else's."""
        job = self._jobs.pop(session, None)
        if job is not None:
            job.cancel()

    def failure(self, error: BaseException) -> str | None:
        """What a visitor is told about the error of a job; None where the program is at fault."""
        if isinstance(error, (RuntimeError, MemoryError)) and out_of_memory(error):
            return f"there is not enough memory for this: {LESS_MEMORY}"
        return self.folder.without_paths(str(error)) if isinstance(error, EXPECTED) else None

    def close(self) -> None:
        """End all jobs."""
        self.queue.close()

    def _video(self, given: object) -> Path:
        path = self.folder.uploaded(given, "video")
        with open_source(path, "video") as container:
            moving_pictures(container, path)  # refuses what is no video
        return path

    def _chosen(self, values: Sequence[object]) -> tuple[argparse.Namespace, RunSettings]:
        """The arguments of the command `run` that the values of `controls` stand for, and its settings."""
        from ..pipelines.options import run_settings

        given = {c.name: self._value(c, value) for c, value in zip(self.controls, values, strict=True)}
        places = {"checkpoints": self.nets.options.checkpoints}
        arguments = argparse.Namespace(**{**vars(default_arguments(self.options)), **places, **given})
        return arguments, run_settings(arguments)

    def _value(self, control: Control, value: object) -> object:
        if control.file:
            return str(self.folder.uploaded(value, control.label.lower())) if value else None
        return checked(self.options[control.name], value)

    def _begin(self, session: str, work: Callable[[Job], Any]) -> Job:
        running = self._jobs.get(session)
        if running is not None and not running.ended:
            raise InputError("the last job of this page has not ended: wait for it, or cancel it")
        job = self._jobs[session] = Job()
        return self.queue.add(job, lambda: work(job))


def was_cancelled(job: Job) -> bool:
    """Whether an ended job was cancelled, before it began or since."""
    return job.future.cancelled() or isinstance(job.future.exception(), Cancelled)
