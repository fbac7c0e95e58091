"""PASCAL VOC labels: an XML file a picture, with corners in pixels.

Pixels are counted from 1 and the last one belongs to the box (VOC2012 development kit): xmin 1, xmax 10 are 10 pixels.
Many tools write edges counted from 0 instead; a 0 among them gives the set away, and then all of it is read so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from pipeline.capture.images import is_image
from pipeline.errors import ConfigError
from tools.labels.labelled_set import LabelledSet, Record, plural, some
from tools.labels.picture_size import picture_size

Element = ElementTree.Element
SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class _Object:
    """One labelled object."""

    image_id: int
    name: str
    corners: tuple[float, ...]
    """xmin, ymin, xmax, ymax as they are written."""
    difficult: bool


class _File:
    """One XML file, whose errors say the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[Element, int] = {}
        builder, parser = ElementTree.TreeBuilder(), expat.ParserCreate()

        def start(tag: str, attributes: dict[str, str]) -> None:
            self._lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

        parser.StartElementHandler, parser.EndElementHandler = start, builder.end
        parser.CharacterDataHandler = builder.data
        try:
            parser.Parse(path.read_bytes(), True)
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        except expat.ExpatError as error:
            raise ConfigError(f"{path}:{error.lineno}: not XML: {expat.ErrorString(error.code)}") from error
        self.root = builder.close()
        if self.root.tag != "annotation":
            raise self.error(self.root, f"<{self.root.tag}> instead of <annotation>: no VOC labels")

    def error(self, at: Element, text: str) -> ConfigError:
        return ConfigError(f"{self.path}:{self._lines[at]}: {text}")

    def child(self, parent: Element, tag: str) -> Element:
        found = parent.find(tag)
        if found is None:
            raise self.error(parent, f"<{parent.tag}> has no <{tag}>")
        return found

    def text(self, parent: Element, tag: str) -> str:
        if text := (self.child(parent, tag).text or "").strip():
            return text
        raise self.error(parent, f"<{tag}> is empty")

    def number(self, parent: Element, tag: str) -> float:
        text = self.text(parent, tag)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(self.child(parent, tag), f"<{tag}> is {text!r}, not a number")
        return value

    def size(self) -> tuple[int, int] | None:
        """Return width and height; None where they are not said (some tools write 0)."""
        size = self.root.find("size")
        if size is None:
            return None
        width, height = (int(self.number(size, tag)) for tag in ("width", "height"))
        return (width, height) if width > 0 and height > 0 else None

    def objects(self, image_id: int) -> list[_Object]:
        return [self._object(image_id, each) for each in self.root.iter("object")]

    def _object(self, image_id: int, element: Element) -> _Object:
        box = self.child(element, "bndbox")
        corners = tuple(self.number(box, side) for side in SIDES)
        if corners[2] < corners[0] or corners[3] < corners[1]:
            raise self.error(box, f"<bndbox> ends before it begins: {', '.join(f'{value:g}' for value in corners)}")
        difficult = (element.findtext("difficult") or "0").strip() not in ("", "0")
        return _Object(image_id, self.text(element, "name"), corners, difficult)


def read(folder: Path, images: Path | None = None) -> LabelledSet:
    """Read a folder of XML files; the pictures are in `images`, `../JPEGImages`, `../images`, or beside them.

    Objects that are `difficult` are ignored: found or not, they do not count (as in VOC).

    Raises:
        ConfigError: a file is none; the message has file and line.
    """
    places = [images] if images else [folder.parent / "JPEGImages", folder.parent / "images", folder]
    place = next((each for each in places if each.is_dir() and any(map(is_image, each.iterdir()))), None)
    by_stem = {} if place is None else {each.stem: each.name for each in sorted(place.iterdir()) if is_image(each)}
    records: list[Record] = []
    objects: list[_Object] = []
    unsized = []
    for path in sorted(folder.glob("*.xml")):
        file = _File(path)
        name = _picture_name(file, by_stem)
        size = file.size() or (None if place is None else picture_size(place / name))
        if size is None:
            unsized.append(path.name)
            continue
        records.append({"id": len(records) + 1, "file_name": name, "width": size[0], "height": size[1]})
        objects += file.objects(len(records))
    if not records:
        raise ConfigError(f"{folder}: no file says <size>, and no picture is there: name their folder with --images")
    from_0 = any(min(each.corners[:2]) < 1 for each in objects)
    names = sorted({each.name for each in objects})
    category_ids = {name: number for number, name in enumerate(names, start=1)}
    annotations = [_annotation(number, each, category_ids, from_0) for number, each in enumerate(objects, start=1)]
    notes = []
    if unsized:
        notes.append(f"{plural(len(unsized), 'file')} without <size> and without a picture, left out: {some(unsized)}")
    if from_0:
        notes.append("a box begins at pixel 0, so all boxes were read as edges counted from 0, not as pixels from 1")
    if difficult := sum(each.difficult for each in objects):
        notes.append(f"{plural(difficult, 'difficult object')}: neither found nor missed counts")
    categories = [{"id": number, "name": name} for name, number in category_ids.items()]
    return LabelledSet(records, annotations, categories, place, tuple(notes))


def _picture_name(file: _File, by_stem: Mapping[str, str]) -> str:
    """Return the picture's file name: as the file says where it is there, else the one with the same stem."""
    said = Path((file.root.findtext("filename") or "").strip().replace("\\", "/"))
    for stem in (said.stem, file.path.stem):
        if stem in by_stem:
            return by_stem[stem]
    return said.name or f"{file.path.stem}.jpg"


def _annotation(number: int, found: _Object, category_ids: Mapping[str, int], from_0: bool) -> Record:
    before = 0 if from_0 else 1
    left, top = (value - before for value in found.corners[:2])
    width, height = found.corners[2] - left, found.corners[3] - top
    return {
        "id": number,
        "image_id": found.image_id,
        "category_id": category_ids[found.name],
        "bbox": [left, top, width, height],
        "area": width * height,
        "iscrowd": int(found.difficult),
    }
