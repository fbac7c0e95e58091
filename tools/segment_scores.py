"""How well a class map matches a label: the confusion matrix of all pixels, and intersection over union (IoU) from it.

IoU of a class = true positives / (true positives + false positives + false negatives), over the pixels of all pictures
together, as in PASCAL VOC (Everingham et al., "The PASCAL Visual Object Classes Challenge: A Retrospective", 2015,
section 3.4): never a mean of pictures. Matrices of several pictures are added.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Image

Matrix = npt.NDArray[np.int64]
"""(C, C): row = the class that a pixel is labelled as, column = the one that was found."""
Scores = npt.NDArray[np.float64]


def confusion(found: Image, wanted: Image, classes: int, ignore: int | None = None) -> Matrix:
    """Count pixels by what they are labelled as and what was found.

    Args:
        found: class indices, any shape.
        wanted: labels, of the same shape.
        classes: how many there are, C.
        ignore: label of pixels that do not count; it need not be below C.

    Returns:
        (C, C) int64.

    Raises:
        ValueError: the shapes differ, or an index that counts is not below C.
    """
    if found.shape != wanted.shape:
        raise ValueError(f"a map of {found.shape} cannot be compared with labels of {wanted.shape}")
    counts = np.ones(wanted.shape, np.bool_) if ignore is None else wanted != ignore
    rows, columns = wanted[counts].astype(np.int64), found[counts].astype(np.int64)
    for what, indices in (("label", rows), ("class", columns)):
        if indices.size and (largest := int(indices.max())) >= classes:
            raise ValueError(f"there is a {what} {largest}, and only {classes} classes")
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def iou_per_class(matrix: Matrix) -> Scores:
    """Return the (C,) IoU; NaN for a class that is neither labelled nor found anywhere."""
    hits = np.diag(matrix).astype(np.float64)
    union = matrix.sum(axis=0) + matrix.sum(axis=1) - np.diag(matrix)
    scores: Scores = np.divide(hits, union, out=np.full(len(matrix), np.nan), where=union > 0)
    return scores


def mean_iou(matrix: Matrix) -> float:
    """Return the mean IoU of the classes that are anywhere; NaN where no pixel counts."""
    scores = iou_per_class(matrix)
    there = scores[~np.isnan(scores)]
    return float(there.mean()) if there.size else float("nan")


def pixel_accuracy(matrix: Matrix) -> float:
    """Return the part of the pixels that were found to be what they are labelled as; NaN where no pixel counts."""
    total = int(matrix.sum())
    return float(np.trace(matrix)) / total if total else float("nan")
