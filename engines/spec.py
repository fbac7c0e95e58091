"""ModelSpec: what must be known about a model file to feed it and to read its answer.

A spec is a value: the zoo makes one from each entry of `zoo.yaml`, and a user's own ONNX file gets
one that is worked out from its shapes and metadata. No file is opened here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ColourOrder = Literal["bgr", "rgb"]
Fit = Literal["letterbox-topleft", "letterbox-centre", "stretch"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
Metric = Literal["cosine", "l2"]
BoxOrder = Literal["xyxy", "yxyx", "cxcywh"]
BoxUnit = Literal["pixels", "fractions"]
ScoreKind = Literal["probabilities", "logits"]
AnchorArithmetic = Literal["yolov3", "yolov5"]
Anchors = tuple[tuple[tuple[float, float], ...], ...]
Points = tuple[tuple[float, float], ...]

ARCFACE_TEMPLATE: Points = (
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
)
"""Where the five landmarks of a face lie in a 112 x 112 input. Source: InsightFace (ArcFace's alignment)."""
DLIB_TEMPLATE: Points = ((46.8, 45.7), (102.2, 45.7), (74.5, 78.0), (50.7, 102.5), (98.0, 102.5))
"""The same for dlib's 150 x 150 chip: measured, for dlib itself aligns by other points (good to about 2 px)."""
GALLERY = 100
"""People of the gallery that an encoder's `identify_threshold` is for."""
TEMPLATES = {"arcface": ARCFACE_TEMPLATE, "dlib": DLIB_TEMPLATE}


@dataclass(frozen=True)
class InputSpec:
    """How a picture becomes the model's input.

    The engine takes uint8 N x H x W x 3 in BGR order and computes `(x - mean) / std` per channel, in
    `colour` order, after the reordering. `height` and `width` are None where the file leaves them open.
    """

    height: int | None = None
    width: int | None = None
    colour: ColourOrder = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    fit: Fit = "letterbox-centre"
    pad: int = 114
    multiple: int = 32
    """Where the size is open: height and width must be multiples of this."""
    batch: int | Literal["any"] | None = None
    """Pictures at once, where the batch size that the file declares means nothing; None: it does."""
    crop: float | None = None
    """For models that see a face and what is around it: how much, in sides of the face's box."""


@dataclass(frozen=True)
class EncoderSpec:
    """How a face must lie in a face encoder's input, and how its encodings are compared.

    A similarity is 1 - d^2 / 2 for both metrics, d being the Euclidean distance: the cosine for unit vectors, and 0.82
    for dlib's 0.6. Larger is more alike.
    """

    template: Points
    """(x, y) of left eye, right eye, nose, left and right mouth corner as seen in the image, in pixels of the input."""
    metric: Metric
    """`cosine`: encodings are normalised to length 1; `l2`: they are kept as they are."""
    verify_threshold: float
    """Similarity from which two faces count as one person, where nothing was calibrated."""
    identify_threshold: float
    """The same for one that is compared with a gallery of `GALLERY` people: stricter, a stranger has many chances."""
    identify_growth: float = 0.0
    """What ten times as many people add to it."""

    def threshold_for(self, people: int) -> float:
        """Return the similarity from which a face is somebody of a gallery, where nothing was calibrated."""
        grown = self.identify_threshold + self.identify_growth * math.log10(max(people, 1) / GALLERY)
        return min(1.0, max(self.verify_threshold, grown))


@dataclass(frozen=True)
class HeadOptions:
    """What the shapes of a detector's outputs leave open; None: not known, or as the head usually has it."""

    anchors: Anchors | None = None
    """Width and height of each anchor in pixels of the input, for each feature map, the finest map first."""
    arithmetic: AnchorArithmetic | None = None
    """How raw values and anchors become boxes: `yolov3` (exp; also v2 and v4), `yolov5` (squared sigmoid; also v7)."""
    box_order: BoxOrder | None = None
    box_unit: BoxUnit | None = None
    """Pixels of the model's input, or fractions of its sides."""
    scores: ScoreKind | None = None
    """Whether class scores are 0..1 already, or a sigmoid (a softmax, where one class is the background) is due."""
    background: bool | None = None
    """Whether class 0 is the background, so that the first label is class 1's."""
    keypoints: tuple[int, int] | None = None
    """Keypoints of an object, and values of each: 2 (x, y) or 3 (x, y, score)."""
    nms: bool | None = None
    """Whether several boxes per object are to be expected; None: as the head says."""


@dataclass(frozen=True)
class ModelSpec:
    """A model: where its file is, how to feed it, how to read it, and what may be done with it."""

    name: str
    path: Path
    task: str
    """`detect`, `face-detect`, `face-encode`, `segment`, `stylize`, ..."""
    input: InputSpec = field(default_factory=InputSpec)
    head: str | None = None
    """Output layout, a name from `pipeline.postprocess.heads`; None: recognised from the outputs."""
    head_options: HeadOptions = field(default_factory=HeadOptions)
    """What the head must know beside."""
    labels: tuple[str, ...] = ()
    encoder: EncoderSpec | None = None
    """For face encoders."""
    sha256: str | None = None
    licence: str = "unknown"
    commercial_use: bool | None = None
    """Whether the weights may be used commercially; None: not stated."""
    precision: Precision = "auto"
    """What `auto` means for this model (encoders ask for fp32, so that galleries mean the same everywhere)."""
