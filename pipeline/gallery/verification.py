"""1:1 comparison measured: ROC, AUC, EER, accuracy, TAR at FAR, from labelled similarities.

Similarities that occur several times move together: every figure is computed over the distinct values, never over an
order among equal ones. A comparison is accepted where its similarity is >= the threshold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import GalleryError
from pipeline.gallery.operating_point import OperatingPoint, check_rate, upper_bound
from pipeline.gallery.words import counted

Numbers = npt.NDArray[Any]
FOLDS = 10


def far_point(different: Numbers, far: float) -> OperatingPoint:
    """Return the lowest threshold that accepts at most the share `far` of comparisons between two people.

    It is a float32 number, for that is what faces are matched in.

    Args:
        different: (M,) similarities of comparisons between two people.
        far: 0.001 for one in a thousand.

    Raises:
        GalleryError: there is no comparison, or `far` is no rate.
    """
    check_rate("FAR", far)
    if not len(different):
        raise GalleryError("no comparison between two people: a threshold cannot be chosen without any")
    allowed = math.floor(far * len(different) + 1e-9)
    refused = np.partition(different, len(different) - 1 - allowed)[len(different) - 1 - allowed]
    threshold = just_above(refused)
    errors = int(np.count_nonzero(different >= np.float64(threshold)))
    bound = upper_bound(errors, len(different))
    return OperatingPoint(threshold, far, errors / len(different), bound, errors, len(different))


def just_above(similarity: float) -> float:
    """Return the next float32 number above a similarity of any precision."""
    return float(np.nextafter(np.float32(similarity), np.float32(np.inf)))


@dataclass(frozen=True)
class Accuracy:
    """How many comparisons are judged rightly with a threshold chosen on others."""

    mean: float
    """Over the folds, in 0..1."""
    error: float
    """Standard error of the mean: the +- of published LFW figures."""
    folds: int


@dataclass(frozen=True, eq=False)
class Verification:
    """Labelled comparisons, and the figures that follow from them."""

    similarities: Numbers
    """(P,) floats; larger = more alike."""
    same: npt.NDArray[np.bool_]
    """(P,) whether both faces are of one person."""

    def __post_init__(self) -> None:
        if np.shape(self.similarities) != np.shape(self.same) or np.ndim(self.same) != 1:
            raise ValueError(f"{np.shape(self.similarities)} similarities but {np.shape(self.same)} labels")
        if bad := int(np.count_nonzero(~np.isfinite(self.similarities))):
            found = f"{bad:,} of {counted(len(self.similarities), 'similarity', 'similarities')}"
            raise GalleryError(f"{found} {'is' if bad == 1 else 'are'} not finite: leave out pairs without a face")
        if not self.same.any() or self.same.all():
            kind = "one person" if not self.same.any() else "two people"
            pairs = f"none of the {len(self.same):,} pairs is" if len(self.same) != 1 else "the only pair is not"
            raise GalleryError(f"{pairs} of {kind}: both kinds are needed")

    @cached_property
    def _ranks(self) -> tuple[Numbers, npt.NDArray[np.intp]]:
        values, ranks = np.unique(self.similarities, return_inverse=True)
        return values, ranks

    @cached_property
    def roc(self) -> tuple[Numbers, Numbers, Numbers]:
        """The thresholds (K,), from infinity down over the distinct similarities; FAR (K,) and TAR (K,) at each."""
        values, ranks = self._ranks
        thresholds = np.concatenate([[np.inf], values[::-1]])
        far, tar = (_accepted(ranks[self.same == same], len(values)) for same in (False, True))
        return thresholds, far / far[-1], tar / tar[-1]

    @cached_property
    def auc(self) -> float:
        """Area under the ROC: how often a pair of one person is more alike than one of two (equal: half)."""
        _, far, tar = self.roc
        return float(np.sum(np.diff(far) * (tar[1:] + tar[:-1])) / 2)

    @cached_property
    def eer(self) -> float:
        """Where FAR = 1 - TAR on the ROC, straight between its points."""
        _, far, tar = self.roc
        excess = far - (1 - tar)
        after = int(np.argmax(excess >= 0))
        part = -excess[after - 1] / (excess[after] - excess[after - 1])
        return float(far[after - 1] + part * (far[after] - far[after - 1]))

    @cached_property
    def best_threshold(self) -> float:
        """The threshold of the highest accuracy on all pairs, in the middle between two similarities.

        Accuracy is the mean over both kinds of pairs, which is the plain one where they are equally many. Of several
        equally good thresholds it is the strictest.
        """
        values, ranks = self._ranks
        cut = _best_cut(self._counts(ranks[self.same]), self._counts(ranks[~self.same]))
        if cut == len(values):
            return just_above(values[-1])
        middle = (float(values[max(cut - 1, 0)]) + float(values[cut])) / 2
        return middle if cut and middle > values[cut - 1] else float(values[cut])

    @cached_property
    def accuracy(self) -> Accuracy:
        """The accuracy of each fold with the threshold that is best on the others.

        Folds are contiguous blocks of the pairs as given, a tenth of each kind, as in LFW's protocol. Pair files list a
        person's pairs one after another: blocks keep them in one fold, where taking every tenth pair would choose the
        threshold on the very people that it is tested on. Where one kind has fewer than ten pairs, there are as many
        folds as pairs.
        """
        _, ranks = self._ranks
        kinds = [ranks[self.same], ranks[~self.same]]
        folds = min(FOLDS, *(len(kind) for kind in kinds))
        if folds < 2:
            raise GalleryError("accuracy by folds needs two pairs of one person and two of two people at least")
        whole = [self._counts(kind) for kind in kinds]
        results = []
        for parts in zip(*(np.array_split(kind, folds) for kind in kinds), strict=True):
            counts = [self._counts(part) for part in parts]
            cut = _best_cut(*(all_ - part for all_, part in zip(whole, counts, strict=True)))
            accepted = (parts[0] >= cut).mean()
            results.append((accepted + (parts[1] < cut).mean()) / 2)
        return Accuracy(float(np.mean(results)), float(np.std(results, ddof=1) / math.sqrt(folds)), folds)

    def threshold_for(self, far: float) -> OperatingPoint:
        """Return the lowest threshold with at most this FAR, and what the data says about it."""
        return far_point(self.similarities[~self.same], far)

    def tar(self, threshold: float) -> float:
        """Return the share of pairs of one person that a threshold accepts."""
        return float(np.mean(self.similarities[self.same] >= np.float64(threshold)))

    def _counts(self, ranks: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        return np.bincount(ranks, minlength=len(self._ranks[0]))


def _accepted(ranks: npt.NDArray[np.intp], values: int) -> Numbers:
    """Return how many are accepted from each value on, from none to all: (values + 1,)."""
    return np.concatenate([[0], np.cumsum(np.bincount(ranks, minlength=values)[::-1])])


def _best_cut(same: npt.NDArray[np.intp], different: npt.NDArray[np.intp]) -> int:
    """Return the rank from which accepting gives the highest accuracy; of equal ones the highest.

    Args:
        same, different: (K,) pairs of each kind at each distinct similarity, ascending.
    """
    rejected_same = np.concatenate([[0], np.cumsum(same)])
    rejected_different = np.concatenate([[0], np.cumsum(different)])
    # whole numbers, so that equal accuracies are equal: accuracy x 2 x both totals
    right = (rejected_same[-1] - rejected_same) * rejected_different[-1] + rejected_different * rejected_same[-1]
    return len(right) - 1 - int(np.argmax(right[::-1]))
