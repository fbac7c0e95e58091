"""What a request costs in float and in int8, measured side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from engines.engine import Engine

TIMED = 30
"""Requests of each engine."""
WARM_UP = 3
"""The first are the slowest."""


def costs(engines: Sequence[Engine]) -> list[tuple[float, float]]:
    """Return the medians of one request at a time, time and CPU time in ms, in turns: a busy machine hits all."""
    height, width = engines[0].input_size
    picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
    taken: list[list[tuple[float, float]]] = [[] for _ in engines]
    for number in range(TIMED + WARM_UP):
        for engine, each in zip(engines, taken, strict=True):
            began, cpu = time.perf_counter(), time.process_time()
            engine.infer(picture)
            if number >= WARM_UP:
                each.append((1e3 * (time.perf_counter() - began), 1e3 * (time.process_time() - cpu)))
    return [(statistics.median(ms for ms, _ in each), statistics.median(cpu for _, cpu in each)) for each in taken]
