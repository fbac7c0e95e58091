"""Recorder: annotated video, a file per source, one picture of all, or both; in one file or in segments that are
deleted again, oldest first. Where clips are made of the same pictures, they get them as they are encoded here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from pipeline.capture.source import SourceInfo, SourceState
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Frame
from pipeline.picture import Planes
from pipeline.sinks.file_names import (
    DIRECTIVES,
    FileNames,
    dated,
    files_of,
    is_dated,
    labelled,
    root_of,
    wrong_directive,
)
from pipeline.sinks.grid import Grid
from pipeline.sinks.mp4_file import Mp4File
from pipeline.sinks.paths import MEGABYTE, prepare_file
from pipeline.sinks.retention import Kept, Retention
from pipeline.sinks.sink import MissedEvents, Sink
from pipeline.sinks.video import SECOND, Encoded, RisingClock, VideoEncoder, VideoOptions, form_of, usable

if TYPE_CHECKING:
    from pipeline.sinks.clips import Clips

Layout = Literal["separate", "grid", "both"]
DEFAULT_FPS = 25.0
GRID: Final = None
"""Stands for the picture of all sources where a source's name would stand."""


@dataclass(frozen=True)
class RecorderOptions:
    """Where and how to record."""

    path: Path
    """May hold directives of `strftime`: the time at which a file begins."""
    layout: Layout = "separate"
    segment_s: float | None = None
    """Begin a new file after so many seconds of media time; None: one file."""
    video: VideoOptions = field(default_factory=VideoOptions)
    keep_s: float | None = None
    """Delete files that ended so many seconds ago; None: never."""
    keep_mb: float | None = None
    """Delete the oldest when all of all sources take more; None: never."""


class Recording:
    """The files of one source: a new one when the picture's size or colour tags change or a segment is full.

    The first file keeps the media's own timestamps; each further one begins at 0.
    """

    def __init__(self, names: FileNames, fps: float, options: VideoOptions, segment_s: float | None = None) -> None:
        """Write nothing yet.

        Args:
            names: of the files.
            fps: nominal rate.
            options: the encoder and its settings.
            segment_s: seconds of media time after which a file is full; None: never.
        """
        self._names, self._segment_s = names, segment_s
        self._encoder = VideoEncoder(fps, options)
        self._clock = RisingClock(fps)
        self._begun_at = 0
        self._cuts: deque[tuple[int, datetime]] = deque()
        self._file: Mp4File | None = None
        self._finished: list[Path] = []
        self.begun = 0
        """How many files."""
        self.files: dict[Path, None] = {}
        """All files begun, in order; whoever deletes one takes it out."""
        self.ticks = 0
        """Of the last picture."""

    def write(self, planes: Planes, time_s: float, keyframe: bool = False) -> list[Encoded]:
        """Add one picture, whose pixels stay as they are; return what was encoded meanwhile.

        Raises:
            SinkError: the disk is full or gone; what is written so far plays.
        """
        self.ticks = self._clock.ticks(time_s)
        cut = self._encoder.form != form_of(planes) or self._is_full()
        if cut:
            self._begun_at = self.ticks
            self._cuts.append((self.ticks, datetime.now().astimezone()))
        return self._stored(self._encoder.encode(planes, self.ticks, keyframe or cut))

    def _is_full(self) -> bool:
        return self._segment_s is not None and self.ticks - self._begun_at >= self._segment_s * SECOND

    def _stored(self, pictures: list[Encoded]) -> list[Encoded]:
        for picture in pictures:
            if self._cuts and picture.ticks >= self._cuts[0][0]:
                self._begin(picture, self._cuts.popleft()[1])
            if self._file is not None:  # it could not be begun
                self._file.write(picture)
        return pictures

    def _begin(self, picture: Encoded, at: datetime) -> None:
        self._finish()
        try:
            path = self._names.next(at)
        except OSError as error:
            raise SinkError(f"cannot make the folder of the next recording: {error}") from error
        self._file = Mp4File(path, picture.stream, picture.ticks if self.begun else 0)
        self.begun += 1
        self.files[path] = None

    def _finish(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            self._finished.append(file.path)
            file.close()

    def close(self) -> list[Encoded]:
        """Finish the current file; return what was encoded last."""
        try:
            return self._stored(self._encoder.flush())
        finally:
            self._finish()

    def finished(self) -> list[Path]:
        """Return the files that have been finished since the last call."""
        finished, self._finished = self._finished, []
        return finished

    @property
    def growing(self) -> tuple[Path, int] | None:
        """The file that is being written, and its bytes so far."""
        return None if self._file is None else (self._file.path, self._file.size)


class Recorder(Sink):
    """The recording sink of a run."""

    name = "record"

    def __init__(self, options: RecorderOptions, clips: Clips | None = None) -> None:
        """Record nothing yet.

        Args:
            options: where and how.
            clips: what gets the encoded pictures of each source, too; it must not encode any itself.
        """
        self._options = options
        self._clips = clips
        self._recordings: dict[str | None, Recording] = {}
        self._starts: dict[str, float] = {}
        self._grid_starts: dict[str, float] = {}
        self._taken: set[Path] = set()
        """Resolved paths that no file may get: of sources, and of files that there are."""
        self._being_read: set[Path] = set()
        """Files of sources that have a recording's name."""
        self._grid: Grid | None = None

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; try the encoder; see that no source would be overwritten; delete what is too old."""
        options = self._options
        if (wrong := wrong_directive(options.path)) is not None:
            known = " ".join(f"%{letter}" for letter in DIRECTIVES)
            raise ConfigError(f"sinks.record: {wrong!r} in {options.path} stands for no time; these do: {known}")
        if (options.keep_s or options.keep_mb) and options.segment_s is None and not is_dated(options.path):
            raise ConfigError(
                f"sinks.record: {options.path} is one file: keep_s and keep_mb need segment_s, or times in the path "
                "such as %Y%m%d-%H%M%S"
            )
        self._sources = {source.name: source for source in sources}
        self._taken = {Path(source.url).resolve() for source in sources if "://" not in source.url}
        names: list[str | None] = [] if options.layout == "grid" else list(self._sources)
        paths = [self._path(name) for name in (names if options.layout == "separate" else [*names, GRID])]
        for path in paths:
            first = dated(path, datetime.now().astimezone())
            if first.resolve() in self._taken and not is_dated(path):
                raise ConfigError(f"sinks.record: {path} is also a source: it would be overwritten")
            prepare_file(first, "sinks.record")
        self._options = replace(options, video=usable(options.video))
        if options.layout != "separate":
            self._grid = Grid(sources)
        root = root_of(options.path)
        real = root.resolve()
        self._being_read = {root / path.relative_to(real) for path in self._taken if path.is_relative_to(real)}
        self._retention = Retention(
            "sinks.record",
            root,
            lambda: (kept for path in files_of(paths) if (kept := Kept.of([path])) is not None),
            None if options.keep_mb is None else options.keep_mb * MEGABYTE,
            options.keep_s,
            deleted=self._forget,
        )
        self._retention.look(self._being_read)
        self._retention.make_room()

    def consume(self, frame: Frame) -> None:
        """Encode one frame."""
        planes, time_s = frame.output.as_planes(), self._time(frame)
        if self._options.layout != "grid":
            self._write(frame.source, planes, time_s, frame)
        if self._grid is not None:
            self._write_grid(self._grid.add(frame.source, self._grid_time(frame), planes))

    def missed(self, events: MissedEvents) -> None:
        """Let clips know what happened in a frame that was dropped."""
        if self._clips is not None:
            self._clips.remember(events)

    def source_changed(self, state: SourceState) -> None:
        """Let clips know."""
        if self._clips is not None:
            self._clips.rest(state)

    def end(self, source: str) -> None:
        """Finish the source's file."""
        if self._grid is not None:
            self._write_grid(self._grid.end(source))
        if source in self._recordings:
            self._close(source)

    def close(self) -> None:
        """Finish all files, each although another fails."""
        errors = []
        for name in self._recordings:
            try:
                self._close(name)
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    @property
    def files(self) -> list[Path]:
        """All files begun, but for those that are deleted again."""
        begun = [path for recording in self._recordings.values() for path in recording.files]
        return [path for path in begun if path.exists()] if self._retention.is_on else begun

    def _write(self, name: str | None, planes: Planes, time_s: float, frame: Frame | None = None) -> None:
        recording = self._recording(name)
        clips = None if frame is None else self._clips
        keyframe = clips is not None and frame is not None and clips.wants_keyframe(frame.source)
        begun = recording.begun
        encoded = recording.write(planes, time_s, keyframe)
        if clips is not None and frame is not None:
            clips.take(frame, recording.ticks, encoded)
        self._keep(look=recording.begun > begun)

    def _keep(self, *, look: bool) -> None:
        """Delete what is no longer to be kept; look at the disk first where a file has begun or ended."""
        growing = [each for recording in self._recordings.values() if (each := recording.growing) is not None]
        if look:
            for path in (path for recording in self._recordings.values() for path in recording.finished()):
                self._retention.add([path])
            self._retention.look(self._being_read.union(path for path, _ in growing))
        self._retention.make_room(sum(size for _, size in growing))

    def _forget(self, path: Path) -> None:
        """Know no more of a file that is deleted."""
        self._taken.discard(path.resolve())
        for recording in self._recordings.values():
            recording.files.pop(path, None)

    def _close(self, name: str | None) -> None:
        encoded: list[Encoded] = []
        try:
            encoded = self._recordings[name].close()
        finally:
            if self._clips is not None and name is not GRID:
                self._clips.finish(name, encoded)
            self._keep(look=True)

    def _write_grid(self, pictures: Iterator[tuple[float, Planes]]) -> None:
        for time_s, canvas in pictures:
            self._write(GRID, replace(canvas, data=canvas.data.copy()), time_s)

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
        assert label is not None
        return labelled(path, label)

    def _recording(self, name: str | None) -> Recording:
        if name not in self._recordings:
            options = self._options
            fps = max((source.fps or DEFAULT_FPS for key, source in self._sources.items() if name in (key, GRID)))
            names = FileNames(self._path(name), self._taken, numbered=options.segment_s is not None)
            self._recordings[name] = Recording(names, fps, options.video, options.segment_s)
        return self._recordings[name]
