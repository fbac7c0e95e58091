"""Recorder: annotated video, a file per source, one picture of all, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.capture.source import SourceInfo
from pipeline.frame import Frame
from pipeline.picture import Planes
from pipeline.sinks.grid import Grid
from pipeline.sinks.paths import prepare_folder
from pipeline.sinks.sink import Sink
from pipeline.sinks.video import VideoOptions, VideoWriter

Layout = Literal["separate", "grid", "both"]
DEFAULT_FPS = 25.0
GRID = "grid"


@dataclass(frozen=True)
class RecorderOptions:
    """Where and how to record."""

    path: Path
    layout: Layout = "separate"
    segment_s: float | None = None
    """Begin a new file after so many seconds of media time; None: one file."""
    video: VideoOptions = field(default_factory=VideoOptions)


class Recording:
    """The files of one source: a new one when the picture's size changes or a segment is full.

    The first file keeps the media's own timestamps; each further one begins at 0.
    """

    def __init__(self, path: Path, fps: float, segment_s: float | None, options: VideoOptions) -> None:
        self._path, self._fps, self._segment_s, self._options = path, fps, segment_s, options
        self._writer: VideoWriter | None = None
        self._begun_at = 0.0
        self._shift = 0.0
        self.files: list[Path] = []

    def write(self, planes: Planes, time_s: float) -> None:
        """Add one picture."""
        if self._writer is None or self._is_over(self._writer, planes, time_s):
            self.close()
            self._begun_at = time_s
            self._shift = time_s if self.files else 0.0
            path = self._next_path()
            self._writer = VideoWriter(path, planes.width, planes.height, self._fps, planes, self._options)
            self.files.append(path)
        self._writer.write(planes, time_s - self._shift)

    def _is_over(self, writer: VideoWriter, planes: Planes, time_s: float) -> bool:
        if writer.size != (planes.width, planes.height):
            return True
        return self._segment_s is not None and time_s - self._begun_at >= self._segment_s

    def _next_path(self) -> Path:
        number = len(self.files) + 1
        if number == 1 and self._segment_s is None:
            return self._path
        return self._path.with_name(f"{self._path.stem}-{number:03d}{self._path.suffix}")

    def close(self) -> None:
        """Finish the current file."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()


class Recorder(Sink):
    """The recording sink of a run."""

    name = "record"

    def __init__(self, options: RecorderOptions) -> None:
        self._options = options
        self._recordings: dict[str, Recording] = {}
        self._starts: dict[str, float] = {}
        self._grid: Grid | None = None

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder."""
        prepare_folder(self._options.path.parent, "record")
        self._sources = {source.name: source for source in sources}
        if self._options.layout != "separate":
            self._grid = Grid(sources)

    def consume(self, frame: Frame) -> None:
        """Encode one frame."""
        planes, time_s = frame.output.as_planes(), self._time(frame)
        if self._options.layout != "grid":
            self._recording(frame.source).write(planes, time_s)
        if self._grid is not None:
            self._write_grid(self._grid.add(frame.source, time_s, planes))

    def end(self, source: str) -> None:
        """Finish the source's file."""
        if self._grid is not None:
            self._write_grid(self._grid.end(source))
        if source in self._recordings:
            self._recordings[source].close()

    def close(self) -> None:
        """Finish all files, each although another fails."""
        errors = []
        for recording in self._recordings.values():
            try:
                recording.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    @property
    def files(self) -> list[Path]:
        """All files begun."""
        return [path for recording in self._recordings.values() for path in recording.files]

    def _write_grid(self, pictures: Iterator[tuple[float, Planes]]) -> None:
        for time_s, planes in pictures:
            self._recording(GRID).write(planes, time_s)

    def _time(self, frame: Frame) -> float:
        """Media time of files; of live sources the capture clock, from their first frame."""
        if not self._sources[frame.source].live:
            return frame.pts
        return frame.captured_at - self._starts.setdefault(frame.source, frame.captured_at)

    def _recording(self, name: str) -> Recording:
        if name not in self._recordings:
            path, options = self._options.path, self._options
            alone = name == GRID if options.layout == "grid" else len(self._sources) == 1 and name != GRID
            if not alone:
                path = path.with_name(f"{path.stem}-{name}{path.suffix}")
            fps = max((source.fps or DEFAULT_FPS for key, source in self._sources.items() if name in (key, GRID)))
            self._recordings[name] = Recording(path, fps, options.segment_s, options.video)
        return self._recordings[name]
