"""The page: what is on it, and how it is served."""

import asyncio
import inspect
import json
from collections import namedtuple
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError
from ..settings import Option
from .controls import FACES, MORE, NONE, RESTORATION, USUAL, Control, by_quality
from .folder import in_words
from .guard import Guard, Hosts
from .job import Job
from .markup import message_html, notice_html, player_html, preview_html, status_html
from .visitors import Sessions, was_cancelled

WATCHED_EVERY = 0.4  # seconds
FAULT = "something went wrong, and not because of your input: see the terminal in which the page runs"

JOBS = ("lip_sync", "show_faces")  # what programs call them
VISITORS = 100  # of whom gradio keeps what their page shows; of others it shows what a new page does
EXPECTED = (InputError, MemoryError)

Change = dict[Any, Any]  # component -> its new value or properties


#: The components that events read or change; `controls` are in the order of `Sessions.controls`.
Parts = namedtuple("Parts", "video audio controls run cancel look sample status player download gallery preview")


class Watcher:
    """Shows on the page how jobs are going."""

    def __init__(self, gr: ModuleType, parts: Parts, visits: Sessions):
        self.gr, self.parts, self.visits = gr, parts, visits

    async def __call__(
        self, session: str, begin: Callable[[str], Job], shown: Callable[[Any], Change]
    ) -> AsyncIterator[Change]:
        """What changes on the page until the job that `begin` starts has ended and its result is `shown`.

        A job that nobody watches any more is cancelled.
        """
        try:
            job = await asyncio.to_thread(begin, session)
        except EXPECTED as error:
            yield self._said(self.visits.failure(error), "failed")
            raise self._error(error) from error
        try:
            latest, event = "", self.gr.context.LocalContext.event_id.get(None)
            preview = {}
            while not job.ended:
                state = self.visits.status(job, session, event)
                status = status_html(state)
                if status != latest:  # gradio keeps what it is given until the visitor fetches it
                    begins = state.pieces and not preview  # a player that is shown again would start anew
                    if begins:
                        preview = {self.parts.preview: self.gr.update(value=preview_html(state.preview), visible=True)}
                    yield {self.parts.status: status, **self._busy(True), **(preview if begins else {})}
                    latest = status
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
        """One job at a time for each visitor; what shows how it goes is gone when it has ended."""
        free, held = self.gr.update(interactive=not working), self.gr.update(interactive=working)
        buttons = {self.parts.run: free, self.parts.look: free, self.parts.cancel: held}
        return buttons if working else {**buttons, self.parts.preview: self.gr.update(value="", visible=False)}

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


def connect(gr: ModuleType, page: Any, parts: Parts, visits: Sessions) -> None:
    """Give the buttons their work; see `Sessions` for what that is."""
    watch = Watcher(gr, parts, visits)

    def finished(made) -> Change:
        player = gr.update(value=player_html(made.before, made.result), visible=True)
        download = gr.update(value=str(made.result), visible=True)
        return {parts.status: message_html(made.summary), parts.player: player, parts.download: download}

    def looked(pictures) -> Change:
        words = "The chosen face is green, others are orange; the tinted part will be repainted."
        return {parts.status: message_html(words), parts.gallery: gr.update(value=pictures, visible=True)}

    @taking(control.name for control in visits.controls)
    async def lip_sync(request: gr.Request, video, audio, *values):
        begin = partial(visits.lip_sync, video=video, audio=audio, values=values)
        async for change in watch(request.session_hash, begin, finished):
            yield change

    @taking(control.name for control in visits.controls)
    async def show_faces(request: gr.Request, video, *values):
        begin = partial(visits.show_faces, video=video, values=values)
        async for change in watch(request.session_hash, begin, looked):
            yield change

    def sample() -> list[str]:
        try:
            return [str(path) for path in visits.sample()]
        except InputError as error:
            raise gr.Error(visits.failure(error), print_exception=False) from error

    def cancel(request: gr.Request) -> None:
        visits.cancel(request.session_hash)

    quiet = {"show_progress": "hidden"}
    outputs = [parts.status, parts.player, parts.download, parts.gallery, parts.run, parts.look, parts.cancel]
    outputs.append(parts.preview)
    named = {control.name: part for control, part in zip(visits.controls, parts.controls, strict=True)}
    changed, table = by_quality()
    chosen = [named[name] for name in changed]
    named["quality"].input(None, named["quality"], chosen, js=f"(quality) => ({json.dumps(table)})[quality]")
    parts.run.click(lip_sync, [parts.video, parts.audio, *parts.controls], outputs, api_name=JOBS[0], **quiet)
    parts.look.click(show_faces, [parts.video, *parts.controls], outputs, api_name=JOBS[1], **quiet)
    parts.sample.click(sample, None, [parts.video, parts.audio], api_name="sample")
    parts.cancel.click(cancel, None, None, api_name="cancel", queue=False)
    page.unload(cancel)


WEB = Path(__file__).parent / "web"
TITLE = "LatentSync"
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # those of the machine
READABLE = {  # gradio's own greys have too little contrast
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
}
BOX_HEIGHT = 282  # pixels of the upload boxes
NO_SHARING = {"buttons": [], "show_share_button": False, "show_download_button": False}  # of gradio 6, of gradio 5


def needed_gradio() -> ModuleType:
    """The package gradio."""
    try:
        import gradio
    except ImportError as error:
        raise InputError('the page needs gradio: pip install "gradio>=5,<7"') from error
    return gradio


def build_page(gr: ModuleType, visits: Sessions, limit: int) -> Any:
    """The page as gradio.Blocks, for uploads of up to `limit` bytes."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, **supported(gr.Blocks.__init__, looks(gr))) as page:
        parts = lay_out(gr, visits, limit)
        connect(gr, page, parts, visits)
    # Jobs wait in `visits.queue`, which tells everyone their place, so gradio starts them all at once.
    return page.queue(default_concurrency_limit=None, api_open=False)


def launch(
    gr: ModuleType, page: Any, visits: Sessions, limit: int, allow_host: Collection[str] = (), **server: Any
) -> str:
    """Start the page in a thread of its own, and return its address.

    The folder of `visits` is the process's GRADIO_TEMP_DIR; `server` has server_name, server_port and inbrowser of
    `Blocks.launch`. Browsers may call the page by its own address and by the names in `allow_host`.
    """
    from starlette.middleware import Middleware

    jobs = {key for number, fn in page.fns.items() if fn.api_name in JOBS for key in (number, fn.api_name)}
    hosts = Hosts(server["server_name"], allow_host)
    guard = Middleware(Guard, visits=visits, limit=limit, hosts=hosts, jobs=jobs)
    options = {**looks(gr), "footer_links": ["api", "settings"], "run_history": False, "pwa": False}
    # show_error: what gradio's own exceptions say about an input is for the visitor; ours are sentences.
    page.launch(
        **server,
        **supported(gr.Blocks.launch, options),
        app_kwargs={"middleware": [guard]},
        max_file_size=limit,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        show_error=True,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        state_session_capacity=VISITORS,
    )
    return page.local_url


def supported(function: Callable, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that this version's function takes: gradio 6 moved the looks from Blocks to launch."""
    return {name: value for name, value in options.items() if name in inspect.signature(function).parameters}


def looks(gr: ModuleType) -> dict[str, Any]:
    """Colours, fonts and the player's script; nothing comes from another server."""
    script = (WEB / "player.js").read_text(encoding="utf-8")
    return {
        "theme": gr.themes.Default(primary_hue="blue", **FONTS).set(**READABLE),
        "css": (WEB / "page.css").read_text(encoding="utf-8"),
        "head": f'<script type="module">{script}</script>',
    }


def lay_out(gr: ModuleType, visits: Sessions, limit: int) -> Parts:
    """Put everything on the page; web/page.css says what is beside what."""
    size = f"up to {in_words(limit)}"
    about = "Give it a video of someone and a voice: the same video comes back with the mouth speaking that voice."
    heading = f'<header class="ls-header"><h1>{TITLE}</h1><p>{about}</p></header>{notice_html(visits.nets)}'
    video = {"sources": ["upload", "webcam"], "height": BOX_HEIGHT, "elem_id": "ls-video"}
    audio = {"sources": ["upload", "microphone"], "type": "filepath", "elem_id": "ls-audio"}
    audio |= supported(gr.Audio.__init__, NO_SHARING)
    faces = {"columns": 3, "height": "auto", "elem_id": "ls-faces", "visible": False}
    part = {}
    with gr.Row(elem_id="ls-main"):
        with gr.Column(elem_id="ls-head"):
            gr.HTML(heading)
        with gr.Column(elem_id="ls-inputs"):
            with gr.Row():
                part["video"] = gr.Video(label=f"Video, {size}", min_width=220, **video)
                part["audio"] = gr.Audio(label=f"Voice, {size}", min_width=220, **audio)
            with gr.Row():
                part["run"] = gr.Button("Run", variant="primary", min_width=120)
                part["cancel"] = gr.Button("Cancel", variant="stop", interactive=False, min_width=120)
            with gr.Row():
                part["look"] = gr.Button("Preview the face", min_width=120)
                part["sample"] = gr.Button("Use the sample clip", min_width=120)
        with gr.Column(elem_id="ls-results"):
            part["status"] = gr.HTML(message_html("The result appears here.", "empty"))
            part["preview"] = gr.HTML(visible=False)
            part["player"] = gr.HTML(visible=False)
            part["download"] = gr.DownloadButton("Download the result", visible=False)
            part["gallery"] = gr.Gallery(label="Where the face is", **faces)
        with gr.Column(elem_id="ls-settings"):
            part["controls"] = lay_out_controls(gr, visits)
    return Parts(**part)


def lay_out_controls(gr: ModuleType, visits: Sessions) -> list[Any]:
    """The settings: the usual ones in view, the others folded."""
    made = {}

    def place(where: str) -> None:
        controls = [control for control in visits.controls if control.place == where]
        for k in range(0, len(controls), 2):
            with gr.Row():
                for control in controls[k : k + 2]:
                    made[control.name] = component(gr, control, visits.options[control.name])

    place(USUAL)
    if any(control.place == RESTORATION for control in visits.controls):
        with gr.Accordion("Face restoration and size", open=False):
            place(RESTORATION)
    with gr.Accordion("More settings", open=False):
        place(MORE)
    return [made[control.name] for control in visits.controls]


def component(gr: ModuleType, control: Control, option: Option) -> Any:
    """One setting, with the option's default and explanation."""
    info = option.help[0].upper() + option.help[1:]
    if control.file:
        return gr.File(label=f"{control.label}: {option.help}", type="filepath", file_types=["image"], height=120)
    about = {"label": control.label, "info": info, "value": option.default, "min_width": 220}
    if option.kind is bool:
        return gr.Checkbox(**about)
    if option.slider is not None:
        low, high, step = option.slider
        return gr.Slider(low, high, step=step, **about)
    if option.choices is not None:
        choices = [*([] if option.default is not None else [NONE]), *option.choices]
        return gr.Dropdown(choices, **{**about, "value": option.default or NONE})
    if option.kind is str:
        return gr.Dropdown(list(FACES), allow_custom_value=True, **about)
    if option.default is None:
        about |= {"value": 0, "info": info.replace("(default:", "(0:")}
    return gr.Number(precision=0 if option.kind is int else None, **about)
