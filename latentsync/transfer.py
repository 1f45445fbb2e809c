"""One file over HTTP into a `.part`: resumable, cancellable, and checked against its size and SHA-256.

`huggingface_hub` says what a file of the hub has to be and gives the token. Its `hf_hub_download` does not fetch the
bytes: recent versions delete an unfinished file, here 5 GB, and older ones can report no progress nor be cancelled.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
from huggingface_hub import get_hf_file_metadata
from huggingface_hub.utils import build_hf_headers

from .files import file_sha256

logger = logging.getLogger(__name__)

CHUNK = 1 << 18  # bytes between two reports of progress, which is where a download can be cancelled
TIMEOUT = 30.0  # seconds without a byte

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


def hub_states(url: str) -> Expected:
    """Size and SHA-256 of a file of the hub by its headers; a small file, which git keeps, has no SHA-256 there.

    Raises:
        ConnectionError: the hub cannot be reached or refuses.
    """
    try:
        metadata = get_hf_file_metadata(url)
    except (OSError, httpx.HTTPError, httpx.InvalidURL) as error:  # before 1.0 they are OSErrors
        raise ConnectionError(f"{url} could not be read ({_reason(error)})") from error
    return Expected(metadata.size, metadata.etag if re.fullmatch(r"[0-9a-f]{64}", metadata.etag or "") else None)


def fetch(url: str, part: Path, expected: Expected, *, hub: bool, name: str, progress: Progress | None = None) -> None:
    """Fetches `url` into `part`, going on behind the bytes that are there, and checks the whole.

    A connection that breaks is taken up again as long as each attempt brings something. What has arrived stays in
    `part` when it fails, unless it is wrong. `hub`: with the user's token, which a redirect elsewhere does not get.

    Raises:
        ConnectionError: the address cannot be reached, refuses, or the connection keeps breaking.
        ValueError: wrong size or checksum; `part` is removed.
    """
    while True:
        before = bytes_in(part)
        try:
            wrong = _append(url, part, expected, build_hf_headers() if hub else {}, name, progress)
            break
        except httpx.HTTPStatusError as error:
            answer = f"{error.response.status_code} {error.response.reason_phrase}"
            raise ConnectionError(f"{url} answered {answer}") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if bytes_in(part) <= before:
                raise ConnectionError(f"{url} could not be read ({_reason(error)})") from error
            logger.info("%s: %s, going on at byte %d", url, _reason(error), bytes_in(part))
    if not wrong and expected.sha256 and (actual := file_sha256(part)) != expected.sha256:
        wrong = f"SHA-256 {actual}, expected {expected.sha256}"
    if wrong:
        part.unlink(missing_ok=True)
        raise ValueError(f"{url} gave {wrong}: the file was removed, fetch it again or from another mirror")


def _append(url: str, part: Path, expected: Expected, headers: dict, name: str, progress: Progress | None) -> str:
    """Adds to `part` what it lacks; returns what is wrong with the size, "" for nothing."""
    start = bytes_in(part)
    if start and start == expected.size:
        return ""
    headers = headers | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with httpx.stream("GET", url, headers=headers, follow_redirects=True, timeout=TIMEOUT) as reply:
        if reply.status_code == 416 and start:
            return f"no byte {start:,}"
        reply.raise_for_status()
        if reply.headers.get("Content-Type", "").startswith("text/html"):
            raise ConnectionError(f"{url} answered with a web page")
        done = start if reply.status_code == 206 else 0
        length = reply.headers.get("Content-Length")
        size = done + int(length) if length else expected.size
        if expected.size not in (None, size):
            if not done:  # says nothing against what is there already
                raise ValueError(f"{url} has {size:,} bytes, expected {expected.size:,}: fetch it from another mirror")
            return f"{size:,} bytes, expected {expected.size:,}"
        with part.open("ab" if done else "wb") as file:
            for data in reply.iter_bytes(CHUNK):
                file.write(data)
                done += len(data)
                if size and done > size:
                    return f"more than {size:,} bytes"
                if progress is not None:
                    progress(done, size, name)
    if size and done < size:
        raise httpx.ReadError(f"cut after {done:,} of {size:,} bytes")
    return ""


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def bytes_in(path: Path) -> int:
    """Size of a file, 0 without it."""
    return path.stat().st_size if path.is_file() else 0
