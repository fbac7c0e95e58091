"""What a model that no head reads seems to be, in one sentence that says what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline.postprocess.face_heads import FACE_HEADS
from pipeline.postprocess.heads.anchors import USUAL, maps_of
from pipeline.postprocess.heads.evidence import has_sizes, order_of, scores_of
from pipeline.postprocess.heads.rows import only, planes_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy.typing as npt

    from pipeline.postprocess.heads.head import Seen

UNREAD = "the model is no detector that can be read"
CHOOSE = "choose a model that was trained to detect objects"
EXPORT_BOXES = "export a model that was trained for upright boxes (task detect)"
LARGEST_STRIDE_OF_A_MAP = 8
"""Segmentation maps are at most so much smaller than the input; the raw maps of detectors' last levels are smaller."""
IMAGENET_CLASSES = (1000, 1001, 21841, 21843)
ENCODING_SIZES = (64, 128, 192, 256, 384, 512, 768, 1024, 2048)


class Guess(NamedTuple):
    """What a model seems to be, and what to do about it."""

    what: str
    advice: str


TASKS = {
    "classify": Guess("a classifier", CHOOSE),
    "obb": Guess("a model for oriented boxes, which no head reads", EXPORT_BOXES),
}
"""That no head is for, whatever the outputs look like."""


def without_numbers(outputs: Mapping[str, npt.NDArray[Any]]) -> str | None:
    """Return what to do about outputs that hold NaN; None: they do not."""
    for name, array in outputs.items():
        if np.issubdtype(array.dtype, np.floating) and (count := int(np.isnan(array).sum())):
            return (
                f"the model is broken: for a real picture {count} of the {array.size} values of {name} are no numbers "
                "(NaN); export it again, and in fp32 where that was half precision"
            )
    return None


def looks_like(seen: Seen, given: str) -> str | None:
    """Return a sentence without a full stop; None: nobody can tell.

    Args:
        seen: of the model.
        given: its outputs, in words.
    """
    if seen.outputs is not None and (broken := without_numbers(seen.outputs)) is not None:
        return broken
    if seen.metadata.task in TASKS:
        guess = TASKS[seen.metadata.task]
        return f"{UNREAD}: its file says that it is {guess.what} ({given}); {guess.advice}"
    found = _face_finder(seen) or _maps(seen) or (_one_output(seen) if len(seen.shapes) == 1 else None)
    return None if found is None else f"{UNREAD}: it looks like {found.what} ({given}); {found.advice}"


def _face_finder(seen: Seen) -> Guess | None:
    fits = [head.name for head in FACE_HEADS if head.matches(seen.shapes, seen.size)]
    return Guess(f"a face finder, {fits[0]}", "name it as faces.finder, not as a detector") if fits else None


def _one_output(seen: Seen) -> Guess | None:
    shape = next(iter(seen.shapes.values()))
    if sum(axis > 1 for axis in shape) <= 1:
        return _vector(seen, max(shape, default=1))
    if len(shape) in (3, 4) and (found := _picture(shape, seen.size)) is not None:
        return found
    if len(shape) == 2 and min(shape) > 4:
        return Guess("a detector whose output lacks the batch axis", "export it for a batch of 1")
    if len(shape) == 3 and shape[0] > 1:
        return Guess(f"one that only gives {shape[0]} pictures' outputs at once", "export it for a batch of 1")
    if seen.outputs is None or only(seen.shapes) is None:
        return None
    return _wrong_values(planes_of(rows_of(seen.outputs), seen.size).T)


def _vector(seen: Seen, length: int) -> Guess:
    """Tell classes, which are many or sum to 1, from an encoding, which has length 1 or a usual number of values."""
    classifier = Guess(f"a classifier of {length} classes", CHOOSE)
    encoder = Guess(f"an encoder that gives {length} values for a picture", CHOOSE)
    if seen.outputs is not None:
        values = next(iter(seen.outputs.values())).astype(np.float64).ravel()
        if len(values) > 1 and values.min() >= 0 and abs(values.sum() - 1) < 0.01:
            return classifier
        if abs(np.linalg.norm(values) - 1) < 0.01:
            return encoder
    if length in IMAGENET_CLASSES or length == len(seen.metadata.labels):
        return classifier
    if length in ENCODING_SIZES:
        return encoder
    return Guess(f"a classifier or an encoder: {length} values for the whole picture and no boxes", CHOOSE)


def _picture(shape: tuple[int, ...], size: tuple[int, int]) -> Guess | None:
    """Tell maps of the whole picture, N x classes x h x w or channels last, from pictures."""
    channels_last = len(shape) == 4 and shape[3] < min(shape[1:3])
    height, width = shape[1:3] if channels_last or len(shape) == 3 else shape[2:4]
    if height * LARGEST_STRIDE_OF_A_MAP < size[0] or width * LARGEST_STRIDE_OF_A_MAP < size[1]:
        return None
    if len(shape) == 3 and (size[0] % height or size[1] % width or size[0] * width != size[1] * height):
        return None
    channels = 1 if len(shape) == 3 else shape[3] if channels_last else shape[1]
    if channels == 3 and height >= size[0] and width >= size[1]:
        return Guess("one that makes pictures of pictures, such as a style network", CHOOSE)
    return Guess(f"a segmentation model, a map {height}x{width} of {channels} classes without boxes", CHOOSE)


def _maps(seen: Seen) -> Guess | None:
    maps = maps_of(seen.shapes, seen.size, seen.metadata.anchors)
    each_stride = tuple(each.stride for each in maps)
    if not maps or seen.metadata.anchors is not None or each_stride in USUAL:
        return None
    strides = ", ".join(map(str, each_stride))
    return Guess(
        "a detector with anchors, whose sizes nobody knows",
        f"say `head_options.anchors` for its maps of strides {strides} in an entry file beside it, or export it with "
        "its decoding",
    )


def _wrong_values(rows: npt.NDArray[Any]) -> Guess | None:
    """Say what is wrong with rows of boxes and scores."""
    if rows.shape[1] < 5:
        return None
    boxes, scores, last = rows[:, :4], rows[:, 4:], rows[:, -1]
    outside = (last.min() < 0 or last.max() > 1) and np.abs(last).max() < 2 * np.pi
    if outside and scores.shape[1] > 1 and scores_of(scores[:, :-1]) == "probabilities":
        return Guess("a model for oriented boxes, with an angle in its last column", EXPORT_BOXES)
    if order_of(boxes) != "xyxy" and not has_sizes(boxes):
        negative = int((boxes[:, 2:] < 0).any(axis=1).sum())
        return Guess(
            f"a detector that is broken or not decoded, {negative} of its {len(boxes)} boxes have a negative width or "
            "height",
            "export it with its decoding",
        )
    if scores_of(scores) is None:
        return Guess(
            f"a detector whose scores are neither 0..1 nor logits (they are {scores.min():.3g} to {scores.max():.3g})",
            "export it with its decoding, for task detect",
        )
    return None
