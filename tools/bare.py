"""The bare parts of a run, one after the other on one thread: what a frame costs where nothing is in between.

`cores * 1000 / the sum of these` is the most frames per second that the whole could reach.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import cv2

from engines.engine import EngineOptions, open_engine
from engines.spec import ModelSpec
from pipeline.capture.file import VideoFile
from pipeline.capture.source import Damaged
from pipeline.frame import Frame
from pipeline.infer.picture_detector import DetectorOptions, PictureDetector
from pipeline.render.renderer import Renderer
from pipeline.sinks.recorder import Recorder, RecorderOptions

WARM_UP = 10
"""Frames that are not counted: buffers and caches fill, clocks rise."""

Result = TypeVar("Result")


class Costs:
    """CPU milliseconds of the process, per part."""

    def __init__(self) -> None:
        self.total_ms: dict[str, float] = {}

    def of(self, part: str, work: Callable[[], Result]) -> Result:
        """Do the work; add what it cost."""
        started = time.process_time()
        result = work()
        self.total_ms[part] = self.total_ms.get(part, 0.0) + (time.process_time() - started) * 1e3
        return result


def bare_stages(spec: ModelSpec, options: EngineOptions, video: Path, frames: int) -> dict[str, float]:
    """Measure decode, letterbox, model, head + NMS, drawing and encoding.

    Args:
        spec: the detector.
        options: backend and precision; one thread and one request are used whatever it says.
        video: the source.
        frames: how many of its first frames to use.

    Returns:
        CPU milliseconds per frame, per part.
    """
    cv2.setNumThreads(1)
    source = VideoFile("bench", video)
    source.open()
    engine = open_engine(spec, replace(options, threads=1, requests=1))
    detector = PictureDetector(spec, engine, DetectorOptions())
    renderer = Renderer()
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(RecorderOptions(Path(folder) / "bench.mp4"))
        recorder.check([source.info])
        items, costs, counted = source.frames(), Costs(), 0
        for number in range(WARM_UP + frames):
            if number == WARM_UP:
                costs, counted = Costs(), 0
            frame = _next_frame(items, costs)
            if frame is None:
                break
            _process(frame, costs, detector, renderer, recorder)
            counted += 1
        recorder.close()
    engine.close()
    source.close()
    return {part: total / max(1, counted) for part, total in costs.total_ms.items()}


def _next_frame(items: Iterator[Frame | Damaged], costs: Costs) -> Frame | None:
    item = costs.of("decode", lambda: next(items, None))
    return item if isinstance(item, Frame) else None


def _process(frame: Frame, costs: Costs, detector: PictureDetector, renderer: Renderer, recorder: Recorder) -> None:
    plan, buffer = costs.of("letterbox", lambda: detector.letterbox(frame.picture))
    outputs = costs.of("model", lambda: detector.engine.infer(buffer[None]))
    frame.detections = costs.of("head + NMS", lambda: detector.read(outputs, plan))
    frame.labels = detector.labels
    costs.of("draw", lambda: renderer.process(frame))
    costs.of("encode", lambda: recorder.consume(frame))
