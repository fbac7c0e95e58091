"""What `frameloom anchors` says: the anchors as Darknet and YAML want them, and how well they suit the boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import ConfigError
from tools.anchor_fit import Fitted, Sizes, best_overlaps
from tools.figures import new_figure, save_figure

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

STRIDES = {6: (16, 32), 12: (8, 16, 32, 64)}
"""Strides of the usual maps by the number of anchors: of tiny models and of the largest; of others 8, 16, 32."""
TINY = 3
"""Pixels of the shorter side under which a box is hardly to be found (YOLOv5's warning)."""
DIGITS = 3
"""Of a side, as it is written: its last digit changes an IoU by less than 0.01."""
MOST_DRAWN = 20_000
BOXES, ANCHORS, MARK = "tab:blue", "tab:red", "grey"


@dataclass(frozen=True)
class Report:
    """Anchors as they are written, and their figures, all for boxes in a model's input."""

    anchors: Sizes
    """By rising area."""
    strides: tuple[int, ...]
    """Of the maps that share them, the finest first; empty: they cannot be shared equally."""
    input_size: tuple[int, int]
    """Height and width."""
    threshold: float
    """IoU from which an anchor recalls a box."""
    overlaps: npt.NDArray[np.float64]
    """Of each box with its best anchor."""
    users: npt.NDArray[np.intp]
    """How many boxes each anchor suits best."""
    tiny: float
    """Share of the boxes with a side under `TINY` pixels."""
    clusters_mean_iou: float
    seed: int

    @property
    def mean_iou(self) -> float:
        """Of the anchors as they are written."""
        return float(self.overlaps.mean())

    @property
    def recall(self) -> float:
        """Best possible recall: the share of boxes that some anchor overlaps by the threshold or more."""
        return float((self.overlaps >= self.threshold).mean())

    @property
    def groups(self) -> list[tuple[str, slice]]:
        """Name and anchors of each map."""
        if not self.strides:
            return [("all", slice(None))]
        each = len(self.anchors) // len(self.strides)
        return [(f"stride {stride}", slice(n * each, (n + 1) * each)) for n, stride in enumerate(self.strides)]


def report_on(
    fitted: Fitted,
    sizes: Sizes,
    strides: tuple[int, ...] | None,
    input_size: tuple[int, int],
    threshold: float,
    seed: int,
) -> Report:
    """Round the anchors and measure them.

    Raises:
        ConfigError: the strides that were asked for do not share them equally.
    """
    count = len(fitted.anchors)
    if strides is None:
        strides = STRIDES.get(count, (8, 16, 32))
        strides = strides if count % len(strides) == 0 else ()
    elif count % len(strides):
        raise ConfigError(f"--strides: {len(strides)} maps cannot share {count} anchors equally: say another -k")
    anchors = np.array([[float(f"{side:.{DIGITS}g}") for side in anchor] for anchor in fitted.anchors])
    best, which = best_overlaps(sizes, anchors)
    return Report(
        anchors=anchors,
        strides=strides,
        input_size=input_size,
        threshold=threshold,
        overlaps=best,
        users=np.bincount(which, minlength=count),
        tiny=float((sizes.min(axis=1) < TINY).mean()),
        clusters_mean_iou=fitted.clusters_mean_iou,
        seed=seed,
    )


def as_darknet(report: Report) -> str:
    """Return the line of each [yolo] section of a Darknet network; each has a mask of its own."""
    lines = [f"num = {len(report.anchors)}", f"anchors = {_joined(report.anchors, ',  ')}"]
    for name, part in report.groups:
        mask = ",".join(map(str, range(len(report.anchors))[part]))
        lines += [f"# {name}", f"mask = {mask}"]
    return "\n".join(lines)


def as_yaml(report: Report) -> str:
    """Return the list that YOLOv5's and YOLOv7's model files have: one row for each map, the finest first."""
    rows = [f"  - [{_joined(report.anchors[part], ', ')}]  # {name}" for name, part in report.groups]
    return "\n".join(["anchors:", *rows])


def as_json(report: Report) -> dict[str, Any]:
    """Return everything as plain values."""
    return {
        "input_size": list(report.input_size),
        "anchors": report.anchors.tolist(),
        "maps": {name: report.anchors[part].tolist() for name, part in report.groups},
        "boxes": len(report.overlaps),
        "boxes_by_anchor": report.users.tolist(),
        "mean_iou": report.mean_iou,
        "mean_iou_of_clusters": report.clusters_mean_iou,
        "best_possible_recall": {"iou": report.threshold, "share": report.recall},
        "tiny": {"pixels": TINY, "share": report.tiny},
        "seed": report.seed,
    }


def save(path: Path, report: Report) -> None:
    """Write the anchors: everything as .json, the list as .yaml, else the lines of a Darknet network.

    Raises:
        ConfigError: the file cannot be written.
    """
    if path.suffix == ".json":
        text = json.dumps(as_json(report), indent=2)
    else:
        text = as_yaml(report) if path.suffix in (".yaml", ".yml") else as_darknet(report)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def plot(path: Path, report: Report, sizes: Sizes) -> None:
    """Draw the boxes with the anchors, and what share of the boxes some anchor overlaps how much.

    Raises:
        ConfigError: matplotlib is missing, or the file cannot be written.
    """
    height, width = report.input_size
    figure = new_figure(11, 4.8, f"{len(report.anchors)} anchors for {len(sizes):,} boxes at {width} x {height}")
    _draw_sizes(figure.add_subplot(1, 2, 1), report, sizes)
    _draw_coverage(figure.add_subplot(1, 2, 2), report)
    save_figure(figure, path)


def _draw_sizes(axes: Axes, report: Report, sizes: Sizes) -> None:
    drawn = np.random.default_rng(0).permutation(len(sizes))[:MOST_DRAWN]
    axes.scatter(sizes[drawn, 0], sizes[drawn, 1], s=4, alpha=0.3, color=BOXES, linewidths=0, label="boxes")
    axes.scatter(report.anchors[:, 0], report.anchors[:, 1], s=50, marker="+", color=ANCHORS, label="anchors")
    for anchor in report.anchors:
        axes.annotate(_side(anchor[0]) + " x " + _side(anchor[1]), anchor, fontsize="x-small", color=ANCHORS)
    axes.axvline(TINY, color=MARK, linewidth=0.8, linestyle=":")
    axes.axhline(TINY, color=MARK, linewidth=0.8, linestyle=":", label=f"{TINY} px: {report.tiny:.1%} are smaller")
    axes.set(xscale="log", yscale="log", xlabel="width in pixels of the input", ylabel="height in pixels of the input")
    axes.set_title(f"Mean IoU {report.mean_iou:.3f}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="upper left")


def _draw_coverage(axes: Axes, report: Report) -> None:
    thresholds = np.linspace(0, 1, 101)
    ordered = np.sort(report.overlaps)
    shares = 1 - np.searchsorted(ordered, thresholds, side="left") / len(ordered)
    axes.plot(thresholds, 100 * shares, color=BOXES)
    label = f"IoU {report.threshold:g}: {report.recall:.1%} of the boxes"
    axes.plot(report.threshold, 100 * report.recall, "o", color=ANCHORS, label=label)
    axes.set(xlim=(0, 1), ylim=(0, 101), xlabel="IoU with the best anchor", ylabel="boxes with at least so much, in %")
    axes.set_title("Best possible recall")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small", loc="lower left")


def _joined(anchors: Sizes, between: str) -> str:
    return between.join(f"{_side(width)},{_side(height)}" for width, height in anchors)


def _side(value: float) -> str:
    return f"{value:.15g}"


def strides_of(text: str | None) -> tuple[int, ...] | None:
    """Return what `--strides` says: whole numbers above 0 with commas between them, rising.

    Raises:
        ConfigError: it is something else.
    """
    if text is None:
        return None
    parts: Sequence[str] = text.split(",")
    if not all(each.strip().isdecimal() for each in parts):
        raise ConfigError(f"--strides {text}: write numbers with commas between them, such as 8,16,32")
    strides = tuple(map(int, parts))
    if list(strides) != sorted({each for each in strides if each > 0}):
        raise ConfigError(f"--strides {text}: they must rise, the finest map first, such as 8,16,32")
    return strides
