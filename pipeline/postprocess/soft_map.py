"""SoftMap: how likely each pixel is of each class, at the resolution of a model's output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class SoftMap:
    """The classes that are there, each with its probabilities over the whole picture.

    Classes that are the likeliest nowhere are left out: of 21 that a network knows, a picture shows some three, and
    what follows (moving, averaging, upscaling) costs in proportion.
    """

    ids: tuple[int, ...]
    """Numbers of the classes, each once."""
    values: FloatArray
    """(K, h, w) float32, 0..1; the K of a pixel sum to 1."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.values.shape[1], self.values.shape[2]

    def of(self, ids: tuple[int, ...]) -> FloatArray:
        """Return (len(ids), h, w): the probabilities of these classes, 0 for one that is not there."""
        if ids == self.ids:
            return self.values
        places = {each: place for place, each in enumerate(self.ids)}
        nothing = np.zeros(self.size, np.float32)
        return np.stack([self.values[places[each]] if each in places else nothing for each in ids])


def of_two(ids: tuple[int, ...], first: FloatArray) -> SoftMap:
    """Return a map of two classes.

    Args:
        ids: their numbers.
        first: (h, w), the probabilities of the first.
    """
    values = np.empty((2, *first.shape), np.float32)
    values[0] = first
    np.subtract(1, first, out=values[1])
    return SoftMap(ids, values)


def blend(first: SoftMap, second: SoftMap, part: FloatArray | float) -> SoftMap:
    """Return `part` of the second and the rest of the first, of all classes that are in either.

    Args:
        first: a map.
        second: another of its size.
        part: 0..1, one number, or (h, w) for each pixel.
    """
    ids = first.ids + tuple(each for each in second.ids if each not in first.ids)
    needed = ids[:1] if len(ids) == 2 else ids
    of_first = first.of(needed)
    mixed = second.of(needed) - of_first
    mixed *= part
    mixed += of_first
    return of_two(ids, mixed[0]) if len(ids) == 2 else SoftMap(ids, mixed)
