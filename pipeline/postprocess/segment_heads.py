"""Outputs of semantic segmentation models: recognised by their shapes and values, and read as a `SoftMap`.

Three layouts cover what frameworks export:

- `classes`: scores of each class, N x C x h x w (PyTorch) or N x h x w x C (TensorFlow), logits or after a softmax;
- `class-map`: the number of the best class, N x h x w or with an axis of 1 for the channel, of any type;
- `mask`: one probability or logit, the same shapes, of floats.

A map may be smaller than the picture (strides 4 and 8 are usual), but has its shape: that tells the axis of classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from engines.errors import UnknownHead
from pipeline.postprocess.soft_map import SoftMap, of_two

if TYPE_CHECKING:
    from engines.engine import Outputs
    from engines.spec import ScoreKind
    from pipeline.arrays import FloatArray, Image

Kind = Literal["classes", "class-map", "mask"]
KINDS: tuple[Kind, ...] = ("classes", "class-map", "mask")
"""What `head` of a model's entry may say."""
MOST_CLASSES = 256
"""Class numbers are bytes."""
LARGEST_STRIDE, LARGEST_GROWTH = 32, 4
"""How much smaller or larger than the input a map may be."""
ROUNDING = 1.5
"""Pixels by which a map's sides may be off the input's shape: sides are rounded up or down at each stride."""
ALMOST_ONE = 0.02
"""How far the scores of a pixel may be from a sum of 1 and still be probabilities: half precision and its rounding."""
BACKGROUND, FOREGROUND = 0, 1
"""The two classes of a mask."""


@dataclass(frozen=True)
class SegmentHead:
    """How a model's output is read."""

    output: str
    """Its name."""
    kind: Kind
    classes: int | None
    """How many it tells apart; 2 of a mask: background and foreground. None: a class map does not say."""
    channels_last: bool = False
    scores: ScoreKind = "logits"

    def read(self, outputs: Outputs) -> SoftMap:
        """Return what the model says of one picture; `Broken` where nothing can be read of it.

        Args:
            outputs: of a batch of one.
        """
        array = outputs[self.output]
        if self.kind == "class-map":
            return _one_hot(_plane(array))
        if self.kind == "mask":
            return _pair(_probabilities(np.asarray(_plane(array), np.float32), self.scores))
        planes = _planes(array, channels_last=self.channels_last)
        if len(planes) == 2:
            return _pair(_of_two(planes, self.scores))
        return _of_many(planes, self.scores)

    def describe(self) -> str:
        """Say in words what is read."""
        if self.kind == "class-map":
            return f"{self.output}: a map of class numbers"
        what = "a mask" if self.kind == "mask" else f"{self.classes} classes"
        return f"{self.output}: {what} as {self.scores}"


class Broken(Exception):
    """Outputs of a picture that are no numbers."""


def head_of(
    outputs: Sequence[Outputs],
    size: tuple[int, int],
    *,
    kind: str | None = None,
    classes: int | None = None,
    scores: ScoreKind | None = None,
) -> SegmentHead:
    """Return how a model's outputs are read.

    Args:
        outputs: of some pictures, each a batch of one; values of real ones tell logits from probabilities.
        size: height and width of the model's input.
        kind: what is stated of the layout; None: nothing.
        classes: how many classes are named; None: none are.
        scores: what is stated of the scores; None: nothing.

    Raises:
        UnknownHead: no output, or more than one, can be a map of the picture.
    """
    if kind is not None and kind not in KINDS:
        raise UnknownHead(f"there is no segmentation head {kind!r}. Known: {', '.join(KINDS)}")
    first = outputs[0]
    seen = _in_words(first, size)
    readable = {name: fits for name in first if (fits := list(_fits([each[name] for each in outputs], size, kind)))}
    if not readable:
        raise UnknownHead(
            f"the model gives no map of classes that can be read: {seen}. Known: scores N x C x h x w or N x h x w x "
            "C, class numbers or a mask N x h x w; the map must have the input's shape"
        )
    name, (chosen, last) = _only(readable, classes, seen)
    _refuse_detectors(first, readable, classes, seen)
    arrays = [each[name] for each in outputs]
    if chosen != "classes":
        return SegmentHead(name, chosen, None if chosen == "class-map" else 2, False, scores or _kind_of_mask(arrays))
    shape = arrays[0].shape
    count = shape[-1] if last else shape[-3]
    return SegmentHead(name, chosen, count, last, scores or _kind_of_scores(arrays, channels_last=last))


Fit = tuple[Kind, bool]
"""A layout, and whether its classes are on the last axis."""


def _fits(arrays: Sequence[npt.NDArray[Any]], size: tuple[int, int], kind: str | None) -> Iterator[Fit]:
    """Yield the layouts that arrays of one output may have."""
    shape = arrays[0].shape
    if len(shape) == 2 or (len(shape) == 3 and shape[0] != 1):
        shape = (1, *shape)  # of one picture, without the axis for several
    if not 3 <= len(shape) <= 4 or shape[0] != 1:
        return
    found: dict[Fit, None] = {}
    if len(shape) == 3 and _is_map(shape[1:], size):
        found[_flat(arrays, kind), False] = None
    if len(shape) == 4 and _is_map(shape[2:], size) and shape[1] <= MOST_CLASSES:
        found[_flat(arrays, kind) if shape[1] == 1 else "classes", False] = None
    if len(shape) == 4 and _is_map(shape[1:3], size) and shape[3] <= MOST_CLASSES:
        found[(_flat(arrays, kind), False) if shape[3] == 1 else ("classes", True)] = None
    yield from (each for each in found if kind in (None, each[0]))


def _is_map(sides: Sequence[int], size: tuple[int, int]) -> bool:
    """Whether a map has the shape of the input, up to rounding, and a size that is usual."""
    (height, width), (rows, columns) = sides, size
    if not (rows <= height * LARGEST_STRIDE and height <= rows * LARGEST_GROWTH):
        return False
    scale = (height / rows * (width / columns)) ** 0.5
    return bool(abs(height - rows * scale) <= ROUNDING and abs(width - columns * scale) <= ROUNDING)


def _flat(arrays: Sequence[npt.NDArray[Any]], kind: str | None) -> Kind:
    """Tell a class map from a mask: by the type, and floats that are whole numbers above 1 are classes, too."""
    if kind == "mask" or kind == "class-map":
        return "mask" if kind == "mask" else "class-map"
    if not np.issubdtype(arrays[0].dtype, np.floating):
        return "class-map"
    whole = all(bool(np.all((each == np.rint(each)) & (each >= 0) & (each < MOST_CLASSES))) for each in arrays)
    return "class-map" if whole and any(each.max() > 1 for each in arrays) else "mask"


def _only(readable: Mapping[str, list[Fit]], classes: int | None, seen: str) -> tuple[str, Fit]:
    """Choose among what can be read. Of several outputs alike, as of networks with helpers for training, the first."""
    name, fits = next(iter(readable.items()))
    if len(fits) > 1:
        raise UnknownHead(
            f"which axis of {name} holds the classes cannot be told, for all are equally long: {seen}; export the "
            "model for pictures that are no squares, or of another size"
        )
    kinds = {fit for each in readable.values() for fit in each}
    if len(kinds) > 1:
        raise UnknownHead(
            f"several outputs can be maps, and of different kinds: {seen}; say which kind is meant (`head: classes`, "
            f"class-map or mask) in an entry file beside the model, or export it with one output"
        )
    return name, fits[0]


def _refuse_detectors(outputs: Outputs, readable: Mapping[str, Any], classes: int | None, seen: str) -> None:
    """Refuse what has rows of boxes beside its maps, or maps at several scales: detectors with and without masks.

    Maps at several scales are helpers for training where each has a channel for each name.
    """
    shapes = {outputs[name].shape for name in readable}
    rows = [name for name, array in outputs.items() if name not in readable and array.ndim == 3]
    if rows or (len(shapes) > 1 and any(classes not in shape for shape in shapes)):
        raise UnknownHead(
            f"the model looks like a detector, not like a segmentation model: {seen}; name it as detect.model, whose "
            "masks are drawn, too"
        )


def _in_words(outputs: Outputs, size: tuple[int, int]) -> str:
    given = ", ".join(f"{name} {list(array.shape)} {array.dtype}" for name, array in outputs.items()) or "nothing"
    return f"for input {size[0]}x{size[1]} it gives {given}"


def _kind_of_mask(arrays: Sequence[npt.NDArray[Any]]) -> ScoreKind:
    """A probability is never below 0 or above 1; logits of real pictures are."""
    inside = all(bool(each.min() >= 0 and each.max() <= 1) for each in arrays)
    return "probabilities" if inside else "logits"


def _kind_of_scores(arrays: Sequence[npt.NDArray[Any]], *, channels_last: bool) -> ScoreKind:
    for each in arrays:
        if not (each.min() >= 0 and each.max() <= 1 + ALMOST_ONE):
            return "logits"
        sums = each.sum(axis=-1 if channels_last else -3)
        if np.abs(sums - 1).max() > ALMOST_ONE * max(1.0, each.max()):
            return "logits"
    return "probabilities"


def _plane(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return (h, w) of one picture's map without classes."""
    shape = array.shape
    sides = shape[1:3] if len(shape) == 4 and shape[3] == 1 and shape[1] != 1 else shape[-2:]
    return array.reshape(sides)


def _planes(array: npt.NDArray[Any], *, channels_last: bool) -> FloatArray:
    """Return (C, h, w) float32, contiguous. OpenCV turns 257 x 257 x 21 in 0.7 ms, NumPy in 2.5."""
    scores = np.asarray(array, np.float32)
    if not channels_last:
        return np.ascontiguousarray(scores.reshape(scores.shape[-3:]))
    height, width, classes = scores.shape[-3:]
    turned = cv2.transpose(np.ascontiguousarray(scores.reshape(height * width, classes)))
    return np.asarray(turned, np.float32).reshape(classes, height, width)


def _probabilities(scores: FloatArray, kind: ScoreKind) -> FloatArray:
    """Return probabilities of 0..1 of (h, w) scores."""
    if _has_nan(scores):
        raise Broken
    if kind == "probabilities":
        return scores.clip(0, 1)
    power = cv2.exp(np.negative(scores).clip(-80, 80))
    power += 1
    return np.asarray(np.reciprocal(power), np.float32)


def _of_two(planes: FloatArray, kind: ScoreKind) -> FloatArray:
    """Return the probability of the second of two classes."""
    if kind == "logits":
        return _probabilities(planes[1] - planes[0], kind)
    total = planes[0] + planes[1]
    if _has_nan(total):
        raise Broken
    return np.asarray(np.divide(planes[1], np.maximum(total, 1e-6)), np.float32).clip(0, 1)


def _pair(foreground: FloatArray) -> SoftMap:
    return of_two((FOREGROUND, BACKGROUND), foreground)


def _of_many(planes: FloatArray, kind: ScoreKind) -> SoftMap:
    """Take the softmax over the classes that are the best one somewhere."""
    best_ids, best = arg_max(planes)
    if _has_nan(best):
        raise Broken
    ids = tuple(np.flatnonzero(np.bincount(best_ids.reshape(-1))).tolist())
    values = planes[list(ids)]
    if kind == "logits":
        values -= best
        values = np.asarray(cv2.exp(values.reshape(len(ids), -1)), np.float32).reshape(values.shape)
    values /= np.maximum(values.sum(axis=0), 1e-6)
    return SoftMap(ids, values)


def _one_hot(classes: npt.NDArray[Any]) -> SoftMap:
    if np.issubdtype(classes.dtype, np.floating) and _has_nan(classes):
        raise Broken
    numbers = np.rint(classes).clip(0, MOST_CLASSES - 1).astype(np.uint8)
    ids = tuple(np.flatnonzero(np.bincount(numbers.reshape(-1))).tolist())
    return SoftMap(ids, np.stack([numbers == each for each in ids]).astype(np.float32))


def arg_max(planes: FloatArray) -> tuple[Image, FloatArray]:
    """Return (h, w) uint8 with the first of the best classes, and (h, w) float32 with its score; NaN goes through.

    Class by class, as OpenCV compares: of 21 x 257 x 257 NumPy's own takes 2.8 ms, this 1.1.
    """
    best, ids = planes[0].copy(), np.zeros(planes.shape[1:], np.uint8)
    is_better = np.empty(ids.shape, np.bool_)
    for number, plane in enumerate(planes[1:], 1):
        np.greater(plane, best, out=is_better)
        np.copyto(ids, np.uint8(number), where=is_better)
        np.maximum(plane, best, out=best)
    return ids, best


def _has_nan(values: npt.NDArray[Any]) -> bool:
    """Whether one is NaN: the sum is, then; infinite values of both signs count, too."""
    return bool(np.isnan(values.sum(dtype=np.float32)))
