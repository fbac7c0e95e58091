"""Link: a thread that connects and reads, and can be let go at any moment. Real threads, connections for the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import pytest

from pipeline.capture.live.connection import Arrival
from pipeline.capture.live.failure import Unsupported
from pipeline.capture.live.link import AHEAD, Ending, Link, resolve
from pipeline.errors import SourceError
from pipeline.picture import Picture
from tests.pipeline.fakes import threads_left

AT_ONCE_S = 1.0
"""Less than any timeout here; a busy machine takes its time to wake a thread."""
PIXELS = np.zeros((2, 2, 3), np.uint8)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    before = threading.enumerate()
    yield
    assert threads_left(before) == []


@pytest.fixture
def stuck() -> Iterator[threading.Event]:
    """What a library call waits for that never returns: the end of the test."""
    event = threading.Event()
    yield event
    event.set()


class Stream:
    """A connection that gives numbered pictures, and then what the test wants."""

    def __init__(
        self,
        pictures: int = 3,
        then: Callable[[], object] = lambda: None,
        is_complete: bool = False,
        between: Callable[[], object] = lambda: None,
    ) -> None:
        self.heard_at = 0.0
        self.is_complete = is_complete
        self.given = 0
        self.closed = self.interrupted = False
        self._pictures, self._then, self._between = pictures, then, between

    def arrivals(self) -> Iterator[Arrival]:
        for number in range(self._pictures):
            self.given = number + 1
            self.heard_at = float(number)
            yield Arrival("cam", Picture(bgr=PIXELS), float(number), None, 0.0, None)
            self._between()
        self._then()

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        self.closed = True


def link_to(connect: Callable[[], Any], url: str = "rtsp://127.0.0.1/live", timeout_s: float = 60.0) -> Link:
    return Link("cam", url, connect, (timeout_s, timeout_s), time.monotonic)


def everything(link: Link) -> tuple[list[float], Ending]:
    """Read to the end; give the pictures' times and the ending."""
    times = []
    while not isinstance(item := link.get(5.0), Ending):
        assert item is not None, "nothing came"
        times.append(item.captured_at)
    return times, item


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


# ---------------------------------------------------------------------- what comes


def test_pictures_come_in_order_then_the_end_and_the_connection_is_closed() -> None:
    stream = Stream(20)
    link = link_to(lambda: stream)
    times, ending = everything(link)
    assert times == list(range(20))
    assert ending.failure is not None
    assert (ending.failure.reason, ending.error) == ("eof", None)
    link.join(5.0)
    assert not link.is_alive
    assert stream.closed


def test_a_recording_that_was_read_to_its_end_has_not_failed() -> None:
    _, ending = everything(link_to(lambda: Stream(is_complete=True)))
    assert (ending.failure, ending.error) == (None, None)


def fail(error: BaseException) -> Callable[[], Any]:
    def raise_it() -> Any:
        raise error

    return raise_it


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (av.HTTPUnauthorizedError(1, "401"), "auth"),
        (av.InvalidDataError(1, "Invalid data"), "decode"),
        (Unsupported("audio only"), "unsupported"),
        (socket.gaierror(-2, "Name or service not known"), "dns"),
    ],
)
def test_what_connecting_raises_is_the_reason_it_failed(error: BaseException, reason: str) -> None:
    times, ending = everything(link_to(fail(error)))
    assert times == []
    assert ending.failure is not None
    assert ending.failure.reason == reason


def test_what_reading_raises_comes_behind_the_pictures_and_the_connection_is_closed() -> None:
    stream = Stream(2, fail(ConnectionResetError(104, "Connection reset by peer")))
    link = link_to(lambda: stream, timeout_s=float("inf"))
    times, ending = everything(link)
    assert times == [0.0, 1.0]
    assert ending.failure is not None
    assert ending.failure.reason == "eof"
    link.join(5.0)
    assert stream.closed


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), KeyError("x"), MemoryError(), SystemExit(1)])
def test_a_mistake_in_the_program_is_handed_on_as_it_is(error: BaseException) -> None:
    assert everything(link_to(fail(error)))[1].error is error
    assert everything(link_to(lambda: Stream(1, fail(error))))[1].error is error


def test_a_protocol_that_is_not_there_is_no_outage() -> None:
    ending = everything(link_to(fail(av.ProtocolNotFoundError(1, "Protocol not found")), "srt://127.0.0.1:1"))[1]
    assert isinstance(ending.error, SourceError)
    assert "srt://" in str(ending.error)


def test_the_last_sign_of_life_is_the_beginning_then_the_connections(stuck: threading.Event) -> None:
    connecting = threading.Event()
    stream = Stream(3)

    def connect() -> Any:
        connecting.wait(10)
        return stream

    before = time.monotonic()
    link = link_to(connect)
    begun_at = link.heard_at
    assert before <= begun_at <= time.monotonic()
    assert link.get(0.05) is None
    assert link.heard_at == begun_at
    connecting.set()
    everything(link)
    assert link.heard_at == stream.heard_at == 2.0


def test_it_reads_ahead_by_no_more_than_it_says() -> None:
    stream = Stream(100)
    link = link_to(lambda: stream)
    until(lambda: stream.given > AHEAD)
    time.sleep(0.05)
    assert stream.given == AHEAD + 1
    assert link.get(1.0) is not None
    until(lambda: stream.given == AHEAD + 2)
    link.close()


# ---------------------------------------------------------------------- what hangs


def test_get_waits_no_longer_than_it_is_told_whatever_hangs(stuck: threading.Event) -> None:
    link = link_to(lambda: stuck.wait(20))
    for timeout_s in (0.0, 0.05, 0.2):
        before = time.monotonic()
        assert link.get(timeout_s) is None
        assert timeout_s * 0.9 <= time.monotonic() - before < timeout_s + AT_ONCE_S
    link.close()


@pytest.mark.parametrize("place", ["connecting", "reading", "waiting for room"])
def test_close_returns_at_once_and_the_thread_ends_when_its_call_returns(stuck: threading.Event, place: str) -> None:
    stream = Stream(100 if place == "waiting for room" else 1, lambda: stuck.wait(20))

    def connect() -> Any:
        if place == "connecting":
            stuck.wait(20)
        return stream

    link = link_to(connect)
    until(lambda: place == "connecting" or stream.given > (AHEAD if place == "waiting for room" else 0))
    before = time.monotonic()
    link.close()
    assert time.monotonic() - before < AT_ONCE_S
    link.join(0.1)
    assert link.is_alive == (place != "waiting for room")
    stuck.set()
    link.join(5.0)
    assert not link.is_alive
    assert stream.closed
    assert stream.interrupted
    assert link.get(0.0) is None


def test_close_wakes_who_waits_for_pictures(stuck: threading.Event) -> None:
    link = link_to(lambda: stuck.wait(20))
    got: list[object] = []
    waiter = threading.Thread(target=lambda: got.append(link.get(30.0)))
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive()
    before = time.monotonic()
    link.close()
    waiter.join(5.0)
    assert time.monotonic() - before < AT_ONCE_S
    assert got == [None]


def test_what_a_call_raises_after_it_was_let_go_disturbs_nobody(stuck: threading.Event) -> None:
    def connect() -> Any:
        stuck.wait(20)
        raise RuntimeError("too late")

    link = link_to(connect)
    link.close()
    stuck.set()
    link.join(5.0)
    assert not link.is_alive
    assert link.get(0.0) is None


def test_join_waits_no_longer_than_it_is_told(stuck: threading.Event) -> None:
    link = link_to(lambda: stuck.wait(20))
    before = time.monotonic()
    link.join(0.1)
    assert 0.09 < time.monotonic() - before < 0.1 + AT_ONCE_S
    assert link.is_alive
    link.close()


def test_a_hundred_connections_leave_no_thread() -> None:
    before = threading.active_count()
    for number in range(100):
        link = link_to(lambda: Stream(5))
        for _ in range(number % 7):
            link.get(1.0)
        link.close()
        link.join(5.0)
        assert not link.is_alive
    assert threading.active_count() == before


# ---------------------------------------------------------------------- names


def test_a_host_that_does_not_exist_is_a_failure_of_dns_and_nothing_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def lookup(host: str, port: None) -> None:
        raise socket.gaierror(socket.EAI_NONAME, f"no {host}")

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    calls: list[int] = []
    ending = everything(link_to(lambda: calls.append(1), "rtsp://user:s3cret@cam.example/live"))[1]
    assert ending.failure is not None
    assert (ending.failure.reason, ending.failure.text) == ("dns", "no cam.example")
    assert calls == []


@pytest.mark.parametrize("host", ["a" * 70, "cam..example"])
def test_what_cannot_be_a_host_name_is_a_failure_of_dns(host: str) -> None:
    with pytest.raises(socket.gaierror, match="no host"):
        resolve(f"rtsp://{host}/live")


@pytest.mark.parametrize("url", ["/dev/video0", "udp://@:5000", "rtsp://[fe80", "rtp://", "clip.mp4"])
def test_what_names_no_host_is_not_looked_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", fail(AssertionError("looked up")))
    resolve(url)


@pytest.mark.parametrize(("url", "looked_up"), [("http://cam.example/x", False), ("rtsp://cam.example/x", True)])
def test_what_goes_through_a_proxy_is_looked_up_there(
    url: str, looked_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: calls.append(host))
    resolve(url)
    assert calls == (["cam.example"] if looked_up else [])
