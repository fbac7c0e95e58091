"""Pictures with a label for every pixel: a folder of pictures, and one of labels of the same names.

A label is a PNG of one channel with 8 bits, the picture's size, whose values are class indices. What looks like one and
is not (colours, a palette, fewer bits, another size) is refused by name: read anyhow, it would be wrong silently.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Image
from pipeline.errors import ConfigError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
PNG = b"\x89PNG\r\n\x1a\n"
BITS, COLOUR_TYPE = 24, 25
"""Where a PNG file says how many bits a sample has, and what a pixel is. Source: PNG specification, 11.2.1 (IHDR)."""
PIXEL_KINDS = {0: "one channel", 2: "3 channels (colours)", 3: "a palette", 4: "2 channels", 6: "4 channels"}
NAMED = 3
"""Files that a message names, of many."""
MOST_CLASSES = 255
"""A label has 8 bits, and one value must be left for what does not count."""


def find_pairs(images: Path, labels: Path) -> list[tuple[Path, Path]]:
    """Return each picture with its label: the file of the same stem, sorted by name.

    Raises:
        ConfigError: a folder is not there or has no such files, or a file has no partner.
    """
    pictures = _by_stem(images, PICTURES, "pictures")
    maps = _by_stem(labels, (".png",), "labels (8-bit PNG)")
    _refuse_single(pictures.keys() - maps.keys(), f"pictures of {images}", f"label in {labels}")
    _refuse_single(maps.keys() - pictures.keys(), f"labels of {labels}", f"picture in {images}")
    return [(pictures[stem], maps[stem]) for stem in sorted(pictures)]


def _by_stem(folder: Path, suffixes: tuple[str, ...], what: str) -> dict[str, Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: give one with {what}")
    files: dict[str, Path] = {}
    for file in sorted(each for each in folder.iterdir() if each.suffix.lower() in suffixes and each.is_file()):
        if (rival := files.setdefault(file.stem, file)) != file:
            raise ConfigError(f"{rival} and {file} have one name: it would not be clear which a label is for")
    if not files:
        raise ConfigError(f"{folder} has no {what}")
    return files


def _refuse_single(stems: Iterable[str], of: str, missing: str) -> None:
    names = sorted(stems)
    if names:
        named = ", ".join(names[:NAMED]) + (", ..." if len(names) > NAMED else "")
        raise ConfigError(f"{len(names)} {of} have no {missing} of the same name: {named}")


def read_picture(path: Path) -> Image:
    """Read a picture as H x W x 3 uint8 BGR.

    Raises:
        ConfigError: it cannot be read.
    """
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ConfigError(f"{path} is no picture that can be read: repair or remove it, and its label")
    return np.asarray(picture, np.uint8)


def read_label(path: Path, classes: int, ignore: int | None = None) -> Image:
    """Read a label as H x W uint8 class indices, as they are in the file.

    Args:
        path: of the PNG.
        classes: how many there are; every value must be below it.
        ignore: a value that means nothing; it need not be below `classes`.

    Raises:
        ConfigError: it is no such file, or has a value beyond the classes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"the label {path} cannot be read: {error.strerror}") from error
    if not content.startswith(PNG) or len(content) <= COLOUR_TYPE:
        raise ConfigError(f"the label {path} is no PNG: give class indices as an 8-bit PNG of one channel")
    bits, kind = content[BITS], content[COLOUR_TYPE]
    if (bits, kind) != (8, 0):
        what = PIXEL_KINDS.get(kind, f"pixels of kind {kind}")
        raise ConfigError(f"the label {path} has {what} of {bits} bits: give class indices as 8 bits in one channel")
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise ConfigError(f"the label {path} is damaged")
    label: Image = np.asarray(decoded, np.uint8)
    beyond = label >= classes
    if ignore is not None:
        beyond &= label != ignore
    if beyond.any():
        row, column = np.argwhere(beyond)[0]
        value = label[row, column]
        raise ConfigError(
            f"the label {path} has the value {value} (row {row}, column {column}), but there are {classes} classes, "
            f"0..{classes - 1}: name the others too, or say --ignore {value}"
        )
    return label


def read_pair(image: Path, label: Path, classes: int, ignore: int | None = None) -> tuple[Image, Image]:
    """Read a picture (H x W x 3 uint8 BGR) and its label (H x W uint8).

    Raises:
        ConfigError: as of `read_picture` and `read_label`, or their sizes differ.
    """
    picture, indices = read_picture(image), read_label(label, classes, ignore)
    if picture.shape[:2] != indices.shape:
        (height, width), (rows, columns) = picture.shape[:2], indices.shape
        raise ConfigError(f"{image} is {width}x{height}, but its label {label} is {columns}x{rows}: give one size")
    return picture, indices


def read_classes(path: Path) -> tuple[str, ...]:
    """Read names of classes, one a line, in the order of their indices; a line may begin with its index.

    Raises:
        ConfigError: it cannot be read, names none or too many, or numbers or names do not fit.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the classes {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    names = [" ".join(line.split()) for line in lines if line.strip()]
    if not 0 < len(names) <= MOST_CLASSES + 1:
        raise ConfigError(f"{path} names {len(names)} classes: give 1 to {MOST_CLASSES}, one a line")
    if all(name.split()[0].isdecimal() and " " in name for name in names):
        for row, name in enumerate(names):
            if int(name.split()[0]) != row:
                raise ConfigError(
                    f"{path}: the class {name!r} is number {row}: name all classes in their order, from 0"
                )
        names = [name.split(maxsplit=1)[1] for name in names]
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        raise ConfigError(f"{path} names {twice!r} twice")
    return tuple(names)
