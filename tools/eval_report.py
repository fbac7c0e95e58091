"""What `frameloom eval detect` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from tools.labels.labelled_set import NAMES_SHOWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from tools.coco import Metrics

ROWS = (
    ("AP", ".50:.95", "all", 100),
    ("AP50", ".50", "all", 100),
    ("AP75", ".75", "all", 100),
    ("APs", ".50:.95", "small, < 32x32", 100),
    ("APm", ".50:.95", "medium", 100),
    ("APl", ".50:.95", "large, > 96x96", 100),
    ("AR1", ".50:.95", "all", 1),
    ("AR10", ".50:.95", "all", 10),
    ("AR100", ".50:.95", "all", 100),
    ("ARs", ".50:.95", "small", 100),
    ("ARm", ".50:.95", "medium", 100),
    ("ARl", ".50:.95", "large", 100),
)
"""Metric, IoU, object size in pixels, boxes per image."""


def metrics_table(metrics: Metrics) -> Table:
    """Return AP and AR as a table; `-` where nothing of that kind is annotated."""
    table = _table(("metric", "IoU", "objects"), ("boxes", "value"))
    for name, overlap, objects, boxes in ROWS:
        value = metrics[name]
        table.add_row(name, overlap, objects, str(boxes), "-" if value is None else f"{value:.4f}")
    return table


def classes_table(classes: Sequence[dict[str, Any]]) -> Table:
    """Return AP of each class that is to be found."""
    table = _table(("class",), ("labels", "AP", "AP50"))
    for each in classes:
        table.add_row(each["name"], str(each["labels"]), f"{each['AP']:.4f}", f"{each['AP50']:.4f}")
    return table


def _table(words: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in words:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def print_report(report: dict[str, Any], console: Console, *, per_class: bool = False) -> None:
    """Print the tables, and under them everything that the numbers depend on."""
    console.print(metrics_table(report["metrics"]))
    if masks := report.get("masks"):
        console.print(f"masks, on the {masks['images']} images that have real ones:")
        console.print(metrics_table(masks["metrics"]))
    if per_class:
        console.print(classes_table(report["classes"]), markup=False)
    if matching := report.get("matching"):
        console.print(f"{matching['summary']} ({matching['rule']})", markup=False)
    console.print(f"{report['images']} images, {report['boxes']} boxes, {report['fps']:.1f} images/s", markup=False)
    console.print(report["engine"], markup=False)
    console.print(f"conventions: {report['conventions']}", markup=False)
    notes = list(report["notes"])
    if missing := report["missing"]:
        names = ", ".join(missing[:NAMES_SHOWN]) + (", ..." if len(missing) > NAMES_SHOWN else "")
        notes.insert(0, f"{len(missing)} pictures are missing or unreadable and were left out: {names}")
    for note in notes:
        console.print(f"note: {note}", markup=False, style="yellow")
