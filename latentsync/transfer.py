"""One file over HTTP: resumable, with the size and checksum that the server states, on the standard library alone."""

import hashlib
import http.client
import logging
import re
import shutil
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 5  # each but the last has to bring something
MAX_REDIRECTS = 8

#: Called with bytes done, bytes in all (None where the server does not say) and the file's name.
Progress = Callable[[int, int | None, str], None]


@dataclass(frozen=True)
class Expected:
    """What a whole file has to be: bytes and lower-case hex SHA-256, None where nobody says."""

    size: int | None = None
    sha256: str | None = None

    def __or__(self, other: "Expected") -> "Expected":
        """These facts, and the other's where these are unknown."""
        return Expected(self.size or other.size, self.sha256 or other.sha256)


def fetch(url: str, part: Path, expected: Expected, *, name: str = "", progress: Progress | None = None) -> None:
    """Fetches `url` into `part`, going on behind the bytes that are there, and checks the whole.

    A connection that breaks is taken up again as long as each attempt brings something. What has arrived stays in
    `part` when it fails, unless it is wrong.

    Raises:
        ConnectionError: the address cannot be reached, refuses, or the connection keeps breaking.
        ValueError: wrong size or checksum; `part` is removed.
        OSError: the disk is full.
    """
    for attempt in range(1, ATTEMPTS + 1):
        before = bytes_in(part)
        try:
            stated = _append(url, part, expected, name, progress)
            break
        except urllib.error.HTTPError as error:
            raise ConnectionError(f"{url} answered {error.code} {error.reason}") from None
        except (ConnectionError, TimeoutError, ssl.SSLError, urllib.error.URLError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if attempt == ATTEMPTS or bytes_in(part) <= before:
                raise ConnectionError(f"{url} could not be read ({reason})") from error
            logger.info("%s: %s, going on at byte %d", url, reason, bytes_in(part))
    _verify(url, part, expected | stated)


def published_size(url: str) -> int | None:
    """Bytes of the file at `url`, None where the server does not say. Raises OSError where it cannot be asked."""
    try:
        with request(url) as reply:
            return reply.stated.size
    except http.client.HTTPException as error:
        raise ConnectionError(f"{url} could not be read ({error!r})") from error


@dataclass
class Reply:
    """An answered request. `start` is the offset of the body's first byte, `body` None where nothing is left."""

    body: http.client.HTTPResponse | None
    start: int
    stated: Expected

    def __enter__(self) -> "Reply":
        return self

    def __exit__(self, *_) -> None:
        if self.body is not None:
            self.body.close()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args, **kwargs) -> None:
        return None


def request(url: str, start: int = 0) -> Reply:
    """Asks for the bytes from `start` on; a server without ranges answers from 0.

    Redirects are followed by hand: the hub states size and SHA-256 of a large file (X-Linked-Size, X-Linked-Etag) on
    its redirect to the storage, and the storage does not repeat them.
    """
    opener = urllib.request.build_opener(_NoRedirect)
    linked: dict[str, str] = {}
    for _ in range(MAX_REDIRECTS):
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ConnectionError(f"not an http address: {url}")
        headers = {"User-Agent": "latentsync", "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            body = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and start:
                whole = _size(error.headers) == start
                return Reply(None, start, Expected(start, _sha256(linked))) if whole else request(url)
            if error.code not in (301, 302, 303, 307, 308) or "Location" not in error.headers:
                raise
            linked = _linked(error.headers) | linked
            url = urllib.parse.urljoin(url, error.headers["Location"])
            continue
        linked = _linked(body.headers) | linked
        size = _size({"Content-Length": linked.get("x-linked-size", "")}) or _size(body.headers)
        return Reply(body, start if body.status == 206 else 0, Expected(size, _sha256(linked)))
    raise ConnectionError(f"more than {MAX_REDIRECTS} redirects")


def _linked(headers) -> dict[str, str]:
    return {key.lower(): value for key, value in headers.items() if key.lower().startswith("x-linked-")}


def _size(headers) -> int | None:
    """Bytes of the whole file by Content-Range (`bytes 5-9/10`, `bytes */10`) or Content-Length."""
    if ranged := re.fullmatch(r"bytes .*/(\d+)", headers.get("Content-Range", "")):
        return int(ranged[1])
    length = headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _sha256(linked: dict[str, str]) -> str | None:
    """The hub's tag of a large file is its SHA-256; that of a small one is a git hash of 40 digits."""
    tag = linked.get("x-linked-etag", "").removeprefix("W/").strip('"')
    return tag.lower() if re.fullmatch(r"[0-9a-fA-F]{64}", tag) else None


def _append(url: str, part: Path, expected: Expected, name: str, progress: Progress | None) -> Expected:
    """Adds to `part` what it lacks; returns what the server states of the whole."""
    with request(url, bytes_in(part)) as reply:
        size = reply.stated.size
        if expected.size and size and expected.size != size:
            part.unlink(missing_ok=True)
            raise ValueError(f"{url} has {size:,} bytes, expected {expected.size:,}: another file was published there")
        if reply.body is None:
            return reply.stated
        if reply.body.headers.get_content_type() == "text/html":
            raise ConnectionError("the answer is a web page")
        check_space(part.parent, (size or 0) - reply.start)
        done = reply.start
        with part.open("ab" if done else "wb") as file:
            while chunk := reply.body.read1(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if progress is not None:
                    progress(done, size, name)
    if size is not None and done < size:
        raise ConnectionError(f"the connection was cut after {done:,} of {size:,} bytes")
    return reply.stated


def _verify(url: str, part: Path, expected: Expected) -> None:
    wrong = None
    if expected.size is not None and bytes_in(part) != expected.size:
        wrong = f"{bytes_in(part):,} bytes, expected {expected.size:,}"
    elif expected.sha256 is not None and (actual := file_sha256(part)) != expected.sha256:
        wrong = f"SHA-256 {actual}, expected {expected.sha256}"
    if wrong:
        part.unlink()
        raise ValueError(f"{url} gave {wrong}: the file was removed, fetch it again or from another mirror")


def check_space(folder: Path, needed: int) -> None:
    """Raises OSError where the disk of `folder` has less than `needed` bytes free."""
    there = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if needed > free:
        raise OSError(
            f"{folder} has {in_words(free)} of free space and the download needs {in_words(needed)}: make room, or "
            "choose another folder (--checkpoints)"
        )


def file_sha256(path: str | Path) -> str:
    """SHA-256 of a file in lower-case hex."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def bytes_in(path: Path) -> int:
    """Size of a file, 0 without it."""
    return path.stat().st_size if path.is_file() else 0


def in_words(size: int) -> str:
    """A number of bytes for people, in decimal units: 12 bytes, 232.6 kB, 5.0 GB."""
    if size < 1000:
        return f"{size} bytes"
    value, units = size / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while value >= 1000 and unit != "TB":
        value, unit = value / 1000, next(units)
    return f"{value:.1f} {unit}"
