"""Liveness: is this a face, or a photo or screen that shows one?

Two small networks look at the face with different amounts of its surroundings (edges of paper, a phone's frame), and
the mean of what they say counts. Source: minivision-ai, Silent-Face-Anti-Spoofing (MiniFASNet).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.engine import Engine, EngineOptions, open_engine
from engines.errors import ModelError, UnknownHead
from pipeline.infer.face_crops import cut, enlarged_inside

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.spec import ModelSpec
    from pipeline.arrays import FloatArray
    from pipeline.picture import Picture

CLASSES, LIVE = 3, 1


class Liveness:
    """Says how likely faces whose boxes are known are live."""

    def __init__(self, specs: Sequence[ModelSpec], engine: EngineOptions | None = None) -> None:
        """Compile the models.

        Args:
            specs: the networks, usually minifasnet-v2 and minifasnet-v1se.
            engine: how to run them.

        Raises:
            ModelError: a spec does not say how much of the picture around a face the model sees.
            UnknownHead: the outputs of a model are not three classes.
        """
        self._models: list[tuple[Engine, float]] = []
        try:
            for spec in specs:
                self._open(spec, engine)
        except BaseException:
            self.close()
            raise

    def _open(self, spec: ModelSpec, options: EngineOptions | None) -> None:
        if spec.input.crop is None:
            raise ModelError(
                f"{spec.name} says not how much around a face it must see (input.crop): choose another model"
            )
        engine = open_engine(spec, options)
        self._models.append((engine, spec.input.crop))
        shapes = [values.shape for values in engine.infer(np.zeros((1, *engine.input_size, 3), np.uint8)).values()]
        if shapes != [(1, CLASSES)]:
            raise UnknownHead(
                f"{spec.name} gives {shapes} for a face, not {CLASSES} classes: choose a model like MiniFASNet"
            )

    def __call__(self, picture: Picture, boxes: FloatArray) -> FloatArray:
        """Look at each face.

        Args:
            picture: of the frame.
            boxes: (N, 4) xyxy in frame pixels.

        Returns:
            (N,) float32, the probability of a live face.
        """
        if not len(boxes):
            return np.empty(0, np.float32)
        each = [self._live(engine, crop, picture, boxes) for engine, crop in self._models]
        return np.asarray(np.mean(each, axis=0), np.float32)

    @staticmethod
    def _live(engine: Engine, crop: float, picture: Picture, boxes: FloatArray) -> FloatArray:
        regions = [enlarged_inside(box, crop, picture) for box in boxes]
        (logits,) = engine.infer(np.stack([cut(picture, region, engine.input_size) for region in regions])).values()
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers[:, LIVE] / powers.sum(axis=1), np.float32)

    def describe(self) -> str:
        """Name the models and what runs them."""
        return "; ".join(str(engine.describe()) for engine, _ in self._models)

    def close(self) -> None:
        """Give the engines back."""
        for engine, _ in self._models:
            engine.close()
