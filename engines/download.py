"""Files from the network: fetched in pieces, checked, and never half there.

Everything is written below a scratch folder inside the cache, which is removed however the download ends; only
`store` gives a file its final name, after its sha256 was checked, in one rename. That makes an interrupted download
leave nothing and several processes fetching the same model safe: each has its own scratch folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import requests

from engines.errors import FrameloomError, ModelError
from engines.masking import mask_passwords

Progress = Callable[[int, "int | None"], None]
"""Called with the bytes that have arrived and the bytes expected (None: the server does not say)."""

Result = TypeVar("Result")

TIMEOUT_S = (10.0, 60.0)  # to connect; between two pieces
RETRY_PAUSES_S = (0.5, 1.5)
CHUNK_BYTES = 1 << 18
SCRATCH_PREFIX = ".download-"
SCRATCH_MAX_AGE_S = 24 * 3600.0  # older: its process was killed, nobody is writing there


def offline() -> bool:
    """Whether FRAMELOOM_OFFLINE forbids the network."""
    return os.environ.get("FRAMELOOM_OFFLINE", "") not in ("", "0")


def short_reason(error: BaseException) -> str:
    """Say in a few words why a download failed: the innermost cause, not the chain of wrappers."""
    if isinstance(error, FrameloomError):
        return str(error)
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"HTTP {error.response.status_code} {error.response.reason}".strip()
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    if isinstance(error, OSError) and error.strerror:
        return mask_passwords(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    return mask_passwords(str(error)) or type(error).__name__


def retried(attempt: Callable[[], Result]) -> Result:
    """Call `attempt`, again after a pause where the connection failed (but not where its certificate was refused)."""
    for pause_s in RETRY_PAUSES_S:
        try:
            return attempt()
        except requests.exceptions.SSLError:
            raise
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            time.sleep(pause_s)
    return attempt()


def download(
    session: requests.Session, url: str, target: Path, *, max_bytes: int, progress: Progress | None = None
) -> None:
    """Stream `url` into `target`, trying again where the connection breaks.

    Raises:
        requests.RequestException: no connection, an HTTP error, or fewer bytes than announced.
        ModelError: more than `max_bytes` arrived.
    """

    def attempt() -> None:
        with session.get(url, stream=True, timeout=TIMEOUT_S, headers={"Accept-Encoding": "identity"}) as response:
            response.raise_for_status()
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            done = 0
            with target.open("wb") as file:
                for chunk in response.iter_content(CHUNK_BYTES):
                    done += len(chunk)
                    if done > max_bytes:
                        raise ModelError(f"sent more than the expected {max_bytes} bytes")
                    file.write(chunk)
                    if progress is not None:
                        progress(done, total)

    retried(attempt)


@contextlib.contextmanager
def scratch_folder(cache: Path) -> Iterator[Path]:
    """Give a new empty folder inside `cache`, removed at the end; also remove what a killed process left there."""
    cache.mkdir(parents=True, exist_ok=True)
    for leftover in cache.glob(f"{SCRATCH_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > SCRATCH_MAX_AGE_S:
                shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=cache) as name:
        yield Path(name)


def store(scratch: Path, final: Path) -> None:
    """Give a complete file its final name: on disk first, then renamed, so no reader sees a part of it."""
    with scratch.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(scratch, final)
