"""Histogram: percentiles within 1 % of the exact ones, in memory that does not grow."""

from __future__ import annotations

import math
import sys
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.trace import BUCKETS, Histogram

PERCENTS = (0, 1, 25, 50, 90, 95, 99, 100)


def histogram(seconds: list[float]) -> Histogram:
    filled = Histogram()
    for value in seconds:
        filled.add(value)
    return filled


@pytest.mark.parametrize("number", [1, 2, 3, 10, 999, 20_000])
@pytest.mark.parametrize("shape", ["lognormal", "uniform", "two camps"])
def test_percentiles_are_within_1_percent_of_numpys(number: int, shape: str) -> None:
    random = np.random.default_rng(number)
    values = {
        "lognormal": random.lognormal(-4, 1.5, number),
        "uniform": random.uniform(1e-5, 2, number),
        "two camps": np.where(random.random(number) < 0.9, 0.011, 1.7) * random.normal(1, 0.01, number),
    }[shape]
    filled = histogram(values.tolist())
    for percent in PERCENTS:
        exact = np.percentile(values, percent, method="inverted_cdf") * 1e3
        assert filled.percentile_ms(percent) == pytest.approx(exact, rel=0.01)


@given(st.lists(st.floats(1e-6, 20_000), min_size=1, max_size=200), st.integers(0, 100))
def test_any_durations_from_a_microsecond_to_hours_are_within_1_percent(values: list[float], percent: int) -> None:
    rank = max(1, math.ceil(len(values) * percent / 100))
    assert histogram(values).percentile_ms(percent) == pytest.approx(sorted(values)[rank - 1] * 1e3, rel=0.01)


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-9])
def test_durations_below_a_microsecond_count_as_one(value: float) -> None:
    assert histogram([value]).percentile_ms(50) == pytest.approx(0.001, rel=0.02)


@pytest.mark.parametrize("value", [1e9, float("inf")])
def test_endless_durations_fall_into_the_last_bucket(value: float) -> None:
    longest = histogram([value]).percentile_ms(50)
    assert longest is not None
    assert longest > 5 * 3600 * 1e3


def test_without_durations_there_are_no_percentiles() -> None:
    assert Histogram().percentile_ms(50) is None
    assert Histogram().percentiles() == {"p50": None, "p95": None, "p99": None}


def test_percentiles_are_rounded_to_the_microsecond() -> None:
    assert all(value == round(value, 3) for value in histogram([0.0123456]).percentiles().values() if value)


def test_merging_equals_adding_all_to_one() -> None:
    random = np.random.default_rng(1)
    first, second = random.exponential(0.01, 300).tolist(), random.exponential(0.1, 200).tolist()
    merged = histogram(first)
    merged.merge(histogram(second))
    together = histogram(first + second)
    assert merged.percentiles() == together.percentiles()
    assert merged.count == 500
    assert merged.total_s == pytest.approx(together.total_s)


def test_memory_does_not_grow() -> None:
    filled = Histogram()
    before = sys.getsizeof(filled._counts)
    for _ in range(10_000):
        filled.add(0.01)
    assert sys.getsizeof(filled._counts) == before
    assert filled._counts.nbytes == BUCKETS * 8


def test_reading_while_another_thread_writes_never_gives_nonsense() -> None:
    filled, over = Histogram(), threading.Event()

    def write() -> None:
        while not over.is_set():
            filled.add(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(1000):
            copy = Histogram()
            copy.merge(filled)
            values = [value for value in copy.percentiles().values() if value is not None]
            assert values == pytest.approx([10] * len(values), rel=0.01)
    finally:
        over.set()
        writer.join()
