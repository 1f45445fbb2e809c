"""What the buttons of the page do, for each visitor apart. No gradio in here."""

import argparse
import math
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import cv2

from ..errors import InputError
from ..limits import check_limit
from ..media.audio import AudioReader
from ..media.source import moving_pictures, open_source
from ..pipelines.options import explained
from ..settings import RunSettings
from .controls import Control, checked, default_arguments, run_options, shown_controls
from .faces import face_pictures
from .folder import Folder
from .job import Cancelled, Job, JobQueue, Status
from .models import ModelCache, sample_clip
from .work import Request, speak

LESS_MEMORY = "a window of 8, a guidance scale of 1 or a smaller resolution"
GONE = 10.0  # seconds after which a visitor who is not there does not come back


class Presence:
    """Which visitors are there: those whose browser waits for news, by the name of their session or event."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    @contextmanager
    def of(self, *names: str) -> Iterator[None]:
        """Somebody waits while the `with` block lasts."""
        self._waiting.update(names)
        try:
            yield
        finally:
            self._waiting.subtract(names)
            self._waiting = +self._waiting  # without those who left

    def __contains__(self, name: str | None) -> bool:
        return name in self._waiting


class Sessions:
    """The visitors of a page, by their session, and the jobs that they started.

    `controls` are the settings that are shown, in the order of their values; `most` is the longest line of jobs.
    """

    def __init__(
        self,
        nets: ModelCache,
        folder: Folder,
        restoration: bool = False,
        most: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.nets, self.folder, self.clock = nets, folder, clock
        self.controls = shown_controls(restoration)
        self.options = run_options()
        self.queue = JobQueue(most)
        self.presence = Presence()
        self._jobs: dict[str, Job] = {}  # that have not ended: what one leaves is its watcher's alone
        self._lock = threading.Lock()

    def lip_sync(self, session: str, video: object, audio: object, values: Sequence[object]) -> Job:
        """Begin a run, or wait for those before it; its result is a `work.Result`."""
        request = Request(self._video(video), self.folder.uploaded(audio, "voice"), *self._chosen(values))
        with AudioReader(request.audio) as reader:  # refuses what has no sound
            check_limit("seconds", float(reader.duration or 0), request.audio.name)
        return self._begin(session, lambda job: speak(job, self.nets, self.folder, request))

    def show_faces(self, session: str, video: object, values: Sequence[object]) -> Job:
        """Begin a look at where the face is; its result is that of `faces.face_pictures`, in files."""
        path, (_, settings) = self._video(video), self._chosen(values)
        return self._begin(session, lambda job: self._faces(job, path, settings))

    def status(self, job: Job, *names: str) -> Status:
        """How far a job is; it is cancelled where its visitor, under any of the names, has been away for too long."""
        if any(name in self.presence for name in names):
            job.seen = self.clock()
        elif self.clock() - job.seen > GONE:
            job.cancel()
        return job.status(self.queue.before(job))

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
        sentence = explained(error, LESS_MEMORY)
        return sentence and self.folder.without_paths(sentence)

    def close(self) -> None:
        """End all jobs."""
        self.queue.close()

    def _video(self, given: object) -> Path:
        path = self.folder.uploaded(given, "video")
        with open_source(path, "video") as container:
            moving_pictures(container, path)  # refuses what is no video
            check_limit("seconds", (container.duration or 0) / av.time_base, path.name)
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
        with self._lock:
            if session in self._jobs and not self._jobs[session].ended:
                raise InputError("the last job of this page has not ended: wait for it, or cancel it")
            job = Job(self.clock)
            self._jobs[session] = self.queue.add(job, lambda: work(job))
        job.future.add_done_callback(lambda _: self._end(session, job))
        return job

    def _end(self, session: str, job: Job) -> None:
        with self._lock:
            if self._jobs.get(session) is job:
                del self._jobs[session]

    def _faces(self, job: Job, video: Path, settings: RunSettings) -> list[tuple[str, str]]:
        """The pictures in files: what gradio shows stays in memory for as long as it knows the visitor."""
        shown = []
        for picture, caption in face_pictures(job, self.nets, video, settings):
            shown.append((str(self.folder.new_file("face.png")), caption))
            cv2.imwrite(shown[-1][0], cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        return shown


def was_cancelled(job: Job) -> bool:
    """Whether an ended job was cancelled, before it began or since."""
    return job.future.cancelled() or isinstance(job.future.exception(), Cancelled)
