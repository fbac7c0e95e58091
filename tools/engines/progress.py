"""What is shown while an engine is built, which takes minutes: what is being done, and how far it is.

On a terminal a bar; elsewhere, as in a log, a line for every tenth. TensorRT reports from threads of its own, and its
shares may fall where it begins a new phase: what is shown never does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 0.1
"""Share between two lines, where they are lines."""


@contextmanager
def build_progress(title: str, console: Console | None = None) -> Iterator[Callable[[str, float], None]]:
    """Show on standard error how a build goes on; call it with what is being done and the share that is done, 0..1."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(title, console)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.fields[doing]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(title, total=1.0, doing="")

        def update(doing: str, share: float) -> None:
            done = max(progress.tasks[task].completed, share)
            progress.update(task, completed=done, doing=doing)

        yield update


class _Lines:
    """A line at the beginning, and one whenever another tenth is done."""

    def __init__(self, title: str, console: Console) -> None:
        self._title, self._console = title, console
        self._lock = threading.Lock()
        self._next = 0.0

    def __call__(self, doing: str, share: float) -> None:
        with self._lock:
            if share < self._next - 1e-9:  # shares are sums of fractions
                return
            self._next = share + STEP
        self._console.print(f"{self._title}: {share:4.0%} {doing}", markup=False, highlight=False, soft_wrap=True)
