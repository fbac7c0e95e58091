"""What is taken for what: found boxes and labelled objects matched across classes, at one confidence.

The rule: boxes with a score above the confidence, the best first, each take the object that they overlap most, of those
that are not taken yet and overlap by an IoU of at least 0.5, whatever its class. A box that takes none shows
background, an object that none takes is missed. A crowd region or a difficult object can be neither missed nor wrong: a
box of its class that lies in it by half is left out.

AP matches within each class and at every confidence, so its figures do not follow from these.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tools.labels.labelled_set import LabelledSet, Record

IOU = 0.5
CONFIDENCE = 0.25


class Pair(NamedTuple):
    """A labelled object and the box that takes it; None: there is none."""

    truth: Record | None
    found: Record | None

    @property
    def right(self) -> bool:
        """Whether the object was found as what it is."""
        return bool(self.truth and self.found and self.truth["category_id"] == self.found["category_id"])


@dataclass(frozen=True)
class Picture:
    """One image, matched."""

    image: Record
    pairs: tuple[Pair, ...]

    @property
    def missed(self) -> int:
        """Objects that were not found as what they are."""
        return sum(pair.truth is not None and not pair.right for pair in self.pairs)

    @property
    def false(self) -> int:
        """Boxes that show no such object."""
        return sum(pair.found is not None and not pair.right for pair in self.pairs)


def match(
    labelled: LabelledSet, results: Sequence[Record], image_ids: Sequence[int], confidence: float = CONFIDENCE
) -> list[Picture]:
    """Match the boxes and objects of each image.

    Args:
        labelled: the truth.
        results: COCO results.
        image_ids: the images to match, in the order of the answer.
        confidence: a score must be larger.
    """
    truth, found = _by_image(labelled.annotations), _by_image(results)
    images = {int(image["id"]): image for image in labelled.images}
    return [
        Picture(images[number], _match_image(truth[number], [r for r in found[number] if r["score"] > confidence]))
        for number in image_ids
    ]


def _by_image(records: Sequence[Record]) -> defaultdict[int, list[Record]]:
    by_image: defaultdict[int, list[Record]] = defaultdict(list)
    for record in records:
        by_image[record["image_id"]].append(record)
    return by_image


def _match_image(truth: Sequence[Record], found: Sequence[Record]) -> tuple[Pair, ...]:
    objects = [each for each in truth if not each["iscrowd"]]
    crowds = [each for each in truth if each["iscrowd"]]
    overlaps, _ = _overlaps(found, objects)
    _, inside = _overlaps(found, crowds)
    free = np.ones(len(objects), bool)
    pairs = []
    for row in sorted(range(len(found)), key=lambda place: -found[place]["score"]):
        candidates = np.where(free, overlaps[row], 0)
        best = int(candidates.argmax()) if len(objects) else 0
        if len(objects) and candidates[best] >= IOU:
            free[best] = False
            pairs.append(Pair(objects[best], found[row]))
        elif not any(
            part >= IOU and crowd["category_id"] == found[row]["category_id"]
            for part, crowd in zip(inside[row], crowds, strict=True)
        ):
            pairs.append(Pair(None, found[row]))
    missed = (Pair(each, None) for each, is_free in zip(objects, free, strict=True) if is_free)
    return (*pairs, *missed)


Matrix = npt.NDArray[np.float64]


def _overlaps(found: Sequence[Record], truth: Sequence[Record]) -> tuple[Matrix, Matrix]:
    """Return (F, T) intersections over the union, and over the area of what was found."""
    a, b = (np.array([each["bbox"] for each in records], float).reshape(-1, 4) for records in (found, truth))
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    opposite = np.minimum((a[:, :2] + a[:, 2:])[:, None], (b[:, :2] + b[:, 2:])[None])
    intersection = (opposite - corner).clip(0).prod(axis=2)
    area, of_truth = a[:, 2:].prod(axis=1)[:, None], b[:, 2:].prod(axis=1)[None]
    tiny = np.finfo(float).tiny
    return intersection / (area + of_truth - intersection).clip(tiny), intersection / area.clip(tiny)


@dataclass(frozen=True)
class Confusion:
    """Counts of what was taken for what."""

    names: tuple[str, ...]
    """Categories in the order of their ids; the last row and column of `counts` are background."""
    counts: npt.NDArray[np.int64]
    """(K + 1, K + 1): rows are what is there, columns what was found."""

    @classmethod
    def of(cls, pictures: Sequence[Picture], categories: Sequence[Record]) -> Confusion:
        """Count the pairs of all pictures."""
        ordered = sorted(categories, key=lambda category: int(category["id"]))
        places = {int(category["id"]): place for place, category in enumerate(ordered)}
        background = len(ordered)
        counts = np.zeros((background + 1, background + 1), np.int64)
        for pair in (pair for picture in pictures for pair in picture.pairs):
            row, column = (background if each is None else places[each["category_id"]] for each in pair)
            counts[row, column] += 1
        return cls(tuple(str(category["name"]) for category in ordered), counts)

    @property
    def summary(self) -> str:
        """In one line."""
        inner = self.counts[:-1, :-1]
        right = int(np.trace(inner))
        return (
            f"{right} right, {int(inner.sum()) - right} as another class, {int(self.counts[:-1, -1].sum())} missed, "
            f"{int(self.counts[-1].sum())} where nothing is"
        )

    def largest(self, most: int) -> Confusion:
        """Return the same with so many classes at most: those with the most objects and boxes; the others as one."""
        count = len(self.names)
        if count <= most:
            return self
        busy = self.counts[:-1].sum(axis=1) + self.counts[:, :-1].sum(axis=0)
        kept = np.sort(np.argsort(-busy, kind="stable")[: most - 1])
        place = np.full(count + 1, most - 1)
        place[kept], place[-1] = np.arange(most - 1), most
        counts = np.zeros((most + 1, most + 1), np.int64)
        np.add.at(counts, (place[:, None], place[None, :]), self.counts)
        return Confusion((*(self.names[each] for each in kept), f"{count - most + 1} others"), counts)
