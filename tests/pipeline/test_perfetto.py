"""The trace file: valid JSON however it ended, tracks on which nothing overlaps, no station that waits for the disk."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import perfetto
from pipeline.errors import SinkError
from pipeline.perfetto import FLUSH_S, MAX_LANES, MAX_PENDING, Lines, TraceFile

REPOSITORY = Path(__file__).resolve().parents[2]
Event = dict[str, Any]


def opened(path: Path, **options: Any) -> TraceFile:
    """A trace whose time begins at 100 seconds."""
    trace = TraceFile(path, clock=lambda: 100.0, **options)
    trace.open()
    return trace


def parsed(text: str) -> list[Event]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    events: list[Event] = json.loads(text, parse_constant=refuse)
    return events


def repaired(text: bytes) -> str:
    """The rule of the module's docstring: drop the last, partial line, add a bracket."""
    return text[: text.rindex(b"\n") + 1].decode() + "]"


def tracks(events: list[Event]) -> dict[str, list[Event]]:
    """The events of each track, by its name; every track has one name, and no two share it."""
    named = [event for event in events if event["name"] == "thread_name"]
    names = {event["tid"]: event["args"]["name"] for event in named}
    assert len(named) == len(names) == len(set(names.values()))
    by_name: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event["ph"] in ("X", "i"):
            assert event["pid"] == 1
            by_name[names[event["tid"]]].append(event)
    return dict(by_name)


def overlaps(events: list[Event]) -> int:
    spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event["ph"] == "X")
    return sum(after[0] < before[1] for before, after in itertools.pairwise(spans))


def test_a_frame_waits_and_is_worked_on_on_two_tracks(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json")
    trace.work("detect", "cam1", 12, 100.5, 100.5125, 100.6)
    trace.close()
    found = tracks(parsed(trace.path.read_text()))
    assert found == {
        "detect (wait)": [
            {
                "name": "wait cam1 #12",
                "ph": "X",
                "ts": 500_000,
                "dur": 12_500,
                "pid": 1,
                "tid": found["detect (wait)"][0]["tid"],
                "args": {"source": "cam1", "frame": 12},
            }
        ],
        "detect": [
            {
                "name": "cam1 #12",
                "ph": "X",
                "ts": 512_500,
                "dur": 87_500,
                "pid": 1,
                "tid": found["detect"][0]["tid"],
                "args": {"source": "cam1", "frame": 12},
            }
        ],
    }


def test_a_frame_that_did_not_wait_has_no_span_of_waiting(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json")
    trace.work("capture.cam1", "cam1", 0, 100.5, 100.5, 100.6)
    trace.close()
    assert list(tracks(parsed(trace.path.read_text()))) == ["capture.cam1"]


def test_requests_in_flight_have_a_track_each_and_tracks_are_used_again(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json")
    for frame in range(12):  # three in flight: begun every 10 ms, each takes 30 ms
        trace.work("detect", "cam1", frame, 101 + frame * 0.01, 101 + frame * 0.01, 101 + frame * 0.01 + 0.03)
    trace.close()
    found = tracks(parsed(trace.path.read_text()))
    assert list(found) == ["detect", "detect 2", "detect 3"]
    assert [len(events) for events in found.values()] == [4, 4, 4]
    assert not any(overlaps(events) for events in found.values())


def test_tracks_are_ordered_by_station_with_waiting_above_working(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json")
    for station in ("capture.cam1", "detect", "render"):
        trace.work(station, "cam1", 0, 100.1, 100.1, 100.2)
    for station in ("render", "detect"):
        trace.work(station, "cam1", 1, 100.1, 100.15, 100.3)
    trace.close()
    events = parsed(trace.path.read_text())
    order = {event["tid"]: event["args"]["sort_index"] for event in events if event["name"] == "thread_sort_index"}
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert [names[tid] for tid in sorted(names, key=order.__getitem__)] == [
        *("capture.cam1", "detect (wait)", "detect", "detect 2", "render (wait)", "render", "render 2")
    ]


def test_counters_and_marks(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json")
    trace.count("cam1", "queue", 2, 100.5)
    for value in (math.nan, math.inf):
        trace.count("cam1", "queue", value, 100.6)
    trace.instant("cam1", "stalled: timeout", 101.0)
    trace.close()
    events = parsed(trace.path.read_text())
    assert [event for event in events if event["ph"] == "C"] == [
        {"name": "cam1 queue", "ph": "C", "ts": 500_000, "pid": 1, "args": {"value": 2.0}}
    ]
    ((track, (mark,)),) = tracks(events).items()
    assert track == "cam1 (marks)"
    assert (mark["name"], mark["ph"], mark["s"], mark["ts"]) == ("stalled: timeout", "i", "t", 1_000_000)


@pytest.mark.parametrize("name", ['say "hi"', "back\\slash", "новый\nline", "käse 📷", "half \udce9", ""])
def test_any_name_is_valid_json(tmp_path: Path, name: str) -> None:
    trace = opened(tmp_path / "t.json")
    trace.work(name, name, 1, 100.1, 100.2, 100.3)
    trace.count(name, name, 1.0, 100.1)
    trace.instant(name, name, 100.1)
    trace.close()
    whole = name.encode("utf-8", "replace").decode()
    spans = [event for event in parsed(trace.path.read_text()) if event["ph"] == "X"]
    assert [(event["name"], event["args"]["source"]) for event in spans] == [
        (f"wait {whole} #1", whole),
        (f"{whole} #1", whole),
    ]


def test_times_before_the_file_was_opened_are_cut_off(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json")
    trace.work("detect", "cam1", 0, 98.0, 99.5, 101.0)
    trace.close()
    ((_, (span,)),) = tracks(parsed(trace.path.read_text())).items()
    assert (span["ts"], span["dur"]) == (0, 1_000_000)


SPANS = st.lists(st.tuples(st.floats(0, 2), st.floats(0, 0.5), st.floats(0, 0.5)), max_size=60)
"""From when a frame waits, for how long, and how long it is worked on."""


@given(spans=SPANS)
@settings(max_examples=200, deadline=None)
def test_whatever_the_order_nothing_overlaps_and_durations_are_kept(spans: list[tuple[float, float, float]]) -> None:
    lines = Lines()
    text = "".join(lines.work("detect", "a", i, at, at + w, at + w + d) for i, (at, w, d) in enumerate(spans))
    events = parsed(f"[{text[1:]}]")
    for name, on_track in tracks(events).items():
        assert overlaps(on_track) == 0, name
    work = {event["args"]["frame"]: event["dur"] for event in events if event["name"].startswith("a #")}
    assert sorted(work) == list(range(len(spans)))
    assert all(abs(work[i] - duration * 1e6) <= 1.01 for i, (_, _, duration) in enumerate(spans))


def test_impossible_times_do_not_fill_the_memory_with_tracks(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json")
    for frame in range(MAX_LANES + 50):
        trace.work("detect", "cam1", frame, 101.0, 101.0, 200.0)
    trace.close()
    events = parsed(trace.path.read_text())
    assert len(tracks(events)) == MAX_LANES + 1  # with the one of the marker
    assert trace.lost == 50
    assert [event["name"] for event in events if event["ph"] == "i"] == ["50 events lost"]


def test_a_file_cut_anywhere_after_its_first_line_is_repaired_by_the_rule(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json")
    for frame in range(5):
        trace.work("detect", "käse", frame, 100.1, 100.2 + frame, 100.5 + frame)
        trace.instant("käse", "mark", 100.1)
    trace.close()
    whole = trace.path.read_bytes()
    events = parsed(whole.decode())
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole) - 1):
        kept = parsed(repaired(whole[:cut]))
        assert kept == events[: len(kept)]
        assert len(kept) >= whole[:cut].count(b"\n") - 1
    assert len(whole.splitlines()) == len(events) + 1  # one event a line, and the bracket


def test_what_is_older_than_a_moment_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    program = """
import sys, time
from pathlib import Path
from pipeline.perfetto import TraceFile
trace = TraceFile(Path(sys.argv[1]))
trace.open()
for frame in range(100_000):
    now = time.monotonic()
    trace.work("detect", "cam1", frame, now - 0.002, now - 0.001, now)
    print(frame, flush=True)
    time.sleep(0.002)
"""
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"
        until = time.monotonic() + 5 * FLUSH_S
        last = max(int(line) for line in itertools.takewhile(lambda line: time.monotonic() < until, process.stdout))
        process.send_signal(signal.SIGKILL)
    text = path.read_bytes()
    assert not text.endswith(b"]\n")
    spans = tracks(parsed(repaired(text)))["detect"]
    assert [span["args"]["frame"] for span in spans] == list(range(len(spans)))
    assert len(spans) > last / 4


def test_threads_may_all_write_at_once(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path / "t.json")
    trace.open()

    def station(number: int) -> None:
        ended = time.monotonic()
        for frame in range(2000):
            waited_from, started, ended = ended, ended + 2e-6, ended + 10e-6
            trace.work(f"station {number % 2}", f"cam{number}", frame, waited_from, started, ended)
            trace.count(f"cam{number}", "queue", frame, ended)

    threads = [threading.Thread(target=station, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    trace.close()
    events = parsed(trace.path.read_text())
    assert trace.lost == 0
    spans = {event["name"] for event in events if event["ph"] == "X"}
    for source in ("cam0", "cam1", "cam2", "cam3"):
        assert all({f"wait {source} #{frame}", f"{source} #{frame}"} <= spans for frame in range(2000))
        assert [e["args"]["value"] for e in events if e["name"] == f"{source} queue"] == list(range(2000))
    assert not any(overlaps(on_track) for on_track in tracks(events).values())


def test_events_before_open_and_after_close_are_ignored(tmp_path: Path) -> None:
    trace = TraceFile(tmp_path / "t.json", clock=lambda: 100.0)
    trace.instant("cam1", "early", 100.0)
    trace.close()
    trace.open()
    trace.instant("cam1", "in time", 100.0)
    trace.close()
    trace.instant("cam1", "late", 100.0)
    trace.close()
    assert [event["name"] for event in parsed(trace.path.read_text()) if event["ph"] == "i"] == ["in time"]
    assert trace.lost == 0
    assert trace.ended_early is None


def test_a_file_that_cannot_be_created_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"cannot write a trace to .*t\.json: No such file or directory"):
        TraceFile(tmp_path / "missing" / "t.json").open()


def test_a_full_disk_ends_the_trace_and_is_reported_once_by_close(disk_of: Callable[[str], Path]) -> None:
    trace = opened(disk_of("64k") / "t.json")
    for frame in range(200):
        trace.work("detect", "cam1", frame, 101 + frame, 101 + frame, 101.5 + frame)
    time.sleep(FLUSH_S * 2)
    for frame in range(200, 10_000):
        trace.work("detect", "cam1", frame, 101 + frame, 101 + frame, 101.5 + frame)
    deadline = time.monotonic() + 10
    while trace.ended_early is None and time.monotonic() < deadline:
        time.sleep(0.01)
    trace.work("detect", "cam1", 10_000, 101, 101, 101)  # goes nowhere, and raises nothing
    with pytest.raises(SinkError, match=r"the trace .*t\.json ends early: No space left on device"):
        trace.close()
    trace.close()
    frames = [event["args"]["frame"] for event in tracks(parsed(trace.path.read_text()))["detect"]]
    assert frames == list(range(len(frames)))
    assert trace.path.stat().st_size > 60_000  # what fitted is there


def test_a_trace_ends_at_its_largest_size_and_says_so(tmp_path: Path) -> None:
    trace = opened(tmp_path / "t.json", max_bytes=10_000)
    frames = itertools.count()
    deadline = time.monotonic() + 10
    while trace.ended_early is None and time.monotonic() < deadline:
        for frame in itertools.islice(frames, 100):
            trace.work("detect", "cam1", frame, 101 + frame, 101 + frame, 101.5 + frame)
        time.sleep(FLUSH_S / 2)
    trace.close()
    assert trace.ended_early == "it has reached 10,000 bytes"
    events = parsed(trace.path.read_text())
    assert events[-1]["name"] == "the trace ends: it has reached 10,000 bytes"
    assert 10_000 < trace.path.stat().st_size < 200_000


@pytest.fixture
def mute_pipe(tmp_path: Path) -> Path:
    """A pipe whose reader takes nothing: a disk that does not answer."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_disk_that_does_not_answer_stops_nobody_and_costs_no_memory(
    mute_pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perfetto, "CLOSE_S", 0.3)
    reader = os.open(mute_pipe, os.O_RDONLY | os.O_NONBLOCK)
    trace = opened(mute_pipe)
    slowest = 0.0
    for frame in range(3 * MAX_PENDING):
        began = time.monotonic()
        trace.work("detect", "cam1", frame, 101 + frame, 101 + frame, 101.5 + frame)
        slowest = max(slowest, time.monotonic() - began)
        if frame == MAX_PENDING // 2:
            time.sleep(2 * FLUSH_S)  # now the writer is stuck with half of what it may be given
    assert slowest < 2.0
    assert 1.4 * MAX_PENDING < trace.lost < 2 * MAX_PENDING
    began = time.monotonic()
    with pytest.raises(SinkError, match="the disk does not answer"):
        trace.close()
    assert time.monotonic() - began < 1.0
    os.close(reader)  # lets the stuck thread go, with an error it keeps to itself
    deadline = time.monotonic() + 5
    while any(thread.name == "trace" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(thread.name == "trace" for thread in threading.enumerate())


def test_a_station_pays_a_few_microseconds_an_event(tmp_path: Path) -> None:
    """Measured: 0.8 us; the writing thread takes 4 us more, later."""
    trace = TraceFile(tmp_path / "t.json")
    trace.open()
    costs = []
    for _ in range(10):
        began = time.thread_time()
        for frame in range(1000):
            trace.work("detect", "cam1", frame, 1.0, 2.0, 3.0)
        costs.append((time.thread_time() - began) / 1000)
    trace.close()
    assert min(costs) < 10e-6
