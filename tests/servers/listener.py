"""A listening HTTP server that can drop all its connections at once, as one does that is killed."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from http.server import ThreadingHTTPServer
from typing import Any


class Listener(ThreadingHTTPServer):
    """Knows its open connections."""

    daemon_threads = False  # closing the server waits for the threads of connections

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def begin(self) -> None:
        """Serve, on a thread of its own."""
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), name="http server")
        self._thread.start()

    def end(self) -> None:
        """Close the port and every connection; from now on connections are refused."""
        self.shutdown()
        self._thread.join()
        self.drop()
        self.server_close()

    def drop(self) -> None:
        """End all connections."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a connection closed by either side is no error
            super().handle_error(request, client_address)
