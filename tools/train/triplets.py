"""Triplet loss and the mining of triplets within a batch, after Schroff et al., FaceNet (2015), section 3.

A triplet is an anchor, a positive (the same person) and a negative (another). The loss wants the anchor nearer to the
positive than to the negative by a margin, in squared Euclidean distance between encodings of length 1 (0 to 4). Random
triplets are nearly all satisfied and teach nothing, and the hardest ones let training collapse to one point; so the
semi-hard ones are taken: negatives that are farther than the positive, but not by the margin.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from tools.train.embedding_settings import Mining


class Triplets(NamedTuple):
    """Rows of a batch: three (T,) int64 tensors."""

    anchors: Tensor
    positives: Tensor
    negatives: Tensor


def squared_distances(encodings: Tensor) -> Tensor:
    """Return the (N, N) squared Euclidean distances between (N, D) encodings of length 1."""
    return (2 - 2 * encodings @ encodings.T).clamp(min=0)


def mine(encodings: Tensor, people: Tensor, mining: Mining) -> Triplets:
    """Choose triplets of a batch; no gradient flows through the choice.

    Args:
        encodings: (N, D), of length 1.
        people: (N,) integers, who each is.
        mining: `semi-hard` or `batch-hard`.
    """
    with torch.no_grad():
        distances = squared_distances(encodings)
        return semi_hard(distances, people) if mining == "semi-hard" else batch_hard(distances, people)


def semi_hard(distances: Tensor, people: Tensor) -> Triplets:
    """For every anchor and positive, take the nearest negative that is farther than the positive.

    Where none is farther, the farthest is taken: the least hard of the hard ones. A negative beyond the margin may be
    the nearest one; its loss is zero.

    Args:
        distances: (N, N).
        people: (N,).
    """
    same = people[:, None] == people[None]
    anchors, positives = (same & ~_diagonal(same)).nonzero(as_tuple=True)
    negative = ~same[anchors]
    kept = negative.any(dim=1)  # a batch of one person has none
    anchors, positives, negative = anchors[kept], positives[kept], negative[kept]
    candidates = distances[anchors]
    farther = negative & (candidates > distances[anchors, positives][:, None])
    nearest = candidates.masked_fill(~farther, torch.inf).argmin(dim=1)
    farthest = candidates.masked_fill(~negative, -torch.inf).argmax(dim=1)
    return Triplets(anchors, positives, torch.where(farther.any(dim=1), nearest, farthest))


def batch_hard(distances: Tensor, people: Tensor) -> Triplets:
    """For every anchor, take its farthest positive and its nearest negative (Hermans et al., 2017, eq. 5).

    Args:
        distances: (N, N).
        people: (N,).
    """
    same = people[:, None] == people[None]
    positive = same & ~_diagonal(same)
    anchors = (positive.any(dim=1) & (~same).any(dim=1)).nonzero(as_tuple=True)[0]
    farthest = distances.masked_fill(~positive, -torch.inf).argmax(dim=1)
    nearest = distances.masked_fill(same, torch.inf).argmin(dim=1)
    return Triplets(anchors, farthest[anchors], nearest[anchors])


def triplet_loss(encodings: Tensor, triplets: Triplets, margin: float) -> tuple[Tensor, float]:
    """Return the mean of `max(0, d(a, p) - d(a, n) + margin)` (FaceNet, eq. 3), and the share of triplets above zero.

    Both are zero where there are no triplets.
    """
    if len(triplets.anchors) == 0:
        return encodings.sum() * 0, 0.0
    anchor = encodings[triplets.anchors]
    to_positive = (anchor - encodings[triplets.positives]).square().sum(dim=1)
    to_negative = (anchor - encodings[triplets.negatives]).square().sum(dim=1)
    losses = torch.relu(to_positive - to_negative + margin)
    return losses.mean(), float((losses.detach() > 0).float().mean())


def _diagonal(square: Tensor) -> Tensor:
    return torch.eye(len(square), dtype=torch.bool, device=square.device)
