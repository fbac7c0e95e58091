"""Where an input that takes pictures has its axes. PyTorch's come first, TensorFlow's have the channels at the end.

Models whose first steps resize a picture themselves (torchvision's detectors) have no axis for several of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

CHANNELS = 3


class PictureLayout(NamedTuple):
    """Places of the axes."""

    batch: int | None
    """None: one picture, without an axis for more."""
    channels: int
    height: int
    width: int


NCHW = PictureLayout(0, 1, 2, 3)
LAYOUTS = (NCHW, PictureLayout(0, 3, 1, 2), PictureLayout(None, 0, 1, 2), PictureLayout(None, 2, 0, 1))


def layout_of(shape: Sequence[int | None]) -> PictureLayout | None:
    """Return the layout of an input of this shape, None being open; None: it takes no pictures.

    Only an axis of 3 tells where the channels are; four axes of which the second is open are taken for PyTorch's.
    """
    for layout in LAYOUTS:
        if len(shape) == (3 if layout.batch is None else 4) and shape[layout.channels] == CHANNELS:
            return layout
    return NCHW if len(shape) == 4 and shape[NCHW.channels] is None else None
