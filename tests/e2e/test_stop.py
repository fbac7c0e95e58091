"""The program ends as promised: by Ctrl-C, SIGTERM, SIGKILL, a second Ctrl-C, and where something hangs."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.assemble import assemble
from pipeline.config.load import Override, load_settings
from tests.e2e.program import (
    ENDLESS,
    FRAMELOOM,
    MODELS,
    NO_MODEL,
    begin,
    environment,
    events,
    number_of_lines,
    times_of,
    until,
    until_it_takes_signals,
)

needs_models = pytest.mark.skipif(not MODELS.is_dir(), reason="the shared models are not here")
MODES = [
    pytest.param(NO_MODEL, id="no model"),
    pytest.param(("--backend", "openvino"), id="openvino", marks=needs_models),
    pytest.param(("--backend", "onnxruntime"), id="onnxruntime", marks=needs_models),
]
OUTPUTS = ("--record", "out.mp4", "--events", "events.jsonl")
FRAMES = 40
SHOW_CURSOR, HIDE_CURSOR = b"\x1b[?25h", b"\x1b[?25l"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A file that hangs whoever opens it for writing."""
    path = tmp_path / "hanging.jsonl"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_ctrl_c_and_sigterm_end_within_2_s_with_all_files_closed(
    tmp_path: Path, mode: tuple[str, ...], number: signal.Signals
) -> None:
    process = begin(tmp_path, "--source", ENDLESS, *mode, *OUTPUTS)
    until(lambda: number_of_lines(tmp_path / "events.jsonl") > FRAMES, process)
    before = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert time.monotonic() - before < 2.0
    assert (process.returncode, err) == (0, "")
    assert "wrote out.mp4" in out
    assert "abandoned" not in out

    written = events(tmp_path / "events.jsonl")
    summary = written[-1]
    assert [line["type"] for line in written].count("summary") == 1
    assert summary["type"] == "summary"
    counts = summary["sources"]["synthetic"]
    assert counts["captured"] == counts["delivered"] + sum(counts["dropped"].values())
    times = times_of(tmp_path / "out.mp4")
    assert len(times) == counts["delivered"] == len(written) - 1
    assert times == sorted(times)
    assert times[-1] == pytest.approx(written[-2]["pts"], abs=0.001)


@needs_models
def test_ctrl_c_while_the_model_is_compiled_ends_within_2_s(tmp_path: Path) -> None:
    process = begin(tmp_path, "--source", ENDLESS, *OUTPUTS, "--verbose")
    until(lambda: (tmp_path / "events.jsonl").exists(), process)  # the sinks are open, the model is not
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert time.monotonic() - before < 2.2  # to the end of the process
    assert process.returncode == 0


def test_a_signal_ends_a_run_whose_sink_hangs_and_says_so(tmp_path: Path, fifo: Path) -> None:
    process = begin(tmp_path, "--source", ENDLESS, *NO_MODEL, "--events", fifo.name, "--record", "out.mp4")
    until_it_takes_signals(process)
    time.sleep(0.5)
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert 1.0 < time.monotonic() - before < 2.2
    assert (process.returncode, err) == (0, "")
    assert "1 threads did not stop in time and were abandoned" in out


def test_a_sink_that_hangs_in_the_middle_does_not_spoil_the_recording(tmp_path: Path, fifo: Path) -> None:
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)  # lets it be opened, and never reads
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    try:
        process = begin(tmp_path, "--source", ENDLESS, *NO_MODEL, "--events", fifo.name, "--record", "out.mp4")
        until(lambda: (tmp_path / "out.mp4").exists(), process)
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        before = time.monotonic()
        out, _ = process.communicate(timeout=10)
        assert time.monotonic() - before < 2.2
        assert process.returncode == 0
        assert "abandoned" in out
        assert len(times_of(tmp_path / "out.mp4")) > 20
    finally:
        os.close(reader)


def test_a_second_ctrl_c_ends_at_once(tmp_path: Path, fifo: Path) -> None:
    process = begin(tmp_path, "--source", ENDLESS, *NO_MODEL, "--events", fifo.name)
    until_it_takes_signals(process)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert time.monotonic() - before < 0.3
    assert process.returncode == 130


def test_a_second_ctrl_c_gives_the_terminal_its_cursor_back(tmp_path: Path, fifo: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        process = begin(tmp_path, "--source", ENDLESS, *NO_MODEL, "--events", fifo.name, stderr=theirs)
        shown = os.read(ours, 10_000)  # the progress bar has begun
        for _ in range(2):
            time.sleep(0.3)
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        os.set_blocking(ours, False)
        with suppress(BlockingIOError):
            while True:
                shown += os.read(ours, 4096)
        assert process.returncode == 130
        assert shown.rfind(HIDE_CURSOR) >= 0
        assert shown.rfind(SHOW_CURSOR) > shown.rfind(HIDE_CURSOR)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("mode", MODES[:2])
def test_after_sigkill_the_recording_plays_to_the_last_second_and_every_event_is_whole(
    tmp_path: Path, mode: tuple[str, ...]
) -> None:
    process = begin(tmp_path, "--source", ENDLESS, *mode, *OUTPUTS)
    until(lambda: number_of_lines(tmp_path / "events.jsonl") > 100, process)
    process.kill()
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL
    text = (tmp_path / "events.jsonl").read_text()
    assert text.endswith("\n")
    last = events(tmp_path / "events.jsonl")[-1]
    times = times_of(tmp_path / "out.mp4")
    queued = 6 / 30  # frames that the recorder had not yet taken
    assert times[-1] >= last["pts"] - 1.0 - queued
    assert len(times) == round(times[-1] * 30) + 1


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(MODELS))


@needs_models
@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_real_engine_is_stopped_at_any_moment_with_several_sources(backend: str) -> None:
    moments = random.Random(1)
    values = {
        "sources": [f"{ENDLESS}?frames=100000" for _ in range(3)],
        "engine.backend": backend,
        "latency.max_age_ms": 100,
    }
    settings = load_settings(None, [Override(key, value, key) for key, value in values.items()]).settings
    for _ in range(4):
        runner = assemble(settings)
        runner.start()
        time.sleep(moments.uniform(0.6, 1.2))
        before = time.monotonic()
        runner.stop()
        assert runner.wait(10)
        assert time.monotonic() - before < 2.0
        assert (runner.error, runner.abandoned) == (None, 0)
        assert runner.ledger.balanced


def test_a_run_whose_output_nobody_reads_ends_quietly(tmp_path: Path) -> None:
    arguments = ("--source", f"{ENDLESS}?frames=30", *NO_MODEL, "--events", "events.jsonl")
    process = begin(tmp_path, *arguments)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "")
    assert events(tmp_path / "events.jsonl")[-1]["type"] == "summary"


@pytest.mark.parametrize("redirect", ["| head -n 1", ">&-", "> /dev/full", "2>&-", ">&- 2>&-"])
def test_no_redirection_of_the_output_brings_a_traceback(tmp_path: Path, redirect: str) -> None:
    command = f"'{FRAMELOOM}' run --source '{ENDLESS}?frames=30' {' '.join(NO_MODEL)} --events events.jsonl {redirect}"
    done = subprocess.run(
        command, shell=True, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    assert events(tmp_path / "events.jsonl")[-1]["type"] == "summary"
