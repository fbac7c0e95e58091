"""FaceHead: reads a face finder's raw output. One file per output layout; this one says what they share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.engine import Outputs
    from engines.spec import InputSpec
    from pipeline.faces import Faces


class FaceHead(Protocol):
    """Decodes one layout."""

    name: str
    layout: str
    """The layout in words, for error messages."""
    needs_nms: bool
    """Whether the output still holds several boxes per face."""
    input: InputSpec
    """How models with this head are fed, where nothing else says so."""
    confidence: float
    """The score above which its authors count a candidate as a face."""
    iou: float
    """Their threshold for NMS."""

    def matches(self, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> bool:
        """Whether outputs of these shapes, for an input of `size` (height, width), have this layout."""

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float) -> Faces:
        """Return the candidates of one picture with a score above `confidence`, before NMS.

        Args:
            outputs: of a batch of one.
            size: height and width of the model's input.
            confidence: 0..1. Filtered before any box arithmetic.

        Returns:
            Boxes and landmarks in pixels of the model's input, not clipped.
        """
