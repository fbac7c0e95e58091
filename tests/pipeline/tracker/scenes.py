"""Scenes for tests of the tracker: boxes where they are at a time, and a tracker that looks at them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from pipeline.frame import Detections
from pipeline.picture import Picture
from pipeline.postprocess.tracker import Tracker

Box = Sequence[float]
Where = Callable[[float], Box | None]
"""The centre x, y and size w, h of a thing at a time; None: it is hidden."""


def detections(things: Iterable[Box], scores: npt.ArrayLike = (), class_ids: npt.ArrayLike = ()) -> Detections:
    """Return things, each x, y, w, h of centre and size; score 0.9 and class 0 where nothing else is said."""
    places = np.array(list(things), np.float32).reshape(-1, 4)
    scores = np.asarray(scores, np.float32).reshape(-1)
    class_ids = np.asarray(class_ids, np.int32).reshape(-1)
    half = places[:, 2:] / 2
    return Detections(
        np.concatenate([places[:, :2] - half, places[:, :2] + half], axis=1),
        scores if len(scores) else np.full(len(places), 0.9, np.float32),
        class_ids if len(class_ids) else np.zeros(len(places), np.int32),
    )


def watch(
    tracker: Tracker,
    things: Sequence[Where],
    times: Iterable[float],
    pictures: Callable[[float], Picture] | None = None,
) -> list[list[int | None]]:
    """Return the number that each thing had at each time; None where it was hidden or had none."""
    seen: list[list[int | None]] = []
    for time_s in times:
        places = [thing(time_s) for thing in things]
        visible = [index for index, place in enumerate(places) if place is not None]
        found = detections([place for place in places if place is not None])
        result = tracker.update(found, time_s, pictures(time_s) if pictures else None)
        assert result.track_ids is not None
        numbers: list[int | None] = [None] * len(things)
        for index, number in zip(visible, result.track_ids.tolist(), strict=True):
            numbers[index] = number if number > 0 else None
        seen.append(numbers)
    return seen


def numbers_of(seen: list[list[int | None]], thing: int) -> set[int]:
    """Return all numbers that one thing had."""
    return {number for numbers in seen if (number := numbers[thing]) is not None}
