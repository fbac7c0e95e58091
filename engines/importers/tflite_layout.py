"""From TensorFlow's layout (pictures, height, width, channels) to ONNX's (pictures, channels, height, width); padding.

TensorFlow's padding SAME lets a window of stride s see ceil(n / s) places and puts the smaller half of what is missing
before the picture: with stride 2 that is often nothing before and one behind, which ONNX's older SAME_UPPER also means,
but not every backend reads; so it is said in numbers.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from engines.importers.tflite_schema import SAME

if TYPE_CHECKING:
    import numpy.typing as npt

AXES = (0, 2, 3, 1)
"""Where each of TensorFlow's axes is in ONNX."""


class Maps(NamedTuple):
    """Feature maps of a picture."""

    channels: int
    height: int
    width: int


class Window(NamedTuple):
    """A window along one side of a picture, all in pixels."""

    size: int
    stride: int
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Pixels from its first to its last."""
        return (self.size - 1) * self.dilation + 1

    def over(self, side: int, padding: int) -> tuple[int, int, int]:
        """Return at how many places it stands, and what is padded before and behind; none: it does not fit in."""
        if padding != SAME:
            return max(0, (side - self.reach) // self.stride + 1), 0, 0
        places = -(-side // self.stride)
        return places, *_halves((places - 1) * self.stride + self.reach - side)

    def back_over(self, side: int, padding: int) -> tuple[int, int, int]:
        """Return the same for a transposed convolution: how many pixels it makes, what is cut off before and behind.

        The window must be as large as its stride, or there would be pixels that are nobody's.
        """
        covered = (side - 1) * self.stride + self.reach
        made = side * self.stride if padding == SAME else covered
        return made, *_halves(covered - made)


def _halves(missing: int) -> tuple[int, int]:
    before = max(0, missing) // 2
    return before, max(0, missing) - before


def maps_of(shape: tuple[int, ...]) -> Maps | None:
    """Return the feature maps of one picture in TensorFlow's layout; None: the shape is no such thing."""
    if len(shape) != 4 or shape[0] != 1 or min(shape) < 1:
        return None
    _, height, width, channels = shape
    return Maps(channels, height, width)


def channels_first(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a constant of up to four axes, the last of which are those of feature maps, in ONNX's layout."""
    four: npt.NDArray[Any] = values.reshape((1,) * (4 - values.ndim) + values.shape)
    return np.moveaxis(four, 3, 1)


def scale_to(made: int, side: int) -> float:
    """Return the smallest factor that makes so many pixels of a side, where the product is rounded down."""
    scale = np.float32(made / side)
    enough = Fraction(float(scale)) * side >= made
    return float(scale if enough else np.nextafter(scale, np.float32(np.inf)))
