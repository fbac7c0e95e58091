"""Settings -> how engines run, for every model of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from engines.engine import EngineOptions

if TYPE_CHECKING:
    from pipeline.capture.source import SourceInfo
    from pipeline.config.input_settings import EngineSettings


def engine_options(settings: EngineSettings, input_size: tuple[int, int] | None = None) -> EngineOptions:
    """Return the engine's part of the settings."""
    return EngineOptions(
        backend=settings.backend,
        precision=settings.precision,
        device=settings.device,
        threads=settings.threads,
        requests=settings.requests,
        input_size=input_size,
        batch=settings.batch,
        cuda=settings.cuda,
        cuda_graph=settings.cuda_graph,
    )


def suited(engine: EngineOptions, sources: Sequence[SourceInfo]) -> EngineOptions:
    """Let each camera have one request at a time: of two on two cores, each would take twice as long."""
    if engine.requests is not None or not all(source.live for source in sources):
        return engine
    return replace(engine, requests=min(len(sources), engine.threads or os.cpu_count() or 1))


def known_sizes(sources: Sequence[SourceInfo]) -> list[tuple[int, int]]:
    """Return height and width of the frames of each source that says so beforehand."""
    return [(source.height, source.width) for source in sources if source.height and source.width]
