"""The similarity head is learned from labelled pairs, and tested on people whom nothing was learned from.

Nobody is in both the pairs that are learned from and those that are held out: a head that only remembers people shows
itself there. Pairs across the two groups are left out. Which features and how much regularisation are chosen inside the
training people alone, so that the held-out figures are of people whom no choice has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ConfigError
from pipeline.gallery.similarity_head import FORMS, Form, SimilarityHead, features
from pipeline.gallery.verification import Verification

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray, Index

HELD_OUT = 0.3
"""Part of the people."""
STRENGTHS = (1e-5, 1e-3, 1e-2, 0.1, 1.0, 10.0)
"""Of the data against the regularisation: C of scikit-learn."""
UNREGULARISED = 1e3
SEED = 20140624
CHOICES = 4
"""Splits of the training people, over which the choice is made."""
MIN_PAIRS = 5
"""Of each kind, in each part."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of encodings, each with whose they are."""

    a: FloatArray
    """(N, D)."""
    b: FloatArray
    same: npt.NDArray[np.bool_]
    """(N,) whether both are of one person."""
    people: npt.NDArray[Any]
    """(N, 2) whose a and b are."""

    def __len__(self) -> int:
        return len(self.same)

    def __getitem__(self, rows: Index) -> Pairs:
        return Pairs(self.a[rows], self.b[rows], self.same[rows], self.people[rows])


@dataclass(frozen=True)
class Score:
    """How well pairs of held-out people are told apart."""

    name: str
    accuracy: float
    """Of a probability above one half."""
    auc: float
    log_loss: float
    """Mean of -log of the probability given to what is true: ln 2 = 0.693 for a coin."""


@dataclass(frozen=True)
class Learned:
    """A head, and what it is worth."""

    head: SimilarityHead
    scores: tuple[Score, ...]
    """On held-out people: the plain similarity, then each form of features."""
    training: int
    held_out: int
    left_out: int
    """Pairs of a person of each group."""


def split_by_person(pairs: Pairs, held_out: float = HELD_OUT, seed: int = SEED) -> tuple[Pairs, Pairs]:
    """Return the pairs among the training people, and those among the held-out people."""
    everybody = np.unique(pairs.people)
    aside = np.random.default_rng(seed).permutation(everybody)[: round(held_out * len(everybody))]
    inside = np.isin(pairs.people, aside)
    return pairs[~inside.any(axis=1)], pairs[inside.all(axis=1)]


def fit(pairs: Pairs, embedder: str) -> Learned:
    """Learn to tell whether two encodings are of one person.

    Args:
        pairs: of the encodings of one embedder.
        embedder: sha256 of its file.

    Raises:
        ConfigError: scikit-learn is missing, or there are too few pairs.
    """
    training, held_out = split_by_person(pairs)
    _check(held_out, "to test on")
    choices = [split_by_person(training, seed=seed) for seed in range(SEED, SEED + CHOICES)]
    for inner, validation in choices:
        _check(inner, "to learn from")
        _check(validation, "to choose by")
    heads = {form: _best_head(form, choices, training, embedder) for form in FORMS}
    scale, bias = _logistic(_similarity(training)[:, None], training.same, UNREGULARISED)
    scores = [_score("similarity", _similarity(held_out) * scale.item() + bias, held_out.same)]
    scores += [_score(form, heads[form][1].logit(held_out.a, held_out.b), held_out.same) for form in FORMS]
    chosen = min(FORMS, key=lambda form: heads[form][0])
    left_out = len(pairs) - len(training) - len(held_out)
    return Learned(heads[chosen][1], tuple(scores), len(training), len(held_out), left_out)


def _best_head(
    form: Form, choices: Sequence[tuple[Pairs, Pairs]], training: Pairs, embedder: str
) -> tuple[float, SimilarityHead]:
    """Return the mean log loss over the choices, and the head fitted anew on all training people."""

    def loss(strength: float) -> float:
        heads = [_head(form, inner, strength, embedder) for inner, _ in choices]
        return float(np.mean([log_loss(h.logit(v.a, v.b), v.same) for h, (_, v) in zip(heads, choices, strict=True)]))

    losses = {strength: loss(strength) for strength in STRENGTHS}
    best = min(STRENGTHS, key=lambda strength: losses[strength])
    return losses[best], _head(form, training, best, embedder)


def _head(form: Form, pairs: Pairs, strength: float, embedder: str) -> SimilarityHead:
    """Fit the weights. Regularisation decides how dimensions compare; how steep the whole is, is fitted without."""
    rows = features(pairs.a, pairs.b, form)
    weights, _ = _logistic(rows, pairs.same, strength)
    scale, bias = _logistic((rows @ weights)[:, None], pairs.same, UNREGULARISED)
    return SimilarityHead(weights * scale, bias, form, embedder)


def _logistic(rows: FloatArray, same: npt.NDArray[np.bool_], strength: float) -> tuple[FloatArray, float]:
    """Fit on standardised rows, both kinds weighing as much; return weights and bias for rows as they are."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ConfigError(
            f"the similarity head is fitted by scikit-learn, which cannot be imported ({error}): "
            "pip install 'frameloom[train]'"
        ) from error
    mean, deviation = rows.mean(axis=0), np.maximum(rows.std(axis=0), 1e-9)
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)
    model.fit((rows - mean) / deviation, same)
    weights = model.coef_[0] / deviation
    return np.asarray(weights, np.float32), float(model.intercept_[0] - weights @ mean)


def log_loss(logits: FloatArray, same: npt.NDArray[np.bool_]) -> float:
    """Return the mean of -log p(what is true), both kinds weighing as much: log(1 + exp(-logit)) for a same pair."""
    losses = np.logaddexp(0.0, np.where(same, -logits, logits).astype(np.float64))
    return float((losses[same].mean() + losses[~same].mean()) / 2)


def _similarity(pairs: Pairs) -> FloatArray:
    return np.asarray(1 - np.sum((pairs.a - pairs.b) ** 2, axis=1) / 2, np.float32)


def _score(name: str, logits: FloatArray, same: npt.NDArray[np.bool_]) -> Score:
    right = (logits > 0) == same
    accuracy = float((right[same].mean() + right[~same].mean()) / 2)
    return Score(name, accuracy, Verification(logits, same).auc, log_loss(logits, same))


def _check(pairs: Pairs, purpose: str) -> None:
    same = int(pairs.same.sum())
    if min(same, len(pairs) - same) < MIN_PAIRS:
        raise ConfigError(
            f"too few pairs {purpose} once nobody is in two parts: {same} of one person and {len(pairs) - same} of "
            f"two people, {MIN_PAIRS} of each are needed: give more pairs, of more people"
        )
