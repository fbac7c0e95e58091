"""1:N search measured: how often a stranger is taken for somebody, and how that grows with the gallery.

A stranger has as many chances as the gallery has people: a threshold set for an FPIR of 5 % among 40 people gives 12 %
among 100, which is 1 - 0.95^(100/40). Here searches for strangers go through galleries of growing size, drawn by a
fixed seed from the people there are. Between two of these sizes log(1 - FPIR) runs straight; beyond the largest it is
carried on by 1-(1-FAR)^G, and called extrapolated. The similarity to a person is that to the most alike of the
person's encodings.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError
from pipeline.gallery.operating_point import OperatingPoint, carry, check_rate, upper_bound
from pipeline.gallery.pairs import ByPerson
from pipeline.gallery.verification import just_above

GALLERIES = 8
"""Galleries drawn of each size. They share the strangers, so they make a rate steadier and its bound no narrower."""
SEED = 20140624


@dataclass(frozen=True, eq=False)
class Searches:
    """What searches for strangers found, among galleries of several sizes."""

    sizes: tuple[int, ...]
    """People in the galleries, ascending."""
    best: tuple[FloatArray, ...]
    """For each size the best similarity of each search in each gallery, ascending."""
    searches: int
    """Different searches: what a bound counts."""

    def fpir(self, threshold: float, people: int) -> float:
        """Return the share of strangers who are taken for somebody among so many people."""
        shares = [1 - np.searchsorted(best, threshold) / len(best) for best in self.best]
        largest = self.sizes[-1]
        if people > largest:
            return carry(shares[-1], people / largest)
        alone = np.log1p(-np.minimum(shares, 1 - 1e-12))
        return float(-np.expm1(np.interp(people, (0, *self.sizes), (0.0, *alone))))

    def curve(self, threshold: float, sizes: Sequence[int]) -> list[float]:
        """Return the FPIR at several sizes; those above `sizes[-1]` are extrapolated."""
        return [self.fpir(threshold, people) for people in sizes]

    def threshold_for(self, fpir: float, people: int) -> OperatingPoint:
        """Return the lowest threshold with at most this FPIR among so many people, and what the data says about it.

        Raises:
            GalleryError: `fpir` is no rate, or there are no people.
        """
        check_rate("FPIR", fpir)
        if people < 1:
            raise GalleryError(f"a gallery of {people} people: a threshold needs one at least")
        candidates = np.unique(np.concatenate(self.best))
        index = bisect_left(candidates, True, key=lambda each: self.fpir(just_above(each), people) <= fpir)
        threshold = just_above(candidates[index])
        searched = min(people, self.sizes[-1])
        errors = math.ceil(self.fpir(threshold, searched) * self.searches - 1e-9)
        bound = carry(upper_bound(errors, self.searches), people / searched)
        observed = self.fpir(threshold, people)
        return OperatingPoint(threshold, fpir, observed, bound, errors, self.searches, people, searched)


def search_gallery(encodings: FloatArray, persons: npt.ArrayLike) -> Searches:
    """Search each person's encodings among all other people (leave one person out).

    Args:
        encodings: (N, D) float32.
        persons: (N,) whose they are.

    Returns:
        N searches among 1 to P - 1 people.

    Raises:
        GalleryError: there are fewer than two people.
    """
    sorted_ = ByPerson(encodings, persons)
    if sorted_.people < 2:
        known = "one person" if sorted_.people else "nobody"
        raise GalleryError(f"the gallery has {known}: a threshold needs two at least")
    sizes = gallery_sizes(sorted_.people - 1)
    found = []
    for people, matrix in sorted_.blocks():
        own = sorted_.numbers[sorted_.starts[people.start] :][: len(matrix)]
        scores = np.maximum.reduceat(matrix, sorted_.starts, axis=1)
        found.append(_best_by_size(scores, own, sizes))
    return _searches(sizes, np.concatenate(found, axis=2))


def search_strangers(scores: FloatArray) -> Searches:
    """Take searches for people who are in no gallery.

    Args:
        scores: (Q, P) similarity of each stranger's face to each person of the gallery.

    Returns:
        Q searches among 1 to P people.

    Raises:
        GalleryError: there is no stranger, nobody in the gallery, or a similarity that is not finite.
    """
    if np.ndim(scores) != 2 or not np.size(scores):
        raise GalleryError(f"similarities {np.shape(scores)}: strangers x people are needed, one of each at least")
    if not np.isfinite(scores).all():
        raise GalleryError("similarities that are not finite: leave out strangers in whose pictures no face was found")
    sizes = gallery_sizes(np.shape(scores)[1])
    nobody = np.full(len(scores), np.shape(scores)[1])
    return _searches(sizes, _best_by_size(np.asarray(scores, np.float32), nobody, sizes))


def gallery_sizes(largest: int) -> tuple[int, ...]:
    """Return 1, 2, 5, 10, 20, 50, ... up to `largest`, and that itself."""
    steps = [factor * 10**power for power in range(len(str(largest))) for factor in (1, 2, 5)]
    return (*(step for step in steps if step < largest), largest)


def _best_by_size(scores: FloatArray, own: npt.NDArray[np.intp], sizes: Sequence[int]) -> FloatArray:
    """Return the best similarity among the first people of each drawn order, the searched one left out.

    Args:
        scores: (B, P).
        own: (B,) the searched person; P for one who is not there.
        sizes: (K,).

    Returns:
        (K, GALLERIES, B).
    """
    rows, people = np.arange(len(scores)), scores.shape[1]
    best = np.empty((len(sizes), GALLERIES, len(scores)), np.float32)
    for gallery in range(GALLERIES):
        drawn = np.random.default_rng((SEED, gallery)).permutation(people)
        place = np.append(np.argsort(drawn), people)[own]
        ordered = scores.take(drawn, axis=1)
        known = place < people
        ordered[rows[known], place[known]] = -np.inf
        parts = np.maximum.reduceat(ordered[:, : sizes[-1]], (0, *sizes[:-1]), axis=1)
        best[:, gallery] = np.maximum.accumulate(parts, axis=1).T
        for number, size in enumerate(sizes):
            one_more = place < size  # for the searched person, who is among the first `size` and left out
            following = ordered[one_more, min(size, people - 1)]
            best[number, gallery, one_more] = np.maximum(best[number, gallery, one_more], following)
    return best


def _searches(sizes: tuple[int, ...], best: FloatArray) -> Searches:
    return Searches(sizes, tuple(np.sort(each.ravel()) for each in best), best.shape[2])
