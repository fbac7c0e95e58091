"""A server that answers one byte at a time: never silent, never done."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from types import TracebackType

from tests.servers.mute import HOST


class DripServer:
    """Reads each request and drips the same answer; a context manager.

    Args:
        answer: its bytes.
        every_s: between two of them.
        context: encrypts; None: nothing does.
    """

    def __init__(self, answer: bytes, every_s: float, context: ssl.SSLContext | None = None) -> None:
        self._answer, self._every_s, self._context = answer, every_s, context
        self.requests = 0
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def until(self, condition: Callable[[], bool], within_s: float) -> None:
        """Wait until what was asked fulfils a condition."""
        with self._changed:
            assert self._changed.wait_for(condition, within_s), f"{self.requests} requests"

    def __enter__(self) -> DripServer:
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._begin(self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _begin(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            while not self._over.is_set():
                self._begin(self._drip, self._listener.accept()[0])

    def _drip(self, connection: socket.socket) -> None:
        connection.settimeout(5)
        with contextlib.suppress(OSError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection:
                connection.recv(65536)
                with self._changed:
                    self.requests += 1
                    self._changed.notify_all()
                for byte in self._answer:
                    if self._over.is_set():
                        return
                    connection.sendall(bytes([byte]))
                    time.sleep(self._every_s)
