"""Metrics: what a run does, for Prometheus at /metrics, and whether it is well, at /healthz, /readyz and /livez.

Nothing is counted twice: a scrape asks the run's own ledger and stations. Only what these do not keep (the last frame's
objects, zones, events) is noted here, on the sink's thread. A scrape works on its caller's thread, a few milliseconds
every now and then. Names made by models and by one's own stages are taken up to `MOST_NAMES` of a kind, the others
are counted as `other`: a store of time series pays for each. What is in the last frame and in zones is told while its
source gives frames: of one that is away or over nobody knows it, and its series are not there.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from pipeline.capture.source import SourceInfo, SourceState
from pipeline.config.sink_settings import MetricsSettings
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Frame
from pipeline.sinks.metric_families import families
from pipeline.sinks.sink import MissedEvents, Sink

if TYPE_CHECKING:
    from pipeline.runner import Runner

MOST_NAMES = 200
"""Classes, and kinds of events, that a source may have of their own."""
OTHER = "other"
MOST_CLIENTS = 8
"""Connections at a time; more are closed: a scraper needs one."""
CLIENT_S = 5.0
"""What a connection may take in all: a client that sends a sign now and then must not keep others out."""
LATENCY_BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)
INSTALL = "sinks.metrics: needs the package 'prometheus-client': pip install frameloom[metrics]"


class SourceFigures:
    """What is noted of one source; written by the sink's thread, read by scrapes."""

    def __init__(self, info: SourceInfo, began_at: float) -> None:
        """Begin without a frame.

        Args:
            info: of the source.
            began_at: monotonic seconds, from which a first frame is waited for.
        """
        self.name, self.is_live = info.name, info.live
        self.state = "connecting" if info.live else "streaming"
        self.last_frame_at: float | None = None
        self.began_at = began_at
        self.objects: dict[str, int] = {}
        self.faces: int | None = None
        self.zones: Mapping[str, Any] = {}
        self.events: Counter[str] = Counter()
        self.latency_counts = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.latency_total_s = 0.0

    def add(self, frame: Frame) -> None:
        """Note a frame."""
        if self.state == "connecting":
            self.state = "streaming"  # a source of somebody's own, which may report nothing
        latency_s = frame.free_since - frame.captured_at
        self.latency_counts[bisect.bisect_left(LATENCY_BUCKETS_S, latency_s)] += 1
        self.latency_total_s += latency_s
        self.last_frame_at = frame.captured_at
        found = Counter({} if frame.detections is None else map(frame.label, frame.detections.class_ids.tolist()))
        objects = dict.fromkeys(self.objects, 0)  # what is gone is there 0 times
        for name, count in found.items():
            key = bounded(name, objects)
            objects[key] = objects.get(key, 0) + count
        self.objects = objects
        self.faces = None if frame.faces is None else len(frame.faces)
        self.zones = {zone.name: zone for zone in frame.zones}
        self.count(frame.events)

    def count(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Count events by what they are called."""
        for event in events:
            self.events[bounded(str(event.get("event", OTHER)), self.events)] += 1

    def state_now(self, reported: SourceState | None) -> str:
        """Return its state; once it is over, what it has reported last says nothing."""
        return self.state if reported is None or self.state == "stopped" else reported.state

    def age_s(self, now: float) -> float:
        """Return how long ago the last frame was captured; before the first, how long it is waited for."""
        return max(0.0, now - (self.began_at if self.last_frame_at is None else self.last_frame_at))


def bounded(name: str, known: Mapping[str, Any]) -> str:
    """Return a name that may be a label's value: itself, or `other` where there are too many already."""
    return name if name in known or len(known) < MOST_NAMES else OTHER


class Metrics(Sink):
    """Figures and health of a run."""

    name = "metrics"

    def __init__(self, settings: MetricsSettings, runner: Callable[[], Runner]) -> None:
        """Listen to nothing yet.

        Args:
            settings: where to listen.
            runner: returns the run that it tells of.
        """
        self._settings, self._runner = settings, runner
        self._sources: Sequence[SourceInfo] = ()
        self._figures: dict[str, SourceFigures] = {}
        self._server: Server | None = None
        self._registry: Any = None
        self._scraping = threading.Lock()

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """See that the package is there and the port is free."""
        try:
            import prometheus_client
        except ImportError as error:
            raise ConfigError(INSTALL) from error
        self._sources = sources
        self._registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=self._registry)
        self._registry.register(self)
        try:
            self._listen().server_close()
        except OSError as error:
            place = f"{self._settings.host}:{self._settings.port}"
            raise ConfigError(
                f"sinks.metrics: cannot listen at {place}: {error.strerror}; name another port"
            ) from error

    def open(self) -> None:
        """Answer from now on, also while models are loaded."""
        now = time.monotonic()
        self._figures = {info.name: SourceFigures(info, now) for info in self._sources}
        try:
            self._server = self._listen()
        except OSError as error:
            place = f"{self._settings.host}:{self._settings.port}"
            raise SinkError(f"sinks.metrics: cannot listen at {place}: {error.strerror}") from error
        self._server.begin()

    def consume(self, frame: Frame) -> None:
        """Note what is in a frame."""
        self._figures[frame.source].add(frame)

    def missed(self, events: MissedEvents) -> None:
        """Count what happened in a frame that was dropped."""
        self._figures[events.source].count(events.lines)

    def end(self, source: str) -> None:
        """The source is over: its age says nothing any more."""
        self._figures[source].state = "stopped"

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.end()

    # ------------------------------------------------------------------ what is answered

    def collect(self) -> list[Any]:
        """Return all figures as they are now: what prometheus-client asks of a collector."""
        return families(self._runner(), list(self._figures.values()), LATENCY_BUCKETS_S, time.monotonic())

    def describe(self) -> list[Any]:
        """Return no figures: before the run there are none to take names from."""
        return []

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all figures as text and its content type, in the form that a scraper accepts."""
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(accept)
        with self._scraping:
            return encode(self._registry), content_type

    def health(self) -> dict[str, Any]:
        """Return whether the run is live and ready, and each source's state."""
        runner, now = self._runner(), time.monotonic()
        limit_s = self._settings.max_frame_age_s
        sources = {}
        for figures in self._figures.values():
            is_over = figures.state == "stopped"
            age_s = figures.age_s(now)
            sources[figures.name] = {
                "state": figures.state_now(runner.states.get(figures.name)),
                "live": figures.is_live,
                "last_frame_age_s": None if figures.last_frame_at is None else round(age_s, 3),
                "ok": is_over or not figures.is_live or age_s <= limit_s,
            }
        return {"live": runner.error is None, "ready": runner.is_ready, "sources": sources}

    def answer(self, path: str, accept: str) -> tuple[int, str, bytes]:
        """Return status, content type and body for a request."""
        if path == "/metrics":
            text, content_type = self.exposition(accept)
            return 200, content_type, text
        if path not in ("/healthz", "/readyz", "/livez"):
            return 404, "text/plain", b"there are /metrics, /healthz, /readyz and /livez\n"
        health = self.health()
        is_well = {
            "/livez": health["live"],
            "/readyz": health["ready"],
            "/healthz": health["live"] and health["ready"] and all(each["ok"] for each in health["sources"].values()),
        }[path]
        body = json.dumps({"status": "ok" if is_well else "failing", **health}) + "\n"
        return 200 if is_well else 503, "application/json", body.encode()

    def _listen(self) -> Server:
        host, port = self._settings.host, self._settings.port
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return Server(family, (str(address[0]), port), self.answer)


class Server(ThreadingHTTPServer):
    """Answers a few clients at a time, each on a thread; ends at once."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        family: socket.AddressFamily,
        address: tuple[str, int],
        answer: Callable[[str, str], tuple[int, str, bytes]],
    ) -> None:
        """Take the port.

        Raises:
            OSError: it is taken, or no address of this machine.
        """
        self.address_family = family
        self.answer = answer
        self._room = threading.Semaphore(MOST_CLIENTS)
        self._over = threading.Event()
        super().__init__(address, Answering)

    def server_bind(self) -> None:
        """Take the port, without a look-up of this machine's name, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def begin(self) -> None:
        """Take clients from now on."""
        threading.Thread(target=self._take, name="metrics.http", daemon=True).start()

    def end(self) -> None:
        """Take no more."""
        self._over.set()
        with contextlib.suppress(OSError):  # not everywhere
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for clients
        self.server_close()

    def _take(self) -> None:
        while not self._over.is_set():
            try:
                client, address = self.get_request()
            except OSError:  # the end, or no file handle is left
                self._over.wait(0.1)
                continue
            if self._room.acquire(blocking=False):
                self.process_request(client, address)
            else:
                self.shutdown_request(client)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one client; end its connection when its time is up."""
        timer = threading.Timer(CLIENT_S, _end, [request])
        timer.daemon = True
        try:
            timer.start()
            super().process_request_thread(request, client_address)
        finally:
            timer.cancel()
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


def _end(connection: socket.socket) -> None:
    """Wake the thread that waits for a connection's other end."""
    with contextlib.suppress(OSError):  # it is closed already
        connection.shutdown(socket.SHUT_RDWR)


class Answering(BaseHTTPRequestHandler):
    """One client's request."""

    timeout = CLIENT_S
    server: Server

    def do_GET(self) -> None:
        """Answer."""
        status, content_type, body = self.server.answer(self.path.partition("?")[0], self.headers.get("Accept", ""))
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def version_string(self) -> str:
        """Name no versions to strangers."""
        return "frameloom"

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002
        """Write no log of requests."""
