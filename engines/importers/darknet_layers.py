"""The layers of a Darknet network as values, with every size worked out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PICTURE = -1
"""The number of what is no layer, but the network's input."""


class Maps(NamedTuple):
    """The shape of what a layer gives, for one picture."""

    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Layer:
    """What all layers have: the numbers of the layers they read, and the shape they give."""

    sources: tuple[int, ...]
    maps: Maps


@dataclass(frozen=True)
class Convolution(Layer):
    """A convolution, its batch normalisation, its activation."""

    weights: tuple[int, int, int, int]
    """Shape: filters x channels of a group x kernel x kernel."""
    strides: tuple[int, int]
    padding: int
    groups: int
    normalised: bool
    activation: str

    @property
    def count(self) -> int:
        """How many values it asks for: biases, or scales, means and variances beside, then weights."""
        filters, channels, height, width = self.weights
        return filters * (4 if self.normalised else 1) + filters * channels * height * width


@dataclass(frozen=True)
class MaxPool(Layer):
    """The largest value of each window; padding never is."""

    kernel: int
    strides: tuple[int, int]
    padding: tuple[int, int]
    """Before and behind, on both axes."""


@dataclass(frozen=True)
class Route(Layer):
    """Some channels of several layers, one behind the other."""

    channels: tuple[tuple[int, int], ...] | None
    """First and behind the last, of each source; None: all."""


@dataclass(frozen=True)
class Shortcut(Layer):
    """A sum and its activation."""

    activation: str


@dataclass(frozen=True)
class Upsample(Layer):
    """Each value, `factor` times on both axes."""

    factor: int


@dataclass(frozen=True)
class Yolo(Layer):
    """The end of a branch: its source is a feature map from which boxes are read."""

    classes: int
    anchors: tuple[tuple[float, float], ...]
    scale: float
    """`scale_x_y`: how far beyond its cell a centre may lie (YOLOv4, section 3.4)."""


class Plan(NamedTuple):
    """A whole network."""

    picture: Maps
    layers: tuple[Layer, ...]

    @property
    def ends(self) -> list[Yolo]:
        """The [yolo] layers, the one with the finest map first."""
        return sorted((each for each in self.layers if isinstance(each, Yolo)), key=lambda each: -each.maps.width)
