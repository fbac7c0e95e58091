"""LabelledSet: pictures and what they show, as COCO writes it down, wherever it was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Record = dict[str, Any]
NAMES_SHOWN = 5


@dataclass(frozen=True)
class LabelledSet:
    """Labelled pictures. Boxes are x, y, width, height in pixels of the picture as OpenCV reads it."""

    images: list[Record]
    """`id`, `file_name` (relative to `folder`, or absolute), `width`, `height`, and what else the file says."""
    annotations: list[Record]
    """`id` (from 1), `image_id`, `category_id`, `bbox`, `area`, `iscrowd` (1: neither found nor missed counts), and
    `segmentation` (COCO polygons or RLE) where the format has outlines."""
    categories: list[Record]
    """`id`, `name`."""
    folder: Path | None = None
    """Of the pictures; None: the labels do not say."""
    notes: tuple[str, ...] = ()
    """What was left out or assumed, for people."""
    named: bool = True
    """Whether the names are names; else they are the class numbers of the model that the labels were made for."""


def some(names: Sequence[object]) -> str:
    """Return the first names and how many more there are."""
    texts = [str(name) for name in names[:NAMES_SHOWN]]
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return ", ".join(texts) + more


def plural(count: int, noun: str) -> str:
    """Return `1 box`, `2 boxes`."""
    ending = "" if count == 1 else "es" if noun.endswith(("x", "s")) else "s"
    return f"{count} {noun}{ending}"
