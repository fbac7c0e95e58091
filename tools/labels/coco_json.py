"""COCO annotation files.

What pycocotools takes silently and gets wrong is put right here: an annotation with id 0 never counts as found there,
and one without an area ends in a KeyError.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import ConfigError
from tools.labels.labelled_set import LabelledSet, Record

MOST_SHOWN = 60
"""Characters of a value in a message."""
LARGEST = 2**63


def read(path: Path, images: Path | None = None) -> LabelledSet:
    """Read an annotation file.

    Returns:
        Its images and categories as they are; annotations are numbered from 1 and have `area` and `iscrowd`.

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
    _check(path, "annotation", data["annotations"], ("image_id", "category_id", "bbox"))
    _check(path, "image", data["images"], ("id", "file_name"))
    _check(path, "category", data["categories"], ("id", "name"))
    annotations = []
    for number, each in enumerate(data["annotations"], start=1):
        if (wrong := _wrong(each)) is not None:
            raise ConfigError(f"{path}: annotation {number} of image {_shown(each['image_id'])}: {wrong}")
        annotations.append(_complete(number, each))
    known = {category["id"] for category in data["categories"]}
    for number, each in enumerate(annotations, start=1):
        if each["category_id"] not in known:
            raise ConfigError(
                f"{path}: annotation {number} is of a category {each['category_id']}, which is not listed"
            )
    return LabelledSet(data["images"], annotations, data["categories"], images)


def _wrong(annotation: Record) -> str | None:
    """Return what is wrong with what an annotation says; None: nothing."""
    bbox, area = annotation["bbox"], annotation.get("area", 0)
    if not (isinstance(bbox, list) and len(bbox) == 4 and all(map(_is_number, bbox))):
        return f"bbox is {_shown(bbox)}, not four finite numbers (left, top, width, height)"
    if not _is_number(area):
        return f"area is {_shown(area)}, not a finite number"
    outlines = annotation.get("segmentation")
    for outline in outlines if isinstance(outlines, list) else ():
        if not (isinstance(outline, list) and all(map(_is_number, outline))):
            return f"segmentation holds {_shown(outline)}, not a list of finite numbers"
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def _shown(value: object) -> str:
    """Return a value as it stands in the file."""
    text = json.dumps(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def _complete(number: int, annotation: Record) -> Record:
    _, _, width, height = annotation["bbox"]
    complete = {key: annotation[key] for key in ("image_id", "category_id", "bbox")}
    complete |= {"id": number, "area": annotation.get("area", width * height), "iscrowd": annotation.get("iscrowd", 0)}
    if annotation.get("segmentation"):
        complete["segmentation"] = annotation["segmentation"]
    return complete


def _check(path: Path, kind: str, records: list[Record], keys: tuple[str, ...]) -> None:
    for number, record in enumerate(records, start=1):
        if missing := [key for key in keys if not isinstance(record, dict) or key not in record]:
            raise ConfigError(f"{path}: {kind} {number} has no {' and no '.join(missing)}")
        for key in ("id", "image_id", "category_id"):
            if key in keys and not (_is_number(record[key]) and record[key] == int(record[key])):
                raise ConfigError(f"{path}: {kind} {number}: {key} is {_shown(record[key])}, not a whole number")
