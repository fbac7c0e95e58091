"""FacePoints: the 68 landmarks of a face, by PFLD.

Source: Guo et al., "PFLD: A Practical Facial Landmark Detector" (2019); the points are numbered as in iBUG 300-W. No
PFLD file with a stated licence is known, so none is in the zoo: this is for a file of the user's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import Engine, EngineOptions, open_engine
from engines.errors import UnknownHead
from engines.spec import InputSpec
from pipeline.infer.face_crops import cut, square_around

if TYPE_CHECKING:
    from engines.spec import ModelSpec
    from pipeline.arrays import FloatArray
    from pipeline.picture import Picture

POINTS = 68
CROP = 1.1
"""Side of the square that the model sees, in longer sides of the face's box, where its spec does not say another."""
INPUT = InputSpec(height=112, width=112, colour="rgb", std=(255.0, 255.0, 255.0), fit="stretch")
"""How PFLD is fed, where nothing else is known of the file."""


def as_fed(spec: ModelSpec) -> ModelSpec:
    """Return the spec of a file, fed as PFLD is where it says nothing about its input."""
    return replace(spec, input=INPUT) if spec.input == InputSpec() else spec


class FacePoints:
    """Finds the landmarks of faces whose boxes are known."""

    def __init__(self, spec: ModelSpec, engine: EngineOptions | None = None) -> None:
        """Compile the model.

        Args:
            spec: of the file; see `as_fed`.
            engine: how to run it.

        Raises:
            UnknownHead: its output is not 68 points.
        """
        fed = as_fed(spec)
        self._crop = fed.input.crop or CROP
        self._engine: Engine = open_engine(fed, engine)
        blank = np.zeros((1, *self._engine.input_size, 3), np.uint8)
        shapes = [values.shape for values in self._engine.infer(blank).values()]
        if shapes != [(1, 2 * POINTS)]:
            self._engine.close()
            raise UnknownHead(
                f"{spec.name} gives {shapes} for a face, not {2 * POINTS} numbers: choose a model like PFLD"
            )

    def __call__(self, picture: Picture, boxes: FloatArray) -> FloatArray:
        """Find the landmarks of each face.

        Args:
            picture: of the frame.
            boxes: (N, 4) xyxy in frame pixels.

        Returns:
            (N, 68, 2) float32, x and y in frame pixels; they may lie outside the frame.
        """
        if not len(boxes):
            return np.empty((0, POINTS, 2), np.float32)
        regions = [square_around(box, self._crop) for box in boxes]
        crops = np.stack([cut(picture, region, self._engine.input_size) for region in regions])
        (rows,) = self._engine.infer(crops).values()
        places = np.array(regions, np.float32)[:, None]
        return np.asarray(places[..., :2] + rows.reshape(-1, POINTS, 2) * places[..., 2:], np.float32)

    def describe(self) -> str:
        """Name the model and what runs it."""
        return str(self._engine.describe())

    def close(self) -> None:
        """Give the engine back."""
        self._engine.close()
