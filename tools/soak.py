"""`frameloom bench soak`: does a run that goes on and on keep its memory, threads, descriptors and latency?

Everything runs as `frameloom run --record --events` does, on live input. Of each figure two rises are told: that of the
straight line through all samples (least squares), and that from the first quarter's median to the last quarter's. A
leak shows in both; one slow minute, or one buffer that grew once and late, hardly does. So a figure is flat unless both
exceed what is tolerated. The first samples are left out: engines and memory pools fill. A latency also rises with what
else runs on the machine; its line is that of time alone, fitted together with the CPU time that others took.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

from pipeline.assemble import assemble
from pipeline.config.load import Override, load_settings, parse_set, parse_sources
from pipeline.config.settings import Settings
from pipeline.frame import Frame
from pipeline.mailbox import Mailbox
from pipeline.runner import STOP_WITHIN_S, Runner
from pipeline.sinks.paths import prepare_file
from tools.benchmark import environment
from tools.run import stopped_by_signals
from tools.terminal import RunProgress, download_progress

CAMERA = "synthetic://640x480@30?live=1"
SAMPLES = 60
"""How many to take, one a second at most: so one has frames enough for a p99, and an hour has one a minute."""
WARM_UP = 0.3
WARM_UP_MAX_S = 360.0
"""Part of the time that is left out, and the most of it: under overload, memory pools took 320 s to fill."""
SEGMENT_S = 60.0
"""Length of a recording's files; only the newest are kept, so that a month fits on a disk."""
ROWS = 12
"""Samples that are shown; all are in the file."""


@dataclass(frozen=True)
class Sample:
    """The process at one moment, and the frames of the interval before it."""

    at_s: float
    """Seconds since the run began."""
    rss_mb: float
    threads: int
    descriptors: int
    others: float
    """Part of the machine's CPU time that other processes took."""
    frames: int
    p50_ms: float | None
    """Capture to delivery; None: nothing was delivered."""
    p95_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True)
class Tolerance:
    """What a figure may rise by: so much, or such a part of where it began, whichever is more."""

    least: float
    part: float = 0.0


TOLERANCES = {
    "rss_mb": Tolerance(5.0, 0.02),
    "threads": Tolerance(1.0),
    "descriptors": Tolerance(1.0),
    "p50_ms": Tolerance(10.0, 0.2),
    "p95_ms": Tolerance(20.0, 0.2),
    "p99_ms": Tolerance(50.0, 0.5),  # of the 600 frames of 20 s it is the sixth: one hiccup moves it
}


@dataclass(frozen=True)
class Trend:
    """How one figure went."""

    name: str
    first: float
    """Median of the first quarter."""
    last: float
    """Median of the last quarter."""
    line: float
    """Rise of the straight line over the whole time; of a latency, others being the same."""
    per_hour: float
    tolerated: float

    @property
    def flat(self) -> bool:
        """Whether it has not risen."""
        return min(self.line, self.last - self.first) <= self.tolerated


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long to run.")] = 20.0,
    source: Annotated[
        list[str] | None, typer.Option(help="Camera, stream or other source; without it, a test pattern as a camera.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name of a known model, or an ONNX file.")] = "yolox-nano",
    backend: Annotated[str, typer.Option(help="auto, tensorrt, tensorrt-rtx, openvino or onnxruntime.")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set any other key of the pipeline.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all samples there.")] = None,
) -> None:
    """Run on live input and see that memory, threads, descriptors and latency stay flat; exit 1 where one does not."""
    if json_file is not None:
        prepare_file(json_file, "bench soak --json")
    with tempfile.TemporaryDirectory(prefix="frameloom-soak-") as folder:
        settings = _settings(source or [CAMERA], model, backend, set_ or (), Path(folder))
        with download_progress(model) as progress:
            runner = assemble(settings, progress=progress)
        with stopped_by_signals(runner), RunProgress(runner, settings.max_frames):
            samples = list(_samples(runner, 60 * minutes, Path(folder)))
    if runner.error is not None:
        raise runner.error
    report = summarise(samples, 60 * minutes, runner)
    _print(report, samples, Console(highlight=False))
    if json_file is not None:
        json_file.write_text(json.dumps(report | {"samples": [asdict(each) for each in samples]}, indent=2) + "\n")
    if report["complaints"]:
        raise typer.Exit(1)


def _settings(sources: list[str], model: str, backend: str, sets: Sequence[str], folder: Path) -> Settings:
    values: dict[str, Any] = {
        "sources": parse_sources(sources),
        "detect.model": model,
        "engine.backend": backend,
        "sinks.record.path": str(folder / "soak.mp4"),
        "sinks.record.segment_s": SEGMENT_S,
        "sinks.events.path": os.devnull,
    }
    overrides = [Override(key, value, "bench soak") for key, value in values.items()]
    return load_settings(None, [*overrides, *map(parse_set, sets)]).settings


# --- measuring --------------------------------------------------------------------------------------------------


def _samples(runner: Runner, seconds: float, folder: Path) -> Iterator[Sample]:
    """Run for so long, engines and all, and yield the samples."""
    outlet = runner.outlet()
    runner.start()
    process, began = psutil.Process(), time.monotonic()
    interval_s = max(1.0, seconds / SAMPLES)
    _others(process)
    for number in range(1, max(1, math.floor(seconds / interval_s)) + 1):
        latencies = _latencies(runner, outlet, began + number * interval_s)
        if outlet.over:
            break
        yield _sample(process, time.monotonic() - began, latencies)
        _remove_old_files(folder, 2 * len(runner.sources))
    runner.stop()
    _latencies(runner, outlet, time.monotonic() + STOP_WITHIN_S)
    runner.wait(STOP_WITHIN_S)


def _latencies(runner: Runner, outlet: Mailbox[Frame], until: float) -> list[float]:
    """Take frames until then; return the seconds from capture to delivery of each."""
    latencies: list[float] = []
    attend_every_s = math.inf if runner.attend_every_s is None else runner.attend_every_s
    while (left_s := until - time.monotonic()) > 0 and not outlet.over:
        item = outlet.get(min(left_s, attend_every_s))
        if isinstance(item, Frame):
            latencies.append(item.free_since - item.captured_at)
        runner.attend()
    return latencies


def _sample(process: psutil.Process, at_s: float, latencies: list[float]) -> Sample:
    p50, p95, p99 = (
        (round(float(each) * 1e3, 3) for each in np.percentile(latencies, (50, 95, 99)))
        if latencies
        else (None, None, None)
    )
    rss_mb = round(process.memory_info().rss / 1e6, 3)
    threads, descriptors = process.num_threads(), process.num_fds()
    return Sample(round(at_s, 3), rss_mb, threads, descriptors, _others(process), len(latencies), p50, p95, p99)


def _others(process: psutil.Process) -> float:
    """Return the part of the machine's CPU time that other processes took since the last call."""
    ours = process.cpu_percent() / 100 / (os.cpu_count() or 1)
    return round(max(0.0, psutil.cpu_percent() / 100 - ours), 3)


def _remove_old_files(folder: Path, keep: int) -> None:
    files = sorted(folder.glob("*.mp4"), key=lambda file: file.stat().st_mtime)
    for file in files[:-keep]:
        file.unlink()


# --- judging ----------------------------------------------------------------------------------------------------


def trend_of(
    name: str, at_s: Sequence[float], values: Sequence[float], tolerance: Tolerance, others: Sequence[float] = ()
) -> Trend:
    """Return how a figure went.

    Args:
        name: of the figure.
        at_s: seconds, rising; at least two.
        values: as many.
        tolerance: what it may rise by.
        others: as many, or none: what else it depends on in proportion.
    """
    quarter = max(1, len(values) // 4)
    first, last = median(values[:quarter]), median(values[-quarter:])
    seconds = np.asarray(at_s) - at_s[0]
    causes = [seconds / seconds[-1], np.ones(len(seconds)), *([np.asarray(others)] if others else [])]
    line = float(np.linalg.lstsq(np.column_stack(causes), np.asarray(values, float), rcond=None)[0][0])
    return Trend(name, first, last, line, line / seconds[-1] * 3600, max(tolerance.least, tolerance.part * abs(first)))


def trends(samples: Sequence[Sample], seconds: float) -> list[Trend]:
    """Return how each figure went after the warm-up of a soak that was to take so long; without one that has none."""
    warm = [sample for sample in samples if sample.at_s >= min(WARM_UP * seconds, WARM_UP_MAX_S)]
    found = []
    for name, tolerance in TOLERANCES.items():
        known = [each for each in warm if getattr(each, name) is not None]
        if len(known) >= 2:
            at_s, values = [each.at_s for each in known], [float(getattr(each, name)) for each in known]
            others = [each.others for each in known] if name.endswith("_ms") else []
            found.append(trend_of(name, at_s, values, tolerance, others))
    return found


def summarise(samples: Sequence[Sample], seconds: float, runner: Runner) -> dict[str, Any]:
    """Return the trends, and every reason why the soak is not passed."""
    found, summary = trends(samples, seconds), runner.summary()
    complaints = [f"{each.name} is not flat" for each in found if not each.flat]
    if len(found) < len(TOLERANCES):
        complaints.append("too few samples have frames")
    if not samples or samples[-1].at_s < 0.9 * seconds:
        complaints.append(f"it ended after {samples[-1].at_s if samples else 0:.0f} s of {seconds:.0f}")
    if not runner.ledger.balanced:
        complaints.append(f"frames are missing from the accounts: {summary['sources']}")
    if runner.abandoned:
        complaints.append(f"{runner.abandoned} threads did not stop")
    return {
        "complaints": complaints,
        "trends": [asdict(each) | {"flat": each.flat} for each in found],
        "sources": [source.info.url for source in runner.sources],
        "engine": runner.descriptions(),
        "summary": summary,
        "environment": environment(),
    }


def _print(report: dict[str, Any], samples: Sequence[Sample], console: Console) -> None:
    console.print(_samples_table(samples))
    console.print(_trends_table(report["trends"]))
    for name, account in report["summary"]["sources"].items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in account["dropped"].items() if count)
        counts = f"{account['captured']} captured, {account['delivered']} delivered, dropped {reasons or '0'}"
        console.print(f"{name}: {counts}", markup=False, soft_wrap=True)
    for line in report["engine"]:
        console.print(line, markup=False, soft_wrap=True)
    for line in report["complaints"]:
        console.print(f"FAILED: {line}", markup=False, soft_wrap=True, style="bold red")
    if not report["complaints"]:
        console.print("everything is flat", style="bold")


def _samples_table(samples: Sequence[Sample]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("seconds", "RSS MB", "threads", "descriptors", "others' CPU", "fps", "p50 ms", "p95", "p99"):
        table.add_column(heading, justify="right")
    chosen = sorted({round(place) for place in np.linspace(0, len(samples) - 1, min(ROWS, len(samples)))})
    for place in chosen:
        each = samples[place]
        fps = each.frames / (each.at_s - (samples[place - 1].at_s if place else 0.0))
        latencies = ("-" if value is None else f"{value:.1f}" for value in (each.p50_ms, each.p95_ms, each.p99_ms))
        process = (f"{each.rss_mb:.1f}", str(each.threads), str(each.descriptors), f"{each.others:.0%}")
        table.add_row(f"{each.at_s:.0f}", *process, f"{fps:.1f}", *latencies)
    return table


def _trends_table(trends: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("after warm-up", "first quarter", "last quarter", "line", "per hour", "tolerated", ""):
        table.add_column(heading, justify="left" if heading in ("after warm-up", "") else "right")
    for each in trends:
        numbers = (f"{each['first']:.1f}", f"{each['last']:.1f}", f"{each['line']:+.2f}", f"{each['per_hour']:+.1f}")
        verdict = "flat" if each["flat"] else "[bold red]NOT FLAT[/]"
        table.add_row(each["name"], *numbers, f"{each['tolerated']:.1f}", verdict)
    return table
