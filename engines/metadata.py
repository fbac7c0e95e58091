"""What an ONNX file says of itself beside its graph: class names, task, sizes; as the usual exporters write it.

Ultralytics writes Python literals as text (`{0: 'person', 1: 'bicycle'}`), others JSON or names between commas. Texts
come from strangers: one is only handed to `ast.literal_eval` where it is short, flat, and nothing but a literal, for
what is deep or chained can exhaust the parser's stack. Where that leaves nothing, the value counts as not there.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from onnx import TensorProto

from engines.graph import dimensions, free_inputs
from engines.picture_layout import layout_of
from engines.spec import AnchorArithmetic

if TYPE_CHECKING:
    import onnx

    from engines.spec import Anchors

MOST_CHARACTERS = 1 << 20
"""Of a value that is looked at: the 21,841 names of ImageNet have half of it."""
MOST_NESTED = 4
MOST_LABELS = 1 << 15
LONGEST_LABEL = 100
LONGEST_SIDE = 1 << 14
LARGEST_STRIDE = 1 << 10
MOST_KEYPOINTS = 1 << 10
MOST_MAPS, MOST_ANCHORS = 8, 64
NAMES = ("names", "labels", "classes", "class_names", "CLASSES")
"""Keys under which exporters write the names of classes."""
NO_NAMES = re.compile(r"[\[\](){}=]")
"""What stands in code and in literals that cannot be read, and in no name of a plain list."""
TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<open>[\[({])|(?P<close>[\])}])|(?P<mark>[,:])"
    r"|(?P<text>'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")"
    r"|(?P<number>-?\d{1,18}(?:\.\d{0,18})?(?:e[+-]?\d{1,3})?)|(?P<word>True|False|None)"
)
"""The parts of a Python literal that exporters write."""


@dataclass(frozen=True)
class Metadata:
    """What the file says; what it does not say is None or empty."""

    labels: tuple[str, ...] = ()
    """Names of the classes, by their number; one that has none is called by its number."""
    task: str | None = None
    """In the words of the exporter: `detect`, `segment`, `pose`, `classify`, `obb`."""
    size: tuple[int, int] | None = None
    """Height and width of the input that the model was exported for."""
    stride: int | None = None
    """Sides of an input must be multiples of it."""
    end_to_end: bool = False
    """Whether NMS is done, or needless, inside the model."""
    keypoints: tuple[int, int] | None = None
    raw_pixels: bool = False
    """Whether its pictures are uint8: 0..255, which it normalises itself."""
    anchors: Anchors | None = None
    arithmetic: AnchorArithmetic | None = None
    producer: str = ""
    """What wrote the file, in its own words."""
    entries: Mapping[str, str] = field(default_factory=dict)
    """Everything that is there, as it is."""


def read_metadata(model: onnx.ModelProto) -> Metadata:
    """Return what a model's metadata says; what cannot be understood is left out."""
    entries = {each.key: each.value for each in model.metadata_props}
    arguments = literal(entries.get("args", ""))
    exported = arguments if isinstance(arguments, Mapping) else {}
    return Metadata(
        labels=next(filter(None, (_labels(entries.get(key, "")) for key in NAMES)), ()),
        task=_word(entries.get("task", "")),
        size=_size(literal(entries.get("imgsz", ""))),
        stride=_stride(literal(entries.get("stride", ""))),
        end_to_end=any(_is_true(each) for each in (entries.get("end2end"), entries.get("nms"), exported.get("nms"))),
        keypoints=_keypoints(literal(entries.get("kpt_shape", ""))),
        raw_pixels=_takes_bytes(model),
        anchors=anchors_of(literal(entries.get("anchors", ""))),
        arithmetic=next((each for each in get_args(AnchorArithmetic) if each == entries.get("arithmetic")), None),
        producer=" ".join(f"{model.producer_name} {model.producer_version}".split())[:LONGEST_LABEL],
        entries=entries,
    )


def _takes_bytes(model: onnx.ModelProto) -> bool:
    kinds = [each.type.tensor_type.elem_type for each in free_inputs(model) if layout_of(dimensions(each)) is not None]
    return bool(kinds) and kinds[0] == TensorProto.UINT8


def literal(text: str) -> object:
    """Return the value of JSON or a Python literal; None: it is neither, or larger or deeper than it should be."""
    if len(text) > MOST_CHARACTERS or not _is_flat_literal(text):
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _is_flat_literal(text: str) -> bool:
    """Whether a text consists of a literal's parts, not too deep, no two numbers side by side (`1-1-1` is a sum)."""
    place = depth = 0
    before = None
    while place < len(text):
        token = TOKEN.match(text, place)
        if token is None or (token.lastgroup == before == "number"):
            return False
        depth += {"open": 1, "close": -1}.get(token.lastgroup or "", 0)
        if depth > MOST_NESTED:
            return False
        if token.lastgroup != "space":
            before = token.lastgroup
        place = token.end()
    return True


def labels_of(value: object) -> tuple[str, ...]:
    """Return names by class number, out of a mapping from numbers or a list; empty: it is neither.

    A number without a name is its own name.
    """
    if isinstance(value, Mapping):
        named = {number: each for key, each in value.items() if (number := _number(key)) is not None}
    elif isinstance(value, Sequence) and not isinstance(value, str):
        named = dict(enumerate(value[:MOST_LABELS]))
    else:
        return ()
    clean = {number: _clean(each) for number, each in named.items()}
    return tuple(clean.get(number) or str(number) for number in range(max(clean, default=-1) + 1))


def anchors_of(value: object) -> Anchors | None:
    """Return the anchors of feature maps out of lists of pairs, or flat lists of even length; None: they are none."""
    if not isinstance(value, Sequence) or isinstance(value, str) or not 1 <= len(value) <= MOST_MAPS:
        return None
    maps = tuple(_pairs(each) for each in value)
    return maps if all(maps) else None


def _pairs(value: object) -> tuple[tuple[float, float], ...]:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > 2 * MOST_ANCHORS:
        return ()
    pairs = value
    if all(isinstance(each, (int, float)) for each in value):
        pairs = [value[place : place + 2] for place in range(0, len(value), 2)]
    sides = [_sides(each) for each in pairs]
    return tuple(each for each in sides if each is not None) if None not in sides else ()


def _sides(value: object) -> tuple[float, float] | None:
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        return None
    if not all(isinstance(each, (int, float)) and math.isfinite(each) and 0 < each <= LONGEST_SIDE for each in value):
        return None
    return float(value[0]), float(value[1])


def _labels(text: str) -> tuple[str, ...]:
    if found := labels_of(literal(text)):
        return found
    if len(text) > MOST_CHARACTERS or NO_NAMES.search(text):
        return ()
    names = [name for name in map(_clean, re.split(r"[,\n]", text)) if name]
    return tuple(names[:MOST_LABELS]) if len(names) > 1 else ()  # one alone is `coco.yaml`, or a remark


def _clean(value: object) -> str:
    """Return a name on one line, without control characters."""
    text = " ".join(str(value)[: 4 * LONGEST_LABEL].split())
    return "".join(character for character in text if character.isprintable())[:LONGEST_LABEL]


def _number(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch(r"\d{1,6}", value):
        value = int(value)
    return value if isinstance(value, int) and 0 <= value < MOST_LABELS else None


def _word(text: str) -> str | None:
    return text if re.fullmatch(r"[a-z_-]{1,30}", text) else None


def _is_true(value: object) -> bool:
    return value is True or value == 1 or str(value).lower() == "true"


def _size(value: object) -> tuple[int, int] | None:
    """Height and width: two numbers, or one for both."""
    sides = _integers([value, value] if isinstance(value, int) else value, LONGEST_SIDE)
    return (sides[0], sides[1]) if sides is not None and len(sides) == 2 else None


def _stride(value: object) -> int | None:
    """The largest, where several are named; it may be written as a float."""
    several = value if isinstance(value, Sequence) else [value]
    whole = [int(each) if isinstance(each, float) and each.is_integer() else each for each in several]
    strides = _integers(whole, LARGEST_STRIDE)
    return max(strides) if strides else None


def _keypoints(value: object) -> tuple[int, int] | None:
    """How many, and values of each."""
    numbers = _integers(value, MOST_KEYPOINTS)
    return (numbers[0], numbers[1]) if numbers is not None and len(numbers) == 2 and numbers[1] in (2, 3) else None


def _integers(value: object, largest: int) -> list[int] | None:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    whole = [each for each in value if type(each) is int and 0 < each <= largest]
    return whole if len(whole) == len(value) else None
