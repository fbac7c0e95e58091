"""Colours of classes by their names: the same in each frame, run and model, and no two alike in a map.

A model's number for a class says little, as other models count otherwise. So each name has a number of its own (that of
people is what detectors of COCO's classes give them: a person is tinted as their box is drawn), and where two numbers
give colours that are hard to tell apart, the later class of the map takes the next one that does not.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from pipeline.postprocess.persons import PERSON
from pipeline.render.canvas import Colour
from pipeline.render.theme import Theme

APART = 60.0
"""Distance in BGR from which two colours are told apart: a twentieth of the circle of bright hues."""
TRIES = 64
"""A theme of few colours has none left then, and one is used again; so it is with models of many classes."""


def colours_of(labels: Sequence[str], theme: Theme) -> tuple[Colour, ...]:
    """Return a colour for each class."""
    given: list[Colour] = []
    for label in labels:
        number = 0 if label == PERSON else zlib.crc32(label.encode())
        choices = (theme.of_class(number + step) for step in range(TRIES))
        others = np.array(given).reshape(-1, 3)
        apart = (each for each in choices if (np.linalg.norm(others - each, axis=1) >= APART).all())
        given.append(next(apart, theme.of_class(number)))
    return tuple(given)
