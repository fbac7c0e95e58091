"""The bare parts of a run, each alone on one thread: what a frame costs where nothing is in between.

`cores * 1000 / the sum of these` is the most frames per second that the whole could reach.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import cv2

from engines.engine import EngineOptions, open_engine
from engines.spec import ModelSpec
from pipeline.capture.file import VideoFile
from pipeline.frame import Frame
from pipeline.infer.detector import DetectorOptions, PictureDetector
from pipeline.picture import Picture
from pipeline.render.renderer import Renderer, RenderOptions
from pipeline.sinks.video import VideoOptions, VideoWriter

Item = TypeVar("Item")
Result = TypeVar("Result")


def bare_stages(spec: ModelSpec, engine: EngineOptions, video: Path, frames: int) -> dict[str, float]:
    """Measure decode, letterbox, model, head + NMS, drawing and encoding.

    Args:
        spec: the detector.
        engine: backend and precision; one thread and one request are used whatever it says.
        video: the source.
        frames: how many of its first frames to use.

    Returns:
        CPU milliseconds per frame of the process, per part.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return _measure(spec, engine, video, frames)
    finally:
        cv2.setNumThreads(threads)


def _measure(spec: ModelSpec, options: EngineOptions, video: Path, count: int) -> dict[str, float]:
    source = VideoFile("bench", video)
    source.open()
    items = source.frames()
    costs: dict[str, float] = {}
    taken = [item for item in _timed(costs, "decode", lambda _: next(items, None), range(count)) if item is not None]
    frames = [item for item in taken if isinstance(item, Frame)]
    source.close()
    one = EngineOptions(options.backend, options.precision, options.device, 1, 1, options.input_size)
    with_engine = open_engine(spec, one)
    detector = PictureDetector(spec, with_engine, DetectorOptions())
    inputs = [
        (plan, buffer.copy())
        for plan, buffer in _timed(costs, "letterbox", lambda frame: detector.letterbox(frame.picture), frames)
    ]
    outputs = _timed(costs, "model", lambda cut: with_engine.infer(cut[1][None]), inputs)
    pairs = list(zip(outputs, inputs, strict=True))
    found = _timed(costs, "head + NMS", lambda pair: detector.read(pair[0], pair[1][0]), pairs)
    with_engine.close()
    for frame, detections in zip(frames, found, strict=True):
        frame.detections, frame.labels = detections, spec.labels
    renderer = Renderer(RenderOptions())
    _timed(costs, "draw", renderer.process, frames)
    _encode(costs, frames)
    return costs


def _encode(costs: dict[str, float], frames: list[Frame]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = frames[0].output.as_planes()
        path = Path(folder) / "bench.mp4"
        writer = VideoWriter(path, first, 25, VideoOptions())

        def write(frame: Frame) -> None:
            picture: Picture = frame.output
            writer.write(picture.as_planes(), frame.pts)

        _timed(costs, "encode", write, frames)
        writer.close()


def _timed(costs: dict[str, float], name: str, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Do the work on every item; store its CPU milliseconds per item under `name`."""
    results = []
    started = time.process_time()
    for item in items:
        results.append(work(item))
    costs[name] = (time.process_time() - started) * 1e3 / max(1, len(results))
    return results
