"""COCO: its annotation files, which of their images to take, and box AP by pycocotools.

What pycocotools takes silently and gets wrong is put right first: an annotation with id 0 never counts as found there,
and one without an area ends in a KeyError. It is imported on use: it comes with the extra `eval`.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.frame import Detections

Record = dict[str, Any]

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order in which pycocotools computes them."""
NOTHING_TO_FIND = -1
"""What pycocotools says where no object of that size is annotated."""
NAMES_SHOWN = 5


@dataclass(frozen=True)
class Categories:
    """What a model's class numbers are called in the annotations."""

    ids: tuple[int | None, ...]
    """Category id of each class of the model; None: no such category, its boxes are left out."""
    notes: tuple[str, ...] = ()


def load_annotations(path: Path) -> Record:
    """Read an annotation file.

    Returns:
        Its `images`, `annotations` and `categories`; annotations are numbered from 1 and have `area` and `iscrowd`.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON: {error}") from error
    keys = ("images", "annotations", "categories")
    if missing := [key for key in keys if not isinstance(data, dict) or not isinstance(data.get(key), list)]:
        raise ConfigError(f"{path} is no COCO annotation file: it has no list {' and no list '.join(missing)}")
    try:
        annotations = [_complete(number, each) for number, each in enumerate(data["annotations"], start=1)]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: an annotation lacks image_id, category_id or bbox: {error!r}") from error
    return {"images": data["images"], "annotations": annotations, "categories": data["categories"]}


def _complete(number: int, annotation: Record) -> Record:
    _, _, width, height = annotation["bbox"]
    needed = {key: annotation[key] for key in ("image_id", "category_id", "bbox")}
    area, crowd = annotation.get("area", width * height), annotation.get("iscrowd", 0)
    return {**needed, "id": number, "area": area, "iscrowd": crowd}


def parse_where(texts: Iterable[str]) -> dict[str, frozenset[str]]:
    """Read filters written KEY=VALUE[,VALUE...].

    Raises:
        ConfigError: one is not written so.
    """
    where: dict[str, frozenset[str]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not (key and equals and values):
            raise ConfigError(f"--where {text}: write KEY=VALUE or KEY=VALUE,VALUE")
        where[key] = frozenset(values.split(","))
    return where


def select_images(images: Sequence[Record], where: Mapping[str, frozenset[str]]) -> list[Record]:
    """Return the image records whose fields have one of the values asked for, in every filter.

    Raises:
        ConfigError: none has; the message lists the values there are.
    """
    for key, values in where.items():
        seen = sorted({str(image[key]) for image in images if key in image})
        if not seen:
            keys = sorted({each for image in images for each in image})
            raise ConfigError(f"--where {key}=...: no image has that field; there are: {', '.join(keys)}")
        if unknown := sorted(values.difference(seen)):
            raise ConfigError(f"--where {key}: no image has {_some(unknown)}; there are: {_some(seen)}")
    chosen = [image for image in images if all(str(image.get(key)) in values for key, values in where.items())]
    if not chosen:
        raise ConfigError("no image passes all filters" if where else "the annotations name no images")
    return chosen


def match_categories(labels: Sequence[str], class_count: int, categories: Sequence[Record]) -> Categories:
    """Find the category of each class: by name, or by order of ascending id where there are no names.

    Raises:
        ConfigError: no name is known, or there are no names and the counts differ.
    """
    if not labels:
        ids = sorted(int(category["id"]) for category in categories)
        if len(ids) != class_count:
            raise ConfigError(
                f"the model has {class_count} classes without names and the annotations have {len(ids)} categories: "
                "which is which cannot be told"
            )
        return Categories(tuple(ids), ("the model names no classes: they were taken by order of category id",))
    by_name = {str(category["name"]): int(category["id"]) for category in categories}
    found = tuple(by_name.get(label) for label in labels)
    if not any(each is not None for each in found):
        raise ConfigError(f"no class of the model ({_some(labels)}) is one of the annotations' ({_some(by_name)})")
    notes = []
    if unknown := [label for label in labels if label not in by_name]:
        notes.append(f"not in the annotations, so left out: {_some(unknown)}")
    if never := [name for name in by_name if name not in labels]:
        notes.append(f"the model does not know, so never finds: {_some(never)}")
    return Categories(found, tuple(notes))


def to_results(image_id: int, found: Detections, category_ids: Sequence[int | None]) -> list[Record]:
    """Return detections as COCO results: `bbox` is x, y, width, height in pixels."""
    results = []
    for box, score, class_id in zip(found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True):
        category = category_ids[class_id]
        if category is not None:
            left, top, right, bottom = box
            corners = [round(value, 3) for value in (left, top, right - left, bottom - top)]
            results.append({"image_id": image_id, "category_id": category, "bbox": corners, "score": round(score, 6)})
    return results


def check_installed() -> None:
    """Say how to get pycocotools where it is missing.

    Raises:
        ConfigError: with the command.
    """
    _pycocotools()


def average_precision(data: Record, results: Sequence[Record], image_ids: Sequence[int]) -> dict[str, float | None]:
    """Return box AP and AR by pycocotools over these images, by the names in `METRICS`; None: nothing to find.

    Args:
        data: from `load_annotations`.
        results: COCO results; those of other images do not count.
        image_ids: what to evaluate.

    Raises:
        ConfigError: pycocotools is not installed.
    """
    make_coco, make_eval = _pycocotools()
    wanted = set(image_ids)
    boxes = [result for result in results if result["image_id"] in wanted]
    found = [
        {**result, "id": number, "area": result["bbox"][2] * result["bbox"][3], "iscrowd": 0}
        for number, result in enumerate(boxes, start=1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = make_eval(_index(make_coco, data), _index(make_coco, {**data, "annotations": found}), "bbox")
        evaluation.params.imgIds = sorted(wanted)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(value) for value in evaluation.stats]
    return {name: None if value == NOTHING_TO_FIND else value for name, value in zip(METRICS, values, strict=True)}


def _pycocotools() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError(
            f"COCO AP is computed by pycocotools, which cannot be imported ({error}): pip install 'frameloom[eval]'"
        ) from error
    return COCO, COCOeval


def _index(make: Callable[..., Any], data: Record) -> Any:
    coco = make()
    coco.dataset = data
    coco.createIndex()
    return coco


def _some(names: Iterable[object]) -> str:
    """Return the first names and how many more there are."""
    texts = [str(name) for name in names]
    more = f" and {len(texts) - NAMES_SHOWN} more" if len(texts) > NAMES_SHOWN else ""
    return ", ".join(texts[:NAMES_SHOWN]) + more
