"""`frameloom anchors`: the anchor sizes that suit labelled boxes best, for detectors that are trained with anchors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from pipeline.errors import ConfigError
from tools.anchor_fit import Sizes, fit
from tools.anchor_report import TINY, Report, as_darknet, as_json, as_yaml, plot, report_on, save, strides_of
from tools.engines.options import input_size_of
from tools.figures import check_installed
from tools.labels import LabelledSet, read_labels
from tools.targets import check_target
from tools.terminal import say

MOST = 64
"""More anchors than any model has."""


def sizes_of(labels: LabelledSet, input_size: tuple[int, int]) -> tuple[Sizes, int]:
    """Return the sizes of the labelled boxes once their pictures are scaled to fit into a model's input.

    Args:
        labels: pictures without a size and crowds are left out.
        input_size: height and width.

    Returns:
        Widths and heights in pixels of the input, and how many boxes were left out because a side is no number above 0.

    Raises:
        ConfigError: there are no boxes.
    """
    height, width = input_size
    sized = [each for each in labels.images if each.get("height") and each.get("width")]
    scales = {each["id"]: min(height / each["height"], width / each["width"]) for each in sized}
    kept = [each for each in labels.annotations if not each.get("iscrowd") and each["image_id"] in scales]
    boxes = np.array([each["bbox"][2:4] for each in kept], np.float64).reshape(-1, 2)
    sizes = boxes * np.array([scales[each["image_id"]] for each in kept]).reshape(-1, 1)
    usable = (np.isfinite(sizes) & (sizes > 0)).all(axis=1)
    if not usable.any():
        without = f": all {len(sizes)} have a side that is no number above 0" if len(sizes) else ""
        raise ConfigError(f"there are no boxes to fit anchors to{without}")
    return sizes[usable], int((~usable).sum())


def check_count(sizes: Sizes, count: int) -> None:
    """See that there are as many different boxes as there are to be anchors.

    Raises:
        ConfigError: there are fewer.
    """
    distinct = len(np.unique(sizes, axis=0))
    if distinct < count:
        raise ConfigError(f"there are only {distinct} different box sizes for {count} anchors: say -k {distinct}")


def anchors(
    labels: Annotated[
        Path,
        typer.Option(metavar="PATH", help="COCO instances.json; folder of YOLO .txt (or data.yaml), or of VOC .xml."),
    ],
    images: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of the pictures; YOLO and VOC have a usual one.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-k", min=1, max=MOST, help="How many anchors.")] = 9,
    input_size: Annotated[str, typer.Option(metavar="SIDE|HxW", help="Of the model that will use them.")] = "640",
    strides: Annotated[
        str | None, typer.Option(metavar="8,16,32", help="Of the maps that share them. Default: what is usual.")
    ] = None,
    recall_iou: Annotated[
        float, typer.Option(min=0, max=1, help="IoU from which an anchor is good enough for a box.")
    ] = 0.5,
    seed: Annotated[int, typer.Option(min=0, help="Another one may find slightly better ones.")] = 0,
    save_file: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="FILE", help="Write the anchors: .yaml, .json (with all figures), else as a .cfg."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="PNG", help="Draw boxes, anchors and coverage.")
    ] = None,
) -> None:
    """Fit anchors to labelled boxes (k-means on IoU, then a genetic refinement), and say how well they suit."""
    check_target("--save", save_file)
    check_target("--plot", plot_file)
    if plot_file is not None:
        check_installed()
    maps, size = strides_of(strides), input_size_of(input_size)
    assert size is not None
    labelled = read_labels(labels, images)
    sizes, unusable = sizes_of(labelled, size)
    check_count(sizes, count)
    report = report_on(fit(sizes, count, seed), sizes, maps, size, recall_iou, seed)
    if save_file is not None:
        save(save_file, report)
    if plot_file is not None:
        plot(plot_file, report, sizes)
    if json:
        Console().print_json(data=as_json(report))
        return
    _print(report, len(labelled.images))
    for note in (*labelled.notes, *([f"{unusable} boxes without an area were left out"] if unusable else [])):
        say(f"note: {note}")
    for path in filter(None, (save_file, plot_file)):
        say(f"wrote {path}")


def _print(report: Report, pictures: int) -> None:
    height, width = report.input_size
    say(f"{len(report.overlaps)} boxes in {pictures} pictures, scaled to fit into {width} x {height}")
    say(f"mean IoU {report.mean_iou:.4f} (k-means alone {report.clusters_mean_iou:.4f}; seed {report.seed})")
    say(f"best possible recall at IoU {report.threshold:g}: {report.recall:.1%}")
    say(f"tiny boxes, a side under {TINY} px: {report.tiny:.1%}")
    table = Table(box=None, pad_edge=False)
    for heading in ("map", "width", "height", "boxes it suits best"):
        table.add_column(heading, justify="left" if heading == "map" else "right")
    for name, part in report.groups:
        for anchor, users in zip(report.anchors[part], report.users[part], strict=True):
            table.add_row(name, f"{anchor[0]:g}", f"{anchor[1]:g}", f"{users} ({users / len(report.overlaps):.1%})")
    Console(highlight=False).print(table)
    say(f"\nDarknet (.cfg; each [yolo] section has its own mask):\n{as_darknet(report)}")
    say(f"\nYAML (YOLOv5, YOLOv7):\n{as_yaml(report)}")
