"""Evaluations as pictures: precision over recall with F1 over confidence, and what is taken for what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tools.eval_curves import CONFIDENCES, best, f1, over_confidence
from tools.figures import new_figure, save_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from tools.coco import Scores
    from tools.eval_confusion import Confusion

Counts = npt.NDArray[np.int64]

ALL, MARK = "black", "tab:red"
BEST, WORST = ("tab:green", "tab:olive", "tab:cyan"), ("tab:blue", "tab:purple", "tab:orange")
ENOUGH_LABELS = 10
"""Of a class, for its curve to be drawn as one of the best or worst."""
MOST_CLASSES = 30
"""Of a confusion matrix that can still be read."""
CELL_INCHES, MARGIN_INCHES = 0.3, 2.5


def plot_precision(path: Path, title: str, scores: Scores) -> None:
    """Draw the mean of all classes, and the best and the worst ones.

    Raises:
        ConfigError: matplotlib is missing, or the file cannot be written.
    """
    figure = new_figure(11, 4.6, title)
    curves, by_confidence = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    precision, recall = over_confidence(scores)
    f1_by_class = f1(precision, recall)
    for row, colour in zip(*_shown(scores), strict=True):
        each = scores.classes[row]
        label = f"{each.name}: {100 * each.ap50:.1f} ({each.labels})"
        curves.plot(scores.recalls, scores.precision[:, row], color=colour, linewidth=1, label=label)
        by_confidence.plot(CONFIDENCES, f1_by_class[:, row], color=colour, linewidth=1)
    if point := best(scores):
        ap50 = np.mean([each.ap50 for each in scores.classes])
        label = f"mean of {len(scores.classes)} classes: {100 * ap50:.1f}"
        curves.plot(scores.recalls, scores.precision.mean(axis=1), color=ALL, linewidth=2.5, label=label)
        curves.legend(fontsize="small", title="AP50 (labels)", title_fontsize="small", loc="upper right")
        by_confidence.plot(CONFIDENCES, f1_by_class.mean(axis=1), color=ALL, linewidth=2.5)
        label = f"best mean: {point.f1:.2f} at confidence {point.confidence:.2f}\n"
        label += f"(precision {point.precision:.2f}, recall {point.recall:.2f})"
        by_confidence.plot(point.confidence, point.f1, "o", color=MARK, label=label)
        by_confidence.axvline(point.confidence, color=MARK, linewidth=0.8, linestyle="--")
        by_confidence.legend(fontsize="small", loc="upper right")
    _unit_axes(curves, "Precision over recall, IoU 0.5", "recall", "precision")
    _unit_axes(by_confidence, "F1 over confidence, IoU 0.5", "confidence", "F1")
    save_figure(figure, path)


def _shown(scores: Scores) -> tuple[list[int], list[str]]:
    """Return the rows of the best and worst classes, and their colours; of one label nothing can be learnt."""
    by_ap50 = sorted(range(len(scores.classes)), key=lambda row: -scores.classes[row].ap50)
    rows = [row for row in by_ap50 if scores.classes[row].labels >= ENOUGH_LABELS]
    if len(rows) < len(BEST) + len(WORST):
        rows = by_ap50
    best_rows = rows[: len(BEST)]
    worst_rows = rows[len(best_rows) :][-len(WORST) :]
    return best_rows + worst_rows, [*BEST[: len(best_rows)], *WORST[: len(worst_rows)]]


def _unit_axes(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)


def plot_confusion(path: Path, title: str, confusion: Confusion) -> None:
    """Draw the shares of each row: of the objects of a class, what they were found as.

    Raises:
        ConfigError: matplotlib is missing, or the file cannot be written.
    """
    shown = confusion.largest(MOST_CLASSES)
    axes = ("found (background: missed)", "there (background: nothing is there)")
    _plot_matrix(path, title, (*shown.names, "background"), shown.counts, axes, shares=False)


def plot_pixels(path: Path, title: str, confusion: Confusion) -> None:
    """Draw the shares of each row: of the pixels that are labelled as a class, what they were found to be.

    Raises:
        ConfigError: matplotlib is missing, or the file cannot be written.
    """
    shown = confusion.largest(MOST_CLASSES)
    names, counts = (*shown.names, "another"), shown.counts
    there = counts.sum(axis=0) + counts.sum(axis=1) > 0
    names = tuple(name for name, is_there in zip(names, there, strict=True) if is_there)
    _plot_matrix(path, title, names, counts[there][:, there], ("found", "labelled"), shares=True)


def _plot_matrix(
    path: Path, title: str, names: Sequence[str], counts: Counts, words: tuple[str, str], *, shares: bool
) -> None:
    """Draw a matrix in the colours of the shares of its rows, with counts or shares (percent) in the cells.

    Args:
        path: of the PNG.
        title: above.
        names: of rows and columns.
        counts: (K, K).
        words: below the columns, and beside the rows.
        shares: what is written in the cells.
    """
    side = CELL_INCHES * len(names)
    figure = new_figure(max(5.5, side + MARGIN_INCHES), max(4.5, side + MARGIN_INCHES - 0.5), title)
    axes = figure.add_subplot()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = f"{100 * share[row, column]:.0f}" if shares else str(counts[row, column])
        axes.text(float(column), float(row), text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel(words[0])
    axes.set_ylabel(words[1])
    figure.colorbar(picture, ax=axes, shrink=0.6, label="share of the row" + (", % in the cells" if shares else ""))
    save_figure(figure, path)
