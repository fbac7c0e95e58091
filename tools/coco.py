"""What COCO's evaluation takes and gives: which images and categories to compare, and AP by pycocotools.

Everything that is said about precision comes out of one COCOeval; nothing of it is computed here again. pycocotools is
imported on use: it comes with the extra `eval`.
"""

from __future__ import annotations

import contextlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from tools.labels.labelled_set import LabelledSet, Record, some

if TYPE_CHECKING:
    from pipeline.frame import Detections
    from pipeline.masks import Masks

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order in which pycocotools computes them."""
SAY_NAMES = "name them, in its order: `frameloom models inspect MODEL --labels names.txt --save-spec`"
NOTHING_TO_FIND = -1
"""What pycocotools says where no object of that size is annotated."""
ALL_SIZES, MOST_BOXES = 0, -1
"""Where the arrays of COCOeval hold the figures over all sizes of objects, for the most boxes per image."""

AT_HALF = 0
"""Where they hold those at IoU 0.5."""

Metrics = dict[str, float | None]
"""By the names in `METRICS`, 0..1; None: nothing to find."""


@dataclass(frozen=True)
class Categories:
    """What a model's class numbers are called in the annotations."""

    ids: tuple[int | None, ...]
    """Category id of each class of the model; None: no such category, its boxes are left out."""
    notes: tuple[str, ...] = ()


class ClassScore(NamedTuple):
    """How well one category is found."""

    name: str
    labels: int
    """Objects to find in the images evaluated; crowd regions are not counted."""
    ap: float
    ap50: float


class Boxes(NamedTuple):
    """The boxes of one category in all images, best first, as COCO counts them at IoU 0.5."""

    scores: npt.NDArray[np.float64]
    """(N,)"""
    true: npt.NDArray[np.bool_]
    """(N,) whether each takes an object; the others are false. Those that count as neither are left out."""


@dataclass(frozen=True)
class Scores:
    """One evaluation."""

    metrics: Metrics
    classes: tuple[ClassScore, ...]
    """Of the categories that are to be found in the images evaluated, best AP first."""
    recalls: npt.NDArray[np.float64]
    """(R,) at which precision is measured."""
    precision: npt.NDArray[np.float64]
    """(R, K) of each of `classes` at IoU 0.5, interpolated as in COCO: the best there is at that recall or beyond."""
    boxes: tuple[Boxes, ...]
    """Of each of `classes`."""


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
            raise ConfigError(f"--where {key}: no image has {some(unknown)}; there are: {some(seen)}")
    chosen = [image for image in images if all(str(image.get(key)) in values for key, values in where.items())]
    if not chosen:
        raise ConfigError("no image passes all filters" if where else "the annotations name no images")
    return chosen


def match_categories(
    labels: Sequence[str], class_count: int, categories: Sequence[Record], *, named: bool = True
) -> Categories:
    """Find the category of each class: by name, or by order of ascending id where the model has no names.

    Args:
        labels: names of the model's classes; empty: it has none. Classes beyond them are left out.
        class_count: how many classes the model has; 0: its outputs do not say.
        categories: of the annotations.
        named: False: the categories have no names, and their ids are class numbers of the model.

    Raises:
        ConfigError: no name is known, or there are no names and the counts differ.
    """
    if not named:
        return _by_number(class_count, categories)
    if not labels and not class_count:
        raise ConfigError(
            "the model names no classes, and its outputs do not say how many there are: which is which cannot be "
            f"told; {SAY_NAMES}"
        )
    if not labels:
        ids = sorted(int(category["id"]) for category in categories)
        if len(ids) != class_count:
            raise ConfigError(
                f"the model has {class_count} classes without names and the annotations have {len(ids)} categories: "
                f"which is which cannot be told; {SAY_NAMES}"
            )
        return Categories(tuple(ids), ("the model names no classes: they were taken by order of category id",))
    by_name = {str(category["name"]): int(category["id"]) for category in categories}
    found = tuple(by_name.get(label) for label in labels)
    if not any(each is not None for each in found):
        raise ConfigError(f"no class of the model ({some(labels)}) is one of the annotations' ({some(list(by_name))})")
    notes = []
    if class_count > len(labels):
        notes.append(f"classes {len(labels)}..{class_count - 1} of the model have no name, so left out")
    if unknown := [label for label in labels if label not in by_name]:
        notes.append(f"not in the annotations, so left out: {some(unknown)}")
    if never := [name for name in by_name if name not in labels]:
        notes.append(f"the model does not know, so never finds: {some(never)}")
    return Categories(found, tuple(notes))


def _by_number(class_count: int, categories: Sequence[Record]) -> Categories:
    ids = {int(category["id"]) for category in categories}
    class_count = class_count or max(ids, default=-1) + 1
    if beyond := [number for number in sorted(ids) if number >= class_count]:
        raise ConfigError(
            f"the labels have a class {beyond[0]} and the model only 0..{class_count - 1}: name the labels' classes "
            "with --names"
        )
    note = "the labels do not name their classes: they were taken for the class numbers of the model"
    return Categories(tuple(number if number in ids else None for number in range(class_count)), (note,))


def to_results(
    image_id: int, found: Detections, category_ids: Sequence[int | None], *, masks: bool = False
) -> list[Record]:
    """Return detections as COCO results: `bbox` is x, y, width, height in pixels; `segmentation`, if masks are asked
    for and there, compressed RLE.
    """
    results: list[Record] = []
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.class_ids.tolist(), strict=True)
    for row, (box, score, class_id) in enumerate(rows):
        category = category_ids[class_id] if class_id < len(category_ids) else None
        if category is not None:
            left, top, right, bottom = box
            corners = [round(value, 3) for value in (left, top, right - left, bottom - top)]
            results.append({"image_id": image_id, "category_id": category, "bbox": corners, "score": round(score, 6)})
            if masks and found.masks is not None:
                results[-1]["segmentation"] = _run_lengths(found.masks, row)
    return results


def _run_lengths(masks: Masks, row: int) -> Record:
    """Return one mask as COCO's compressed run lengths."""
    from pycocotools import mask

    encoded = mask.encode(np.asfortranarray(masks[row], np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def check_installed() -> None:
    """Say how to get pycocotools where it is missing.

    Raises:
        ConfigError: with the command.
    """
    _pycocotools()


def average_precision(labelled: LabelledSet, results: Sequence[Record], image_ids: Sequence[int]) -> Metrics:
    """Return box AP and AR over these images."""
    return score(labelled, results, image_ids).metrics


def score(
    labelled: LabelledSet,
    results: Sequence[Record],
    image_ids: Sequence[int],
    of: Literal["bbox", "segm"] = "bbox",
) -> Scores:
    """Compare results with labels by pycocotools.

    Args:
        labelled: the truth.
        results: COCO results; those of other images do not count.
        image_ids: what to evaluate.
        of: AP of boxes, or of masks (`segmentation` in both).

    Raises:
        ConfigError: pycocotools is not installed.
    """
    make_coco, make_eval = _pycocotools()
    wanted = set(image_ids)
    boxes = [result for result in results if result["image_id"] in wanted]
    found = [
        {**result, "id": number, "area": _area(result, of), "iscrowd": 0}
        for number, result in enumerate(boxes, start=1)
    ]
    truth = [each for each in labelled.annotations if each["image_id"] in wanted]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = make_eval(_index(make_coco, labelled, truth), _index(make_coco, labelled, found), of)
        evaluation.params.imgIds = sorted(wanted)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [float(value) for value in evaluation.stats]
    metrics = {name: None if value == NOTHING_TO_FIND else value for name, value in zip(METRICS, values, strict=True)}
    return _scores(metrics, evaluation, labelled, truth)


def _area(result: Record, of: Literal["bbox", "segm"]) -> float:
    if of == "bbox":
        return float(result["bbox"][2] * result["bbox"][3])
    from pycocotools import mask

    return float(mask.area(result["segmentation"]))


def _scores(metrics: Metrics, evaluation: Any, labelled: LabelledSet, truth: Sequence[Record]) -> Scores:
    precision = evaluation.eval["precision"][:, :, :, ALL_SIZES, MOST_BOXES]  # (IoU, recall, category)
    names = {int(category["id"]): str(category["name"]) for category in labelled.categories}
    ids = [int(each) for each in evaluation.params.catIds]
    labels = Counter(int(each["category_id"]) for each in truth if not each["iscrowd"])
    to_find = [place for place in range(len(ids)) if precision[AT_HALF, 0, place] != NOTHING_TO_FIND]
    ap = precision.mean(axis=(0, 1))
    best_first = sorted(to_find, key=lambda place: -ap[place])
    classes = [
        ClassScore(names[ids[place]], labels[ids[place]], float(ap[place]), float(precision[AT_HALF, :, place].mean()))
        for place in best_first
    ]
    boxes = [_boxes(evaluation, place) for place in best_first]
    return Scores(metrics, tuple(classes), evaluation.params.recThrs, precision[AT_HALF][:, best_first], tuple(boxes))


def _boxes(evaluation: Any, place: int) -> Boxes:
    """Put together what COCOeval says of a category's boxes in each image: it goes by category, size, image."""
    images, sizes = len(evaluation.params.imgIds), len(evaluation.params.areaRng)
    start = (place * sizes + ALL_SIZES) * images
    found = [each for each in evaluation.evalImgs[start : start + images] if each is not None]
    scores = np.concatenate([np.array(each["dtScores"], float) for each in found])
    counts = np.concatenate([each["dtIgnore"][AT_HALF] == 0 for each in found])
    true = np.concatenate([each["dtMatches"][AT_HALF] > 0 for each in found])
    order = np.argsort(-scores, kind="stable")
    order = order[counts[order]]
    return Boxes(scores[order], true[order])


def _pycocotools() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise ConfigError(
            f"COCO AP is computed by pycocotools, which cannot be imported ({error}): pip install 'frameloom[eval]'"
        ) from error
    return COCO, COCOeval


def _index(make: Callable[..., Any], labelled: LabelledSet, annotations: Sequence[Record]) -> Any:
    coco = make()
    coco.dataset = {"images": labelled.images, "categories": labelled.categories, "annotations": list(annotations)}
    coco.createIndex()
    return coco
