"""Probe: a model's outputs for a few of the pictures that come with the package, for each way of feeding it.

The pictures are of streets with people, bicycles and cars, and of a face: a model that knows people finds some.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import EngineOptions, open_engine, shapes_of
from engines.trust.pictures import cut_for
from pipeline.postprocess.nms import nms
from pipeline.postprocess.persons import PERSON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.engine import Outputs
    from engines.spec import InputSpec, ModelSpec
    from pipeline.arrays import IntArray
    from pipeline.postprocess.heads.head import Head, Shapes

PICTURES = 4
"""Two faces, two streets: enough to tell layouts apart, and a large model takes a second for each."""
BUSY = 1
"""The one with most objects."""
CONFIDENCE, IOU = 0.3, 0.45
"""As a run has them, where nobody says something else."""
COCO_CLASSES = 80


@dataclass(frozen=True)
class Objects:
    """What was found in all pictures together."""

    class_ids: IntArray

    def __len__(self) -> int:
        return len(self.class_ids)

    def of_class(self, class_id: int) -> int:
        """Return how many are of one class."""
        return int((self.class_ids == class_id).sum())


class Probe:
    """A model that is run once for each way of feeding it."""

    def __init__(self, spec: ModelSpec, size: tuple[int, int] | None) -> None:
        """Nothing is run yet; `size` is the height and width of the input, None: the model's own."""
        self._spec, self._wanted = spec, size
        self._ran: dict[InputSpec, tuple[Outputs, ...]] = {}
        self.size = (0, 0)
        """Height and width of the input, once the model has run."""

    def has_run(self, fed: InputSpec) -> bool:
        """Whether it has been run on pictures fed so."""
        return fed in self._ran

    def outputs(self, fed: InputSpec) -> tuple[Outputs, ...]:
        """Return the outputs for each picture.

        Raises:
            FrameloomError: the model cannot be opened or run.
        """
        if fed not in self._ran:
            options = EngineOptions(backend="onnxruntime", precision="fp32", requests=1, input_size=self._wanted)
            spec = replace(self._spec, input=fed)
            engine = open_engine(spec, options)
            try:
                self.size = engine.input_size
                pictures = cut_for(spec, self.size)[:PICTURES]
                self._ran[fed] = tuple(engine.infer(picture[None]) for picture in pictures)
            finally:
                engine.close()
        return self._ran[fed]

    def busiest(self, fed: InputSpec) -> Outputs:
        """Return the outputs for the picture with most objects."""
        return self.outputs(fed)[BUSY]

    def shapes(self, fed: InputSpec) -> Shapes:
        """Return the shapes of these outputs."""
        return shapes_of(self.busiest(fed))

    def find(self, head: Head, fed: InputSpec) -> Objects:
        """Return what a head finds in the pictures."""
        return Objects(np.concatenate([_classes_found(head, each, self.size) for each in self.outputs(fed)]))


def person_of(labels: Sequence[str], classes: int) -> int | None:
    """Return the number of the class of people; None: the model has none, or nobody knows."""
    if PERSON in labels:
        return labels.index(PERSON)
    return 0 if not labels and classes == COCO_CLASSES else None


def _classes_found(head: Head, outputs: Outputs, size: tuple[int, int]) -> IntArray:
    found = head.decode(outputs, size, CONFIDENCE)
    kept = nms(found.boxes, found.scores, found.class_ids, IOU) if head.needs_nms else slice(None)
    return found.class_ids[kept]
