"""`frameloom bench soak`: what counts as flat, and that a real soak passes, or fails for the right reason."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.errors import FrameloomError
from tools.cli import app
from tools.soak import TOLERANCES, WARM_UP, WARM_UP_MAX_S, Sample, trends

SECONDS = 1200.0
JUDGED = 1 - min(WARM_UP, WARM_UP_MAX_S / SECONDS)
"""Part of the time behind the warm-up."""
SMALL = "synthetic://64x48@30?live=1"
STEADY = Sample(0.0, 250.0, 13, 8, 0.0, 600, 20.0, 40.0, 60.0)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def samples(**curves: Callable[[float], float]) -> list[Sample]:
    """Twenty minutes, sampled every 20 s; a curve is a figure's value, given the part of the time that has passed."""
    parts = [number / 60 for number in range(1, 61)]
    figures = [{name: curve(part) for name, curve in curves.items()} for part in parts]
    return [
        Sample(**asdict(STEADY) | each | {"at_s": part * SECONDS}) for part, each in zip(parts, figures, strict=True)
    ]


def noise(part: float) -> float:
    return float(np.random.default_rng(int(part * 1e6)).normal())


@pytest.mark.parametrize(
    ("name", "curve", "flat"),
    [
        ("rss_mb", lambda part: 250.0, True),
        ("rss_mb", lambda part: 250 + 10 * noise(part), True),
        ("rss_mb", lambda part: 250 - 100 * part, True),
        ("rss_mb", lambda part: 250 + 10 * part, False),
        ("rss_mb", lambda part: 250 + 10 * part + 3 * noise(part), False),
        ("rss_mb", lambda part: 200.0 if part < 0.1 else 250.0, True),  # the warm-up
        ("rss_mb", lambda part: 250.0 if part < 0.5 else 270.0, False),
        ("rss_mb", lambda part: 250.0 if part < 0.95 else 270.0, True),  # one late buffer
        ("threads", lambda part: 13 + (part > 0.5), True),
        ("threads", lambda part: 13 + int(6 * part), False),
        ("descriptors", lambda part: 8 + 2 * (part > 0.5), False),
        ("descriptors", lambda part: 8 + 50 * (0.3 < part < 0.4), True),
        ("p50_ms", lambda part: 20 + 5 * part, True),
        ("p50_ms", lambda part: 20 + 30 * part, False),
        ("p95_ms", lambda part: 40.0 if part < 0.5 else 65.0, False),
        ("p95_ms", lambda part: 400.0 if 0.6 < part < 0.7 else 40.0, True),
        ("p99_ms", lambda part: 60 + 10 * noise(part), True),
        ("p99_ms", lambda part: 60 + 100 * part, False),
    ],
)
def test_a_figure_is_flat_unless_it_has_risen_by_more_than_is_tolerated(
    name: str, curve: Callable[[float], float], flat: bool
) -> None:
    found = {trend.name: trend for trend in trends(samples(**{name: curve}), SECONDS)}
    assert {name: trend.flat for name, trend in found.items()} == dict.fromkeys(TOLERANCES, True) | {name: flat}


@pytest.mark.parametrize(("own_rise_ms", "flat"), [(0.0, True), (60.0, False)])
def test_a_latency_that_rises_with_what_else_runs_is_flat_and_one_that_rises_besides_is_not(
    own_rise_ms: float, flat: bool
) -> None:
    def busy(part: float) -> float:
        return max(0.0, 0.3 * part + 0.1 * noise(part))

    found = trends(samples(others=busy, p50_ms=lambda part: 20 + 200 * busy(part) + own_rise_ms * part), SECONDS)
    latency = next(trend for trend in found if trend.name == "p50_ms")
    assert latency.last - latency.first > latency.tolerated
    assert latency.line == pytest.approx(own_rise_ms * JUDGED, abs=3)
    assert latency.flat == flat


def test_a_trend_tells_the_rise_per_hour() -> None:
    trend = trends(samples(rss_mb=lambda part: 250 + 20 * part), SECONDS)[0]
    assert trend.per_hour == pytest.approx(60)
    assert trend.last - trend.first == pytest.approx(20 * JUDGED * 3 / 4, rel=0.1)


def test_intervals_without_frames_have_no_latency_and_do_not_count() -> None:
    away = [replace(each, p95_ms=None) if 0.4 < each.at_s / SECONDS < 0.6 else each for each in samples()]
    assert all(trend.flat for trend in trends(away, SECONDS))
    assert len(trends(away, SECONDS)) == len(TOLERANCES)
    mute = [replace(each, p50_ms=None, p95_ms=None, p99_ms=None) for each in samples()]
    assert [trend.name for trend in trends(mute, SECONDS)] == ["rss_mb", "threads", "descriptors"]


def soak(*arguments: str) -> Any:  # typer does not export the result's type
    fixed = ["--json", "soak.json", "--set", "detect.enabled=false"]
    return CliRunner().invoke(app, ["bench", "soak", *fixed, *arguments], env={"COLUMNS": "100"})


def report() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(Path("soak.json").read_text())
    return told


def test_a_run_on_live_input_has_flat_memory_threads_and_descriptors() -> None:
    result = soak("--minutes", "0.2", "--source", SMALL)
    told = report()
    assert result.exit_code == bool(told["complaints"]), result.output
    assert [each for each in told["complaints"] if "_ms" not in each] == []  # latency is the machine's affair, too
    assert [each["name"] for each in told["trends"]] == list(TOLERANCES)
    assert 10 <= len(told["samples"]) <= 12
    account = told["summary"]["sources"]["synthetic"]
    assert 120 < account["captured"] < 400
    assert sum(each["frames"] for each in told["samples"]) <= account["delivered"]
    assert told["summary"]["stages"]["record"]["p50"] is not None
    assert told["environment"]["cores"]
    assert "descriptors" in result.stdout
    assert "synthetic: " in result.stdout
    assert list(Path().iterdir()) == [Path("soak.json")]


@contextmanager
def leaking(every_s: float) -> Iterator[None]:
    """Open a file every so often, and none is closed before the end."""
    opened: list[int] = []
    over = threading.Event()

    def leak() -> None:
        while not over.wait(every_s):
            opened.append(os.open(os.devnull, os.O_RDONLY))

    thread = threading.Thread(target=leak)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for descriptor in opened:
            os.close(descriptor)


def test_a_leak_of_descriptors_fails_the_soak_and_is_named() -> None:
    with leaking(every_s=0.5):
        result = soak("--minutes", "0.15", "--source", SMALL)
    assert result.exit_code == 1
    assert "FAILED: descriptors is not flat" in result.stdout
    assert "descriptors is not flat" in report()["complaints"]


def test_a_run_that_ends_before_its_time_fails_the_soak() -> None:
    result = soak("--minutes", "0.1", "--source", f"{SMALL}&frames=60")
    assert result.exit_code == 1
    assert any(each.startswith("it ended after ") for each in report()["complaints"]), report()["complaints"]


def test_a_run_that_fails_fails_the_soak_with_its_error() -> None:
    result = soak("--minutes", "0.1", "--set", "sinks.record.path=/dev/full/x.mp4")
    assert isinstance(result.exception, FrameloomError)
    assert not Path("soak.json").exists()


def test_a_place_that_cannot_be_written_is_refused_before_the_soak() -> None:
    result = CliRunner().invoke(app, ["bench", "soak", "--json", "/proc/nowhere/soak.json"])
    assert isinstance(result.exception, FrameloomError)
    assert "bench soak --json: cannot write to folder /proc/nowhere" in str(result.exception)


@pytest.mark.parametrize("arguments", [["none.mp4"], ["--rounds", "1", "none.mp4"], ["video", "none.mp4"]])
def test_bench_without_the_name_of_a_measurement_measures_a_video(arguments: list[str]) -> None:
    result = CliRunner().invoke(app, ["bench", *arguments, "--model", "none.onnx"])
    assert isinstance(result.exception, FrameloomError)
    assert "none.onnx" in str(result.exception) or "none.mp4" in str(result.exception)


def test_the_help_of_bench_lists_what_can_be_measured() -> None:
    result = CliRunner().invoke(app, ["bench", "--help"], env={"COLUMNS": "100"})
    assert result.exit_code == 0
    assert "soak" in result.stdout
    assert "video" in result.stdout
