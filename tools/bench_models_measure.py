"""What `frameloom bench models` measures of one detector: latency, throughput, CPU time, AP."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from engines.engine import Backend, Engine, EngineOptions, Pending, open_engine
from engines.errors import FrameloomError
from engines.spec import Precision
from engines.zoo import Zoo
from pipeline.infer.recognition import recognise
from tools.benchmark import apart
from tools.eval_detect import Dataset, evaluate_detections
from tools.terminal import download_progress

WARM_UP = 5


@dataclass(frozen=True)
class Candidate:
    """A model, and how it is run."""

    model: str
    """Name, or path of the file."""
    backend: Backend
    precision: Precision

    @property
    def options(self) -> EngineOptions:
        """As a run would open it."""
        return EngineOptions(backend=self.backend, precision=self.precision)


@dataclass(frozen=True)
class Speed:
    """Of one candidate, in one round."""

    engine: str
    backend: str
    precision: str
    size: tuple[int, int]
    """Height and width of the input."""
    ms: float
    """Median of one request at a time, all threads working on it."""
    p95_ms: float
    fps: float
    """With as many requests in flight as a run keeps."""
    cpu_ms: float
    """CPU time of a request, with those in flight; other programs hardly change it."""


@dataclass(frozen=True)
class Row:
    """What was found out about one candidate."""

    model: str
    backend: str
    precision: str
    reason: str = ""
    """Why it cannot run; then all that follows is None."""
    engine: str | None = None
    size: tuple[int, int] | None = None
    ms: float | None = None
    p95_ms: float | None = None
    fps: float | None = None
    cpu_ms: float | None = None
    ap: float | None = None
    """0..1; None: nobody gave labels."""

    @property
    def name(self) -> str:
        """For people: the file's name where it is a path."""
        return Path(self.model).name if Path(self.model).suffix else self.model


def measure(
    candidates: Sequence[Candidate],
    dataset: Dataset | None,
    requests: int,
    rounds: int,
    progress: Callable[[int, int], None],
) -> list[Row]:
    """Time every candidate in every round, each in a process of its own, and its AP once; those that fail, once."""
    speeds: dict[Candidate, list[Speed]] = {each: [] for each in candidates}
    reasons: dict[Candidate, str] = {}
    precisions: dict[Candidate, float] = {}
    total, done = len(candidates) * (rounds + (dataset is not None)), 0
    for number in range(rounds + 1):
        for each in candidates:
            is_accuracy = number == rounds
            if each in reasons or (is_accuracy and dataset is None):
                continue
            result = apart(_precision_of, each, dataset) if is_accuracy else apart(_speed_of, each, requests)
            if isinstance(result, str):
                reasons[each] = result
            elif isinstance(result, Speed):
                speeds[each].append(result)
            else:
                precisions[each] = result
            done += 1
            progress(done, total)
    return [_row(each, speeds[each], reasons.get(each, ""), precisions.get(each)) for each in candidates]


def _row(candidate: Candidate, speeds: Sequence[Speed], reason: str, ap: float | None) -> Row:
    if reason or not speeds:
        return Row(candidate.model, candidate.backend, candidate.precision, reason)
    last = speeds[-1]
    ms, p95, fps, cpu = (median(getattr(each, name) for each in speeds) for name in ("ms", "p95_ms", "fps", "cpu_ms"))
    return Row(candidate.model, last.backend, last.precision, "", last.engine, last.size, ms, p95, fps, cpu, ap)


def _speed_of(candidate: Candidate, requests: int) -> Speed | str:
    """Return the speed, or in words why there is none; in a process of its own."""
    try:
        with download_progress(candidate.model) as progress:
            spec = recognise(Zoo.load().spec(candidate.model, task="detect", progress=progress))
        alone = open_engine(spec, replace(candidate.options, requests=1))
        try:
            ms, p95_ms = _latency(alone, requests)
        finally:
            alone.close()
        engine = open_engine(spec, candidate.options)
        try:
            fps, cpu_ms = _throughput(engine, requests)
            info = engine.describe()
        finally:
            engine.close()
    except FrameloomError as error:
        return str(error)
    return Speed(str(info), info.backend, info.precision, engine.input_size, ms, p95_ms, fps, cpu_ms)


def _precision_of(candidate: Candidate, dataset: Dataset) -> float | str:
    try:
        report = evaluate_detections(candidate.model, dataset, candidate.options)
    except FrameloomError as error:
        return str(error)
    return float(report["metrics"]["AP"] or 0.0)


def _latency(engine: Engine, requests: int) -> tuple[float, float]:
    """Return median and 95th percentile, in ms, of one request at a time."""
    picture, times = _noise(engine), []
    for number in range(requests + WARM_UP):
        began = time.perf_counter()
        engine.infer(picture)
        if number >= WARM_UP:
            times.append(1e3 * (time.perf_counter() - began))
    p50, p95 = np.percentile(times, (50, 95)).tolist()
    return p50, p95


def _throughput(engine: Engine, requests: int) -> tuple[float, float]:
    """Return requests per second with all in flight, and the CPU's ms for each."""
    picture, flying = _noise(engine), deque[Pending]()
    for _ in range(WARM_UP):
        engine.infer(picture)
    began, cpu = time.perf_counter(), time.process_time()
    for _ in range(requests):
        if len(flying) == engine.requests:
            flying.popleft().result()
        flying.append(engine.submit(picture))
    for each in flying:
        each.result()
    return requests / (time.perf_counter() - began), 1e3 * (time.process_time() - cpu) / requests


def _noise(engine: Engine) -> Any:
    return np.random.default_rng(0).integers(0, 256, (1, *engine.input_size, 3), np.uint8)
