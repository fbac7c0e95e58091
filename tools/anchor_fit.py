"""Anchors from the sizes of labelled boxes: k-means under 1 - IoU, then a genetic refinement.

A box and an anchor are compared as if they had one centre. k-means with the distance 1 - IoU instead of the Euclidean
one, which would only care for large boxes: Redmon and Farhadi, "YOLO9000" (2017), section 2. Its starts are drawn as in
k-means++ (Arthur and Vassilvitskii, 2007). What it ends with is no optimum of the mean IoU, since medians are not what
IoU asks for, and it depends on its start: on 1181 boxes of COCO, 9 anchors reach a mean IoU of 0.609 to 0.635. So the
best of many starts are refined by random changes that are kept where they help, as YOLOv5 does: 0.636 with any seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Sizes = npt.NDArray[np.float64]
"""(N, 2) widths and heights in pixels of the model's input."""

MOST_FITTED = 10_000
"""Of more boxes so many are drawn to fit to: the mean IoU of 10,000 is known to 0.002. Figures are of all."""
MOST_ROUGH = 2000
"""To so many of these each start of k-means is fitted."""
STARTS, FINALISTS = 48, 4
"""Starts of k-means, and how many of the best are carried on with."""
AT_ONCE = 1 << 16
"""Boxes whose overlaps are in memory at one time."""
MOST_ITERATIONS = 60
GENERATIONS = 1000
JUMPS = 0.3
"""Share of the changes that take sides from boxes: without them, one small set in ten ended below its optimum."""
LARGEST_STEP = 0.4
"""Standard deviation of the largest changes, as a logarithm; most are much smaller."""


@dataclass(frozen=True)
class Fitted:
    """Anchors by rising area, and how well they suit all boxes."""

    anchors: Sizes
    mean_iou: float
    """Of each box with the anchor that overlaps it most."""
    clusters_mean_iou: float
    """What k-means alone gives."""


def overlaps(sizes: Sizes, anchors: Sizes) -> npt.NDArray[np.float64]:
    """Return (k, N): the IoU of each anchor with each box."""
    widths = np.minimum(sizes[:, 0], anchors[:, :1])
    common = widths * np.minimum(sizes[:, 1], anchors[:, 1:])
    areas: npt.NDArray[np.float64] = common / (sizes.prod(axis=1) + anchors.prod(axis=1)[:, None] - common)
    return areas


def best_overlaps(sizes: Sizes, anchors: Sizes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Return for each box the IoU of the anchor that overlaps it most, and which one that is."""
    best, which = [], []
    for start in range(0, len(sizes), AT_ONCE):
        each = overlaps(sizes[start : start + AT_ONCE], anchors)
        which.append(each.argmax(axis=0))
        best.append(each.max(axis=0))
    return np.concatenate(best), np.concatenate(which)


def fit(sizes: Sizes, count: int, seed: int = 0) -> Fitted:
    """Return the anchors with the largest mean IoU that were found; the same for the same seed.

    Args:
        sizes: at least one box, all sides above 0.
        count: how many anchors; no more than there are distinct sizes.
        seed: of everything that is drawn.
    """
    random = np.random.default_rng(seed)
    drawn = sizes if len(sizes) <= MOST_FITTED else random.choice(sizes, MOST_FITTED, replace=False)
    rough = drawn if len(drawn) <= MOST_ROUGH else random.choice(drawn, MOST_ROUGH, replace=False)
    starts = [cluster(rough, seeds(rough, count, random)) for _ in range(STARTS)]
    starts.sort(key=lambda anchors: -mean_iou(rough, anchors))
    finalists = [cluster(drawn, anchors) for anchors in starts[:FINALISTS]]
    clusters = max(finalists, key=lambda anchors: mean_iou(drawn, anchors))
    refined = max((refine(drawn, each, random) for each in finalists), key=lambda anchors: mean_iou(drawn, anchors))
    before, after = mean_iou(sizes, clusters), mean_iou(sizes, refined)
    best = refined if after >= before else clusters
    return Fitted(best[np.argsort(best.prod(axis=1), kind="stable")], max(before, after), before)


def mean_iou(sizes: Sizes, anchors: Sizes) -> float:
    """Return the mean over all boxes of the IoU with the anchor that overlaps each most."""
    return float(best_overlaps(sizes, anchors)[0].mean())


def seeds(sizes: Sizes, count: int, random: np.random.Generator) -> Sizes:
    """Draw boxes to begin with: each next one more likely, the less the ones before overlap it."""
    chosen = [sizes[random.integers(len(sizes))]]
    while len(chosen) < count:
        squares = (1 - overlaps(sizes, np.array(chosen)).max(axis=0)) ** 2
        likely = squares / squares.sum() if squares.any() else None
        chosen.append(sizes[random.choice(len(sizes), p=likely)])
    return np.array(chosen)


def cluster(sizes: Sizes, anchors: Sizes) -> Sizes:
    """Run k-means with medians, and return the best anchors that it came by."""
    best, best_score = anchors, -1.0
    for _ in range(MOST_ITERATIONS):
        each = overlaps(sizes, anchors)
        nearest = each.argmax(axis=0)
        covered = each.max(axis=0)
        if (score := float(covered.mean())) > best_score:
            best, best_score = anchors, score
        moved = anchors.copy()
        for number in range(len(anchors)):
            members = sizes[nearest == number]
            moved[number] = np.median(members, axis=0) if len(members) else sizes[covered.argmin()]
        if np.array_equal(moved, anchors):
            break
        anchors = moved
    return best


def refine(sizes: Sizes, anchors: Sizes, random: np.random.Generator) -> Sizes:
    """Change some anchors at random, again and again, and keep what raises the mean IoU; never worse than before."""
    each = overlaps(sizes, anchors)
    best = each.max(axis=0).mean()
    for _ in range(GENERATIONS):
        changed = random.random(len(anchors)) < 1 / len(anchors)
        changed[random.integers(len(anchors))] = True
        mutants = _mutated(anchors[changed], sizes, random)
        trial = each.copy()
        trial[changed] = overlaps(sizes, mutants)
        if (score := trial.max(axis=0).mean()) > best:
            anchors = anchors.copy()
            anchors[changed], each, best = mutants, trial, score
    return anchors


def _mutated(anchors: Sizes, sizes: Sizes, random: np.random.Generator) -> Sizes:
    """Return anchors that are a little larger or smaller, or have sides of boxes, where the IoU has its peaks."""
    if random.random() < JUMPS:
        from_boxes = np.take_along_axis(sizes, random.integers(len(sizes), size=anchors.shape), axis=0)
        return np.where(random.random(anchors.shape) < 0.5, from_boxes, anchors)
    step = LARGEST_STEP * random.random() ** 3
    changed: Sizes = anchors * np.exp(step * random.normal(size=anchors.shape))
    return changed
