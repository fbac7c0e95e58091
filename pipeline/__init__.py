"""Frameloom's pipeline: capture -> infer -> post-process -> render -> record and report.

    from pipeline import Pipeline

    for frame in Pipeline({"sources": ["street.mp4"]}):
        print(frame.index, len(frame.detections))

Importing this package is cheap; what a run needs is imported when the run is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.api import Pipeline
    from pipeline.frame import Detections, Frame
    from pipeline.stage import AsyncStage, Stage

__all__ = ["AsyncStage", "Detections", "Frame", "Pipeline", "Stage"]

_HOMES = {"Pipeline": "api", "Frame": "frame", "Detections": "frame", "Stage": "stage", "AsyncStage": "stage"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
