"""What somebody says of a model on the command line: each option takes the place of one assumption."""

from __future__ import annotations

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
    if len(values) == 1:
        values *= 3
    if len(values) != 3 or (option == "--std" and not all(values)):
        raise ConfigError(
            f"{option} {text}: write one number, or one for each channel, such as 127.5 or 58.4,57.1,57.4"
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
            value = [[float(number) for number in re.findall(r"[\d.]+", part)] for part in text.split(";")]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"--anchors {text}: {' '.join(str(error).split())}") from error
    if (found := anchors_of(value)) is None:
        raise ConfigError(
            f"--anchors {text}: write width and height of each anchor, a list for each feature map, the finest first, "
            "such as [[10,13, 16,30], [30,61, 62,45]]; or give a YAML file with `anchors`"
        )
    return found


def labels(text: str | None) -> tuple[str, ...]:
    """Return names of classes: `coco`, a file (one a line, or a data.yaml), or names between commas.

    Raises:
        ConfigError: there are none.
    """
    if text is None:
        return ()
    if text == COCO:
        return Zoo.load().entry(COCO_MODEL).labels
    if Path(text).is_file():
        return labels_of(read_names(Path(text)))
    if "," not in text and ("/" in text or Path(text).suffix):
        raise ConfigError(f"--labels {text}: there is no such file")
    names = tuple(" ".join(name.split()) for name in text.split(","))
    if not all(names):
        raise ConfigError(f"--labels {text}: write names between commas, `coco`, or a file of names")
    return names
