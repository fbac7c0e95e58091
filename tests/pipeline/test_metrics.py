"""Figures and health over HTTP: read by prometheus-client's own parser, from real runs."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.capture.source import Source, SourceInfo, SourceState
from pipeline.config.sink_settings import MetricsSettings
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Detections, Frame
from pipeline.picture import Picture
from pipeline.runner import Runner
from pipeline.sinks import metrics
from pipeline.sinks.metrics import MOST_CLIENTS, MOST_NAMES, OTHER, Metrics
from pipeline.stage import Stage
from pipeline.zones import ZoneState
from tests.e2e.program import NO_MODEL, begin, frameloom
from tests.servers.mute import HOST, free_port

parser = pytest.importorskip("prometheus_client.parser")
PICTURE = Picture(bgr=np.zeros((4, 4, 3), np.uint8))
SQUARE = np.array([[0, 0], [2, 0], [2, 2]], np.float32)
Samples = dict[str, dict[frozenset[tuple[str, str]], float]]


def found(class_ids: Sequence[int]) -> Detections:
    boxes, scores = np.zeros((len(class_ids), 4), np.float32), np.full(len(class_ids), 0.5, np.float32)
    return Detections(boxes, scores, np.array(class_ids, np.int32))


class Script(Source):
    """Frames that are given when the test says so."""

    def __init__(self, name: str = "cam", live: bool = True) -> None:
        self.info = SourceInfo(name, f"x://{name}", live=live)
        self._next = threading.Semaphore(0)
        self._over = False

    def give(self, count: int = 1) -> None:
        for _ in range(count):
            self._next.release()
            if self.info.live:
                time.sleep(0.03)  # a camera's frames that come at once are dropped

    def frames(self) -> Iterator[Frame]:
        index = 0
        while self._next.acquire() and not self._over:
            yield Frame(self.info.name, index, index / 10, time.monotonic(), PICTURE)
            index += 1

    def stop(self) -> None:
        self._over = True
        self._next.release()


class Add(Stage):
    """Puts things into frames; the test says which."""

    name = "detect"

    def __init__(self, add: Callable[[Frame], None] = lambda frame: None) -> None:
        self._add = add

    def process(self, frame: Frame) -> None:
        self._add(frame)


class Run:
    """A run with metrics, and what it says of itself."""

    def __init__(self, *sources: Script, add: Callable[[Frame], None] = lambda frame: None, **settings: Any) -> None:
        self.port = free_port()
        self.sources = sources
        self.metrics = Metrics(MetricsSettings(port=self.port, **settings), lambda: self.runner)
        self.metrics.check([source.info for source in sources])
        self.runner = Runner(sources, [Add(add)], [self.metrics])

    def __enter__(self) -> Run:
        self.runner.start()
        deadline = time.monotonic() + 5
        while not self.runner.is_ready and time.monotonic() < deadline:
            time.sleep(0.01)
        return self

    def __exit__(self, *problem: object) -> None:
        self.runner.stop()
        assert self.runner.wait(2)
        assert self.runner.abandoned == 0

    def get(self, path: str, **headers: str) -> tuple[int, str, str]:
        return fetch(self.port, path, **headers)

    def health(self, path: str = "/healthz") -> tuple[int, Any]:
        status, _, body = self.get(path)
        return status, json.loads(body)

    def samples(self) -> Samples:
        return samples_of(self.get("/metrics")[2])

    def delivered(self, source: str, count: int) -> Samples:
        """Wait until so many frames of a source were noted; return all figures then."""
        deadline = time.monotonic() + 5
        while True:
            samples = self.samples()
            if value(samples, "frameloom_latency_seconds_count", source=source) == count:
                return samples
            assert time.monotonic() < deadline, samples
            time.sleep(0.02)


def fetch(port: int, path: str, **headers: str) -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.headers["Content-Type"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def samples_of(text: str) -> Samples:
    """Every sample, by name and labels; nothing may come twice."""
    samples: Samples = {}
    for family in parser.text_string_to_metric_families(text):
        for sample in family.samples:
            series = samples.setdefault(sample.name, {})
            labels = frozenset(sample.labels.items())
            assert labels not in series, sample
            series[labels] = sample.value
    return samples


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get(name, {}).get(frozenset(labels.items()))


def test_the_figures_of_a_run_are_those_of_its_ledger() -> None:
    def add(frame: Frame) -> None:
        count = frame.index % 3
        frame.detections = found(range(count))
        frame.labels = ("person", "car")
        frame.zones = (ZoneState("door", SQUARE, False, {"person": 2}, {"person": 5}, {"person": 3}, True),)
        frame.events.append({"event": "zone.enter"})

    with Run(Script("a"), Script("b", live=False), add=add) as run:
        run.sources[0].give(5)
        run.sources[1].give(3)
        run.delivered("a", 5)
        got = run.delivered("b", 3)
        for source, count in (("a", 5), ("b", 3)):
            assert value(got, "frameloom_frames_captured_total", source=source) == count
            assert value(got, "frameloom_frames_delivered_total", source=source) == count
            assert value(got, "frameloom_frames_dropped_total", source=source, reason="stale") == 0
            assert value(got, "frameloom_events_total", source=source, event="zone.enter") == count
            assert value(got, "frameloom_latency_seconds_bucket", source=source, le="+Inf") == count
            assert 0 < (value(got, "frameloom_latency_seconds_sum", source=source) or 0) < 1
            assert 0 <= (value(got, "frameloom_last_frame_age_seconds", source=source) or -1) < 5
        assert value(got, "frameloom_objects", source="a", **{"class": "person"}) == 1
        assert value(got, "frameloom_objects", source="b", **{"class": "car"}) == 1
        place = {"source": "a", "zone": "door", "class": "person"}
        assert value(got, "frameloom_zone_objects", **place) == 2
        assert value(got, "frameloom_zone_entered_total", **place) == 5
        assert value(got, "frameloom_zone_left_total", **place) == 3
        assert value(got, "frameloom_zone_alarm", source="a", zone="door") == 1
        assert value(got, "frameloom_stage_seconds_count", stage="detect") == 8
        quantiles = [value(got, "frameloom_stage_seconds", stage="detect", quantile=q) for q in ("0.5", "0.95", "0.99")]
        assert quantiles == sorted(each for each in quantiles if each)
        assert (value(got, "frameloom_stage_cpu_seconds_total", stage="detect") or 0) > 0
        assert value(got, "frameloom_sink_dropped_total", sink="metrics") == 0
        assert value(got, "frameloom_ready") == 1
        assert value(got, "process_resident_memory_bytes")
        buckets = got["frameloom_latency_seconds_bucket"]
        assert len(buckets) == 2 * 17


def test_an_object_that_is_gone_is_there_0_times() -> None:
    def add(frame: Frame) -> None:
        count = 2 if frame.index == 0 else 0
        frame.detections = found([0] * count)
        frame.labels = ("person",)

    with Run(Script(), add=add) as run:
        run.sources[0].give()
        assert value(run.delivered("cam", 1), "frameloom_objects", source="cam", **{"class": "person"}) == 2
        run.sources[0].give()
        assert value(run.delivered("cam", 2), "frameloom_objects", source="cam", **{"class": "person"}) == 0


def test_names_that_never_end_are_counted_as_other() -> None:
    def add(frame: Frame) -> None:
        frame.events += [{"event": f"event-{frame.index}-{number}"} for number in range(100)]

    with Run(Script(), add=add) as run:
        run.sources[0].give(4)
        events = run.delivered("cam", 4)["frameloom_events_total"]
        assert len(events) == MOST_NAMES + 1
        assert events[frozenset({("source", "cam"), ("event", OTHER)})] == 400 - MOST_NAMES


def test_the_text_is_what_a_scraper_asks_for() -> None:
    with Run(Script()) as run:
        assert run.get("/metrics")[1].startswith("text/plain; version=")
        status, kind, text = run.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
        assert (status, kind.split(";")[0]) == (200, "application/openmetrics-text")
        assert text.endswith("# EOF\n")
        names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        assert all(name.startswith(("frameloom_", "process_")) for name in names)
        for line in text.splitlines():
            if line.startswith("# HELP frameloom"):
                assert len(line.split()) > 4, line
        status, _, text = run.get("/elsewhere")
        assert (status, text) == (404, "there are /metrics, /healthz, /readyz and /livez\n")


def test_health_follows_the_frames_of_live_sources_only() -> None:
    with Run(Script("cam"), Script("clip", live=False), max_frame_age_s=0.4) as run:
        assert run.health()[0] == 200, "there is a moment to come up in"
        time.sleep(0.5)
        status, health = run.health()
        assert (status, health["status"]) == (503, "failing")
        assert health["sources"]["cam"] == {
            "state": "connecting", "live": True, "last_frame_age_s": None, "ok": False
        }  # fmt: skip
        assert health["sources"]["clip"]["ok"]
        run.sources[0].report(SourceState("cam", "streaming"))
        run.sources[0].give()
        run.delivered("cam", 1)
        status, health = run.health()
        assert (status, health["status"], health["ready"], health["live"]) == (200, "ok", True, True)
        assert health["sources"]["cam"]["state"] == "streaming"
        assert 0 <= health["sources"]["cam"]["last_frame_age_s"] < 0.4
        time.sleep(0.5)
        assert run.health()[0] == 503
        assert run.health("/readyz")[0] == 200
        assert run.health("/livez")[0] == 200
        states = run.samples()["frameloom_source_state"]
        assert {dict(labels)["state"] for labels, on in states.items() if on} == {"streaming"}
        run.sources[0].stop()
        deadline = time.monotonic() + 5
        while run.health()[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert run.health()[1]["sources"]["cam"]["state"] == "stopped", "what has ended is not waited for"


def test_a_run_whose_stages_still_open_is_live_and_not_ready() -> None:
    opened = threading.Event()

    class Slow(Add):
        def open(self) -> None:
            opened.wait(5)

    run = Run(Script())
    run.runner = Runner(run.sources, [Slow()], [run.metrics])
    run.runner.start()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            status = run.health("/readyz")[0]
            break
        except OSError:
            time.sleep(0.02)
    assert status == 503
    assert run.health("/livez")[0] == 200
    assert run.health()[0] == 503
    opened.set()
    while run.health("/readyz")[0] != 200 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert run.health()[0] == 200
    run.runner.stop()
    assert run.runner.wait(2)


def test_a_port_that_is_taken_is_refused_before_the_run() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        metrics = Metrics(MetricsSettings(port=port), lambda: pytest.fail("there is no run"))
        with pytest.raises(
            ConfigError, match=f"^sinks.metrics: cannot listen at {HOST}:{port}: Address already in use"
        ):
            metrics.check([])


@pytest.mark.parametrize("host", ["no.such.host.invalid", "203.0.113.7"])
def test_an_address_that_is_not_of_this_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=f"^sinks.metrics: cannot listen at {host}:"):
        Metrics(MetricsSettings(port=free_port(), host=host), lambda: pytest.fail("no run")).check([])


def test_a_port_that_is_taken_meanwhile_fails_the_run_in_a_sentence() -> None:
    run = Run(Script())
    complaint = r"^sinks\.metrics: cannot listen at .*: Address already in use"
    with socket.create_server((HOST, run.port)), pytest.raises(SinkError, match=complaint):
        run.metrics.open()


def test_without_the_package_a_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(ConfigError, match=r"pip install frameloom\[metrics\]$"):
        Metrics(MetricsSettings(port=free_port()), lambda: pytest.fail("no run")).check([])


def test_clients_that_say_nothing_hold_neither_scrapes_nor_the_end_up() -> None:
    with Run(Script()) as run:
        mute = [socket.create_connection((HOST, run.port)) for _ in range(MOST_CLIENTS - 1)]
        assert run.get("/livez")[0] == 200
        more = [socket.create_connection((HOST, run.port)) for _ in range(5)]
        time.sleep(0.2)
        closed = 0
        for each in more:
            each.settimeout(0.2)
            with contextlib.suppress(TimeoutError, ConnectionResetError):
                closed += each.recv(1) == b""
        assert closed >= 4, "more than so many clients at a time are sent away"
        began = time.monotonic()
        run.metrics.close()
        assert time.monotonic() - began < 0.2
        for each in (*mute, *more):
            each.close()


def test_a_client_that_drips_its_request_is_ended_and_its_place_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "CLIENT_S", 0.6)
    with Run(Script()) as run, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection((HOST, run.port))) for _ in range(MOST_CLIENTS)]
        for client in slow:
            client.sendall(b"GET /livez HTTP/1.0\r\n")
        deadline = time.monotonic() + 10
        while True:  # each says something far more often than its time is
            for client in slow:
                with contextlib.suppress(OSError):
                    client.sendall(b"X-A: b\r\n")
            try:
                assert run.get("/livez")[0] == 200
                break
            except OSError:
                assert time.monotonic() < deadline, "nobody else is let in"
            time.sleep(0.2)


@pytest.mark.parametrize("how", ["away", "over"])
def test_of_a_source_that_gives_no_frames_nobody_knows_what_is_there(how: str) -> None:
    def add(frame: Frame) -> None:
        frame.labels, frame.detections = ("person",), found([0, 0])
        frame.zones = (ZoneState("yard", SQUARE, inside={"person": 2}, entered={"person": 5}, alarm=True),)

    cam, other = Script(), Script("other")
    with Run(cam, other, add=add) as run:
        for source in (cam, other):
            source.report(SourceState(source.info.name, "streaming"))
            source.give()
            run.delivered(source.info.name, 1)
        if how == "away":
            cam.report(SourceState("cam", "waiting", "timeout"))
        else:
            cam.stop()
        here: dict[str, set[str]] = {}
        deadline = time.monotonic() + 5
        while not here or ("cam" in here["objects"] and time.monotonic() < deadline):
            samples = run.samples()
            here = {
                name: {dict(labels)["source"] for labels in samples[f"frameloom_{name}"]}
                for name in ("objects", "zone_objects", "zone_alarm", "zone_entered_total")
            }
        both = {"cam", "other"}
        assert here == {
            "objects": {"other"},
            "zone_objects": {"other"},
            "zone_alarm": {"other"},
            "zone_entered_total": both,
        }


def test_an_ipv6_address_is_listened_at() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    run = Run(Script(), host="::1")
    with run, urllib.request.urlopen(f"http://[::1]:{run.port}/livez", timeout=5) as response:
        assert response.status == 200


def test_scrapes_one_after_the_other_cost_a_camera_no_frame() -> None:
    """Far more than any scraper asks: one takes some milliseconds, and comes every 15 s."""
    source = Script("cam")
    scrapes = 0
    with Run(source) as run:
        over = threading.Event()

        def scrape() -> None:
            nonlocal scrapes
            while not over.is_set():
                assert run.get("/metrics")[0] == 200
                scrapes += 1

        scraper = threading.Thread(target=scrape)
        scraper.start()
        source.give(60)
        over.set()
        scraper.join()
        run.delivered("cam", 60)
    assert scrapes > 20


def test_the_program_answers_while_it_runs(tmp_path: Path) -> None:
    port = free_port()
    source = "synthetic://320x240@30?frames=150&live=1"
    process = begin(tmp_path, "--source", source, *NO_MODEL, "--set", f"sinks.metrics={port}")
    try:
        deadline = time.monotonic() + 20
        captured = 0.0
        while captured < 30:
            assert time.monotonic() < deadline
            time.sleep(0.1)
            try:
                samples = samples_of(fetch(port, "/metrics")[2])
            except OSError:
                continue
            captured = sum(samples.get("frameloom_frames_captured_total", {}).values())
        assert fetch(port, "/healthz")[0] == 200
    finally:
        process.communicate(timeout=20)
    assert process.returncode == 0
    with pytest.raises(OSError, match="refused"):
        fetch(port, "/livez")


def test_the_program_refuses_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        setting = ("--set", f"sinks.metrics={port}")
        done = frameloom("run", "--source", "synthetic://64x64", *NO_MODEL, *setting, cwd=tmp_path)
    assert done.complaint.startswith(f"sinks.metrics: cannot listen at 127.0.0.1:{port}: Address already in use")
    assert done.code == 2
