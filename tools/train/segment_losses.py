"""What a segmentation network is to make small.

Logits are (N, C, H, W), labels (N, H, W) int64 with `IGNORED` where a pixel does not count.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy as pixel_losses
from torch.nn.functional import one_hot

from pipeline.arrays import FloatArray, Image
from tools.labelled_maps import MOST_CLASSES
from tools.train.segment_settings import Loss

IGNORED = MOST_CLASSES
"""Label of a pixel that does not count, whatever its file calls it."""
GAMMA = 2.0
"""Of the focal loss: the paper's best (its section 5.1)."""
LARGEST_WEIGHT = 50.0
"""Of a class: one that a handful of pixels show would drown all others."""


def loss_of(kind: Loss, logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Return the loss of a batch; 0 where no pixel counts.

    `dice` has the cross-entropy added: alone, it hardly moves while all classes are still equally likely.
    """
    if kind == "focal":
        return focal(logits, labels)
    if kind == "dice":
        return cross_entropy(logits, labels) + dice(logits, labels)
    return cross_entropy(logits, labels, weights if kind == "weighted" else None)


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the mean over the pixels that count, each by its class's weight (C,), if there are any."""
    sums = pixel_losses(logits, labels, weights, ignore_index=IGNORED, reduction="sum")
    counted = labels != IGNORED
    total = counted.sum() if weights is None else weights[labels[counted]].sum()
    return sums / total.clamp(min=1e-6)


def focal(logits: Tensor, labels: Tensor, gamma: float = GAMMA) -> Tensor:
    """Return the mean of -(1 - p)^gamma log p: what is surely right counts little.

    Source: Lin et al., "Focal Loss for Dense Object Detection" (2017), equation 4, for many classes by softmax.
    """
    each = pixel_losses(logits, labels, ignore_index=IGNORED, reduction="none")
    focused = (1 - torch.exp(-each)).pow(gamma) * each
    return focused.sum() / (labels != IGNORED).sum().clamp(min=1)


def dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 - the mean over the labelled classes of 2 sum(p g) / (sum(p) + sum(g)), over the pixels that count.

    Source: Sudre et al., "Generalised Dice overlap as a deep learning loss function" (2017), section 2.1 (of two
    classes), after Milletari et al., "V-Net" (2016); here for each class by softmax over all pixels of the batch.
    """
    counted = (labels != IGNORED).unsqueeze(1)
    chances = logits.softmax(dim=1) * counted
    there = one_hot(torch.where(labels == IGNORED, 0, labels), logits.shape[1]).permute(0, 3, 1, 2) * counted
    both = (chances * there).sum(dim=(0, 2, 3))
    sizes = there.sum(dim=(0, 2, 3))
    overlaps = 2 * both / (chances.sum(dim=(0, 2, 3)) + sizes).clamp(min=1e-6)
    labelled = sizes > 0
    return torch.where(labelled, 1 - overlaps, 0).sum() / labelled.sum().clamp(min=1)


def median_frequency_weights(labels: Iterable[Image], classes: int) -> FloatArray:
    """Return (C,) weights: median frequency / frequency of the class.

    The frequency of a class is its part of the pixels of those pictures that show it. Source: Eigen and Fergus,
    "Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale Convolutional Architecture" (2015),
    section 6.3.2. A class that no picture shows gets 1.

    Args:
        labels: of each picture, `IGNORED` where no class is.
        classes: C.
    """
    of_class, of_pictures = np.zeros(classes), np.zeros(classes)
    for label in labels:
        counts = np.bincount(label.reshape(-1), minlength=IGNORED + 1)[:classes]
        of_class += counts
        of_pictures += np.where(counts > 0, counts.sum(), 0)
    shown = of_class > 0
    weights = np.ones(classes, np.float32)
    if shown.any():
        frequencies = of_class[shown] / of_pictures[shown]
        weights[shown] = np.minimum(np.median(frequencies) / frequencies, LARGEST_WEIGHT)
    return weights
