"""Which of a frame's detections are persons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pipeline.frame import Frame

PERSON = "person"
"""What COCO's and most other models call it."""


def person_rows(frame: Frame) -> npt.NDArray[np.intp]:
    """Return the rows of a frame's detections that are persons."""
    if frame.detections is None or PERSON not in frame.labels:
        return np.empty(0, np.intp)
    return np.flatnonzero(frame.detections.class_ids == frame.labels.index(PERSON))
