"""COCO annotation files.

What pycocotools takes silently and gets wrong is put right here: an annotation with id 0 never counts as found there,
and one without an area ends in a KeyError.
"""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.errors import ConfigError
from tools.labels.labelled_set import LabelledSet, Record


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
    try:
        annotations = [_complete(number, each) for number, each in enumerate(data["annotations"], start=1)]
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: an annotation lacks image_id, category_id or bbox: {error!r}") from error
    _check(path, "image", data["images"], ("id", "file_name"))
    _check(path, "category", data["categories"], ("id", "name"))
    known = {category["id"] for category in data["categories"]}
    for number, each in enumerate(annotations, start=1):
        if each["category_id"] not in known:
            raise ConfigError(
                f"{path}: annotation {number} is of a category {each['category_id']}, which is not listed"
            )
    return LabelledSet(data["images"], annotations, data["categories"], images)


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
