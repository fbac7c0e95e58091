"""From the sections of a Darknet network to its layers; no weight is read here.

What changes a result and is not understood is refused, with its line: a kind of layer, an activation, or an option that
is set to something else than usual (`USUAL`). Defaults are Darknet's. Sizes and padding follow parser.c and
maxpool_layer.c of Darknet (Redmon; Bochkovskiy): a pool has `size - 1` pixels of padding in all, of which the smaller
half comes first, so that size 2 and stride 1 keep the size by a column and a row at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engines.importers.darknet_cfg import Section
from engines.importers.darknet_layers import (
    PICTURE,
    Convolution,
    Layer,
    Maps,
    MaxPool,
    Plan,
    Route,
    Shortcut,
    Upsample,
    Yolo,
)

ACTIVATIONS = ("linear", "leaky", "relu", "logistic", "mish", "swish")
COORDINATES = 5
"""Values of an anchor beside its classes: x, y, w, h, objectness."""
USUAL: Mapping[str, Mapping[str, str]] = {
    "convolutional": {
        "dilation": "1",
        **dict.fromkeys(("antialiasing", "assisted_excitation", "coordconv", "reverse"), "0"),
        **dict.fromkeys(("sway", "rotate", "stretch", "stretch_sway"), "0"),
        **dict.fromkeys(("cbn", "binary", "xnor", "bin_output", "flipped", "dontload", "dontloadscales"), "0"),
    },
    "maxpool": {"antialiasing": "0", "maxpool_depth": "0", "maxpool_zero_nonmax": "0"},
    "shortcut": {"weights_type": "none"},
    "upsample": {"scale": "1"},
    "yolo": {"new_coords": "0"},
}
"""Options that change what a layer computes, and the one value of each that is understood."""


def plan(sections: list[Section]) -> Plan:
    """Work out what the layers do; the first section is the network's own.

    Raises:
        ModelError: something is not understood or does not fit; the message names section and line.
    """
    network, *others = sections
    if (channels := network.integer("channels", 3)) != 3:
        raise network.wrong(f"only networks for pictures of 3 channels are supported, not {channels}", "channels")
    height, width = (network.integer(key, 0) for key in ("height", "width"))
    if not height or not width:
        raise network.wrong(f"width and height should say the input's size, not {width} and {height}")
    so_far = _SoFar(Maps(3, height, width))
    for section in others:
        _refuse_unusual(section)
        if section.name not in _KINDS:
            supported = ", ".join(dict.fromkeys(_KINDS))
            raise section.wrong(f"this kind of layer is not supported; supported are {supported}")
        so_far.layers.append(_KINDS[section.name](section, so_far))
    whole = Plan(so_far.picture, tuple(so_far.layers))
    if not whole.ends:
        raise network.wrong("the network has no [yolo] layer, so it finds no objects")
    if len(counts := {end.classes for end in whole.ends}) > 1:
        raise network.wrong(f"its [yolo] layers disagree on the number of classes: {sorted(counts)}")
    return whole


def _refuse_unusual(section: Section) -> None:
    for key, usual in USUAL.get(_FULL_NAMES.get(section.name, section.name), {}).items():
        found = section.text(key, usual)
        if found.removesuffix(".0") != usual:
            raise section.wrong(f"{key} = {found} is not supported, only {usual}", key)


class _SoFar:
    """The layers that stand before the one that is looked at."""

    def __init__(self, picture: Maps) -> None:
        self.picture = picture
        self.layers: list[Layer] = []

    @property
    def last(self) -> int:
        """The number of the layer before, or of the picture."""
        return len(self.layers) - 1

    def maps(self, number: int, section: Section) -> Maps:
        """Return the shape of what a layer gives."""
        if number == PICTURE:
            return self.picture
        layer = self.layers[number]
        if isinstance(layer, Yolo):
            raise section.wrong(f"it reads layer {number}, a [yolo] layer, which is an end; put a [route] between")
        return layer.maps

    def named(self, section: Section, key: str) -> tuple[int, ...]:
        """Return the numbers of the layers that a key names; negative ones count back from here."""
        numbers = []
        for written in section.integers(key):
            number = written if written >= 0 else len(self.layers) + written
            if not 0 <= number < len(self.layers):
                raise section.wrong(f"{key} names layer {written}, but only {len(self.layers)} stand before it", key)
            numbers.append(number)
        if not numbers:
            raise section.wrong(f"{key} should name at least one layer")
        return tuple(numbers)


def _convolution(section: Section, before: _SoFar) -> Convolution:
    given = before.maps(before.last, section)
    filters, kernel = (section.integer(key, 1, least=1) for key in ("filters", "size"))
    groups = section.integer("groups", 1, least=1)
    if given.channels % groups or filters % groups:
        raise section.wrong(f"{groups} groups do not divide {given.channels} channels and {filters} filters", "groups")
    padding = kernel // 2 if section.integer("pad", 0) else section.integer("padding", 0)
    strides = _strides(section)
    return Convolution(
        sources=(before.last,),
        maps=_windows(section, filters, given, kernel, strides, 2 * padding),
        weights=(filters, given.channels // groups, kernel, kernel),
        strides=strides,
        padding=padding,
        groups=groups,
        normalised=bool(section.integer("batch_normalize", 0)),
        activation=_activation(section, "logistic"),
    )


def _max_pool(section: Section, before: _SoFar) -> MaxPool:
    given = before.maps(before.last, section)
    kernel = section.integer("size", section.integer("stride", 1, least=1), least=1)
    padding, strides = section.integer("padding", kernel - 1), _strides(section)
    if padding // 2 >= kernel or padding - padding // 2 >= kernel:
        raise section.wrong(f"padding {padding} is too much for a window of {kernel}", "padding")
    maps = _windows(section, given.channels, given, kernel, strides, padding)
    return MaxPool((before.last,), maps, kernel, strides, (padding // 2, padding - padding // 2))


def _route(section: Section, before: _SoFar) -> Route:
    sources = before.named(section, "layers")
    groups, group = section.integer("groups", 1, least=1), section.integer("group_id", 0)
    shapes = [before.maps(source, section) for source in sources]
    if len({each[1:] for each in shapes}) > 1:
        raise section.wrong(f"its layers differ in height and width: {_listed(shapes)}", "layers")
    if group >= groups or any(each.channels % groups for each in shapes):
        raise section.wrong(f"there is no group {group} of {groups} in {_listed(shapes)}", "group_id")
    parts = [each.channels // groups for each in shapes]
    channels = None if groups == 1 else tuple((group * part, (group + 1) * part) for part in parts)
    return Route(sources, shapes[0]._replace(channels=sum(parts)), channels)


def _shortcut(section: Section, before: _SoFar) -> Shortcut:
    sources = (before.last, *before.named(section, "from"))
    shapes = [before.maps(source, section) for source in sources]
    if len(set(shapes)) > 1:
        raise section.wrong(f"layers of different shapes are not supported: {_listed(shapes)}", "from")
    return Shortcut(sources, shapes[0], _activation(section, "linear"))


def _upsample(section: Section, before: _SoFar) -> Upsample:
    channels, height, width = before.maps(before.last, section)
    factor = section.integer("stride", 2, least=1)
    return Upsample((before.last,), Maps(channels, height * factor, width * factor), factor)


def _dropout(section: Section, before: _SoFar) -> Route:
    """Nothing is dropped but in training."""
    return Route((before.last,), before.maps(before.last, section), None)


def _yolo(section: Section, before: _SoFar) -> Yolo:
    given = before.maps(before.last, section)
    classes, count = section.integer("classes", 20, least=1), section.integer("num", 1, least=1)
    numbers = section.numbers("anchors")
    if len(numbers) < 2 * count or min(numbers, default=0) <= 0:
        raise section.wrong(f"anchors should be {count} widths and heights above 0, not {numbers}", "anchors")
    mask = section.integers("mask") or list(range(count))
    if not all(0 <= each < count for each in mask):
        raise section.wrong(f"mask should name anchors 0 to {count - 1}, not {mask}", "mask")
    if given.channels != (asked := len(mask) * (COORDINATES + classes)):
        raise section.wrong(
            f"{len(mask)} anchors and {classes} classes need {asked} channels, the layer before gives {given.channels} "
            "(its `filters`)"
        )
    anchors = tuple((numbers[2 * each], numbers[2 * each + 1]) for each in mask)
    (scale,) = section.numbers("scale_x_y")[:1] or [1.0]
    return Yolo((before.last,), given, classes, anchors, scale)


def _windows(section: Section, channels: int, given: Maps, kernel: int, strides: tuple[int, int], padding: int) -> Maps:
    """Return the shape of what windows that move by `strides` give; `padding` is that of both sides."""
    sides = [(side + padding - kernel) // stride + 1 for side, stride in zip(given[1:], strides, strict=True)]
    if min(sides) < 1:
        raise section.wrong(f"a window of {kernel} does not fit into {given.width} x {given.height} pixels")
    return Maps(channels, *sides)


def _strides(section: Section) -> tuple[int, int]:
    stride = section.integer("stride", 1, least=1)
    return section.integer("stride_y", stride, least=1), section.integer("stride_x", stride, least=1)


def _activation(section: Section, default: str) -> str:
    found = section.text("activation", default)
    if found not in ACTIVATIONS:
        supported = ", ".join(ACTIVATIONS)
        raise section.wrong(f"activation {found} is not supported; supported are {supported}", "activation")
    return found


def _listed(shapes: list[Maps]) -> str:
    return ", ".join(f"{each.channels} x {each.height} x {each.width}" for each in shapes)


_FULL_NAMES = {"conv": "convolutional", "max": "maxpool"}
_KINDS: Mapping[str, Callable[[Section, _SoFar], Layer]] = {
    "convolutional": _convolution,
    "conv": _convolution,
    "maxpool": _max_pool,
    "max": _max_pool,
    "route": _route,
    "shortcut": _shortcut,
    "upsample": _upsample,
    "dropout": _dropout,
    "yolo": _yolo,
}
