"""The Python API: `for frame in Pipeline(config)`, left in every way there is."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import psutil
import pytest

import pipeline.assemble
from pipeline import Frame, Pipeline, Stage
from pipeline.config.load import Override, load_settings
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError, SourceError, StageError
from pipeline.runner import STOP_WITHIN_S
from pipeline.sinks.sink import Sink
from tests.pipeline.fakes import FakeSink, Trouble, threads_left

ENDLESS = "synthetic://64x48@30"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    gc.collect()  # what earlier tests left
    before, files = threading.enumerate(), psutil.Process().num_fds()
    yield
    assert threads_left(before) == []
    assert psutil.Process().num_fds() == files


def config(source: str = ENDLESS, **sinks: str) -> dict[str, Any]:
    return {"sources": [source], "detect": {"enabled": False}, "sinks": sinks}


def lines(path: str = "events.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def decoded(path: str) -> int:
    with av.open(path) as video:
        return sum(1 for _ in video.decode(video=0))


class Count(Stage):
    """The example of the module's docstring, as a user writes it."""

    name = "count"

    def process(self, frame: Frame) -> None:
        frame.events.append({"event": "number", "count": frame.index})


class Fail(Stage):
    name = "fail"

    def process(self, frame: Frame) -> None:
        if frame.index == 10:
            raise KeyError("boom")


def test_every_frame_of_a_file_comes_in_order() -> None:
    pipe = Pipeline(config("synthetic://64x48@30?frames=50"))
    assert [frame.index for frame in pipe] == list(range(50))
    assert pipe.summary()["sources"]["synthetic"]["delivered"] == 50
    assert pipe.runner.error is None


def test_a_custom_stages_events_land_in_the_event_log() -> None:
    for frame in Pipeline(config("synthetic://64x48@30?frames=3", events="events.jsonl"), stages=[Count()]):
        assert frame.events == [{"event": "number", "count": frame.index}]
    events = [line for line in lines() if line["type"] == "event"]
    assert [(event["frame"], event["count"]) for event in events] == [(0, 0), (1, 1), (2, 2)]
    assert lines()[-1]["type"] == "summary"
    assert "count" in lines()[-1]["stages"]


def left_by_break() -> None:
    for frame in Pipeline(config(events="events.jsonl", record="out.mp4")):
        if frame.index == 20:
            break


def left_by_exception() -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 the loop raises
        for frame in Pipeline(config(events="events.jsonl", record="out.mp4")):
            1 / (20 - frame.index)


def left_by_with() -> None:
    with Pipeline(config(events="events.jsonl", record="out.mp4")) as frames:
        for frame in frames:
            if frame.index == 20:
                break


def left_by_exception_in_with() -> None:
    made = Pipeline(config(events="events.jsonl", record="out.mp4"))
    with pytest.raises(ZeroDivisionError), made as frames:  # noqa: PT012 the loop raises
        for frame in frames:
            1 / (20 - frame.index)


def left_by_close() -> None:
    pipe = Pipeline(config(events="events.jsonl", record="out.mp4"))
    for frame in pipe:
        if frame.index == 20:
            pipe.close()


def left_by_dropping_the_iterator() -> None:
    frames = iter(Pipeline(config(events="events.jsonl", record="out.mp4")))
    while next(frames).index < 20:
        pass
    del frames


def left_by_keyboard_interrupt() -> None:
    def interrupt() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(0.2, interrupt)
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 it may come anywhere in the loop
        timer.start()
        for _ in Pipeline(config(events="events.jsonl", record="out.mp4")):
            time.sleep(0.001)
    timer.join()


@pytest.mark.parametrize(
    "leave",
    [
        left_by_break,
        left_by_exception,
        left_by_with,
        left_by_exception_in_with,
        left_by_close,
        left_by_dropping_the_iterator,
        left_by_keyboard_interrupt,
    ],
)
def test_leaving_the_loop_stops_the_run_within_2_s_and_closes_its_files(leave: Any) -> None:
    before = threading.enumerate()
    gc.disable()  # a collection must not be what ends it
    try:
        started = time.monotonic()
        leave()
        assert time.monotonic() - started < STOP_WITHIN_S + 0.5
        assert [thread for thread in threads_left(before) if not isinstance(thread, threading.Timer)] == []
    finally:
        gc.enable()
    written = lines()
    assert written[-1]["type"] == "summary"
    counts = written[-1]["sources"]["synthetic"]
    assert counts["captured"] == counts["delivered"] + sum(counts["dropped"].values())
    assert len(written) - 1 == counts["delivered"] == decoded("out.mp4")


def test_a_pipeline_in_a_reference_cycle_ends_with_the_garbage_collection() -> None:
    before = threading.enumerate()
    holder: dict[str, Any] = {"frames": iter(Pipeline(config()))}
    holder["self"] = holder
    next(holder["frames"])
    del holder
    gc.collect()
    assert threads_left(before) == []


def test_a_second_iteration_is_refused() -> None:
    pipe = Pipeline(config("synthetic://64x48@30?frames=2"))
    assert len(list(pipe)) == 2
    with pytest.raises(RuntimeError, match="runs once"):
        iter(pipe)


def test_a_closed_pipeline_cannot_be_iterated() -> None:
    pipe = Pipeline(config())
    pipe.close()
    pipe.close()
    with pytest.raises(RuntimeError, match="runs once"):
        iter(pipe)


def test_a_pipeline_that_was_never_iterated_leaves_nothing_open(tmp_path: Path) -> None:
    list(Pipeline(config("synthetic://64x48@30?frames=3", record="in.mp4")))
    before = psutil.Process().num_fds()
    with Pipeline(config("in.mp4")):
        assert psutil.Process().num_fds() == before + 1
    assert psutil.Process().num_fds() == before
    pipe = Pipeline(config("in.mp4"))
    frames = iter(pipe)
    pipe.close()
    assert psutil.Process().num_fds() == before
    assert list(frames) == []


def test_close_from_another_thread_ends_the_loop() -> None:
    pipe = Pipeline(config())
    closer = threading.Timer(0.1, pipe.close)
    closer.start()
    before = time.monotonic()
    for _ in pipe:
        pass
    assert time.monotonic() - before < STOP_WITHIN_S
    closer.join()


def test_a_failing_stage_raises_stage_error_in_the_loop_after_the_frames_before_it() -> None:
    seen = []
    with pytest.raises(StageError, match="fail failed: KeyError: 'boom'") as caught:  # noqa: PT012 the loop raises
        for frame in Pipeline(config(events="events.jsonl"), stages=[Fail()]):
            seen.append(frame.index)
    assert seen == list(range(10))
    assert isinstance(caught.value.__cause__, KeyError)
    assert lines()[-1]["type"] == "summary"


def test_a_slow_loop_loses_no_frame_of_a_file() -> None:
    seen = []
    for frame in Pipeline(config("synthetic://64x48@30?frames=30")):
        time.sleep(0.002)
        seen.append(frame.index)
    assert seen == list(range(30))


def test_a_slow_loop_drops_frames_of_a_live_source_and_counts_them() -> None:
    settings = config("synthetic://64x48@30?frames=2000")
    settings["sources"] = [{"url": settings["sources"][0], "policy": "latest"}]
    pipe = Pipeline(settings)
    seen = []
    for frame in pipe:
        time.sleep(0.005)
        seen.append(frame.index)
    assert seen == sorted(set(seen))
    summary = pipe.summary()
    counts = summary["sources"]["synthetic"]
    assert counts["captured"] == 2000
    assert len(seen) + summary["sink_drops"]["iteration"] == counts["delivered"]


def test_frames_are_read_only_and_copies_are_not() -> None:
    for frame in Pipeline(config("synthetic://64x48@30?frames=1")):
        with pytest.raises(ValueError, match="read-only"):
            frame.image[0, 0] = 0
        frame.image.copy()[0, 0] = 0


def as_file(content: dict[str, Any]) -> str:
    Path("config.yaml").write_text(json.dumps(content))
    return "config.yaml"


@pytest.mark.parametrize(
    "make",
    [
        lambda c: c,
        as_file,
        lambda c: Path(as_file(c)),
        lambda c: load_settings(None, [Override(key, value, key) for key, value in c.items()]).settings,
        lambda c: {"sources.0.url": c["sources"][0], "detect.enabled": False},
    ],
    ids=["mapping", "str", "Path", "Settings", "dotted keys"],
)
def test_a_configuration_may_be_a_file_its_content_or_settings(make: Any) -> None:
    pipe = Pipeline(make(config("synthetic://64x48@30?frames=2")))
    assert isinstance(pipe.settings, Settings)
    assert len(list(pipe)) == 2


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (None, ConfigError, "no source"),
        ("missing.yaml", ConfigError, "missing.yaml"),
        ({"sorces": ["a"]}, ConfigError, "sources"),
        (config("missing.mp4"), SourceError, "no such file"),
        ({**config(), "sinks": {"events": "/proc/nowhere/events.jsonl"}}, ConfigError, "cannot write"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_starts(wrong: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Pipeline(wrong)


def with_window(monkeypatch: pytest.MonkeyPatch, window: Sink) -> None:
    monkeypatch.setattr(pipeline.assemble, "make_sinks", lambda settings, stop: [window])


def test_a_window_lives_on_the_loops_thread_and_does_not_hold_up_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    window = FakeSink("window", main_thread=True)
    with_window(monkeypatch, window)
    assert [frame.index for frame in Pipeline(config("synthetic://64x48@30?frames=40"))] == list(range(40))
    assert len(window.seen) == 40
    assert window.threads == {threading.current_thread()}
    assert window.calls[-2:] == ["close", "report"]


def test_breaking_out_of_a_loop_with_a_window_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    window = FakeSink("window", main_thread=True)
    with_window(monkeypatch, window)
    for frame in Pipeline(config()):
        if frame.index == 10:
            break
    assert window.calls[-2:] == ["close", "report"]


def test_a_failing_window_ends_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    with_window(monkeypatch, FakeSink("window", main_thread=True, trouble=Trouble("sink.consume", OSError("display"))))
    with pytest.raises(StageError, match="window failed: OSError: display"):
        list(Pipeline(config()))


UNFINISHED = """
from pipeline import Pipeline
frames = iter(Pipeline({"sources": ["synthetic://64x48@30"], "detect": {"enabled": False},
                        "sinks": {"events": "events.jsonl", "record": "out.mp4"}}))
for _ in range(20):
    next(frames)
"""


def test_a_script_that_ends_in_the_middle_closes_its_files_and_does_not_hang() -> None:
    done = subprocess.run([sys.executable, "-c", UNFINISHED], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert lines()[-1]["type"] == "summary"
    assert decoded("out.mp4") == lines()[-1]["sources"]["synthetic"]["delivered"]


def test_two_stages_of_one_name_are_refused() -> None:
    class Nameless(Stage):
        def process(self, frame: Frame) -> None: ...

    with pytest.raises(ConfigError, match="two stages are called 'stage'"):
        Pipeline(config(), stages=[Nameless(), Nameless()])
