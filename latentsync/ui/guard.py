"""What stands before gradio: who may ask, for what, and how much; refusals are sentences."""

import asyncio
import json
import re
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from ipaddress import ip_address
from typing import Any
from urllib.parse import parse_qs, unquote

from .folder import FolderFull, in_words
from .visitors import Sessions

FORM = 2**20  # bytes by which a form with a file may be longer than the file
MOST_JSON = 2**20  # bytes of a request that is no upload
DECISIVE = (b"host", b"origin", b"content-type", b"content-length")
FILE_ROUTES = ("/file=", "/file/")
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
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


class Refused(Exception):
    """Ends a request with an HTTP status and a sentence."""

    def __init__(self, status: int, sentence: str):
        self.status, self.sentence = status, sentence


class Hosts:
    """The names by which browsers may call a page that listens at the address `listening`.

    A name that an attacker owns can be pointed at this machine, and his pages then count as this one's own. An
    address cannot, so a page for the whole network takes any. `others` are names that were asked for.
    """

    def __init__(self, listening: str, others: Collection[str] = ()):
        literal = f"[{listening}]" if ":" in listening else listening
        self.others = {name.lower() for name in others}
        self.any_address = listening in ("", "0.0.0.0", "::")
        self.names = {literal.lower(), *LOOPBACK, *self.others}
        if not literal.startswith(("127.", "localhost", "[::1]")):
            name = socket.gethostname().lower()
            self.names |= {name, f"{name.partition('.')[0]}.local"}

    def check(self, headers: Mapping[bytes, bytes]) -> None:
        """Refuse a request that another site's page sent, or that was sent to another name."""
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if not self._known(host):
            raise Refused(403, f"this page is not at {host or 'no name'!r}: start it with --allow_host for that name")
        origin = headers.get(b"origin")
        if origin is not None:
            site = origin.decode("latin-1").lower().partition("://")[2]
            if site != host and _name(site) not in self.others:
                raise Refused(403, "another site's page sent this request: open this page itself")
        elsewhere = headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site")
        if elsewhere and origin is None and headers.get(b"sec-fetch-mode") != b"navigate":  # a link may lead here
            raise Refused(403, "another site's page sent this request: open this page itself")

    def _known(self, host: str) -> bool:
        name = _name(host)
        if name in self.names:
            return True
        try:
            return self.any_address and bool(ip_address(name.strip("[]")))
        except ValueError:
            return False


def _name(host: str) -> str:
    """The host without its port; empty if it is none."""
    found = HOST.fullmatch(host)
    return found[1] if found else ""


class Guard:
    """ASGI middleware: what gradio gets comes from the page's own visitors, is bounded, and names only their files.

    An upload has at most `limit` bytes. `jobs` are the functions that begin a job, by name and by number.
    """

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        visits: Sessions,
        limit: int,
        hosts: Hosts,
        jobs: Collection[str | int],
    ):
        self.app, self.visits, self.limit, self.hosts, self.jobs = app, visits, limit, hosts, jobs

    async def __call__(self, scope: Mapping[str, Any], receive: Callable, send: Callable) -> None:
        from starlette.responses import JSONResponse

        if scope["type"] == "websocket":  # gradio has none
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        with ExitStack() as during:  # what holds until the answer is complete
            try:
                receive = await self._checked(scope, receive, during)
            except Refused as refused:
                # Gradio's clients show the sentence when it has the form of a refused input.
                detail = {"__type__": "validate", "is_valid": False, "parameter_name": "file"}
                detail = [detail | {"message": refused.sentence}] if refused.status == 422 else refused.sentence
                await JSONResponse({"detail": detail}, refused.status)(scope, receive, with_headers)
                return
            await self.app(scope, receive, with_headers)

    async def _checked(self, scope: Mapping[str, Any], receive: Callable, during: ExitStack) -> Callable:
        """What the application is to receive, if the request is a fair one."""
        headers, path = dict(scope["headers"]), scope["path"]
        if any([name for name, _ in scope["headers"]].count(decisive) > 1 for decisive in DECISIVE):
            raise Refused(400, "the request has a header twice")  # of which gradio might believe the other one
        self.hosts.check(headers)
        if scope["method"] not in ("GET", "HEAD", "OPTIONS", "POST"):
            raise Refused(405, f"this page knows no {scope['method']}")
        self._check_file(path)
        if scope["method"] != "POST":
            during.enter_context(self.visits.presence.of(*_watching(scope)))
            return receive
        kind = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip().lower()
        if kind == "multipart/form-data" and path.rstrip("/").endswith("/upload"):
            # In pieces it may be of any length, whatever it says beside that.
            length = b"" if b"transfer-encoding" in headers else headers.get(b"content-length", b"")
            await self._check_upload(length.decode("latin-1"), during)
            return _whole(receive)
        if kind != "application/json":
            raise Refused(
                415, f"{kind or 'a request without a type'} is not taken: send application/json, or an upload"
            )
        body = await _body(receive)
        self._check_call(path, body)
        unread = [{"type": "http.request", "body": body, "more_body": False}]

        async def once_more() -> dict[str, Any]:
            return unread.pop() if unread else await receive()

        return once_more

    def _check_file(self, path: str) -> None:
        """Refuse a file that does not lie in the folder."""
        for route in FILE_ROUTES:
            name = path.partition(route)[2]
            if route in path and not all(self.visits.folder.holds(part) for part in (name, unquote(name))):
                raise Refused(403, "only files that were uploaded or made on this page can be read")
        if "/proxy=" in path:
            raise Refused(403, "this page fetches nothing from other servers")

    async def _check_upload(self, length: str, during: ExitStack) -> None:
        """Refuse an upload that is too large: the server sees to it that no more comes than was announced."""
        if not length.isdecimal():
            raise Refused(411, "the upload does not say how long it is: send it with a Content-Length")
        if int(length) > self.limit + FORM:
            raise Refused(413, too_large(int(length), self.limit))
        room = self.visits.folder.room(int(length))
        try:
            await asyncio.to_thread(room.__enter__)
        except FolderFull as full:
            raise Refused(507, str(full)) from full
        during.push(room)

    def _check_call(self, path: str, body: bytes) -> None:
        """Refuse what is no call, names a file that was not uploaded, or would make the line too long."""
        if len(body) > MOST_JSON:
            raise Refused(413, f"the request has more than {MOST_JSON} bytes: give files as uploads")
        try:
            content = json.loads(body)
            names = list(_paths(content))
        except (ValueError, RecursionError):
            raise Refused(400, "the request is not JSON") from None
        for name in names:
            if "://" in name:
                sentence = f"{name} is an address: upload the file itself, this page fetches nothing from elsewhere"
                raise Refused(422, sentence)
            if not self.visits.folder.holds(name):
                raise Refused(422, f"{name} was not uploaded on this page: upload it")
        number = content.get("fn_index") if isinstance(content, dict) else None
        begins = path.rstrip("/").rpartition("/")[2] in self.jobs or (isinstance(number, int) and number in self.jobs)
        if begins and self.visits.queue.full:
            raise Refused(429, self.visits.queue.full)


def too_large(size: int, limit: int) -> str:
    """Why a file of `size` bytes is refused."""
    return f"the file is {in_words(size)}, and this page takes up to {in_words(limit)}: cut or compress it first"


def _watching(scope: Mapping[str, Any]) -> list[str]:
    """The session, or the event, whose news a request waits for."""
    path = scope["path"].rstrip("/")
    if path.endswith("/queue/data"):
        return parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [])
    return [path.rpartition("/")[2]] if "/heartbeat/" in path or "/call/" in path else []


def _paths(data: Any) -> Iterator[str]:
    """The paths of all records of files in JSON data, and texts that could be meant as paths."""
    if isinstance(data, dict):
        if isinstance(data.get("path"), str):
            yield data["path"]
            # The record's other texts, such as the address it was shown at, are not read by gradio.
            data = {name: value for name, value in data.items() if isinstance(value, list | dict)}
        yield from (path for value in data.values() for path in _paths(value))
    elif isinstance(data, list):
        yield from (path for value in data for path in _paths(value))
    elif isinstance(data, str) and ("/" in data or "\\" in data):
        yield data


def _whole(receive: Callable) -> Callable:
    """Tells gradio that a form is broken when its sender leaves: it then removes what it has of the files."""
    from starlette.formparsers import MultiPartException

    complete = False

    async def rest() -> dict[str, Any]:
        nonlocal complete
        message = await receive()
        if message["type"] == "http.disconnect" and not complete:
            raise MultiPartException("the upload was cut off")
        complete = not message.get("more_body", False)
        return message

    return rest


async def _body(receive: Callable) -> bytes:
    """A whole request, up to `MOST_JSON` bytes."""
    parts, more = [], True
    while more and sum(map(len, parts)) <= MOST_JSON:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)
