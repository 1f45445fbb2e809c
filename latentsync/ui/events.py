"""Which button of the page does what."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from .job import Job
from .markup import message_html, player_html, status_html
from .visits import EXPECTED, Visits, was_cancelled

WATCHED_EVERY = 0.4  # seconds
FAULT = "something went wrong that is not your input's fault: the terminal in which the page runs says what"

Change = dict[Any, Any]  # component -> its new value or properties


class Parts(NamedTuple):
    """The components of the page that events read or change; `controls` are in the order of `Visits.controls`."""

    video: Any
    audio: Any
    controls: list[Any]
    run: Any
    cancel: Any
    sample: Any
    look: Any
    status: Any
    player: Any
    download: Any
    gallery: Any


class Watcher:
    """Shows on the page how jobs are going."""

    def __init__(self, gr: ModuleType, parts: Parts, visits: Visits):
        self.gr, self.parts, self.visits = gr, parts, visits

    async def __call__(self, begin: Callable[[], Job], shown: Callable[[Any], Change]) -> AsyncIterator[Change]:
        """What changes on the page until a job has ended; one that nobody watches any more is cancelled.

        Args:
            begin: begins the job, or raises what `Visits.failure` knows.
            shown: what its result changes.

        Raises:
            gradio.Error: it failed; a sentence for the visitor.
        """
        try:
            job = await asyncio.to_thread(begin)
        except EXPECTED as error:
            yield self._said(self.visits.failure(error), "failed")
            raise self._error(error) from error
        try:
            while not job.ended:
                status = job.status(self.visits.line.before(job))
                yield {self.parts.status: status_html(status), **self._busy(True)}
                await asyncio.sleep(WATCHED_EVERY)
        finally:
            job.cancel()
        if was_cancelled(job):
            yield self._said("Cancelled", "cancelled")
            return
        error = job.future.exception()
        if error is None:
            yield {**self._busy(False), **shown(job.future.result())}
            return
        yield self._said(self.visits.failure(error) or FAULT, "failed")
        raise self._error(error) from error

    def _busy(self, working: bool) -> Change:
        """One job at a time for each visitor."""
        free, held = self.gr.update(interactive=not working), self.gr.update(interactive=working)
        return {self.parts.run: free, self.parts.look: free, self.parts.cancel: held}

    def _said(self, words: str, kind: str) -> Change:
        return {self.parts.status: message_html(words, kind), **self._busy(False)}

    def _error(self, error: BaseException) -> Exception:
        sentence = self.visits.failure(error)
        # The page has said it already; this is for programs.
        return self.gr.Error(sentence or FAULT, visible=False, print_exception=sentence is None)


def taking(names: Iterable[str]) -> Callable[[Callable], Callable]:
    """Gives the last parameters of a function (`*values`) names, by which programs may call it over the network."""
    # The default is for those whose component shows nothing at first, such as a file: they may be left out too.
    named = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None) for name in names]

    def decorate(function: Callable) -> Callable:
        *first, _ = inspect.signature(function).parameters.values()
        function.__signature__ = inspect.Signature([*first, *named])
        return function

    return decorate


def connect(gr: ModuleType, page: Any, parts: Parts, visits: Visits) -> None:
    """Give the buttons their work; see `Visits` for what that is."""
    watch = Watcher(gr, parts, visits)

    def finished(made) -> Change:
        player = gr.update(value=player_html(made.before, made.result), visible=True)
        download = gr.update(value=str(made.result), visible=True)
        return {parts.status: message_html(made.summary), parts.player: player, parts.download: download}

    def looked(pictures) -> Change:
        words = "Green is the chosen face, orange are others; what is tinted will be repainted."
        return {parts.status: message_html(words), parts.gallery: gr.update(value=pictures, visible=True)}

    @taking(control.name for control in visits.controls)
    async def lip_sync(request: gr.Request, video, audio, *values):
        begin = partial(visits.lip_sync, request.session_hash, video, audio, values)
        async for change in watch(begin, finished):
            yield change

    @taking(control.name for control in visits.controls)
    async def show_faces(request: gr.Request, video, *values):
        begin = partial(visits.show_faces, request.session_hash, video, values)
        async for change in watch(begin, looked):
            yield change

    def sample() -> list[str]:
        try:
            return [str(path) for path in visits.sample()]
        except EXPECTED as error:
            raise gr.Error(visits.failure(error), print_exception=False) from error

    def cancel(request: gr.Request) -> None:
        visits.cancel(request.session_hash)

    quiet = {"show_progress": "hidden"}
    outputs = [parts.status, parts.player, parts.download, parts.gallery, parts.run, parts.look, parts.cancel]
    parts.run.click(lip_sync, [parts.video, parts.audio, *parts.controls], outputs, api_name="lip_sync", **quiet)
    parts.look.click(show_faces, [parts.video, *parts.controls], outputs, api_name="show_faces", **quiet)
    parts.sample.click(sample, None, [parts.video, parts.audio], api_name="sample")
    parts.cancel.click(cancel, None, None, api_name="cancel", queue=False)
    page.unload(cancel)
