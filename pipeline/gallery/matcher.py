"""Search of a gallery: who is most like each face?

A person is as alike as the best of their encodings. With x the face and g an encoding, the similarity is
1 - |x - g|^2 / 2 = x.g + (1 - |g|^2) / 2 + (1 - |x|^2) / 2: a matrix product and two vectors, and for unit vectors
x.g alone. NumPy's product is faster than an index up to about 100,000 encodings; above, an index
(`pipeline.gallery.index`) proposes candidates, whose similarities are then computed exactly.

The product is made of small ones, of up to `GROUP` faces with `BLOCK` encodings. OpenBLAS spreads a large one over all
cores and waits for each; next to a busy engine, 5 faces against 10,000 encodings of 128 numbers took 0.25 ms in the
median but 36 ms in one case of ten. The small ones stay on their thread and in its cache: 0.15 ms and 0.3 ms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.spec import Metric
from pipeline.arrays import FloatArray, IntArray
from pipeline.errors import GalleryError
from pipeline.gallery.index import build_index
from pipeline.gallery.records import Snapshot

EXACT_UP_TO = 100_000
"""Encodings that are searched without an index: 5 faces against so many of 128 numbers take 3 ms."""
GROUP = 8
"""Faces that are searched together: with D = 512 the largest product that OpenBLAS leaves to one thread."""
BLOCK = 64
"""Encodings of one product; with D = 512, 128 take 1.6 times as long, 256 4 times."""


@dataclass(frozen=True, eq=False)
class Matches:
    """The people most like Q faces, the most alike first."""

    persons: IntArray
    """(Q, k) int32, rows of the gallery's names; -1 where there is nobody, as for a face with NaN."""
    similarities: FloatArray
    """(Q, k) float32, 1 - d^2 / 2; NaN where there is nobody."""
    gallery: tuple[str, ...]
    """The gallery's names."""

    @property
    def names(self) -> tuple[tuple[str | None, ...], ...]:
        """(Q, k) names; None where there is nobody."""
        return tuple(tuple(self.gallery[each] if each >= 0 else None for each in row) for row in self.persons.tolist())


class Matcher:
    """A gallery at one moment, ready to be searched; nothing in it changes, so any thread may."""

    def __init__(self, snapshot: Snapshot, metric: Metric, exact_up_to: int = EXACT_UP_TO) -> None:
        """Prepare the search.

        Args:
            snapshot: the gallery.
            metric: that its encodings are compared by.
            exact_up_to: above so many encodings an index is built, which takes a while; without the extra `scale`
                the search stays exact, and a warning is logged.
        """
        self.names = snapshot.names
        self.metric: Metric = metric
        self.dimensions = snapshot.vectors.shape[1]
        self._persons = snapshot.persons
        self._bias = _half_of_one_less_square(snapshot.vectors)
        self._index = build_index(snapshot.vectors) if len(snapshot) > exact_up_to else None
        self._vectors = snapshot.vectors if self._index else _in_blocks(snapshot.vectors)
        self._first_of_person = np.flatnonzero(np.diff(snapshot.persons, prepend=-1))

    def __len__(self) -> int:
        """The number of encodings."""
        return len(self._persons)

    @property
    def exact(self) -> bool:
        """Whether the most alike person is found for certain."""
        return self._index is None

    def search(self, queries: FloatArray, k: int = 1) -> Matches:
        """Find the k most alike people of each face.

        Args:
            queries: (Q, D) float32 encodings, normalised for `cosine`; a row that is not finite matches nobody.
            k: how many, at least 1; where fewer are found, the rest is filled with -1 and NaN.

        Raises:
            GalleryError: the faces' encodings have another length than the gallery's.
        """
        queries = np.asarray(queries, np.float32)
        if queries.ndim != 2 or queries.shape[1] != self.dimensions:
            raise GalleryError(
                f"the faces' encodings have the shape {queries.shape}, and the gallery's have {self.dimensions} "
                f"numbers: encode both with one embedder"
            )
        persons = np.full((len(queries), k), -1, np.int32)
        similarities = np.full((len(queries), k), np.nan, np.float32)
        usable = np.flatnonzero(np.isfinite(queries).all(axis=1))
        for start in range(0, len(usable) if len(self) else 0, GROUP):
            rows = usable[start : start + GROUP]
            found, scores = self._search(queries[rows], k)
            if self.metric == "l2":
                scores = scores + _half_of_one_less_square(queries[rows])[:, None]
            persons[rows, : found.shape[1]] = found
            similarities[rows, : found.shape[1]] = scores
        return Matches(persons, similarities, self.names)

    def _search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Return (Q, up to k) people and their similarities, which for `l2` lack the part of the query."""
        if self._index is not None:
            return self._search_candidates(self._index.candidates(queries), queries, k)
        scores = _products(queries, self._vectors)[:, : len(self)]
        if self.metric == "l2":
            scores += self._bias
        if k == 1:
            best = scores.argmax(axis=1)[:, None]
            return self._persons[best], np.take_along_axis(scores, best, axis=1)
        scores = np.maximum.reduceat(scores, self._first_of_person, axis=1)
        return _largest(scores, min(k, len(self.names)))

    def _search_candidates(
        self, candidates: npt.NDArray[np.int64], queries: FloatArray, k: int
    ) -> tuple[IntArray, FloatArray]:
        """Do the same among (Q, C) rows of the gallery; -1: no row."""
        persons = np.full((len(queries), k), -1, np.int32)
        similarities = np.full((len(queries), k), np.nan, np.float32)
        for query, proposed in enumerate(candidates):
            rows = proposed[proposed >= 0]
            scores = self._vectors[rows] @ queries[query]
            if self.metric == "l2":
                scores += self._bias[rows]
            order = np.argsort(-scores)
            _, first = np.unique(self._persons[rows[order]], return_index=True)
            best = order[np.sort(first)[:k]]
            persons[query, : len(best)] = self._persons[rows[best]]
            similarities[query, : len(best)] = scores[best]
        return persons, similarities


def _half_of_one_less_square(vectors: FloatArray) -> FloatArray:
    """Return (1 - |v|^2) / 2 of each row; there is no temporary copy of the rows."""
    half: FloatArray = (1 - np.einsum("nd,nd->n", vectors, vectors)) / 2
    return half


def _in_blocks(vectors: FloatArray) -> FloatArray:
    """Return (N, D) encodings as (blocks, D, BLOCK), each a column; the last are zeros."""
    blocks = -(-len(vectors) // BLOCK)
    padded = np.zeros((blocks * BLOCK, vectors.shape[1]), np.float32)
    padded[: len(vectors)] = vectors
    return np.ascontiguousarray(padded.reshape(blocks, BLOCK, vectors.shape[1]).transpose(0, 2, 1))


def _products(queries: FloatArray, blocks: FloatArray) -> FloatArray:
    """Return (Q, blocks x BLOCK) dot products."""
    if len(queries) == 1:  # or NumPy takes a matrix-vector product, which OpenBLAS spreads over the cores much sooner
        return _products(queries[[0, 0]], blocks)[:1]
    products = np.empty((len(queries), len(blocks), BLOCK), np.float32)
    np.matmul(queries, blocks, out=products.transpose(1, 0, 2))
    return products.reshape(len(queries), -1)


def _largest(scores: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """Return (Q, k) columns and values of the largest scores of each row, descending."""
    columns = np.argpartition(-scores, k - 1, axis=1)[:, :k] if k < scores.shape[1] else np.argsort(-scores, axis=1)
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    found: IntArray = np.take_along_axis(columns, order, axis=1).astype(np.int32)
    return found, np.take_along_axis(values, order, axis=1)
