"""Phases within phases become one share of the whole that only grows."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from engines.tensorrt.monitor import OverallProgress, progress_monitor


def test_a_phase_fills_a_step_of_the_one_around_it() -> None:
    told: list[tuple[str, float]] = []
    overall = OverallProgress(lambda *what: told.append(what))
    overall.begin("build", None, 4)
    overall.advance("build", 0)
    overall.begin("tactics", "build", 2)
    overall.advance("tactics", 0)
    overall.begin("layer", "tactics", 2)
    overall.advance("layer", 0)
    overall.end("layer")
    overall.end("tactics")
    overall.advance("build", 3)
    overall.end("build")
    assert told == [
        ("build", 0),
        ("build", 0.25),
        ("tactics", 0.25),
        ("tactics", 0.375),
        ("layer", 0.375),
        ("layer", 0.4375),
        ("layer", 0.5),
        ("tactics", 0.5),
        ("build", 1),
        ("build", 1),
    ]


def test_it_never_goes_back_and_never_beyond_the_end() -> None:
    told: list[float] = []
    overall = OverallProgress(lambda _, share: told.append(share))
    overall.begin("first", None, 2)
    overall.advance("first", 5)
    overall.begin("second", None, 0)
    overall.advance("second", 0)
    overall.advance("unknown", 3)
    overall.end("unknown")
    overall.end("second")
    assert told == sorted(told)
    assert max(told) == 1


def test_several_threads_may_tell_at_once() -> None:
    told: list[float] = []
    overall = OverallProgress(lambda _, share: told.append(share))
    overall.begin("build", None, 8)

    def work(name: str) -> None:
        overall.begin(name, "build", 200)
        for step in range(200):
            overall.advance(name, step)
        overall.end(name)

    threads = [threading.Thread(target=work, args=(f"part {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 1 + 8 * 202
    assert told == sorted(told)


@pytest.mark.parametrize("kind", [OSError, SystemExit])
def test_a_failure_to_show_it_does_not_reach_tensorrt(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def broken(name: str, _: float) -> None:
        calls.append(name)
        raise kind("the terminal is gone")

    overall = OverallProgress(broken)
    with caplog.at_level(logging.WARNING):
        overall.begin("build", None, 4)
        overall.advance("build", 1)
        overall.end("build")
    assert calls == ["build"]
    assert "progress is no longer shown: the terminal is gone" in caplog.text


@pytest.mark.parametrize("progress", [None, lambda *_: None])
def test_a_build_that_is_cancelled_is_told_so_after_its_step(progress: Any) -> None:
    cancelled = threading.Event()
    monitor = progress_monitor(pytest.importorskip("tensorrt_rtx"), progress, cancelled)
    monitor.phase_start("build", None, 3)
    assert monitor.step_complete("build", 0)
    cancelled.set()
    assert not monitor.step_complete("build", 1)
    monitor.phase_finish("build")
