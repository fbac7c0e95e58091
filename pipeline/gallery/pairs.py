"""All encodings of a gallery against each other: similarities, the least alike within a person, the most alike across.

A similarity is 1 - d^2 / 2 for both metrics, d being the Euclidean distance: the cosine for unit vectors.
Memory stays bounded: work goes in blocks of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from pipeline.gallery.words import counted

BLOCK_ENTRIES = 4_000_000
"""Similarities computed at once: 16 MB."""
MAX_ENCODINGS = 3000
"""Of which `all_pairs` lists all 4.5 million pairs."""

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Pair:
    """Two encodings of a gallery."""

    person_a: int
    person_b: int
    row_a: int
    row_b: int
    similarity: float


def similarity_matrix(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return (N, M) float32 similarities of encodings (N, D) and (M, D)."""
    squared = np.einsum("nd,nd->n", a, a)[:, None] + np.einsum("nd,nd->n", b, b) - 2 * (a @ b.T)
    return np.asarray(1 - np.maximum(squared, 0) / 2, np.float32)


class ByPerson:
    """Encodings sorted by person, each person's in the order given.

    Raises:
        GalleryError: an encoding is not finite.
    """

    def __init__(self, encodings: FloatArray, persons: npt.ArrayLike) -> None:
        labels = np.asarray(persons)
        if np.ndim(encodings) != 2 or labels.shape != (len(encodings),):
            raise ValueError(f"encodings {np.shape(encodings)} but persons {labels.shape}")
        if bad := int(np.count_nonzero(~np.isfinite(encodings).all(axis=1))):
            found = f"{bad:,} of {counted(len(encodings), 'encoding')} {'is' if bad == 1 else 'are'}"
            raise GalleryError(f"{found} not finite: enrol again what they are of")
        self.order: Rows = np.argsort(labels, kind="stable")
        """(N,) the row that each sorted one was."""
        self.encodings: FloatArray = np.asarray(encodings, np.float32)[self.order]
        self.labels, self.starts, self.counts = np.unique(labels[self.order], return_index=True, return_counts=True)
        """(P,) each person's label, first sorted row and number of encodings."""

    @property
    def people(self) -> int:
        """How many there are."""
        return len(self.labels)

    @property
    def numbers(self) -> Rows:
        """(N,) the person of each sorted row, 0..P-1."""
        return np.repeat(np.arange(self.people), self.counts)

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield whole persons, some at a time: their range of numbers, and similarities (rows, N) of their rows."""
        ends = self.starts + self.counts
        most = max(1, BLOCK_ENTRIES // max(1, len(self.encodings)))
        first = 0
        while first < self.people:
            last = max(first + 1, int(np.searchsorted(ends, self.starts[first] + most, side="right")))
            rows = self.encodings[self.starts[first] : ends[last - 1]]
            yield slice(first, last), similarity_matrix(rows, self.encodings)
            first = last


def all_pairs(encodings: FloatArray, persons: npt.ArrayLike) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return the similarity of every two encodings, and whether they are of one person: (P,) and (P,).

    Of more than `MAX_ENCODINGS` encodings it takes people at even steps through the gallery, as many as fit.
    """
    sorted_ = ByPerson(encodings, persons)
    step = -(-len(sorted_.encodings) // MAX_ENCODINGS)
    numbers = sorted_.numbers
    chosen = np.flatnonzero(numbers % step == 0)[:MAX_ENCODINGS] if step > 1 else np.arange(len(numbers))
    upper = np.triu(np.ones((len(chosen), len(chosen)), bool), 1)
    matrix = similarity_matrix(sorted_.encodings[chosen], sorted_.encodings[chosen])
    return matrix[upper], (numbers[chosen, None] == numbers[chosen])[upper]


def least_alike_within(encodings: FloatArray, persons: npt.ArrayLike) -> list[Pair]:
    """Return the least alike two encodings of each person who has two, the worst first."""
    sorted_ = ByPerson(encodings, persons)
    worst = []
    for number in np.flatnonzero(sorted_.counts > 1):
        start = sorted_.starts[number]
        own = sorted_.encodings[start : start + sorted_.counts[number]]
        matrix = similarity_matrix(own, own)
        matrix[np.tril_indices(len(own))] = np.inf
        row_a, row_b = np.unravel_index(np.argmin(matrix), matrix.shape)
        worst.append(_pair(sorted_, start + row_a, start + row_b, float(matrix[row_a, row_b])))
    return sorted(worst, key=lambda pair: pair.similarity)


def most_alike_across(encodings: FloatArray, persons: npt.ArrayLike, count: int = 10) -> list[Pair]:
    """Return the most alike two people, `count` times: perhaps one person under two names.

    Two people are as alike as their two most alike encodings.
    """
    sorted_ = ByPerson(encodings, persons)
    found: list[tuple[float, int, int]] = []
    for people, matrix in sorted_.blocks():
        columns = np.maximum.reduceat(matrix, sorted_.starts, axis=1)
        offsets = sorted_.starts[people] - sorted_.starts[people.start]
        alike = np.maximum.reduceat(columns, offsets, axis=0)
        a, b = np.nonzero(np.arange(people.start, people.stop)[:, None] < np.arange(sorted_.people))
        best = np.argsort(-alike[a, b], kind="stable")[:count]
        found += [(float(alike[i, j]), people.start + int(i), int(j)) for i, j in zip(a[best], b[best], strict=True)]
        found = sorted(found, key=lambda each: -each[0])[:count]
    return [_closest(sorted_, a, b) for _, a, b in found]


def _closest(sorted_: ByPerson, a: int, b: int) -> Pair:
    ranges = [slice(sorted_.starts[each], sorted_.starts[each] + sorted_.counts[each]) for each in (a, b)]
    matrix = similarity_matrix(*(sorted_.encodings[each] for each in ranges))
    row_a, row_b = np.unravel_index(np.argmax(matrix), matrix.shape)
    return _pair(sorted_, ranges[0].start + row_a, ranges[1].start + row_b, float(matrix[row_a, row_b]))


def _pair(sorted_: ByPerson, row_a: int, row_b: int, similarity: float) -> Pair:
    a, b = (int(sorted_.labels[sorted_.numbers[row]]) for row in (row_a, row_b))
    return Pair(a, b, int(sorted_.order[row_a]), int(sorted_.order[row_b]), similarity)
