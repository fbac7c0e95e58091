"""The pictures that int8 is calibrated on, as a model's input, and whether they are enough."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engines.errors import EngineBuildError
from engines.graph import dimensions, picture_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx

    from engines.engine import Batch
    from engines.spec import InputSpec

FEWEST_PICTURES = 16
"""Fewer say too little of how large activations get: what a picture has beyond them is cut off."""
FEWEST_VALUES = 16
"""A picture with fewer different bytes shows nothing: a lens cap, one colour, with or without bars around it."""


class CalibrationPictures:
    """Gives ONNX Runtime's calibration one normalised picture after the other (its `CalibrationDataReader`).

    Args:
        model: prepared, with float32 N x 3 x H x W as its input.
        spec: how a picture becomes that input.
        frames: batches of uint8 N x H x W x 3 BGR of that size, read once.

    Raises:
        EngineBuildError: while they are read: pictures of another size, or, behind the last, fewer than
            `FEWEST_PICTURES` that show something.
    """

    def __init__(self, model: onnx.ModelProto, spec: InputSpec, frames: Iterable[Batch]) -> None:
        value = picture_input(model)
        self._name = value.name
        self._height, self._width = dimensions(value)[2:]
        self._spec = spec
        self._digest = hashlib.sha256()
        self.count = 0
        """How many were read."""
        self._planes = self._read(frames)

    @property
    def sha256(self) -> str:
        """Of the pictures that were read."""
        return self._digest.hexdigest()

    def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
        """Return the next input; None where there is no more."""
        return next(self._planes, None)

    def __iter__(self) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        return iter(self.get_next, None)

    def _read(self, frames: Iterable[Batch]) -> Iterator[dict[str, npt.NDArray[np.float32]]]:
        blank = 0
        for batch in frames:
            if batch.dtype != np.uint8 or batch.shape[1:] != (self._height, self._width, 3):
                raise EngineBuildError(
                    f"int8 is calibrated on uint8 N x {self._height} x {self._width} x 3 pictures, "
                    f"not {batch.dtype} {' x '.join(map(str, batch.shape))}"
                )
            self.count += len(batch)
            self._digest.update(batch.tobytes())
            blank += sum(_shows_nothing(picture) for picture in batch)
            yield from ({self._name: normalised(picture, self._spec)} for picture in batch)
        if self.count - blank < FEWEST_PICTURES:
            among = f"that show something: of {self.count}, {blank} are of one colour" if blank else ""
            raise EngineBuildError(
                f"int8 needs at least {FEWEST_PICTURES} pictures of the place of use to be calibrated on"
                + (f" {among}" if among else f", not {self.count}")
            )


def normalised(picture: Batch, spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return a picture, H x W x 3 uint8 BGR, as a model takes it: 1 x 3 x H x W float32."""
    pixels = picture[..., ::-1] if spec.colour == "rgb" else picture
    mean, deviation = (np.array(each, np.float32) for each in (spec.mean, spec.std))
    return np.ascontiguousarray(((pixels - mean) / deviation).transpose(2, 0, 1)[None], dtype=np.float32)


def _shows_nothing(picture: Batch) -> bool:
    return int(np.count_nonzero(np.bincount(picture.ravel(), minlength=256))) < FEWEST_VALUES
