"""What somebody says of a model on the command line: each option takes the place of one assumption."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from engines.metadata import anchors_of, labels_of
from engines.spec import HeadOptions
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from tools.labels.yolo_names import read_names

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from engines.spec import Anchors, InputSpec, ModelSpec

COCO, COCO_MODEL = "coco", "yolox-nano"
"""Word for COCO's 80 names, and the model of the zoo that has them."""
COCO_BY_ID, COCO_IDS = "coco91", range(91)
"""Word for the same names by COCO's own category ids, of which some are not in use."""
NOT_IN_USE, NO_NAME = frozenset({0, 12, 26, 29, 30, 45, 66, 68, 69, 71, 83}), "N/A"
"""Such ids (0 is the background, or nothing), and what torchvision calls them."""

MAPS, POSES = ("anchors",), ("yolov8-pose", "end-to-end-pose")
SEPARATE = ("detr", "tensorflow-ssd", "efficient-nms", "faster-rcnn")
USED_BY = {
    "anchors": MAPS,
    "arithmetic": MAPS,
    "keypoints": POSES,
    "background": (*SEPARATE, "detection-output", "detr-raw", "ssd"),
}
"""Heads for which an option means something; one that is not here, it does for most."""
WITH_OWN_BOXES = ("anchors", "nanodet", "yolox")
"""Heads whose boxes are made out of cells, so that they have no order or unit of their own."""


@dataclass(frozen=True)
class Stated:
    """What was stated; None and empty: nothing."""

    head: str | None = None
    labels: tuple[str, ...] = ()
    head_options: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `HeadOptions`."""
    input: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `InputSpec`."""

    def of_outputs(self, spec: ModelSpec) -> ModelSpec:
        """Return a spec with what was stated of how its outputs are read."""
        options = replace(HeadOptions() if self.head else spec.head_options, **self.head_options)
        return replace(spec, head=self.head or spec.head, labels=self.labels or spec.labels, head_options=options)

    def check_used(self, head: str) -> None:
        """See that a head has a use for each option.

        Raises:
            ConfigError: it has none for one.
        """
        for name in self.head_options:
            without = (
                head in WITH_OWN_BOXES if name in ("box_order", "box_unit") else head not in USED_BY.get(name, head)
            )
            if without:
                users = f": those that do are {', '.join(USED_BY[name])}" if name in USED_BY else ""
                raise ConfigError(
                    f"--{name.replace('_', '-')} is not used by the head {head}, by which the outputs are read: leave "
                    f"it out, or name another head by --head{users}"
                )

    def of_input(self, given: InputSpec) -> InputSpec:
        """Return an input with what was stated of how it is fed."""
        return replace(given, **self.input)


def given(**values: object) -> dict[str, object]:
    """Return those that are not None."""
    return {name: value for name, value in values.items() if value is not None}


def triple(text: str | None, option: str) -> tuple[float, float, float] | None:
    """Return a number for each channel: `255`, or `58.4,57.1,57.4`.

    Raises:
        ConfigError: they are not one or three numbers.
    """
    if text is None:
        return None
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not all(map(math.isfinite, values)):
        values = []
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or (option == "--std" and min(values) <= 0):
        above = " above 0" if option == "--std" else ""
        raise ConfigError(
            f"{option} {text}: write one number{above}, or one for each channel, such as 127.5 or 58.4,57.1,57.4"
        )
    return values[0], values[1], values[2]


def keypoints(text: str | None) -> tuple[int, int] | None:
    """Return how many keypoints there are and how many values each has: `17x3`.

    Raises:
        ConfigError: it says something else.
    """
    if text is None:
        return None
    if (found := re.fullmatch(r"(\d{1,3})x([23])", text)) is None:
        raise ConfigError(f"--keypoints {text}: write their number and the values of each (x, y, score): such as 17x3")
    return int(found[1]), int(found[2])


def anchors(text: str | None) -> Anchors | None:
    """Return anchors: a YAML file, or a list for each map, the finest first; or `10x13, 16x30; 30x61, 62x45`.

    Raises:
        ConfigError: they are none.
    """
    if text is None:
        return None
    value: object
    try:
        if Path(text).is_file():
            document = yaml.safe_load(Path(text).read_text(encoding="utf-8"))
            value = document.get("anchors") if isinstance(document, dict) else document
        elif text.lstrip().startswith("["):
            value = yaml.safe_load(text)
        else:
            value = _numbers(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"--anchors {text}: {' '.join(str(error).split())}") from error
    if (found := anchors_of(value)) is None:
        raise ConfigError(
            f"--anchors {text}: write width and height of each anchor in pixels, above 0, a list for each feature map, "
            "the finest first, such as [[10,13, 16,30], [30,61, 62,45]]; or give a YAML file with `anchors`"
        )
    return found


def _numbers(text: str) -> list[list[float]] | None:
    """Return the numbers of each part between semicolons; None: something else stands there."""
    try:
        return [[float(each) for each in re.split(r"[\s,x]+", part.strip(" ,\n\t"))] for part in text.split(";")]
    except ValueError:
        return None


def labels(text: str | None) -> tuple[str, ...]:
    """Return names of classes: `coco`, `coco91`, a file (one a line, or a data.yaml), or names between commas.

    Raises:
        ConfigError: there are none.
    """
    if text is None:
        return ()
    if text == COCO:
        return Zoo.load().entry(COCO_MODEL).labels
    if text == COCO_BY_ID:
        return coco_by_id()
    if Path(text).is_file():
        return labels_of(read_names(Path(text)))
    if "," not in text and ("/" in text or Path(text).suffix):
        raise ConfigError(f"--labels {text}: there is no such file")
    names = tuple(" ".join(name.split()) for name in text.split(","))
    if not all(names):
        raise ConfigError(f"--labels {text}: write names between commas, `coco`, `coco91`, or a file of names")
    return names


def coco_by_id() -> tuple[str, ...]:
    """Return COCO's names by category id, 0 to 90."""
    names = iter(Zoo.load().entry(COCO_MODEL).labels)
    return tuple(NO_NAME if number in NOT_IN_USE else next(names) for number in COCO_IDS)


def coco_of_head(head: str | None, options: HeadOptions) -> tuple[str, ...]:
    """Return COCO's names by a head's own class numbers, of a model that tells the category ids apart.

    Heads that take the background away begin with id 1, as do EfficientDet's 90 classes before EfficientNMS; DETR has
    every id, and "no object" after them.
    """
    begins_with_1 = head == "efficient-nms" or (options.background and head != "detr-raw")
    return coco_by_id()[1 if begins_with_1 else 0 :]
