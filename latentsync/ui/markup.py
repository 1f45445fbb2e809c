"""The pieces of the page that are HTML of our own. What comes from visitors and files is escaped."""

from html import escape
from pathlib import Path
from urllib.parse import quote

from .job import Status
from .models import ModelCache

FETCH = "python -m latentsync download --version 1.5"


def notice_html(nets: ModelCache) -> str:
    """Which model the page works with; the embedded one says what it is for, and how to get the real one."""
    if not nets.embedded:
        return f'<p class="ls-notice">Model: {escape(str(nets.folder.name))} on {escape(str(nets.device))}.</p>'
    return (
        '<p class="ls-notice"><b>No checkpoint here:</b> this is the embedded model, which knows drawn faces only: '
        f"on a real one the result will look wrong. <code>{FETCH}</code> fetches the model for real faces.</p>"
    )


def status_html(status: Status) -> str:
    """How far a job is: a bar and words; and how many pieces `preview_html` may play."""
    if status.cancelling:
        return _status("Cancelling", "<progress></progress>")
    if status.before:
        ahead = "one run is" if status.before == 1 else f"{status.before} runs are"
        return _status(f"Waiting: {ahead} ahead of yours", "<progress></progress>")
    if not status.phase:
        return _status("Starting", "<progress></progress>")
    words = status.phase[0].upper() + status.phase[1:]
    if not status.total:
        return _status(words, "<progress></progress>")
    words += f", {int(status.done)} of {status.total} frames"
    if status.seconds_left is not None and status.done < status.total:
        words += f", {_duration(status.seconds_left)} left"
    bar = f'<progress max="{status.total}" value="{status.done:.2f}"></progress>'
    return _status(words, bar, status.pieces)


def message_html(words: str, kind: str = "done") -> str:
    """How a job ended; `kind` is done, cancelled or failed."""
    return f'<div class="ls-status ls-{kind}" role="status"><p>{escape(words)}</p></div>'


def player_html(before: Path, after: Path) -> str:
    """The player of web/player.js for two videos in step."""
    return f'<latentsync-player before="{_address(before)}" after="{_address(after)}"></latentsync-player>'


def preview_html(folder: Path) -> str:
    """The player of web/player.js for what is done so far: 0.mp4, 1.mp4, ..., as many as the status says."""
    return f'<latentsync-preview src="{_address(folder)}/"></latentsync-preview>'


def _address(path: Path) -> str:
    """Where gradio serves a file of its folder, from the address of the page."""
    return escape("gradio_api/file=" + quote(path.as_posix(), safe="/:"))


def _status(words: str, bar: str, pieces: int = 0) -> str:
    about = f'class="ls-status" data-pieces="{pieces}" role="status" aria-live="polite"'
    return f"<div {about}><p>{escape(words)}</p>{bar}</div>"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(1, round(seconds)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
