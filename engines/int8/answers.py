"""What an int8 engine said of known pictures when it was accepted, against what is compiled of it at each start.

It is judged once, and compiled again whenever it is opened. Backends may do that wrongly, and not each time: OpenVINO
2026.4 does so with some first layers. The same network compiled twice gives the same values; 40 times for yolox-nano.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from engines.int8.search import relative_error
from engines.trust.pictures import cut_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engines.engine import Engine
    from engines.spec import ModelSpec

PICTURES = 2
VALUES = 128
"""Of each output, spread evenly over it."""
CLOSE = 0.05
"""Mean difference, as a share of the mean value, that another number of threads may make."""

Answers = dict[str, list[float]]
"""Some values of each output, by its name."""


def answers_of(spec: ModelSpec, engine: Engine) -> Answers:
    """Return what an engine says of some of the pictures that come with the package."""
    outputs = engine.infer(cut_for(spec, engine.input_size)[:PICTURES])
    flat = {name: array.ravel().astype(np.float64) for name, array in outputs.items()}
    return {name: values[:: max(1, len(values) // VALUES)].tolist() for name, values in flat.items()}


def apart(ours: Mapping[str, list[float]], accepted: Mapping[str, list[float]]) -> float:
    """Return how far two answers are from each other at most, as a share; infinite where they cannot be compared."""
    if {name: len(values) for name, values in ours.items()} != {name: len(each) for name, each in accepted.items()}:
        return np.inf
    return max((relative_error(np.array(ours[name]), np.array(accepted[name])) for name in accepted), default=np.inf)
