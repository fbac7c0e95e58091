"""An HTTP server that takes webhooks: it remembers what was posted, and answers as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any, NamedTuple

from tests.servers.listener import Listener
from tests.servers.mute import HOST, free_port


class Post(NamedTuple):
    """What a client has posted."""

    at: float
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def record(self) -> dict[str, Any]:
        """The body, read as JSON."""
        read: dict[str, Any] = json.loads(self.body)
        return read


@dataclass(frozen=True)
class Answer:
    """How one request is answered."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    hang: bool = False
    """Answer nothing until the server stops."""
    close: bool = False
    """Close the connection instead."""


class HookServer:
    """A server on a port that stays the same; a context manager.

    `script` holds the answers of the next requests; where it is empty, `otherwise` is the answer.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.posts: list[Post] = []
        self.script: deque[Answer] = deque()
        self.otherwise = Answer()
        self._changed = threading.Condition()
        self._stopping = False
        self._listener: _Listener | None = None

    def url(self, path: str = "/hook", login: str = "") -> str:
        """The address."""
        return f"http://{login}{HOST}:{self.port}{path}"

    @property
    def taken(self) -> list[Post]:
        """What was answered with 2xx."""
        return [post for post in list(self.posts) if 200 <= post.status < 300]

    def until(self, condition: Callable[[], bool], within_s: float = 20.0) -> None:
        """Wait until what was posted fulfils a condition."""
        with self._changed:
            assert self._changed.wait_for(condition, within_s), [(post.status, post.body) for post in self.posts[-10:]]

    def answer(self, headers: dict[str, str], body: bytes) -> Answer:
        """Note a request; return how to answer it."""
        with self._changed:
            answer = self.script.popleft() if self.script else self.otherwise
            status = 0 if answer.hang or answer.close else answer.status
            self.posts.append(Post(time.monotonic(), headers, body, status))
            self._changed.notify_all()
            while answer.hang and not self._stopping:
                self._changed.wait()
            return answer

    def start(self) -> None:
        """Listen."""
        self._stopping = False
        self._listener = _Listener(self)
        self._listener.begin()

    def stop(self) -> None:
        """Close the port and every connection; from now on connections are refused."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        listener.end()

    def __enter__(self) -> HookServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Listener(Listener):
    def __init__(self, server: HookServer) -> None:
        super().__init__((HOST, server.port), _Connection)
        self.hooks = server


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.hooks.answer(dict(self.headers.items()), body)
        if answer.hang or answer.close:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing on standard error."""
