"""Attempt: a limit for all that a request of `requests` takes.

Its `timeout` is the wait for each piece of an answer: a server that sends a byte of its header now and then holds a
request for ever. Here a timer ends the connection beneath it, so that the waiting thread gets an error.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from requests import Session
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

if TYPE_CHECKING:
    from urllib3 import PoolManager


class Attempt:
    """The request that a session makes now: one at a time."""

    def __init__(self) -> None:
        self.is_over = False
        """Whether the time is up."""
        self.connection: HTTPConnection | None = None
        """The connection that it uses, as soon as it has one."""

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """End what happens inside after so long, by an error of the connection."""
        self.is_over, self.connection = False, None
        timer = threading.Timer(seconds, self._end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def uses(self, connection: HTTPConnection) -> None:
        """Take note of the connection.

        Raises:
            TimeoutError: the time is up.
        """
        self.connection = connection
        if self.is_over:
            raise TimeoutError("the time for the request is up")

    def _end(self) -> None:
        self.is_over = True
        connection = None if self.connection is None else self.connection.sock
        if connection is not None:
            with contextlib.suppress(OSError):  # it is closed already
                socket.socket.shutdown(connection, socket.SHUT_RDWR)  # without TLS's goodbye, which may wait, too


def watched(session: Session) -> Attempt:
    """Have all connections of a session watched; return by what."""
    attempt = Attempt()

    class Watched(HTTPConnection):
        def connect(self) -> None:
            attempt.uses(self)
            super().connect()
            attempt.uses(self)

        def request(self, *arguments: Any, **options: Any) -> None:
            attempt.uses(self)
            super().request(*arguments, **options)

    class WatchedSecurely(Watched, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Watched

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = WatchedSecurely

    class Adapter(HTTPAdapter):
        def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
            super().init_poolmanager(*arguments, **options)
            self._watch(self.poolmanager)

        def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
            manager = super().proxy_manager_for(*arguments, **options)
            self._watch(manager)
            return manager

        def _watch(self, manager: PoolManager) -> None:
            manager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}

    for scheme in ("http://", "https://"):
        session.mount(scheme, Adapter())
    return attempt
