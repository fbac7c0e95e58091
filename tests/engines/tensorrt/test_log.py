"""What TensorRT says is kept where it is a warning or an error, and told to the thread that caused it."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Any

import pytest

from engines.tensorrt.log import LATER_S, MOST_LINES, collecting_logger


@pytest.fixture
def trt() -> Any:
    return pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def log(trt: Any) -> Any:
    return collecting_logger(trt)


def test_errors_are_its_words_each_once_and_warnings_where_there_are_none(trt: Any, log: Any) -> None:
    severity = trt.ILogger.Severity
    log.log(severity.WARNING, "slow")
    log.log(severity.ERROR, "no kernel ")
    log.log(severity.ERROR, "no kernel ")
    log.log(severity.INTERNAL_ERROR, "broken")
    assert log.words() == "no kernel; broken"
    assert log.words() == "it gave no reason"
    log.log(severity.WARNING, "slow")
    assert log.words() == "slow"


def test_there_is_one_logger_and_it_begins_with_nothing(trt: Any, log: Any) -> None:
    log.log(trt.ILogger.Severity.ERROR, "of an engine before")
    assert collecting_logger(trt) is log
    assert log.words() == "it gave no reason"


def test_builders_and_runtimes_that_live_at_once_do_not_lose_each_others_lines(trt: Any) -> None:
    first = trt.Builder(collecting_logger(trt))
    log = collecting_logger(trt)
    second = trt.Builder(log)
    assert log.words() == "it gave no reason"  # no warning of a logger that differs
    network = second.create_network(0)
    parser = trt.OnnxParser(network, log)
    del first
    assert not parser.parse(b"not a model")
    assert "Failed to parse" in log.words()


def test_each_thread_hears_what_it_caused_and_all_what_tensorrts_own_threads_say(trt: Any, log: Any) -> None:
    error = trt.ILogger.Severity.ERROR
    logged, asked = threading.Event(), threading.Event()
    heard: list[str] = []

    def another_user() -> None:
        collecting_logger(trt).log(error, "theirs")
        logged.set()
        asked.wait(10)
        heard.append(log.words())

    user = threading.Thread(target=another_user)
    user.start()
    assert logged.wait(10)
    log.log(error, "ours")
    of_tensorrt = threading.Thread(target=lambda: log.log(error, "of a thread of TensorRT"))
    of_tensorrt.start()
    of_tensorrt.join()
    assert log.words() == "ours; of a thread of TensorRT"
    asked.set()
    user.join()
    assert heard == ["theirs"]


def test_a_thread_that_has_left_is_none_that_asks(trt: Any, log: Any) -> None:
    """Its number may become that of a thread of TensorRT's own, whose lines everybody hears."""
    error = trt.ILogger.Severity.ERROR

    def come_and_go() -> None:
        collecting_logger(trt)
        log.log(error, "its own")
        log.leave()
        log.log(error, "of TensorRT, under the same number")

    thread = threading.Thread(target=come_and_go)
    thread.start()
    thread.join()
    assert log.words() == "of TensorRT, under the same number"


def test_a_ctrl_c_that_comes_while_tensorrt_logs_comes_again_when_it_is_done(
    trt: Any, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where TensorRT calls, an exception would be dropped."""

    def interrupted(severity: Any, line: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(log, "_note", interrupted)
    builder = trt.Builder(log)
    assert not trt.OnnxParser(builder.create_network(0), log).parse(b"not a model")
    with pytest.raises(KeyboardInterrupt):
        time.sleep(10)
    monkeypatch.undo()
    with contextlib.suppress(KeyboardInterrupt):  # one for each line
        time.sleep(5 * LATER_S)


def test_a_long_run_does_not_fill_memory(trt: Any, log: Any) -> None:
    for number in range(10 * MOST_LINES):
        log.log(trt.ILogger.Severity.WARNING, f"warning {number}")
    lines = log.words().split("; ")
    assert len(lines) <= MOST_LINES
    assert lines[-1] == f"warning {10 * MOST_LINES - 1}"


def test_information_goes_to_the_log_at_level_debug_and_what_is_less_nowhere(
    trt: Any, log: Any, caplog: pytest.LogCaptureFixture
) -> None:
    severity = trt.ILogger.Severity
    with caplog.at_level(logging.DEBUG, "engines.tensorrt.log"):
        log.log(severity.INFO, "100 % done")
        log.log(severity.VERBOSE, "a thousand lines")
        log.log(severity.WARNING, "slow")
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("DEBUG", "100 % done")]
