"""The whole pipeline on frames that were decoded ahead: what is between the frames and the engine, and nothing else."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from pipeline.capture import make_source
from pipeline.capture.source import Source, SourceInfo
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.infer.detector import Detector
from pipeline.infer.picture_detector import DetectorOptions
from pipeline.picture import Picture
from pipeline.render.renderer import Renderer
from pipeline.runner import Runner
from pipeline.sinks.recorder import Recorder, RecorderOptions

if TYPE_CHECKING:
    from engines.engine import EngineOptions
    from engines.spec import ModelSpec
    from pipeline.sinks.sink import Sink
    from pipeline.stage import Stage
    from tools.gpu.timing import Effort

NAME = "memory"
FPS = 25.0
"""Of the frames' media time; they are given as fast as they are taken."""


def decoded(video: Path, most: int) -> list[Picture]:
    """Return the first pictures of a video, as the decoder gives them.

    Raises:
        SourceError: it cannot be read, or holds no picture.
    """
    source = make_source("bench", str(video))
    source.open()
    try:
        frames = (item.picture for item in source.frames() if isinstance(item, Frame))
        pictures = list(itertools.islice(frames, most))
    finally:
        source.close()
    if not pictures:
        raise SourceError(f"{video}: not one picture can be read")
    return pictures


class InMemory(Source):
    """Pictures in memory as a source: again and again for so many seconds, and at least so many frames."""

    def __init__(self, pictures: Sequence[Picture], seconds: float, frames: int) -> None:
        first = pictures[0]
        self.info = SourceInfo(NAME, NAME, width=first.width, height=first.height, fps=FPS)
        self._pictures, self._seconds, self._frames = pictures, seconds, frames
        self._stopped = False

    def frames(self) -> Iterator[Frame]:
        """Yield them, each time as a picture of its own: nobody finds a conversion done that another has made."""
        began = time.monotonic()
        for index, picture in enumerate(itertools.cycle(self._pictures)):
            now = time.monotonic()
            if self._stopped or (index >= self._frames and now - began >= self._seconds):
                return
            yield Frame(NAME, index, index / FPS, now, _again(picture))

    def stop(self) -> None:
        """End."""
        self._stopped = True


def _again(picture: Picture) -> Picture:
    return Picture(planes=picture.planes) if picture.planes is not None else Picture(bgr=picture.bgr)


def pipeline_fps(
    spec: ModelSpec, options: EngineOptions, pictures: Sequence[Picture], effort: Effort, record: Path | None = None
) -> float:
    """Return delivered frames per second, from the first capture to the last delivery: the median of the rounds.

    Args:
        spec: the detector.
        options: how it is run.
        pictures: the frames.
        effort: how long.
        record: also draw, and record into this file.
    """
    return median(_run(spec, options, pictures, effort, record) for _ in range(effort.rounds))


def _run(
    spec: ModelSpec, options: EngineOptions, pictures: Sequence[Picture], effort: Effort, record: Path | None
) -> float:
    source = InMemory(pictures, effort.seconds, effort.steps)
    stages: list[Stage] = [Detector(spec, options, DetectorOptions())]
    sinks: list[Sink] = []
    if record is not None:
        stages.append(Renderer())
        sinks.append(Recorder(RecorderOptions(record)))
        sinks[0].check([source.info])
    runner = Runner([source], stages, sinks)
    fps = runner.run()["fps"]
    if fps is None:
        raise SourceError("the run was too short to be measured: give it more --seconds")
    return float(fps)
