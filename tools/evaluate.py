"""`frameloom eval`: how right a model is on labelled pictures, under one set of conventions.

AP moves by a point with what nobody states: the least score, one class per candidate or all, clipping, the NMS
threshold, the interpolation of the resize. Here they are fixed, and printed under every table.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engines.engine import Backend, EngineOptions, open_engine
from engines.spec import Precision
from engines.zoo import Zoo
from pipeline.capture.images import read_image
from pipeline.errors import ConfigError
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.infer.recognition import recognise
from pipeline.picture import Picture
from tools import coco
from tools.terminal import bar, download_progress

if TYPE_CHECKING:
    from pipeline.frame import Detections

MAX_DETECTIONS = 100
DEFAULT_MODEL = "yolox-nano"
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

app = typer.Typer(help="Measure how right models are on labelled data.", no_args_is_help=True)


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures."""

    images: Path
    annotations: Path
    where: tuple[str, ...] = ()
    """Filters on the image records, KEY=VALUE[,VALUE]."""
    limit: int | None = None


@app.callback()
def _group() -> None:
    """Measure how right models are on labelled data."""


@app.command()
def detect(
    images: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of the pictures.")],
    annotations: Annotated[Path, typer.Option(metavar="FILE", help="COCO annotations: instances.json.")],
    model: Annotated[str, typer.Option(help="Name of a known model, or an ONNX file.")] = DEFAULT_MODEL,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the boxes as COCO results JSON.")] = None,
    backend: Annotated[Backend, typer.Option(help="What runs the model.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="What it computes in.")] = "auto",
    iou: Annotated[float, typer.Option(min=0, max=1, help="NMS: boxes that overlap by more are one.")] = 0.65,
    confidence: Annotated[float, typer.Option(min=0, max=1, help="A score must be larger.")] = 0.01,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE[,VALUE]", help="Only images whose record says so.")
    ] = None,
) -> None:
    """Box AP of a detector on pictures with COCO annotations."""
    with bar("detect") as progress:
        report = evaluate_detections(
            model,
            Dataset(images, annotations, tuple(where or ()), limit),
            EngineOptions(backend=backend, precision=precision),
            DetectorOptions(confidence=confidence, iou=iou, max_detections=MAX_DETECTIONS),
            save=save,
            progress=progress,
        )
    print_report(report, Console(highlight=False))


def evaluate_detections(
    model: str | Path,
    dataset: Dataset,
    engine: EngineOptions | None = None,
    options: DetectorOptions | None = None,
    *,
    save: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Detect in labelled pictures and compare with the labels.

    Pictures that the annotations name and that are missing or unreadable are left out and listed, for a folder often
    holds a part of a set; where none is there, that is an error. Without `options`, the project's convention holds.
    `save` gets the boxes as COCO results JSON; `progress` the number of pictures done and in all.

    Returns:
        `metrics` (by the names in `coco.METRICS`, 0..1, None where nothing is annotated), `missing` (file names), and
        what `_Run.as_dict` says.

    Raises:
        ConfigError: the request does not fit together; the message says how.
    """
    options = options or DetectorOptions(confidence=0.01, iou=0.65, max_detections=MAX_DETECTIONS)
    coco.check_installed()
    if save is not None and (not save.parent.is_dir() or save.is_dir()):
        raise ConfigError(f"--save {save}: name a file in a folder that exists")
    data = coco.load_annotations(dataset.annotations)
    chosen = coco.select_images(data["images"], coco.parse_where(dataset.where))[: dataset.limit]
    present, missing = _split(chosen, dataset.images)
    with _opened(model, engine, options) as detector:
        run = _Run(detector, data["categories"], dataset.images)
        run.over(present, progress)
    if not run.image_ids:
        raise ConfigError(f"{dataset.images}: not one of the {len(chosen)} pictures can be read")
    if save is not None:
        _write(save, run.results)
    metrics = coco.average_precision(data, run.results, run.image_ids)
    return {"metrics": metrics, "missing": missing + run.unreadable, **run.as_dict()}


@contextmanager
def _opened(model: str | Path, engine: EngineOptions | None, options: DetectorOptions) -> Iterator[PictureDetector]:
    with download_progress(str(model)) as progress:
        spec = recognise(Zoo.load().spec(model, task="detect", progress=progress))
    opened = open_engine(spec, engine)
    try:
        yield PictureDetector(spec, opened, options)
    finally:
        opened.close()


class _Run:
    """Detection in many pictures, with as many requests in flight as the engine takes."""

    def __init__(self, detector: PictureDetector, categories: Sequence[coco.Record], folder: Path) -> None:
        self._detector, self._folder = detector, folder
        self._categories = coco.match_categories(detector.labels, _class_count(detector), categories)
        self.results: list[coco.Record] = []
        self.image_ids: list[int] = []
        self.unreadable: list[str] = []
        self._seconds = 0.0
        self._resized = 0

    def over(self, images: Sequence[coco.Record], progress: Callable[[int, int], None]) -> None:
        """Fill `results`, `image_ids` and `unreadable`."""
        started = time.perf_counter()
        for image, found in self._detect(images):
            self.image_ids.append(int(image["id"]))
            self.results += coco.to_results(int(image["id"]), found, self._categories.ids)
            progress(len(self.image_ids) + len(self.unreadable), len(images))
        self._seconds = time.perf_counter() - started

    def _detect(self, images: Sequence[coco.Record]) -> Iterator[tuple[coco.Record, Detections]]:
        detector, flying = self._detector, deque[Any]()
        for image in images:
            pixels = read_image(self._folder / image["file_name"])
            if pixels is None:
                self.unreadable.append(image["file_name"])
                continue
            self._resized += pixels.shape[:2] != (image.get("height"), image.get("width"))
            if len(flying) == detector.engine.requests:
                yield self._collect(flying)
            plan, buffer = detector.letterbox(Picture(bgr=pixels))
            flying.append((image, plan, detector.engine.submit(buffer[None])))
        while flying:
            yield self._collect(flying)

    def _collect(self, flying: deque[Any]) -> tuple[coco.Record, Detections]:
        image, plan, pending = flying.popleft()
        return image, self._detector.read(pending.result(), plan)

    def as_dict(self) -> dict[str, Any]:
        """Return what the numbers depend on."""
        notes = list(self._categories.notes)
        if self._resized:
            notes.append(f"{self._resized} pictures are not of the size that the annotations say: boxes may not fit")
        return {
            "images": len(self.image_ids),
            "boxes": len(self.results),
            "seconds": self._seconds,
            "fps": len(self.image_ids) / self._seconds,
            "engine": str(self._detector.engine.describe()),
            "conventions": _conventions(self._detector),
            "notes": notes,
        }


def _split(images: Sequence[coco.Record], folder: Path) -> tuple[list[coco.Record], list[str]]:
    present = [image for image in images if (folder / image["file_name"]).is_file()]
    if not present:
        raise ConfigError(f"{folder} holds none of the {len(images)} pictures, such as {images[0]['file_name']}")
    return present, [image["file_name"] for image in images if image not in present]


def _class_count(detector: PictureDetector) -> int:
    outputs = detector.engine.infer(np.zeros((1, *detector.engine.input_size, 3), np.uint8))
    return detector.head.class_count({name: array.shape for name, array in outputs.items()})


def _conventions(detector: PictureDetector) -> str:
    options = detector.options
    nms = f"NMS per class at IoU {options.iou:g}" if detector.head.needs_nms else "no NMS"
    height, width = detector.engine.input_size
    return (
        f"score > {options.confidence:g}, one class per candidate, boxes clipped to the image, {nms}, "
        f"{options.max_detections} boxes per image, input {width}x{height} {detector.spec.input.fit}, "
        "pictures read by OpenCV, AP by pycocotools"
    )


def _write(path: Path, results: list[coco.Record]) -> None:
    try:
        path.write_text(json.dumps(results), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--save {path}: {error.strerror}") from error


def metrics_table(metrics: dict[str, float | None]) -> Table:
    """Return AP and AR as a table; `-` where nothing of that kind is annotated."""
    table = Table(box=None, pad_edge=False)
    for heading in ("metric", "IoU", "objects", "boxes", "value"):
        table.add_column(heading, justify="right" if heading in ("boxes", "value") else "left", no_wrap=True)
    for name, overlap, objects, boxes in ROWS:
        value = metrics[name]
        table.add_row(name, overlap, objects, str(boxes), "-" if value is None else f"{value:.4f}")
    return table


def print_report(report: dict[str, Any], console: Console) -> None:
    """Print the table, and under it everything that the numbers depend on."""
    console.print(metrics_table(report["metrics"]))
    console.print(f"{report['images']} images, {report['boxes']} boxes, {report['fps']:.1f} images/s", markup=False)
    console.print(report["engine"], markup=False)
    console.print(f"conventions: {report['conventions']}", markup=False)
    notes = list(report["notes"])
    if missing := report["missing"]:
        names = ", ".join(missing[: coco.NAMES_SHOWN]) + (", ..." if len(missing) > coco.NAMES_SHOWN else "")
        notes.insert(0, f"{len(missing)} pictures are missing or unreadable and were left out: {names}")
    for note in notes:
        console.print(f"note: {note}", markup=False, style="yellow")
