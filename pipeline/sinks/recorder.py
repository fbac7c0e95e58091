"""Recorder: annotated video, a file per source, one picture of all, or both."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from pipeline.capture.source import SourceInfo
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.picture import Planes
from pipeline.sinks.grid import Grid
from pipeline.sinks.paths import prepare_file
from pipeline.sinks.sink import Sink
from pipeline.sinks.video import VideoOptions, VideoWriter, form_of, usable

Layout = Literal["separate", "grid", "both"]
DEFAULT_FPS = 25.0
GRID: Final = None
"""Stands for the picture of all sources where a source's name would stand."""


@dataclass(frozen=True)
class RecorderOptions:
    """Where and how to record."""

    path: Path
    layout: Layout = "separate"
    segment_s: float | None = None
    """Begin a new file after so many seconds of media time; None: one file."""
    video: VideoOptions = field(default_factory=VideoOptions)


class Recording:
    """The files of one source: a new one when the picture's size or colour tags change or a segment is full.

    The first file keeps the media's own timestamps; each further one begins at 0. A file is never one that `taken`
    has already: what another source records, or what is being read.
    """

    def __init__(
        self, path: Path, fps: float, segment_s: float | None, options: VideoOptions, taken: set[Path]
    ) -> None:
        self._path, self._fps, self._segment_s, self._options, self._taken = path, fps, segment_s, options, taken
        self._writer: VideoWriter | None = None
        self._begun_at = 0.0
        self._shift = 0.0
        self.files: list[Path] = []

    def write(self, planes: Planes, time_s: float) -> None:
        """Add one picture, whose pixels stay as they are."""
        if self._writer is None or self._is_over(self._writer, planes, time_s):
            self.close()
            self._begun_at = time_s
            self._shift = time_s if self.files else 0.0
            path = self._next_path()
            self._writer = VideoWriter(path, planes, self._fps, self._options)
            self.files.append(path)
        self._writer.write(planes, time_s - self._shift)

    def _is_over(self, writer: VideoWriter, planes: Planes, time_s: float) -> bool:
        if writer.form != form_of(planes):
            return True
        return self._segment_s is not None and time_s - self._begun_at >= self._segment_s

    def _next_path(self) -> Path:
        numbered = (
            self._path.with_name(f"{self._path.stem}-{number:03d}{self._path.suffix}")
            for number in itertools.count(len(self.files) + 1)
        )
        first = [self._path] if not self.files and self._segment_s is None else []
        path = next(path for path in itertools.chain(first, numbered) if path.resolve() not in self._taken)
        self._taken.add(path.resolve())
        return path

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
        self._recordings: dict[str | None, Recording] = {}
        self._starts: dict[str, float] = {}
        self._grid_starts: dict[str, float] = {}
        self._taken: set[Path] = set()
        self._grid: Grid | None = None

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; try the encoder; see that no source would be overwritten."""
        self._sources = {source.name: source for source in sources}
        self._taken = {Path(source.url).resolve() for source in sources if "://" not in source.url}
        layout = self._options.layout
        names: list[str | None] = [] if layout == "grid" else list(self._sources)
        for path in (self._path(name) for name in (names if layout == "separate" else [*names, GRID])):
            if path.resolve() in self._taken:
                raise ConfigError(f"sinks.record: {path} is also a source: it would be overwritten")
            prepare_file(path, "sinks.record")
        self._options = replace(self._options, video=usable(self._options.video))
        if layout != "separate":
            self._grid = Grid(sources)

    def consume(self, frame: Frame) -> None:
        """Encode one frame."""
        planes, time_s = frame.output.as_planes(), self._time(frame)
        if self._options.layout != "grid":
            self._recording(frame.source).write(planes, time_s)
        if self._grid is not None:
            self._write_grid(self._grid.add(frame.source, self._grid_time(frame), planes))

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
        for time_s, canvas in pictures:
            self._recording(GRID).write(replace(canvas, data=canvas.data.copy()), time_s)

    def _time(self, frame: Frame) -> float:
        """Media time of files; of live sources the capture clock, from their first frame."""
        if not self._sources[frame.source].live:
            return frame.pts
        return frame.captured_at - self._starts.setdefault(frame.source, frame.captured_at)

    def _grid_time(self, frame: Frame) -> float:
        """Media time of a file from its first picture; of live sources the clock that they share."""
        live = self._sources[frame.source].live
        time_s = frame.captured_at if live else frame.pts
        return round(time_s - self._grid_starts.setdefault("" if live else frame.source, time_s), 6)

    def _path(self, name: str | None) -> Path:
        """Return the file of a source, or of the grid."""
        path, layout = self._options.path, self._options.layout
        if layout == "grid" or (name is not GRID and len(self._sources) == 1):
            return path
        label = name
        if name is GRID:
            label = next(label for label in ("grid", "grid-all", "grid-of-all") if label not in self._sources)
        return path.with_name(f"{path.stem}-{label}{path.suffix}")

    def _recording(self, name: str | None) -> Recording:
        if name not in self._recordings:
            options = self._options
            fps = max((source.fps or DEFAULT_FPS for key, source in self._sources.items() if name in (key, GRID)))
            self._recordings[name] = Recording(self._path(name), fps, options.segment_s, options.video, self._taken)
        return self._recordings[name]
