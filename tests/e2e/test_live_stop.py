"""A run with live sources stops within 2 s, whatever it is doing at that moment, with every frame accounted for."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.runner import STOP_WITHIN_S
from tests.e2e.live import Live, camera, running
from tests.e2e.program import MODELS, NO_MODEL, begin, events, times_of, until
from tests.pipeline.fakes import FakeSink, FakeStage, Trouble, threads_left
from tests.servers.mute import GARBAGE, MuteServer, refused_port

SMALL = {"size": (320, 180), "bitrate_kbps": 500}
SLOW_S = 0.7
"""What a slow stage or sink takes for a frame."""
INTO_IT_S = 0.2
"""From a change of state to the middle of the call that it brings."""


# ---------------------------------------------------------------------- runs in a certain state


@contextmanager
def connecting(scheme: str, accept: bool = True) -> Iterator[Live]:
    with MuteServer(accept=accept) as server, running({"url": server.url(scheme)}) as live:
        live.until(lambda: live.is_in("connecting"))
        time.sleep(INTO_IT_S)
        yield live


@contextmanager
def given_up(scheme: str) -> Iterator[Live]:
    """A source that has let go of two attempts, and is in a third."""
    with MuteServer() as server, running({"url": server.url(scheme), "open_timeout_s": 0.3}) as live:
        live.until(lambda: live.steps().count(("waiting", "timeout")) == 2)
        yield live


@contextmanager
def waiting(pause_s: float) -> Iterator[Live]:
    """Between two attempts: from the start 0.1 s, later 0.5 s."""
    with refused_port() as port, running({"url": f"rtsp://127.0.0.1:{port}/live"}) as live:
        time.sleep(pause_s)
        live.until(lambda: live.is_in("waiting"))
        yield live


@contextmanager
def garbage() -> Iterator[Live]:
    with MuteServer(GARBAGE) as server, running({"url": server.url("rtsp")}) as live:
        live.until(lambda: live.is_in("waiting"))
        yield live


@contextmanager
def wrong_password() -> Iterator[Live]:
    with (
        camera(**SMALL, user="admin", password="right") as server,
        running({"url": server.url_with("admin", "wrong")}) as live,
    ):
        live.until(lambda: live.is_in("waiting"))
        time.sleep(INTO_IT_S)
        yield live


@contextmanager
def unknown_host() -> Iterator[Live]:
    with running({"url": "rtsp://camera.invalid/live"}) as live:
        live.until(lambda: ("waiting", "dns") in live.steps())
        yield live


@contextmanager
def silent_name_server(attempts: int, open_timeout_s: float) -> Iterator[Live]:
    """A look-up that hangs: a stand-in, because no name server can be made to be silent here."""
    over, calls = threading.Event(), []

    def hang(*arguments: Any) -> None:
        calls.append(arguments)
        over.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", hang)
        try:
            with running({"url": "rtsp://camera.example/live", "open_timeout_s": open_timeout_s}) as live:
                live.until(lambda: len(calls) == attempts)
                time.sleep(INTO_IT_S)
                yield live
                assert len(calls) <= 3, "threads without end"
        finally:
            over.set()


@contextmanager
def streaming(transport: str, **more: Any) -> Iterator[Live]:
    with camera(**SMALL) as server, running({"url": server.url, "transport": transport}, **more) as live:
        live.until_frames(3)
        yield live


@contextmanager
def stalled(transport: str) -> Iterator[Live]:
    with camera(**SMALL) as server, running({"url": server.url, "transport": transport}) as live:
        live.until_frames(3)
        server.pause()
        live.until(lambda: live.is_in("stalled"))
        yield live


@contextmanager
def slow_stage(policy: str) -> Iterator[Live]:
    """Full lanes: frames are dropped, or (`every`) the source waits for room."""
    with streaming("tcp", stages=[FakeStage(takes_s=SLOW_S)], policies={"cam": policy}) as live:
        account = live.runner.ledger.accounts["cam"]
        live.until(lambda: account.captured >= 5 if policy == "every" else account.dropped["mailbox_full"] > 0)
        yield live


@contextmanager
def slow_sink() -> Iterator[Live]:
    with streaming("tcp", sinks=[FakeSink(takes_s=SLOW_S)]) as live:
        live.until(lambda: live.runner.sink_drops["out"] > 0)
        yield live


@contextmanager
def hanging(place: str) -> Iterator[Live]:
    """A stage that hangs: where an engine is loaded, or in the middle."""
    over = threading.Event()
    stage = FakeStage(trouble=Trouble(place, hang=over))
    try:
        with camera(**SMALL) as server, running({"url": server.url}, stages=[stage]) as live:
            account = live.runner.ledger.accounts["cam"]
            live.until(lambda: stage.calls == ["open"] and (place == "stage.open" or account.dropped.total() > 0))
            yield live
    finally:
        over.set()


@contextmanager
def all_at_once() -> Iterator[Live]:
    with (
        MuteServer() as mute,
        refused_port() as port,
        camera(**SMALL) as frozen,
        camera(**SMALL) as server,
        camera(**SMALL, user="admin", password="right") as locked,
    ):
        urls = {
            "mute": mute.url("rtsp"),
            "refused": f"rtsp://127.0.0.1:{port}/live",
            "unknown": "rtsp://camera.invalid/live",
            "frozen": frozen.url,
            "locked": locked.url_with("admin", "wrong"),
            "cam": server.url,
        }
        sources = [{"name": name, "url": url} for name, url in urls.items()]
        with running(*sources, stages=[FakeStage(takes_s=SLOW_S)]) as live:
            live.until_frames(2)
            frozen.pause()
            live.until(lambda: live.is_in("stalled", "frozen"))
            yield live


MOMENTS: dict[str, tuple[Callable[[], AbstractContextManager[Live]], int]] = {
    "connecting to a mute RTSP server": (partial(connecting, "rtsp"), 1),
    "connecting to a mute HTTP server": (partial(connecting, "http"), 1),
    "connecting to a mute RTMP server": (partial(connecting, "rtmp"), 1),
    "connecting to a port that nobody serves": (partial(connecting, "rtsp", accept=False), 1),
    "connecting for the third time": (partial(given_up, "rtsp"), 2),
    "waiting after the first refusals": (partial(waiting, 0.0), 0),
    "waiting after many refusals": (partial(waiting, 1.5), 0),
    "waiting after a garbled answer": (garbage, 0),
    "waiting after a wrong password": (wrong_password, 0),
    "waiting for a host that is not known": (unknown_host, 1),
    "looking up a host": (partial(silent_name_server, 1, 5.0), 1),
    "waiting for look-ups that hang": (partial(silent_name_server, 3, 0.2), 3),
    "streaming over TCP": (partial(streaming, "tcp"), 0),
    "streaming over UDP": (partial(streaming, "udp"), 0),
    "stalled over TCP": (partial(stalled, "tcp"), 1),
    "stalled over UDP": (partial(stalled, "udp"), 1),
    "full lanes before a slow stage": (partial(slow_stage, "latest"), 0),
    "a source that waits for room": (partial(slow_stage, "every"), 0),
    "full lanes before a slow sink": (slow_sink, 0),
    "loading an engine": (partial(hanging, "stage.open"), 1),
    "a stage that hangs": (partial(hanging, "stage.process"), 1),
    "several sources, each in another state": (all_at_once, 3),
}
"""How to get there, and how many threads a library may still hold when the run has ended."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_stop_takes_2_s_at_most(moment: str) -> None:
    reach, abandoned = MOMENTS[moment]
    before = set(threading.enumerate())
    with reach() as live:
        took_s = live.stop()
        assert took_s < STOP_WITHIN_S
        assert live.runner.abandoned <= abandoned
        counts = live.runner.summary()["sources"]
        assert all(each["captured"] == each["delivered"] + sum(each["dropped"].values()) for each in counts.values())
    assert threads_left(before, 5) == [], "let go, and never come back"


# ---------------------------------------------------------------------- the program

INTERRUPT, TERMINATE = signal.SIGINT, signal.SIGTERM
OUTPUTS = ("--record", "out.mp4", "--events", "events.jsonl")
FRAMES = 20
UNLOAD_S = 2.0
"""What Python may take to end when everything is written; 0.3 s on a quiet machine."""


def stopped(folder: Path, number: signal.Signals, url: str, reached: Callable[[str], bool], *options: str) -> str:
    """Start the program, stop it when its log of events has come so far; return the source's last state."""
    log = folder / "events.jsonl"
    process = begin(folder, "--source", url, *OUTPUTS, *options)
    until(lambda: log.exists() and reached(log.read_text()), process)
    time.sleep(INTO_IT_S)
    before = time.time()
    process.send_signal(number)
    _, err = process.communicate(timeout=10)
    assert log.stat().st_mtime - before < STOP_WITHIN_S  # the summary is the last that is written
    assert time.time() - before < STOP_WITHIN_S + UNLOAD_S
    assert process.returncode == 0, err
    assert "Traceback" not in err
    lines = events(log)
    assert [line["type"] for line in lines].count("summary") == 1
    assert lines[-1]["type"] == "summary"
    (counts,) = lines[-1]["sources"].values()
    assert counts["captured"] == counts["delivered"] + sum(counts["dropped"].values())
    return str([line["state"] for line in lines if line["type"] == "source"][-1])


def has(text: str, times: int = 1) -> Callable[[str], bool]:
    return lambda log: log.count(text) >= times


@pytest.mark.parametrize("number", [INTERRUPT, TERMINATE], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_program_while_a_server_does_not_answer(tmp_path: Path, number: signal.Signals) -> None:
    with MuteServer() as server:
        assert stopped(tmp_path, number, server.url("rtsp"), has("connecting"), *NO_MODEL) == "stopped"


def test_a_signal_ends_the_program_while_it_waits_to_connect_again(tmp_path: Path) -> None:
    with refused_port() as port:
        url = f"rtsp://127.0.0.1:{port}/live"
        assert stopped(tmp_path, INTERRUPT, url, has("refused", 4), *NO_MODEL) == "stopped"


def test_a_signal_ends_the_program_that_waits_after_a_wrong_password(tmp_path: Path) -> None:
    with camera(**SMALL, user="admin", password="right") as server:
        url = server.url_with("admin", "wrong")
        assert stopped(tmp_path, TERMINATE, url, has("auth"), *NO_MODEL) == "stopped"


def test_a_signal_ends_the_program_while_its_source_is_stalled(tmp_path: Path) -> None:
    with camera(**SMALL) as server:

        def is_stalled(log: str) -> bool:
            if log.count('"frame"') > FRAMES:
                server.pause()
            return "stalled" in log

        assert stopped(tmp_path, INTERRUPT, server.url, is_stalled, *NO_MODEL) == "stopped"
    assert times_of(tmp_path / "out.mp4")


@pytest.mark.skipif(not MODELS.is_dir(), reason="the shared models are not here")
def test_a_signal_ends_the_program_that_detects_in_a_stream(tmp_path: Path) -> None:
    with camera() as server:
        assert stopped(tmp_path, TERMINATE, server.url, has('"frame"', FRAMES)) == "stopped"
    assert times_of(tmp_path / "out.mp4")
