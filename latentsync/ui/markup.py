"""The pieces of the page that are HTML of our own. What comes from visitors and files is escaped."""

import base64
from html import escape
from pathlib import Path
from urllib.parse import quote

import cv2
import numpy as np
import torch

from ..frames import as_uint8
from .job import Status
from .models import ModelCache

FETCH = "python -m latentsync download --version 1.5"
GLANCE = 320  # pixels of the longer side of the latest frame


def notice_html(nets: ModelCache) -> str:
    """Which model the page works with; the embedded one says what it is for, and how to get the real one."""
    if not nets.embedded:
        return f'<p class="ls-notice">Model: {escape(str(nets.folder.name))} on {escape(str(nets.device))}.</p>'
    return (
        '<p class="ls-notice"><b>No checkpoint here:</b> this is the embedded model, which knows drawn faces only: '
        f"on a real one the result will look wrong. <code>{FETCH}</code> fetches the model for real faces.</p>"
    )


def status_html(status: Status) -> str:
    """How far a job is: a bar, words, and the latest frame if there is one."""
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
    return _status(words, bar, _glance(status.frame) if status.frame is not None else "")


def message_html(words: str, kind: str = "done") -> str:
    """How a job ended; `kind` is done, cancelled or failed."""
    return f'<div class="ls-status ls-{kind}" role="status"><p>{escape(words)}</p></div>'


def player_html(before: Path, after: Path) -> str:
    """The player of web/player.js for two videos in step."""
    return f'<latentsync-player before="{_address(before)}" after="{_address(after)}"></latentsync-player>'


def _address(path: Path) -> str:
    """Where gradio serves a file of its folder, from the address of the page."""
    return escape("gradio_api/file=" + quote(path.as_posix(), safe="/:"))


def _status(words: str, bar: str, picture: str = "") -> str:
    return f'<div class="ls-status" role="status" aria-live="polite"><p>{escape(words)}</p>{bar}{picture}</div>'


def _glance(frame: torch.Tensor) -> str:
    """A small picture of a frame (h, w, 3), within the page so that no file is left behind."""
    pixels = as_uint8(frame).cpu().numpy()
    scale = min(1.0, GLANCE / max(pixels.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in pixels.shape[1::-1])
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    coded = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    source = "data:image/jpeg;base64," + base64.b64encode(np.asarray(coded).tobytes()).decode()
    return f'<img src="{source}" width="{size[0]}" height="{size[1]}" alt="The latest finished frame">'


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(1, round(seconds)), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
