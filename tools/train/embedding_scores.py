"""How well an encoder tells people apart: every pair of encodings is compared, same against different people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.arrays import FloatArray, IntArray
from pipeline.gallery.pairs import all_pairs
from pipeline.gallery.verification import Verification, far_point

IDENTIFY_FAR = 1e-3
"""What the threshold for a whole gallery may let pass: a stranger has many chances there."""


@dataclass(frozen=True)
class Scores:
    """What was measured on all pairs."""

    auc: float
    """Area under the ROC curve: how often a same pair is more alike than a different one."""
    accuracy: float
    """At the best threshold; both kinds of pairs count the same, however many there are of each."""
    separation: float
    """Mean similarity of the same pairs less that of the different ones."""
    verify_threshold: float
    """Where that accuracy is reached."""
    identify_threshold: float
    """At most one in a thousand different pairs passes it, and none where there are fewer pairs."""
    same_pairs: int
    different_pairs: int


def score(encodings: FloatArray, people: IntArray) -> Scores:
    """Measure on all pairs; there must be pairs of both kinds.

    Args:
        encodings: (N, D), of length 1.
        people: (N,) whose they are.
    """
    similarities, same = all_pairs(encodings, people)
    measured = Verification(similarities, same)
    verify = measured.best_threshold
    refused = float(np.mean(similarities[~same] < verify))
    return Scores(
        auc=measured.auc,
        accuracy=(measured.tar(verify) + refused) / 2,
        separation=float(similarities[same].mean(dtype=np.float64) - similarities[~same].mean(dtype=np.float64)),
        verify_threshold=verify,
        identify_threshold=max(verify, far_point(similarities[~same], IDENTIFY_FAR).threshold),
        same_pairs=int(same.sum()),
        different_pairs=int((~same).sum()),
    )
