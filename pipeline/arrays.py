"""Names for the kinds of arrays that flow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
Index = Any
"""What numpy takes between brackets: an integer, a slice, a boolean mask, an array of integers."""
