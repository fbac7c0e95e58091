"""`frameloom bench tiles`: what tiles find in large pictures, and what each costs.

Large pictures with labels are rare, so they are made: labelled ones are put side by side, as they are, onto large ones.
What is found in a large picture is told apart again by the picture that its centre lies in, and compared with that
one's labels. So the AP is that of `eval detect` on the same pictures, but for their having been seen from afar.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from engines.engine import Backend, EngineOptions, open_engine
from engines.spec import Precision
from pipeline.assemble import find_model
from pipeline.capture.images import read_image
from pipeline.config.values import Tiles
from pipeline.errors import ConfigError
from pipeline.frame import Detections
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.infer.tiled_detector import TiledDetector
from pipeline.infer.tiles import TileOptions, windows
from pipeline.picture import Picture, Rectangle
from pipeline.sinks.paths import prepare_file
from tools import coco
from tools.benchmark import environment
from tools.labels import LabelledSet, Record, read_labels
from tools.terminal import bar, download_progress

if TYPE_CHECKING:
    from pipeline.arrays import Image

MOST_BOXES = 5000
"""Of a large picture; what is told apart has `EACH`, as in `eval detect`."""
EACH = 100
TIMED = 5
"""How often a large picture is detected in to see how long it takes."""
WAYS = ("none", "2x2", "auto")
SHOWN = ("AP", "AP50", "APs", "APm", "APl", "ARs")


@dataclass(frozen=True)
class Sheet:
    """A large picture, and where the labelled ones lie on it."""

    pixels: Image
    places: tuple[tuple[int, Rectangle], ...]
    """Id, and left, top, width, height."""


@dataclass(frozen=True)
class TilesCost:
    """What one way to cut large pictures finds and costs."""

    tiles: str
    windows: int
    window_ms: float
    frame_ms: float
    """Median, at a confidence of 0.3."""
    metrics: coco.Metrics


def tiles(
    images: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of labelled pictures.")],
    annotations: Annotated[
        Path, typer.Option(metavar="PATH", help="Their labels: COCO .json, or a YOLO or VOC folder.")
    ],
    model: Annotated[str, typer.Option(help="Name of a known model, or an ONNX file.")] = "yolox-nano",
    tiles: Annotated[
        list[str] | None, typer.Option(metavar="TILES", help="none, auto, ROWSxCOLUMNS or a side; may be repeated.")
    ] = None,
    overlap: Annotated[float, typer.Option(min=0, max=0.89, help="How much of a tile the next one shares.")] = 0.2,
    width: Annotated[int, typer.Option(min=64, help="Of a large picture.")] = 3840,
    height: Annotated[int, typer.Option(min=64, help="Of a large picture.")] = 2160,
    backend: Annotated[Backend, typer.Option(help="What runs the model.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="What it computes in.")] = "auto",
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE[,VALUE]", help="Only images whose record says so.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")] = None,
) -> None:
    """Measure AP of small objects in large pictures, with and without tiles, and the time of each."""
    if json_file is not None:
        prepare_file(json_file, "bench tiles --json")
    coco.check_installed()
    ways = {way: TileOptions(parse_tiles(way), overlap) for way in tiles or WAYS}
    labelled = read_labels(annotations, images)
    chosen = coco.select_images(labelled.images, coco.parse_where(where or ()))[:limit]
    sheets = list(compose(chosen, images, (height, width)))
    with download_progress(model) as progress:
        spec = find_model(model, None, progress)
    engine = open_engine(spec, EngineOptions(backend=backend, precision=precision))
    detector = PictureDetector(spec, engine, DetectorOptions(confidence=0.01, iou=0.65, max_detections=MOST_BOXES))
    try:
        costs = [measure(detector, way, options, sheets, labelled) for way, options in ways.items()]
    finally:
        engine.close()
    machine = environment()
    console = Console(highlight=False)
    console.print(_table(costs))
    pasted = sum(len(sheet.places) for sheet in sheets)
    console.print(
        f"{pasted} pictures on {len(sheets)} of {width}x{height}; {engine.describe()}; AP as `frameloom eval detect`, "
        f"times at confidence 0.3; {machine['cpu']}, {machine['cores']} cores, load {machine['load']}",
        markup=False,
        soft_wrap=True,
    )
    if json_file is not None:
        report = {"pictures": pasted, "size": [width, height], "engine": str(engine.describe()), "environment": machine}
        json_file.write_text(json.dumps(report | {"tiles": [asdict(each) for each in costs]}, indent=2) + "\n")


def parse_tiles(text: str) -> Any:
    """Read what `detect.tiles` takes, or `none`.

    Raises:
        ConfigError: it is something else.
    """
    if text == "none":
        return None
    try:
        return TypeAdapter[Any](Tiles).validate_python(int(text) if text.isdecimal() else text)
    except ValidationError as error:
        raise ConfigError(f"--tiles {text}: {error.errors()[0]['msg']}") from error


def compose(images: Sequence[Record], folder: Path, size: tuple[int, int]) -> Iterator[Sheet]:
    """Put pictures side by side, row by row, onto sheets of a height and width; those that are larger are left out.

    Raises:
        ConfigError: none can be read, or all are larger.
    """
    pixels, places = _blank(size), list[tuple[int, Rectangle]]()
    left = top = row = count = 0
    for image in images:
        picture = read_image(folder / image["file_name"])
        if picture is None or picture.shape[0] > size[0] or picture.shape[1] > size[1]:
            continue
        count += 1
        height, width = picture.shape[:2]
        if left + width > size[1]:
            left, top, row = 0, top + row, 0
        if top + height > size[0]:
            yield Sheet(pixels, tuple(places))
            pixels, places, left, top, row = _blank(size), [], 0, 0, 0
        pixels[top : top + height, left : left + width] = picture
        places.append((int(image["id"]), (left, top, width, height)))
        left, row = left + width, max(row, height)
    if not count:
        raise ConfigError(f"{folder}: none of the {len(images)} pictures can be read and is smaller than {size[::-1]}")
    yield Sheet(pixels, tuple(places))


def _blank(size: tuple[int, int]) -> Image:
    return np.full((*size, 3), 114, np.uint8)


def measure(
    detector: PictureDetector, way: str, options: TileOptions, sheets: Sequence[Sheet], labelled: LabelledSet
) -> TilesCost:
    """Detect in the sheets, cut in one way."""
    classes = max(1, len(detector.labels))
    categories = coco.match_categories(detector.labels, classes, labelled.categories, named=labelled.named)
    tiled, results, ids = TiledDetector(detector, options), list[Record](), list[int]()
    with bar(f"tiles {way}") as progress:
        for number, sheet in enumerate(sheets, start=1):
            found = tiled(Picture(bgr=sheet.pixels))
            for image_id, place in sheet.places:
                results += coco.to_results(image_id, inside(found, place)[:EACH], categories.ids)
                ids.append(image_id)
            progress(number, len(sheets))
    metrics = coco.average_precision(labelled, results, ids)
    count = len(windows(sheets[0].pixels.shape[:2], detector.engine.input_size, options))
    frame_ms = _frame_ms(detector, options, Picture(bgr=sheets[0].pixels))
    return TilesCost(way, count, frame_ms / count, frame_ms, metrics)


def inside(found: Detections, place: Rectangle) -> Detections:
    """Return what has its centre in a rectangle, in the rectangle's own pixels, clipped to it."""
    left, top, width, height = place
    corner = np.array([left, top], np.float32)
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2 - corner
    mine = found[((centres >= 0) & (centres < [width, height])).all(axis=1)]
    return Detections(mine.boxes - np.tile(corner, 2), mine.scores, mine.class_ids).clip(width, height)


def _frame_ms(detector: PictureDetector, options: TileOptions, picture: Picture) -> float:
    usual = PictureDetector(detector.spec, detector.engine, replace(detector.options, confidence=0.3))
    tiled, times = TiledDetector(usual, options), []
    for _ in range(TIMED):
        started = time.perf_counter()
        tiled(picture)
        times.append((time.perf_counter() - started) * 1e3)
    return median(times)


def _table(costs: Sequence[TilesCost]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("tiles")
    for heading in ("windows", *SHOWN, "ms a window", "ms a frame"):
        table.add_column(heading, justify="right")
    for each in costs:
        metrics = [each.metrics[name] for name in SHOWN]
        shown = ["-" if value is None else f"{value:.3f}" for value in metrics]
        table.add_row(each.tiles, str(each.windows), *shown, f"{each.window_ms:.1f}", f"{each.frame_ms:.0f}")
    return table
