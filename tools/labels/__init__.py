"""Labelled pictures, in whichever of the three usual formats: `read_labels` recognises it by what is there.

A COCO annotation file (.json), a folder of YOLO text files (or its data.yaml), a folder of PASCAL VOC XML files; what
comes out is the same for all three.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import ConfigError
from tools.labels import coco_json, voc, yolo
from tools.labels.labelled_set import LabelledSet, Record
from tools.labels.yolo_names import DESCRIPTIONS

__all__ = ["LabelledSet", "Record", "read_labels"]


def read_labels(path: Path, images: Path | None = None, names: Path | None = None) -> LabelledSet:
    """Read labels of any of the formats.

    Args:
        path: a COCO .json; a folder of YOLO .txt files, or a data.yaml; a folder of VOC .xml files.
        images: folder of the pictures; None: where the format has them by custom (COCO has no such place).
        names: of YOLO's class numbers: a text file with one a line, or a .yaml with `names`; None: what lies beside.

    Raises:
        ConfigError: it is none of these, or a file of it is malformed; the message has file and line.
    """
    if images is not None and not images.is_dir():
        raise ConfigError(f"the folder of pictures {images} does not exist")
    suffix = path.suffix.lower()
    if path.is_dir():
        return _read_folder(path, images, names)
    if suffix in DESCRIPTIONS:
        return yolo.read_described(path, images, names)
    if suffix in (".txt", ".xml"):
        raise ConfigError(f"{path} is a single file: name the folder of the {suffix} files")
    return coco_json.read(path, images)


def _read_folder(path: Path, images: Path | None, names: Path | None) -> LabelledSet:
    is_voc, is_yolo = any(path.glob("*.xml")), bool(yolo.label_files(path))
    if is_voc and is_yolo:
        raise ConfigError(f"{path} holds labels of two formats, .txt (YOLO) and .xml (VOC): put them apart")
    if is_voc:
        return voc.read(path, images)
    if description := yolo.description_in(path):
        return yolo.read_described(description, images, names)
    if is_yolo:
        return yolo.read(path, images, names)
    raise ConfigError(
        f"{path} holds no labels: expected YOLO .txt files or a data.yaml, or VOC .xml files, or name a COCO .json"
        f"{_near(path)}"
    )


def _near(path: Path) -> str:
    """Return a hint at what lies beside or inside and was perhaps meant."""
    inside = sorted({each.parent for pattern in ("*/*.xml", "*.json") for each in path.glob(pattern)} - {path})
    found = [*inside, *sorted(path.glob("*.json"))]
    return f"; did you mean {found[0]}?" if found else ""
