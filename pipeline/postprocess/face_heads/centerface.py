"""CenterFace: four maps at stride 4, a candidate in every cell of the first that is high enough.

heatmap [1, 1, h, w]; scale [1, 2, h, w], log height and log width in cells; offset [1, 2, h, w], y and x of the centre
from the cell's own; landmarks [1, 10, h, w], y and x of five points as fractions of the box, from its corner.
Source: Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point" (2019), section 3; the order of
height and width, and the half cell, as in the authors' demo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.spec import InputSpec
from pipeline.faces import Faces

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.engine import Outputs

STRIDE = 4


class CenterFace:
    """Decodes CenterFace's four maps."""

    name = "centerface"
    layout = "heatmap [1, 1, h, w], scale and offset [1, 2, h, w], landmarks [1, 10, h, w] at stride 4, in this order"
    needs_nms = True
    input = InputSpec(colour="rgb", fit="letterbox-topleft", pad=0, batch=1)
    confidence = 0.5
    iou = 0.3

    def matches(self, shapes: Mapping[str, tuple[int, ...]], size: tuple[int, int]) -> bool:
        """Whether there are four maps of 1, 2, 2 and 10 channels at stride 4."""
        cells = (size[0] // STRIDE, size[1] // STRIDE)
        return list(shapes.values()) == [(1, channels, *cells) for channels in (1, 2, 2, 10)]

    def decode(self, outputs: Outputs, size: tuple[int, int], confidence: float) -> Faces:
        """Return the candidates; the landmarks are fractions of the whole box, also where the picture cuts it."""
        heat, scale, offset, landmarks = (maps[0] for maps in outputs.values())
        y, x = np.nonzero(heat[0] > confidence)
        centres = (np.stack([x, y], axis=1) + offset[:, y, x].T[:, ::-1] + 0.5) * STRIDE
        fractions = landmarks[:, y, x].T.reshape(-1, 5, 2)[..., ::-1]
        with np.errstate(over="ignore", invalid="ignore"):  # a broken model's exp(); NMS drops what is not finite
            sides = np.exp(scale[:, y, x].T[:, ::-1]) * STRIDE
            corners = centres - sides / 2
            points = corners[:, None] + fractions * sides[:, None]
            boxes = np.concatenate([corners, corners + sides], axis=1)
        return Faces(boxes, heat[0, y, x], points)
