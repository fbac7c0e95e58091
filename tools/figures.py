"""Figures: matplotlib on a file, without a window. It comes with the extra `eval` and is imported on use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110


def new_figure(width_inches: float, height_inches: float, title: str) -> Figure:
    """Make a figure.

    Raises:
        ConfigError: matplotlib is missing; the message has the command that installs it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ConfigError(
            f"plots are drawn by matplotlib, which cannot be imported ({error}): pip install 'frameloom[eval]'"
        ) from error
    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure


def check_installed() -> None:
    """See that figures can be drawn, before the work for them.

    Raises:
        ConfigError: matplotlib is missing.
    """
    new_figure(1, 1, "")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG.

    Raises:
        ConfigError: the file cannot be written.
    """
    try:
        figure.savefig(path, dpi=DOTS_PER_INCH, format="png")
    except OSError as error:
        raise ConfigError(f"the plot {path} cannot be written: {error.strerror or error}") from error
