"""What a run shows on the terminal: log lines, a progress bar while it goes on, a summary at its end."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from engines.masking import mask_passwords
from pipeline.errors import SinkError
from pipeline.runner import Runner

if TYPE_CHECKING:
    from engines.download import Progress as ProgressCallback

REFRESH_S = 0.25


class LogLines(logging.StreamHandler[Any]):
    """Log lines on standard error as it is now: a progress bar replaces it, to keep lines above itself."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without passwords, whoever wrote it."""
        return mask_passwords(super().format(record))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self.stream = sys.stderr
        super().emit(record)


class RunProgress:
    """A bar per source with frames, fps and time left, on standard error; nothing where that is no terminal."""

    def __init__(self, runner: Runner, max_frames: int | None) -> None:
        self._runner = runner
        self._stop = threading.Event()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[fps]:.0f} fps"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        for source in runner.sources:
            totals = [number for number in (source.info.frames, max_frames) if number is not None]
            total = min(totals) if totals else None
            self._tasks[source.info.name] = self._progress.add_task(source.info.name, total=total, fps=0.0)
        self._thread = threading.Thread(target=self._refresh, name="progress", daemon=True)

    def __enter__(self) -> RunProgress:
        if self._progress.console.is_terminal:
            self._progress.start()
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._progress.stop()

    def _refresh(self) -> None:
        while not self._stop.wait(REFRESH_S):
            for name, task in self._tasks.items():
                done = self._runner.ledger.accounts[name].delivered
                speed = self._progress.tasks[task].speed or 0.0
                self._progress.update(task, completed=done, fps=speed, description=self._describe(name))

    def _describe(self, name: str) -> str:
        """Return a source's name, and what it is doing where that is not to send pictures."""
        state = self._runner.states.get(name)
        if state is None or state.state == "streaming":
            return name
        return f"{name} {state.state}" + (f" ({state.reason})" if state.reason else "")


class Output(Console):
    """Standard output; where its reader has gone (`| head`), the rest is dropped and the exit code stays what it is."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on."""
        self.quiet = True
        discard_output()


def discard_output() -> None:
    """Let standard output lead to nowhere, also for what is still in its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def print_summary(runner: Runner) -> None:
    """Print frames per source, time per stage, and where the files are.

    Raises:
        SinkError: standard output cannot be written (a full disk).
    """
    try:
        _print_summary(runner, Output(highlight=False))
    except OSError as error:
        discard_output()
        raise SinkError(f"cannot write the summary to standard output: {error.strerror}") from error


def _print_summary(runner: Runner, console: Console) -> None:
    summary = runner.summary()
    console.print(_sources_table(summary))
    console.print(_stages_table(summary))
    fps = "-" if summary["fps"] is None else f"{summary['fps']:.1f}"
    console.print(f"[bold]{fps} fps[/] in all; capture to delivery {_milliseconds(summary['latency_ms'])}")
    for line in runner.descriptions():
        console.print(line, markup=False, soft_wrap=True)
    for path in runner.files():
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
    for name, count in summary["sink_drops"].items():
        console.print(f"{name}: {count} not taken, or given up", markup=False)
    for remark in runner.remarks():
        console.print(f"note: {remark}", markup=False, soft_wrap=True, style="yellow")
    if runner.abandoned:
        console.print(f"note: {runner.abandoned} threads did not stop in time and were abandoned", style="yellow")


def _sources_table(summary: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("source", overflow="fold")
    for heading in ("captured", "delivered", "dropped"):
        table.add_column(heading, justify="right")
    for name, account in summary["sources"].items():
        reasons = ", ".join(f"{count} {reason}" for reason, count in account["dropped"].items() if count)
        table.add_row(name, str(account["captured"]), str(account["delivered"]), reasons or "0")
    return table


def _stages_table(summary: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("ms per frame")
    for heading in ("p50", "p95", "p99", "waited p50", "p95", "p99"):
        table.add_column(heading, justify="right")
    for name, values in summary["stages"].items():
        figures = (*values.values(), *summary["waits"][name].values())
        table.add_row(name, *("-" if value is None else f"{value:.1f}" for value in figures))
    return table


def _milliseconds(values: dict[str, float | None]) -> str:
    return ", ".join("-" if value is None else f"{name} {value:.0f} ms" for name, value in values.items())


@contextmanager
def download_progress(name: str) -> Iterator[ProgressCallback]:
    """Show a bar for one download on standard error, once it begins and where that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task: TaskID | None = None

        def update(done: int, total: int | None) -> None:
            nonlocal task
            if task is None:
                task = bar.add_task(name, total=total)
            bar.update(task, completed=done, total=total)

        yield update


@contextmanager
def bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error, where that is a terminal, until all is done; call it with done and total."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total, visible=done < total)


def say(text: str) -> None:
    """Print one line as it is: not wrapped, not coloured, brackets not taken for markup."""
    Output(highlight=False, markup=False).print(text, soft_wrap=True)
