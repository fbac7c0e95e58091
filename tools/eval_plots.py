"""Evaluations as pictures: precision over recall with F1 over confidence, and what is taken for what."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.eval_curves import CONFIDENCES, best, f1, over_confidence
from tools.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tools.coco import Scores
    from tools.eval_confusion import Confusion

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
    names = (*shown.names, "background")
    side = CELL_INCHES * len(names)
    figure = new_figure(max(5.5, side + MARGIN_INCHES), max(4.5, side + MARGIN_INCHES - 0.5), title)
    axes = figure.add_subplot()
    share = shown.counts / np.maximum(shown.counts.sum(axis=1, keepdims=True), 1)
    picture = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(shown.counts), strict=True):
        colour = "white" if share[row, column] > 0.5 else "black"
        text = str(shown.counts[row, column])
        axes.text(float(column), float(row), text, ha="center", va="center", color=colour, fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_xlabel("found (background: missed)")
    axes.set_ylabel("there (background: nothing is there)")
    figure.colorbar(picture, ax=axes, shrink=0.6, label="share of the row")
    save_figure(figure, path)
