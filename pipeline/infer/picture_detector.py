"""PictureDetector: letterbox -> engine -> head -> NMS -> masks and keypoints for one picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engines.engine import Engine, Outputs, Pending, shapes_of
from pipeline.boxes import clip_boxes
from pipeline.errors import ConfigError
from pipeline.frame import Detections
from pipeline.infer.class_names import number_of
from pipeline.infer.letterbox import Letterbox, Letterboxes
from pipeline.infer.masks import masks_in_frame
from pipeline.postprocess import heads
from pipeline.postprocess.heads.found import Found
from pipeline.postprocess.merge import Merging, merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.spec import ModelSpec
    from pipeline.arrays import FloatArray, Image
    from pipeline.masks import Masks
    from pipeline.picture import Picture
    from pipeline.postprocess.heads.head import Head

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectorOptions:
    """What counts as a detection."""

    confidence: float = 0.3
    """A score must be larger than this."""
    iou: float = 0.45
    """Of two boxes of one class that overlap by more than this, the better one stays."""
    nms: Merging = "standard"
    """How boxes of one object become one."""
    classes: tuple[str, ...] = ()
    """Names of the classes to keep; empty: all."""
    class_agnostic: bool = False
    """Whether boxes of different classes suppress each other."""
    max_detections: int = 300
    multi_label: bool = False
    """Whether a candidate stands for each class with a score above `confidence`, not only for its best one."""


class PictureDetector:
    """A detector for single pictures: what the stage, the evaluation and the parity check share."""

    def __init__(self, spec: ModelSpec, engine: Engine, options: DetectorOptions) -> None:
        """Check that the model's outputs can be read.

        Raises:
            UnknownHead: no head fits them.
            ConfigError: a class that the model does not have.
        """
        self.spec, self.engine, self.options = spec, engine, options
        blank = np.full((1, *engine.input_size, 3), spec.input.pad, np.uint8)
        outputs = engine.infer(blank)  # also the warm-up: a first request is the slowest
        self.head: Head = heads.head_of(spec, outputs, engine.input_size)
        takes_batches = self.head.takes_batches(shapes_of(outputs))
        self.batch = engine.batch if takes_batches else 1
        """How many pictures a request should hold where so many wait."""
        self.labels = spec.labels
        self._wanted = class_ids(options.classes, spec)
        self.broken = 0
        """Pictures so far whose outputs were no numbers where something may have been."""
        self._inputs = Letterboxes(engine.input_size, spec.input.fit, spec.input.pad)

    def letterbox(self, picture: Picture) -> tuple[Letterbox, Image]:
        """Cut the model's input; the array is reused for the next picture of this size."""
        return self._inputs.cut(picture)

    def start(self, pictures: Sequence[Picture]) -> tuple[list[Letterbox], Pending]:
        """Start one request on pictures of any sizes."""
        return self._inputs.start(self.engine, pictures)

    def read(self, outputs: Outputs, plan: Letterbox) -> Detections:
        """Turn the engine's outputs into detections in frame pixels: filter, decode, NMS, map back, clip; then
        masks and keypoints of what is left.

        Clipped after NMS: boxes that the frame's edge cuts overlap more once they are cut, which cost 0.1 points of AP.
        """
        options = self.options
        with np.errstate(invalid="ignore"):  # a broken model's NaN: said below
            found = self.head.decode(
                outputs, self.engine.input_size, options.confidence, multi_label=options.multi_label
            )
        if _is_broken(found, outputs):
            self._say_broken()
        if self._wanted is not None:
            found = found[np.isin(found.class_ids, self._wanted)]
        found = self._merged(found)
        height, width = plan.source
        boxes, inside = clip_boxes(plan.to_source(found.boxes), width, height)
        found, boxes = found[inside], boxes[inside]
        return Detections(
            boxes,
            found.scores,
            found.class_ids,
            masks=self._masks(found, outputs, boxes, plan),
            keypoints=self._keypoints(found, plan),
        )

    def _say_broken(self) -> None:
        self.broken += 1
        if self.broken == 1:
            logger.warning(
                "%s gives values that are no numbers (NaN or infinite) with %s: what such pictures show is not found; "
                "choose another engine.precision (fp32), and compare with `frameloom engines verify`",
                self.spec.name,
                self.engine.describe(),
            )

    def _masks(self, found: Found, outputs: Outputs, boxes: FloatArray, plan: Letterbox) -> Masks | None:
        logits = self.head.masks(found, outputs)
        return None if logits is None else masks_in_frame(logits, boxes, plan)

    def _keypoints(self, found: Found, plan: Letterbox) -> FloatArray | None:
        points = self.head.keypoints(found)
        if points is None:
            return None
        return np.concatenate([plan.points_to_source(points[..., :2]), points[..., 2:]], axis=2)

    def _merged(self, found: Found) -> Found:
        options, most = self.options, self.options.max_detections
        if self.head.needs_nms:
            return merge(
                found,
                options.nms,
                options.iou,
                class_agnostic=options.class_agnostic,
                most=most,
                floor=options.confidence,
            )
        return found[np.argsort(-found.scores, kind="stable")[:most]]

    def __call__(self, picture: Picture) -> Detections:
        """Detect in one picture."""
        plan, buffer = self.letterbox(picture)
        return self.read(self.engine.infer(buffer[None]), plan)


def _is_broken(found: Found, outputs: Outputs) -> bool:
    """Whether values that are no numbers may have hidden something.

    Candidates that are not finite say so. Scores that are NaN make none: only where nothing was found, the outputs are
    looked through for NaN, by their maxima: 0.04 ms for 84 x 8400 values. A picture in which something else was found
    passes for sound.
    """
    if len(found):
        return not (np.isfinite(found.boxes).all() and np.isfinite(found.scores).all())
    floats = [array for array in outputs.values() if array.size and np.issubdtype(array.dtype, np.floating)]
    return any(bool(np.isnan(array.max())) for array in floats)


def class_ids(names: Sequence[str], spec: ModelSpec) -> list[int] | None:
    """Return the numbers of classes, given by name, or by number where the model has no names; None for all.

    Raises:
        ConfigError: the model has no such class.
    """
    labels = spec.labels
    if not names:
        return None
    if labels:
        return [number_of(name, labels, "detect.classes") for name in names]
    for name in names:
        if not name.isdecimal():
            raise ConfigError(
                f"detect.classes: the model has no names for its classes, so none is {name!r}: say their numbers, or "
                f"name them with `frameloom models inspect {spec.path} --labels names.txt --save-spec`"
            )
    return [int(name) for name in names]
