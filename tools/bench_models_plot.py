"""Detectors side by side as one picture: AP over milliseconds; bars of milliseconds where nobody measured AP."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tools.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tools.bench_models_measure import Row

COLOURS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink", "tab:gray")
"""By backend and precision."""
MARKERS = "osD^vP*Xh<>"
"""By model."""


def draw(path: Path, rows: Sequence[Row]) -> None:
    """Draw what was measured.

    Raises:
        ConfigError: matplotlib is missing, or the file cannot be written.
    """
    measured = [row for row in rows if row.ms is not None]
    judged = [row for row in measured if row.ap is not None]
    if judged:
        figure = new_figure(8, 5, f"{len(judged)} detectors: accuracy against time")
        _scatter(figure.add_subplot(), judged)
    else:
        figure = new_figure(8, 1.2 + 0.35 * max(1, len(measured)), f"{len(measured)} detectors: time of one request")
        _bars(figure.add_subplot(), measured)
    save_figure(figure, path)


def _scatter(axes: Axes, rows: Sequence[Row]) -> None:
    engines = list(dict.fromkeys(f"{row.backend} {row.precision}" for row in rows))
    names = list(dict.fromkeys(row.name for row in rows))
    for row in rows:
        engine = f"{row.backend} {row.precision}"
        axes.plot(
            [row.ms or 0.0],
            [100 * (row.ap or 0.0)],
            MARKERS[names.index(row.name) % len(MARKERS)],
            color=COLOURS[engines.index(engine) % len(COLOURS)],
            label=f"{row.name}, {engine}",
        )
    axes.set_xlabel("ms, one request at a time")
    axes.set_ylabel("AP, %")
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    names = [f"{row.name}, {row.backend} {row.precision}" for row in rows]
    axes.barh(names, [row.ms or 0.0 for row in rows], color=COLOURS[0])
    axes.invert_yaxis()
    axes.set_xlabel("ms, one request at a time")
