"""Ports where no camera answers: a server that never says a word, one that talks nonsense, and one that refuses."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

HOST = "127.0.0.1"
GARBAGE = bytes(range(256)) * 4


def free_port() -> int:
    """A TCP port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def refused_port() -> Iterator[int]:
    """A TCP port that refuses connections and that nobody else can take meanwhile."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))  # bound but not listening
        yield int(taken.getsockname()[1])


class MuteServer:
    """Takes connections and never answers, or answers everything it is told with the same bytes.

    Args:
        answer: what is sent back for whatever arrives; empty: silence.
        accept: False leaves the accepting to the kernel: clients connect, and nobody ever reads what they say.
    """

    def __init__(self, answer: bytes = b"", *, accept: bool = True) -> None:
        self._answer, self._accept = answer, accept
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._stopped = False

    def __enter__(self) -> MuteServer:
        self._listener = socket.create_server((HOST, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        if self._accept:
            self._run(self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._stopped = True
            sockets = [self._listener, *self._open]
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads it
        for thread in self._threads:
            thread.join()
        for each in sockets:
            each.close()

    @property
    def connections(self) -> int:
        """How many clients have been taken since the start."""
        return len(self._open)

    def url(self, scheme: str, path: str = "/live") -> str:
        """An address of this server, such as rtsp://127.0.0.1:40123/live."""
        return f"{scheme}://{HOST}:{self.port}{path}"

    def _take(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._stopped:
                    client.close()
                    return
                self._open.append(client)
                self._run(self._listen_to, client)

    def _listen_to(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(65536):
                client.sendall(self._answer)

    def _run(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, name="mute server", daemon=True)
        self._threads.append(thread)
        thread.start()
