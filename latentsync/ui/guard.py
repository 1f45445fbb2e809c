"""What stands before gradio: refusals in sentences, and a page that asks no other server for anything."""

import json
import re
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ..errors import FileError, InputError

PREFIX = "latentsync_ui_"
DAY = 24 * 3600.0  # seconds


class Folder:
    """A new folder in `parent` (None: the system's temp folder) that only this user may enter; `close` removes it.

    It holds everything that a page keeps. `path` is without symbolic links.
    """

    def __init__(self, parent: str | Path | None = None):
        if parent is not None and not Path(parent).is_dir():
            raise FileError(f"{parent} is not a folder: create it first, or give another --folder")
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()

    def holds(self, path: str | Path) -> bool:
        """Whether `path` lies in here, after `..` and symbolic links."""
        try:
            return Path(path).resolve().is_relative_to(self.path)
        except (OSError, RuntimeError, ValueError):  # too long, a circle of links, a zero byte
            return False

    def uploaded(self, value: object, what: str) -> Path:
        """The file that a visitor gave as `what`: a path, or gradio's record of a file."""
        path = value.get("path") if isinstance(value, Mapping) else value
        if not path:
            raise InputError(f"there is no {what}: upload one, record one, or use the sample clip")
        if not isinstance(path, str) or not self.holds(path) or not Path(path).is_file():
            raise InputError(f"the {what} {Path(str(path)).name!r} was not uploaded on this page: upload it again")
        return Path(path).resolve()

    def new_file(self, name: str) -> Path:
        """A path called `name` in a folder of its own, whose name nobody can guess."""
        return Path(tempfile.mkdtemp(dir=self.path)) / name

    def drop(self, path: Path) -> None:
        """Remove what `new_file` gave."""
        shutil.rmtree(path.parent, ignore_errors=True)

    def without_paths(self, sentence: str) -> str:
        """`sentence` with files of this folder called by their name alone."""
        return re.sub(re.escape(str(self.path)) + r"[\\/](?:[^\\/\s]+[\\/])*", "", sentence)

    def sweep(self, age: float = DAY) -> None:
        """Remove files that were last written more than `age` seconds ago, and folders that this leaves empty."""
        oldest = time.time() - age
        for path in sorted(self.path.rglob("*"), reverse=True):  # what is in a folder comes before the folder
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()) and path.stat().st_mtime < oldest:
                    path.rmdir()
            elif path.lstat().st_mtime < oldest:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)


GB = 2**30  # bytes, as gradio counts them
FORM = 2**20  # bytes by which a form with a file may be longer than the file
MOST_JSON = 2**20  # bytes of a request that is no upload
FILE_ROUTES = ("/file=", "/file/")
# 'unsafe-eval' is for gradio's templates; everything comes from this server all the same.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
]


class Guard:
    """ASGI middleware: only files in `folder` may be read and named, and uploads have at most `limit` bytes."""

    def __init__(self, app: Callable[..., Awaitable[None]], folder: Folder, limit: int):
        self.app, self.folder, self.limit = app, folder, limit

    async def __call__(self, scope: Mapping[str, Any], receive: Callable, send: Callable) -> None:
        from starlette.responses import JSONResponse

        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        unread: list[dict[str, Any]] = []  # a body that was read here, for the application to read again

        async def once_more() -> dict[str, Any]:
            return unread.pop() if unread else await receive()

        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        refused = self._unreadable(scope) or self._too_large(scope)
        if refused is None and scope["method"] == "POST" and _type(scope) == "application/json":
            body = await _body(receive)
            refused = self._foreign(body)
            unread = [{"type": "http.request", "body": body, "more_body": False}]
        if refused is None:
            await self.app(scope, once_more, with_headers)
            return
        status, sentence = refused
        # Gradio's clients show the sentence when it has the form of a refused input.
        detail = {"__type__": "validate", "is_valid": False, "parameter_name": "file", "message": sentence}
        answer = JSONResponse({"detail": [detail] if status == 422 else sentence}, status)
        await answer(scope, receive, with_headers)

    def _unreadable(self, scope: Mapping[str, Any]) -> tuple[int, str] | None:
        """A file that is asked for and does not lie in the folder."""
        path = scope["path"]
        for route in FILE_ROUTES:
            if route in path:
                name = path.split(route, 1)[1]
                inside = all(self.folder.holds(part) for part in (name, unquote(name)))
                return None if inside else (403, "only files that were uploaded or made on this page can be read")
        if "/proxy=" in path:
            return 403, "this page fetches nothing from other servers"
        return None

    def _too_large(self, scope: Mapping[str, Any]) -> tuple[int, str] | None:
        """An upload that says that it is too large; gradio stops those that do not."""
        length = int(dict(scope["headers"]).get(b"content-length", b"0") or 0)
        if _type(scope) == "multipart/form-data" and length > self.limit + FORM:
            return 413, too_large(length, self.limit)
        return None

    def _foreign(self, body: bytes) -> tuple[int, str] | None:
        """A request that is no press of a button, or that names a file which was not uploaded."""
        if len(body) > MOST_JSON:
            return 413, f"the request has more than {MOST_JSON} bytes: give files as uploads"
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return 400, "the request is not JSON"
        if not isinstance(content, dict):
            return None
        for path in _paths(content.get("data")):
            if "://" in path:
                return 422, f"{path} is an address: upload the file itself, this page fetches nothing from elsewhere"
            if not self.folder.holds(path):
                return 422, f"{path} was not uploaded on this page: upload it"
        return None


def too_large(size: int, limit: int) -> str:
    """Why a file of `size` bytes is refused."""
    return f"the file is {in_words(size)}, and this page takes up to {in_words(limit)}: cut or compress it first"


def in_words(size: int) -> str:
    """A number of bytes, as people say it."""
    return f"{size / GB:.3g} GB" if size >= GB else f"{1024 * size / GB:.3g} MB"


def _paths(data: Any) -> Iterator[str]:
    """The paths of all records of files in JSON data, and texts that could be meant as paths."""
    if isinstance(data, dict):
        if isinstance(data.get("path"), str):
            yield data["path"]
        yield from (path for value in data.values() if isinstance(value, list | dict) for path in _paths(value))
    elif isinstance(data, list):
        yield from (path for value in data for path in _paths(value))
    elif isinstance(data, str) and ("/" in data or "\\" in data):
        yield data


def _type(scope: Mapping[str, Any]) -> str:
    kind = dict(scope["headers"]).get(b"content-type", b"")
    return kind.decode("latin-1").partition(";")[0].strip().lower()


async def _body(receive: Callable) -> bytes:
    """A whole request, up to `MOST_JSON` bytes."""
    parts, more = [], True
    while more and sum(map(len, parts)) <= MOST_JSON:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
