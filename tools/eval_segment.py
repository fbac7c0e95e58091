"""`frameloom eval segment`: how right a segmentation model is, pixel by pixel, on labelled pictures.

Conventions: IoU over the pixels of all pictures together (PASCAL VOC), in each picture's own size; classes are matched
by name; what the labels have no name for counts as background, where they have one, else as none of their classes; mIoU
is the mean of the classes that are labelled or found anywhere.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from engines.engine import EngineOptions, open_engine
from pipeline.arrays import Image
from pipeline.errors import ConfigError
from pipeline.infer.picture_segmenter import PictureSegmenter, find_segmenter
from pipeline.picture import Picture
from pipeline.sinks.paths import prepare_folder
from tools import eval_plots, figures
from tools.engines.options import input_size_of
from tools.eval_confusion import Confusion
from tools.face_options import BackendOption, PrecisionOption
from tools.labelled_maps import read_classes
from tools.labels.labelled_set import some
from tools.segment_labels import BACKGROUND, IGNORED, CocoOutlines, LabelFolder, PixelLabels
from tools.segment_scores import Matrix, confusion, iou_per_class, pixel_accuracy
from tools.targets import check_targets
from tools.terminal import Output, bar, download_progress, say

DEFAULT_MODEL = "selfie-landscape"
OTHER = 255
"""In saved maps: what the model found is none of the labels' classes."""
MOST_CLASSES = 255
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ModelOptions:
    """How a model is run."""

    engine: EngineOptions = EngineOptions()  # noqa: RUF009 (frozen)
    threshold: float = 0.5
    edges: bool = False
    """Whether edges follow the picture's, as in a run by default."""


def segment(
    images: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the pictures.")],
    labels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of 8-bit PNGs of the same names: a class a pixel.")
    ] = None,
    coco: Annotated[
        Path | None, typer.Option(metavar="JSON", help="COCO annotations instead, whose outlines are drawn.")
    ] = None,
    class_: Annotated[
        list[str] | None, typer.Option("--class", metavar="NAME", help="Of --coco; may be repeated. Default: person.")
    ] = None,
    model: Annotated[str, typer.Option(help="Name of a known model, or a file.")] = DEFAULT_MODEL,
    save: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the maps there: STEM.png, 8 bits.")] = None,
    classes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Names of the labels' numbers, one a line, if not the model's.")
    ] = None,
    ignore: Annotated[int, typer.Option(min=0, max=255, help="Label of pixels that do not count.")] = IGNORED,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    input_size: Annotated[
        str | None, typer.Option(metavar="SIDE|HxW", help="Of the model's input. Default: the model's own.")
    ] = None,
    threshold: Annotated[float, typer.Option(min=0.01, max=0.99, help="Of models with one class.")] = 0.5,
    edges: Annotated[bool, typer.Option("--edges", help="Let edges follow the picture's, as a run does.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")] = None,
    confusion_file: Annotated[
        Path | None, typer.Option("--confusion", metavar="PNG", help="Draw what is taken for what.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the scores and all counts as JSON.")
    ] = None,
) -> None:
    """IoU of a segmentation model on labelled pictures: of each class, and their mean."""
    check_targets({"--confusion": confusion_file, "--json": json_file})
    if confusion_file is not None:
        figures.check_installed()
    labelled = _labelled(images, labels, coco, class_, classes, ignore, limit)
    if save is not None:
        prepare_folder(save, "--save")
    options = ModelOptions(EngineOptions(backend, precision, input_size=input_size_of(input_size)), threshold, edges)
    with bar("segment") as progress:
        report = evaluate(model, labelled, options, save, progress)
    print_report(report)
    if confusion_file is not None:
        title = f"{model} on {report['images']} pictures: mIoU {100 * (report['mIoU'] or 0):.1f}"
        counts = Confusion(tuple(report["names"]), np.asarray(report["counts"]))
        eval_plots.plot_pixels(confusion_file, title, counts)
    if json_file is not None:
        _write_json(json_file, report)


def _labelled(
    images: Path,
    labels: Path | None,
    coco: Path | None,
    wanted: Sequence[str] | None,
    classes: Path | None,
    ignore: int,
    limit: int | None,
) -> PixelLabels:
    if (labels is None) == (coco is None):
        raise ConfigError("give the labels: either a folder of maps by --labels, or COCO annotations by --coco")
    if coco is not None:
        if classes is not None or ignore != IGNORED:
            raise ConfigError("--classes and --ignore are for --labels: of --coco, --class says what is drawn")
        return CocoOutlines(coco, images, tuple(dict.fromkeys(wanted or ("person",))), limit)
    if wanted:
        raise ConfigError("--class is for --coco: maps are compared in all their classes")
    assert labels is not None
    return LabelFolder(images, labels, None if classes is None else read_classes(classes), ignore, limit)


def evaluate(
    model: str,
    labelled: PixelLabels,
    options: ModelOptions | None = None,
    save: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Segment labelled pictures and compare.

    Args:
        model: name or file.
        labelled: the truth.
        options: how the model is run.
        save: folder of the maps that are written, in the labels' numbers, `OTHER` for what is none of them.
        progress: called with the number of pictures done and in all.

    Returns:
        `mIoU` and `pixel accuracy` (None: nothing to measure), `classes` (name, IoU, labelled and found pixels),
        `names` and `counts` (rows: labelled, columns: found; the last is neither), `images`, `fps`, `engine`,
        `conventions`, `notes`.

    Raises:
        ConfigError: classes and labels do not fit together, a picture or label cannot be read, or a map not be written.
    """
    options = options or ModelOptions()
    with download_progress(model) as downloading:
        spec = find_segmenter(model, options.engine.input_size, downloading)
    engine = open_engine(spec, options.engine)
    try:
        segmenter = PictureSegmenter(spec, engine, options.threshold)
        names = labelled.names or segmenter.labels
        table, notes = match_classes(segmenter.labels, names)
        other = len(names)
        counts: Matrix = np.zeros((other + 1, other + 1), np.int64)
        seconds = 0.0
        for number, (stem, pixels, label) in enumerate(labelled.read(len(names)), start=1):
            started = time.perf_counter()
            found = segmenter.segment(Picture(bgr=pixels), edges=options.edges)
            seconds += time.perf_counter() - started
            mapped = table[found]
            counts += confusion(mapped, label, other + 1, labelled.ignore)
            if save is not None:
                _save(save / f"{stem}.png", np.where(mapped == other, OTHER, mapped).astype(np.uint8))
            progress(number, len(labelled))
        if segmenter.broken:
            notes.append(f"{segmenter.broken} pictures gave values that are no numbers, so were taken for class 0")
    finally:
        engine.close()
    edges = "following the picture's edges" if options.edges else "by linear interpolation"
    return {
        **scores_of(counts, names, labelled.ignore),
        "images": len(labelled),
        "fps": len(labelled) / max(seconds, 1e-9),
        "engine": str(engine.describe()),
        "conventions": f"pixels of all pictures together, in their own size, maps made large {edges}",
        "notes": [*notes, *labelled.notes],
    }


def match_classes(found: Sequence[str], names: Sequence[str]) -> tuple[Image, list[str]]:
    """Say which of the labels' classes each of the model's is, by name.

    Returns:
        (256,) uint8, the number in the labels, `len(names)` for none of them; and what to say about it.

    Raises:
        ConfigError: there are too many classes, or not one name in common but the background's.
    """
    if len(names) > MOST_CLASSES:
        raise ConfigError(f"the labels have {len(names)} classes, and a map of 8 bits can tell {MOST_CLASSES} apart")
    places = {_plain(name): number for number, name in enumerate(names)}
    default = places.get(BACKGROUND, len(names))
    table = np.full(256, default, np.uint8)
    known = {name: places[_plain(name)] for name in found if _plain(name) in places}
    if not set(known.values()) - {default}:
        raise ConfigError(
            f"no class of the model ({some(found)}) is one of the labels' ({some(names)}); say by --classes FILE what "
            "the labels' numbers are called, in the model's words"
        )
    table[: len(found)] = [known.get(name, default) for name in found]
    notes = []
    if unknown := [name for name in found if name not in known]:
        taken = f"taken for {names[default]}" if default < len(names) else "wrong wherever found"
        notes.append(f"the labels do not know, so {taken}: {some(unknown)}")
    if never := [name for number, name in enumerate(names) if number not in known.values()]:
        notes.append(f"the model does not know, so never finds: {some(never)}")
    return table, notes


def _plain(name: str) -> str:
    """Return a class's name without what is written differently from set to set."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def scores_of(counts: Matrix, names: Sequence[str], ignore: int) -> dict[str, Any]:
    """Return the scores of (C + 1, C + 1) counts, whose last column is what was found to be no class of the labels."""
    compared = [number for number in range(len(names)) if number != ignore]
    scores = iou_per_class(counts)[compared]
    there = scores[~np.isnan(scores)]
    classes = [
        {
            "name": names[number],
            "IoU": None if math.isnan(score) else float(score),
            "labelled": int(counts[number].sum()),
            "found": int(counts[:, number].sum()),
        }
        for number, score in zip(compared, scores, strict=True)
    ]
    accuracy = pixel_accuracy(counts)
    return {
        "mIoU": float(there.mean()) if there.size else None,
        "pixel accuracy": None if math.isnan(accuracy) else accuracy,
        "classes": classes,
        "names": list(names),
        "counts": counts.tolist(),
    }


def _save(path: Path, found: Image) -> None:
    try:
        written = cv2.imwrite(str(path), found)
    except cv2.error as error:
        raise ConfigError(f"--save: {path} cannot be written: {error.err}") from error
    if not written:
        raise ConfigError(f"--save: {path} cannot be written")


def print_report(report: dict[str, Any]) -> None:
    """Print the table, and under it what the numbers depend on."""
    pixels = max(1, sum(each["labelled"] for each in report["classes"]))
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for heading in ("IoU", "labelled", "found"):
        table.add_column(heading, justify="right")
    for each in report["classes"]:
        shares = (f"{100 * each[key] / pixels:.2f} %" for key in ("labelled", "found"))
        table.add_row(Text(each["name"]), _percent(each["IoU"]), *shares)
    Output(highlight=False).print(table)
    say(f"mIoU {_percent(report['mIoU'])}, pixel accuracy {_percent(report['pixel accuracy'])}")
    say(f"{report['images']} pictures, {report['fps']:.1f} pictures/s")
    say(report["engine"])
    say(f"conventions: {report['conventions']}")
    for note in report["notes"]:
        say(f"note: {note}")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _write_json(path: Path, report: dict[str, Any]) -> None:
    try:
        path.write_text(json.dumps(report) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--json {path}: {error.strerror}") from error
