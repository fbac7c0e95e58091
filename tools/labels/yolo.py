"""YOLO labels: a text file for each picture, and perhaps a data.yaml that says where and what things are called.

By custom `images/a.jpg` is labelled by `labels/a.txt`, and a picture without a file shows nothing that is to be found.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.capture.images import is_image
from pipeline.errors import ConfigError
from tools.labels.labelled_set import LabelledSet, plural, some
from tools.labels.yolo_names import (
    NAME_FILES,
    keypoint_numbers,
    load_description,
    names_beside,
    names_in,
    read_lines,
    read_names,
)
from tools.labels.yolo_text import Reading

DESCRIPTION_NAMES = ("data.yaml", "dataset.yaml", "data.yml")
SPLITS = ("val", "test", "train")
"""The pictures of a data.yaml to take, the first that it has."""


def label_files(folder: Path) -> list[Path]:
    """Return the label files in a folder and those below it."""
    return sorted(each for each in folder.rglob("*.txt") if each.name not in NAME_FILES)


def description_in(folder: Path) -> Path | None:
    """Return the folder's data.yaml."""
    return next((folder / name for name in DESCRIPTION_NAMES if (folder / name).is_file()), None)


def read(folder: Path, images: Path | None = None, names: Path | None = None) -> LabelledSet:
    """Read a folder of label files; the pictures are in `images`, `../images`, or beside them.

    Raises:
        ConfigError: there are no pictures, or a line is none; the message has file and line.
    """
    places = [images] if images else [*_swapped(folder, "labels", "images"), folder.parent / "images", folder]
    pictures_in = next((place for place in places if place.is_dir() and _pictures(place)), None)
    if pictures_in is None:
        looked = " and ".join(str(place) for place in dict.fromkeys(places))
        raise ConfigError(f"no pictures for the labels in {folder}: looked in {looked}; name the folder with --images")
    pairs = {each: folder / each.relative_to(pictures_in).with_suffix(".txt") for each in _pictures(pictures_in)}
    known = set(pairs.values())
    lone = [file for file in label_files(folder) if file not in known]
    if lone and not any(file.is_file() for file in known):
        raise ConfigError(f"none of the pictures in {pictures_in} has a label file in {folder}, such as {lone[0].name}")
    notes = []
    if lone:
        files = some([file.name for file in lone])
        notes.append(f"{plural(len(lone), 'label file')} without a picture, left out: {files}")
    above = [folder, folder.parent, folder.parent.parent]
    description = next((found for place in above if (found := description_in(place))), None)
    content = load_description(description) if description else {}
    class_names = read_names(names) or names_in(description, content) or names_beside(above)
    return Reading(pictures_in, class_names, keypoint_numbers(content), notes).of(pairs)


def read_described(path: Path, images: Path | None = None, names: Path | None = None) -> LabelledSet:
    """Read what a data.yaml describes: the pictures of its `val` (else `test`, else `train`), relative to its `path`.

    Raises:
        ConfigError: it is no such file, its folders do not exist, or a line of a label file is none.
    """
    content = load_description(path)
    notes = []
    if images is None:
        split = next((key for key in SPLITS if content.get(key)), None)
        if split is None:
            raise ConfigError(f"{path} says no 'val': name the folder of the pictures with --images")
        if split != "val":
            notes.append(f"{path.name} says no 'val': the pictures of '{split}' were taken")
        values = content[split] if isinstance(content[split], list) else [content[split]]
        root = path.parent / str(content.get("path") or "")
        places = [_place(path, split, root, str(value)) for value in values]
    else:
        root, places = images, [images]
    pairs = {picture: _label_file(picture) for place in places for picture in _pictures(place)}
    if not any(file.is_file() for file in pairs.values()):
        such = f", such as {next(iter(pairs.values()))}" if pairs else ""
        raise ConfigError(f"{path}: none of the {plural(len(pairs), 'picture')} has a label file{such}")
    class_names = read_names(names) or names_in(path, content)
    return Reading(root, class_names, keypoint_numbers(content), notes).of(pairs)


def _pictures(place: Path) -> list[Path]:
    """Return the pictures in a folder and below it, or those that a text file lists."""
    if place.is_file():
        return [place.parent / line.strip() for line in read_lines(place) if line.strip()]
    return sorted(each for each in place.rglob("*") if is_image(each))


def _place(description: Path, split: str, root: Path, value: str) -> Path:
    """Return what a split of a data.yaml means; exports of Roboflow say ../valid where they mean valid."""
    for place in (root / value, root / value.removeprefix("../")):
        if place.exists():
            return place
    raise ConfigError(f"{description}: '{split}' is {root / value}, which does not exist; name a folder with --images")


def _swapped(path: Path, old: str, new: str) -> list[Path]:
    """Return the path with the last folder called `old` called `new` instead; nothing where there is none."""
    parts = list(path.absolute().parts)
    if old not in parts:
        return []
    last = len(parts) - 1 - parts[::-1].index(old)
    return [Path(*parts[:last], new, *parts[last + 1 :])]


def _label_file(picture: Path) -> Path:
    beside = picture.with_suffix(".txt")
    swapped = _swapped(beside, "images", "labels")
    return next((file for file in swapped if file.parent.is_dir()), beside)
