"""Head: reads a detector's raw output. One file per output layout; this one says what they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from engines.metadata import Metadata
from engines.spec import HeadOptions, InputSpec

if TYPE_CHECKING:
    from engines.engine import Candidates, Outputs
    from pipeline.arrays import FloatArray
    from pipeline.postprocess.heads.found import Found

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Seen:
    """What is known of a model when its head is chosen."""

    shapes: Shapes
    """Of its outputs for one picture, by name, in the model's order."""
    size: tuple[int, int]
    """Height and width of its input."""
    outputs: Outputs | None = None
    """For a real picture, with many objects: values tell apart what shapes do not. None: nobody tried."""
    metadata: Metadata = field(default_factory=Metadata)


@dataclass(frozen=True)
class Fit:
    """A head that fits what was seen."""

    options: HeadOptions
    """The ones asked for, with what was found out."""
    why: str
    """For people: `one output [1, 84, 8400]: 4 + 80 rows for the 8400 cells of strides 8, 16, 32`."""
    certain: bool = True
    """False: taken only where nothing else fits."""


class Head(ABC):
    """Decodes one layout."""

    name: ClassVar[str]
    layout: ClassVar[str]
    """The layout in words, for error messages."""
    input: ClassVar[InputSpec]
    """How models with this head are fed, where nothing else says so."""
    needs_nms: bool = True
    """Whether the output still holds several boxes per object."""
    candidates: Candidates | None = None
    """What of the output is worth copying back from a GPU; None: all of it."""

    def __init__(self, options: HeadOptions, size: tuple[int, int] | None = None) -> None:
        """Make a head for one model.

        Args:
            options: those of a `Fit`.
            size: height and width of the model's input; None: not known. It tells which axis counts cells.
        """
        self.options, self.size = options, size
        if options.nms is not None:
            self.needs_nms = options.nms

    @classmethod
    @abstractmethod
    def fit(cls, seen: Seen, options: HeadOptions) -> Fit | None:
        """Say whether a model has this layout; None: it has not.

        Args:
            seen: of the model. Without values and metadata a layout fits where nothing speaks against it.
            options: what somebody said; it is never contradicted.
        """

    @abstractmethod
    def class_count(self, shapes: Shapes) -> int:
        """Return how many classes outputs of these shapes tell apart."""

    def takes_batches(self, shapes: Shapes) -> bool:
        """Return whether the outputs tell the pictures of a batch apart; those of variable length do not."""
        return any(len(shape) > 2 for shape in shapes.values())

    @abstractmethod
    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float, *, multi_label: bool = False) -> Found:
        """Return the candidates of one picture with a score above `confidence`, before NMS.

        Args:
            outputs: of a batch of one.
            size: height and width of the model's input.
            confidence: 0..1. Filtered before any box arithmetic: 0.02 ms against 0.5 for YOLOX.
            multi_label: whether a candidate stands for every class above `confidence` instead of its best one. Heads
                whose output says one class per box give the same either way.
        """

    def masks(self, found: Found, outputs: Outputs) -> FloatArray | None:
        """Return (N, h, w) logits over the model's whole input for what was kept; None: the model has no masks."""
        return None

    def keypoints(self, found: Found) -> FloatArray | None:
        """Return (N, K, 3) x and y in pixels of the input, and score, for what was kept; None: there are none."""
        return None
