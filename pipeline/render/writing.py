"""Writing from right to left, and Arabic letters that join: OpenCV draws letter after letter, left to right.

A short form of the Unicode bidirectional algorithm (UAX 9), enough for a line of names and numbers: stretches of
right-to-left letters are turned round, numbers inside them are not. Arabic letters become their joined shapes, which
Unicode has as characters ("presentation forms"), where the font has those.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

RIGHT_TO_LEFT = ("R", "AL")
NUMBERS = ("EN", "AN")
FORMS = range(0xFB50, 0xFF00)
MIRRORED = str.maketrans("()[]{}<>", ")(][}{><")


def in_drawing_order(text: str, has: Callable[[str], bool]) -> str:
    """Return the text with its characters in the order in which they are drawn, left to right.

    Args:
        text: one line.
        has: whether the font has a character.
    """
    if text.isascii():
        return text
    kinds = [unicodedata.bidirectional(each) for each in text]
    if not any(kind in RIGHT_TO_LEFT for kind in kinds):
        return text
    turned = [kind in RIGHT_TO_LEFT for kind in kinds]
    for start, end in pairwise([place for place, is_turned in enumerate(turned) if is_turned]):
        if not any(kind == "L" for kind in kinds[start:end]):  # what is between two such letters goes with them
            turned[start:end] = [True] * (end - start)
    return "".join(_turned(part, has) if is_turned else part for is_turned, part in _stretches(text, turned))


def _stretches(text: str, marks: list[bool]) -> list[tuple[bool, str]]:
    """Cut a text where the mark of its characters changes."""
    parts: list[tuple[bool, str]] = []
    for each, mark in zip(text, marks, strict=True):
        if parts and parts[-1][0] == mark:
            parts[-1] = mark, parts[-1][1] + each
        else:
            parts.append((mark, each))
    return parts


def _turned(text: str, has: Callable[[str], bool]) -> str:
    """Turn a stretch round, but not the numbers in it."""
    joined = _joined(text, has)
    is_number = [unicodedata.bidirectional(each) in NUMBERS for each in joined]
    parts = _stretches(joined, is_number)
    return "".join(part if number else part[::-1].translate(MIRRORED) for number, part in reversed(parts))


def _joined(text: str, has: Callable[[str], bool]) -> str:
    """Replace Arabic letters by the shapes that they have beside their neighbours."""
    shapes = _shapes()
    joined = []
    for place, letter in enumerate(text):
        mine = shapes.get(letter, {})
        before = place > 0 and "initial" in shapes.get(text[place - 1], {})
        after = "initial" in mine and place + 1 < len(text) and "final" in shapes.get(text[place + 1], {})
        name = ("medial" if after else "final") if before else ("initial" if after else "isolated")
        shape = mine.get(name, letter)
        joined.append(shape if has(shape) else letter)
    return "".join(joined)


@lru_cache(maxsize=1)
def _shapes() -> dict[str, dict[str, str]]:
    """Return the presentation forms of each Arabic letter: isolated, initial, medial, final."""
    shapes: dict[str, dict[str, str]] = {}
    for code in FORMS:
        name, *letters = unicodedata.decomposition(chr(code)).split() or [""]
        if len(letters) == 1:  # else a ligature
            shapes.setdefault(chr(int(letters[0], 16)), {}).setdefault(name.strip("<>"), chr(code))
    return shapes
