"""What each pixel of pictures is labelled as: from a folder of class maps, or drawn from COCO's outlines."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Image
from pipeline.errors import ConfigError
from tools import coco
from tools.eval_masks import images_with_masks
from tools.labelled_maps import find_pairs, read_pair, read_picture
from tools.labels import read_labels
from tools.labels.labelled_set import LabelledSet, Record, plural, some

IGNORED = 255
"""Label of pixels that do not count, as in PASCAL VOC."""
BACKGROUND = "background"


class PixelLabels(Protocol):
    """Pictures with a class for every pixel."""

    names: tuple[str, ...] | None
    """Of the classes, in the order of their numbers; None: the model's."""
    ignore: int
    """Label of pixels that do not count."""
    notes: tuple[str, ...]

    def __len__(self) -> int: ...

    def read(self, classes: int) -> Iterator[tuple[str, Image, Image]]:
        """Yield each picture's stem, its H x W x 3 uint8 BGR pixels, and its H x W uint8 labels, below `classes`.

        Raises:
            ConfigError: one cannot be read, or label and picture do not fit together.
        """
        ...


class LabelFolder:
    """A folder of pictures and one of 8-bit PNGs of the same names.

    Raises:
        ConfigError: there are no such pairs.
    """

    def __init__(
        self, images: Path, labels: Path, names: tuple[str, ...] | None, ignore: int, limit: int | None
    ) -> None:
        self.names, self.ignore = names, ignore
        self.notes: tuple[str, ...] = ()
        self._pairs = find_pairs(images, labels)[:limit]

    def __len__(self) -> int:
        return len(self._pairs)

    def read(self, classes: int) -> Iterator[tuple[str, Image, Image]]:
        """Read them one after the other."""
        for image, label in self._pairs:
            yield (image.stem, *read_pair(image, label, classes, self.ignore))


@dataclass(frozen=True)
class _Drawn:
    """A picture whose labels are drawn."""

    image: Record
    outlines: list[Record]


class CocoOutlines:
    """Pictures of a COCO file that show some of the wanted classes and whose outlines are real.

    Outlines become the numbers 1, 2, ... in the order of the classes, where nothing is 0. Crowd regions do not count.

    Raises:
        ConfigError: pycocotools is missing, a class is unknown, or there are no such pictures.
    """

    def __init__(self, annotations: Path, images: Path, classes: Sequence[str], limit: int | None) -> None:
        self.ignore = IGNORED
        coco.check_installed()
        labelled = read_labels(annotations, images)
        self.names: tuple[str, ...] | None = (BACKGROUND, *classes)
        self._numbers = _numbers(labelled, classes)
        self._folder = images
        shown, without, absent = self._choose(labelled)
        if not shown:
            raise ConfigError(
                f"--coco {annotations}: no picture in {images} has a real outline of {some(classes)}: outlines are "
                "polygons or run lengths, and not all upright rectangles"
            )
        self._pictures = shown[:limit]
        self.notes = tuple(
            f"{plural(count, 'picture')} left out: {why}"
            for count, why in ((without, "without real outlines"), (absent, f"not in {images}"))
            if count
        )

    def _choose(self, labelled: LabelledSet) -> tuple[list[_Drawn], int, int]:
        """Return the pictures that show something, and how many have no real outlines, or are missing."""
        by_image: defaultdict[int, list[Record]] = defaultdict(list)
        for each in labelled.annotations:
            if int(each["category_id"]) in self._numbers:
                by_image[each["image_id"]].append(each)
        showing = [image for image in labelled.images if any(not each["iscrowd"] for each in by_image[image["id"]])]
        real = set(images_with_masks(labelled, [int(image["id"]) for image in showing]))
        chosen = [_Drawn(image, by_image[image["id"]]) for image in showing if image["id"] in real]
        there = [each for each in chosen if (self._folder / each.image["file_name"]).is_file()]
        return there, len(showing) - len(chosen), len(chosen) - len(there)

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, classes: int) -> Iterator[tuple[str, Image, Image]]:
        """Read and draw them one after the other."""
        for each in self._pictures:
            path = self._folder / each.image["file_name"]
            picture = read_picture(path)
            label = self._draw(each)
            if picture.shape[:2] != label.shape:
                (height, width), (rows, columns) = picture.shape[:2], label.shape
                raise ConfigError(f"{path} is {width}x{height}, but its annotations say {columns}x{rows}")
            yield path.stem, picture, label

    def _draw(self, drawn: _Drawn) -> Image:
        shape = int(drawn.image["height"]), int(drawn.image["width"])
        label = np.zeros(shape, np.uint8)
        for outline in sorted(drawn.outlines, key=lambda each: -int(each["iscrowd"])):  # objects over crowds
            number = IGNORED if outline["iscrowd"] else self._numbers[int(outline["category_id"])]
            label[_mask(outline["segmentation"], shape)] = number
        return label


def _numbers(labelled: LabelledSet, classes: Sequence[str]) -> dict[int, int]:
    """Return the number of each category id that is wanted."""
    ids = {str(each["name"]): int(each["id"]) for each in labelled.categories}
    if unknown := [name for name in classes if name not in ids]:
        raise ConfigError(f"--class {unknown[0]}: the annotations have no such category; there are {some(list(ids))}")
    return {ids[name]: number for number, name in enumerate(classes, start=1)}


def _mask(segmentation: Any, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Return the pixels of polygons, or of run lengths, compressed or not."""
    from pycocotools import mask

    if isinstance(segmentation, list):
        runs = mask.merge(mask.frPyObjects(segmentation, *shape))
    elif isinstance(segmentation["counts"], list):
        runs = mask.frPyObjects(segmentation, *shape)
    else:
        runs = segmentation
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of numpy 2, on how pycocotools makes its array
        return np.asarray(mask.decode(runs), bool)
