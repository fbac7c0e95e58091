"""Faster R-CNN and others that propose regions and classify each: boxes [n, 4], labels [n], scores [n].

n is the number of objects found, so it differs from picture to picture and may be 0; there is no batch. Boxes are
x1, y1, x2, y2 in pixels of the input, NMS is done, and label 0 is the background, as in torchvision's exports.
Source: Ren et al., "Faster R-CNN" (2015).
"""

from __future__ import annotations

from engines.spec import HeadOptions, InputSpec
from pipeline.postprocess.heads.head import Shapes
from pipeline.postprocess.heads.separate import Roles, SeparateOutputs


class FasterRCNN(SeparateOutputs):
    """Reads boxes, labels and scores of any number."""

    name = "faster-rcnn"
    layout = "boxes [n, 4] in pixels, labels [n] from 1 and scores [n], n found by the model"
    input = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-topleft", pad=114)
    usual = HeadOptions(box_order="xyxy", box_unit="pixels", background=True)

    @classmethod
    def has_layout(cls, shapes: Shapes, roles: Roles) -> bool:
        """Whether there is no batch."""
        return len(shapes[roles.boxes]) == 2 and roles.number is None
