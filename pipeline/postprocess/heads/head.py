"""Head: reads a detector's raw output. One file per output layout; this one says what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.engine import Candidates, Outputs
    from engines.spec import InputSpec
    from pipeline.frame import Detections


class Head(Protocol):
    """Decodes one layout."""

    name: str
    layout: str
    """The layout in words, for error messages."""
    needs_nms: bool
    """Whether the output still holds several boxes per object."""
    input: InputSpec
    """How models with this head are fed, where nothing else says so."""
    candidates: Candidates | None
    """What of the output is worth copying back from a GPU; None: all of it."""

    def matches(self, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> bool:
        """Whether outputs of these shapes, for an input of `size` (height, width), have this layout."""

    def class_count(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        """Number of classes that outputs of these shapes tell apart."""

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float) -> Detections:
        """Return the candidates of one picture with a score above `confidence`, one class each, before NMS.

        Args:
            outputs: of a batch of one.
            size: height and width of the model's input.
            confidence: 0..1. Filtered before any box arithmetic: 0.02 ms against 0.5 for YOLOX.

        Returns:
            Boxes in pixels of the model's input, not clipped.
        """
