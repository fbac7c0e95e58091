"""What decides how a picture is painted. Nothing here needs PyTorch, so the command can be listed without it.

Defaults were chosen by looking; docs/style-transfer.md shows what they give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Start = Literal["content", "noise"]
Pooling = Literal["average", "max"]
Optimiser = Literal["lbfgs", "adam"]

FINEST_SHARE = 0.5
"""Iterations of a level, as a part of those of the coarser one before: most is decided where it costs least."""
ENOUGH = 512
"""Pixels: a long side from which no coarser level is needed, as in the paper on scale. Begun at 256, strokes were
larger, and a face of 25 pixels was lost for good."""
LEAST_LEVEL = 64
"""Pixels: no level has a shorter long side."""


@dataclass(frozen=True)
class PaintSettings:
    """The same settings, pictures and number of threads give the same result (on a CPU)."""

    size: int = 512
    """Long side of the result, pixels; a smaller content picture is not enlarged."""
    iterations: int = 100
    """At the coarsest level."""
    levels: int = 0
    """From coarse to fine, each twice the size of the one before; 0: as many as it takes to begin at `ENOUGH`."""
    alpha: float = 1.0
    """Weight of the content."""
    beta: float = 20.0
    """Weight of the style."""
    content_layers: tuple[str, ...] = ("conv4_2",)
    style_layers: tuple[str, ...] = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1")
    layer_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0)
    """Lambda of each style layer; only their ratios count."""
    smooth_weight: float = 15.0
    """Of total variation, values taken as 0..1."""
    paper_scale: bool = False
    """Whether alpha and beta weigh the sums of the paper's equations as they are. Else each layer's content and style
    are divided by what a picture without any feature has: the same weights do for all pictures, sizes and networks."""
    start: Start = "content"
    pooling: Pooling = "average"
    """As Gatys et al. preferred it; VGG16 was trained with `max`."""
    optimiser: Optimiser = "lbfgs"
    history: int = 20
    """Steps that L-BFGS remembers; each costs two pictures of float32."""
    learning_rate: float = 4.0
    """Of Adam, in grey levels; it falls to a tenth by a half cosine within each level."""
    style_scale: float = 1.0
    """Size of the painting beside the picture's (square roots of areas): larger, larger strokes."""
    seed: int = 0
    """Of the noise."""

    def iterations_at(self, level: int) -> int:
        """Return how many iterations a level has, 0 being the coarsest."""
        return max(1, round(self.iterations * FINEST_SHARE**level))


def level_sizes(width: int, height: int, settings: PaintSettings) -> list[tuple[int, int]]:
    """Return (width, height) of each level, coarse to fine; the last is `size`, or the content's own."""
    long = min(settings.size, max(width, height))
    count = settings.levels
    if count == 0:
        count = 1
        while long / 2**count >= ENOUGH:
            count += 1
    sides = [max(min(LEAST_LEVEL, long), round(long / 2**number)) for number in reversed(range(count))]
    return [_fitted(width, height, side) for side in sides]


def _fitted(width: int, height: int, long: int) -> tuple[int, int]:
    scale = long / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))
