"""A detector over labelled pictures: what `frameloom eval detect` does, without its options and its printing."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engines.engine import EngineOptions, open_engine
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.infer.recognition import recognise
from pipeline.infer.tiles import TileOptions
from tools import coco, eval_confusion, eval_curves, eval_plots, eval_worst, figures
from tools.eval_masks import images_with_masks
from tools.eval_pictures import PictureRun
from tools.labels import LabelledSet, Record, read_labels
from tools.targets import check_targets
from tools.terminal import download_progress

MAX_DETECTIONS = 100
CONVENTION = DetectorOptions(confidence=0.01, iou=0.65, max_detections=MAX_DETECTIONS)


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures."""

    images: Path | None
    """Folder; None: where the labels' format has it by custom."""
    annotations: Path
    """A COCO .json, a folder of YOLO .txt files or its data.yaml, or a folder of VOC .xml files."""
    where: tuple[str, ...] = ()
    """Filters on the image records, KEY=VALUE[,VALUE]."""
    limit: int | None = None
    names: Path | None = None
    """Names of YOLO's classes."""


@dataclass(frozen=True)
class Wanted:
    """What is made of an evaluation besides AP; None: not that file."""

    save: Path | None = None
    """The boxes as COCO results JSON."""
    json: Path | None = None
    """The whole report."""
    plot: Path | None = None
    """Precision over recall as PNG."""
    confusion: Path | None = None
    """The confusion matrix as PNG."""
    confusion_confidence: float = eval_confusion.CONFIDENCE
    worst: Path | None = None
    """The pictures with the most errors on one sheet."""
    worst_count: int = 12
    masks: bool = False
    """AP of masks, too."""

    def check(self) -> None:
        """See before the work that all of it can be had.

        Raises:
            ConfigError: a file cannot be written, or a library is missing.
        """
        coco.check_installed()
        check_targets({f"--{name}": getattr(self, name) for name in ("save", "json", "plot", "confusion", "worst")})
        eval_worst.check_format("--worst", self.worst)
        if self.plot or self.confusion:
            figures.check_installed()

    @property
    def matching(self) -> bool:
        """Whether boxes and objects are matched one by one."""
        return bool(self.json or self.confusion or self.worst)


def evaluate_detections(
    model: str | Path,
    dataset: Dataset,
    engine: EngineOptions | None = None,
    options: DetectorOptions | None = None,
    *,
    tiles: TileOptions | None = None,
    wanted: Wanted | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Detect in labelled pictures and compare with the labels.

    Pictures that the annotations name and that are missing or unreadable are left out and listed, for a folder often
    holds a part of a set; where none is there, that is an error. Without `options`, the project's convention holds.
    With `tiles`, large pictures are cut. `progress` gets the number of pictures done and in all.

    Returns:
        `metrics` (by the names in `coco.METRICS`, 0..1, None where nothing is annotated), `classes` (the same of each),
        `best_confidence`, `missing` (file names), what `PictureRun.as_dict` says, and what was wanted besides: `masks`,
        `matching`.

    Raises:
        ConfigError: the request does not fit together; the message says how.
    """
    options = options or CONVENTION
    wanted = wanted or Wanted()
    wanted.check()
    labelled = read_labels(dataset.annotations, dataset.images, dataset.names)
    if labelled.folder is None:
        raise ConfigError(f"--images FOLDER is needed: {dataset.annotations} does not say where its pictures are")
    chosen = coco.select_images(labelled.images, coco.parse_where(dataset.where))[: dataset.limit]
    present, missing = _split(chosen, labelled.folder)
    with _opened(model, engine, options) as detector:
        run = PictureRun(detector, labelled, labelled.folder, tiles=tiles, masks=wanted.masks)
        run.over(present, progress)
        labelled = _named_by(detector, labelled)
        report = run.as_dict()
    if not run.image_ids:
        raise ConfigError(f"{labelled.folder}: not one of the {len(chosen)} pictures can be read")
    _write_json("--save", wanted.save, run.results)
    scores = coco.score(labelled, run.results, run.image_ids)
    best = eval_curves.best(scores)
    report = {
        "metrics": scores.metrics,
        "classes": [{"name": e.name, "labels": e.labels, "AP": e.ap, "AP50": e.ap50} for e in scores.classes],
        "best_confidence": best and best._asdict(),
        "missing": missing + run.unreadable,
        **report,
        "notes": [*labelled.notes, *report["notes"]],
    }
    if wanted.masks:
        report["masks"] = _score_masks(labelled, run)
    title = f"{model} on {len(run.image_ids)} images"
    if wanted.plot is not None:
        eval_plots.plot_precision(wanted.plot, f"{title}: AP {100 * (scores.metrics['AP'] or 0):.1f}", scores)
    if wanted.matching:
        report["matching"] = _match(labelled, run, wanted, title)
    _write_json("--json", wanted.json, report)
    return report


@contextmanager
def _opened(model: str | Path, engine: EngineOptions | None, options: DetectorOptions) -> Iterator[PictureDetector]:
    with download_progress(str(model)) as progress:
        size = None if engine is None else engine.input_size
        spec = recognise(Zoo.load().spec(model, task="detect", progress=progress), size)
    opened = open_engine(spec, engine)
    try:
        yield PictureDetector(spec, opened, options)
    finally:
        opened.close()


def _split(images: Sequence[Record], folder: Path) -> tuple[list[Record], list[str]]:
    """Return the images that are there, and the names of those that are not."""
    present: list[Record] = []
    missing: list[str] = []
    for image in images:
        if (folder / image["file_name"]).is_file():
            present.append(image)
        else:
            missing.append(image["file_name"])
    if not present:
        raise ConfigError(f"{folder} holds none of the {len(images)} pictures, such as {missing[0]}")
    return present, missing


def _named_by(detector: PictureDetector, labelled: LabelledSet) -> LabelledSet:
    """Return labels that have numbers in place of names with the model's names."""
    if labelled.named or not detector.labels:
        return labelled
    names = dict(enumerate(detector.labels))  # there may be fewer than classes
    categories = [{**each, "name": names.get(each["id"], each["name"])} for each in labelled.categories]
    return replace(labelled, categories=categories)


def _score_masks(labelled: LabelledSet, run: PictureRun) -> dict[str, Any]:
    with_masks = images_with_masks(labelled, run.image_ids)
    if not with_masks:
        raise ConfigError("--masks: not one of the images has real masks in its labels")
    return {"images": len(with_masks), "metrics": coco.score(labelled, run.results, with_masks, "segm").metrics}


def _match(labelled: LabelledSet, run: PictureRun, wanted: Wanted, title: str) -> dict[str, Any]:
    """Match boxes and objects one by one, draw what is wanted of it, and return the counts."""
    pictures = eval_confusion.match(labelled, run.results, run.image_ids, wanted.confusion_confidence)
    confusion = eval_confusion.Confusion.of(pictures, labelled.categories)
    rule = f"score > {wanted.confusion_confidence:g}, matched at IoU {eval_confusion.IOU:g} by score across classes"
    if wanted.confusion is not None:
        eval_plots.plot_confusion(wanted.confusion, f"{title}\n{rule}", confusion)
    worst = eval_worst.worst(pictures, wanted.worst_count)
    if wanted.worst is not None and labelled.folder is not None:
        names = {int(category["id"]): str(category["name"]) for category in labelled.categories}
        eval_worst.draw_sheet(wanted.worst, worst, labelled.folder, names)
    return {
        "rule": rule,
        "summary": confusion.summary,
        "classes": [*confusion.names, "background"],
        "counts": confusion.counts.tolist(),
        "worst": [{"file_name": p.image["file_name"], "missed": p.missed, "false": p.false} for p in worst],
    }


def _write_json(option: str, path: Path | None, content: object) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(content), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{option} {path}: {error.strerror}") from error
