"""Clips: short recordings around events, with what was before them.

Nobody knows of an event before it happens, so every picture is encoded, and the last seconds wait in memory as packets
(`PacketRing`). On an event they go to a file, followed by what comes, until nothing has happened for `after_s`. A clip
that goes on for longer than `max_s` is continued in another one, from a keyframe: no picture is lost between them.
Where the same pictures are recorded anyway, the recorder encodes for both: 4 ms of CPU time a frame less (768 x 576).

Clips must not end a run: where they cannot be written, that is said once, they are given up and counted, and begun
again when it works again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.capture.source import SourceInfo, SourceState
from pipeline.config.result_settings import ClipsSettings
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Frame
from pipeline.picture import Picture
from pipeline.sinks.clip import Clip, Occasion, find_clips
from pipeline.sinks.clip_maker import ClipMaker
from pipeline.sinks.paths import MEGABYTE, prepare_folder
from pipeline.sinks.records import event_lines, wanted
from pipeline.sinks.retention import Retention
from pipeline.sinks.sink import MissedEvents, Sink
from pipeline.sinks.video import Encoded, RisingClock, VideoEncoder, VideoOptions, describe

DEFAULT_FPS = 25.0
logger = logging.getLogger(__name__)


class Clips(Sink):
    """The clips of all sources."""

    name = "clips"

    def __init__(self, settings: ClipsSettings, *, encodes: bool = True) -> None:
        """Write nothing yet.

        Args:
            settings: what to do.
            encodes: False: somebody else encodes, and calls `take` and `finish`, on a thread of his own.
        """
        self.settings = settings
        self._encodes = encodes
        self._video = VideoOptions("libx264", settings.preset, settings.crf)
        self._makers: dict[str, ClipMaker] = {}
        self._missed: dict[str, list[dict[str, Any]]] = {}
        """Events of frames that were dropped, until the source's next frame."""
        self._encoders: dict[str, tuple[RisingClock, VideoEncoder]] = {}
        self._rates: dict[str, float] = {}
        self._being_read: frozenset[Path] = frozenset()
        self._complained = self._was_too_large = False
        self._begun = self._dropped = 0
        most_bytes = None if settings.max_mb is None else settings.max_mb * MEGABYTE
        self._retention = Retention("clips", settings.folder, lambda: find_clips(settings.folder), most_bytes)

    def check(self, sources: Sequence[SourceInfo]) -> None:
        """Make the folder; delete the oldest clips where there are too many; refuse sources without time."""
        for source in sources:
            if source.folders:
                raise ConfigError(
                    f"clips: source {source.name} is images, which have no time: clips need videos or cameras "
                    "(clips.on: [] switches them off)"
                )
        prepare_folder(self.settings.folder, "clips.folder")
        self._rates = {source.name: source.fps or DEFAULT_FPS for source in sources}
        self._being_read = frozenset(Path(source.url).absolute() for source in sources if "://" not in source.url)
        self._look()
        self._retention.make_room()

    def consume(self, frame: Frame) -> None:
        """Encode one frame, and make clips of its events."""
        if not self._encodes:
            return
        clock, encoder = self._encoder(frame.source)
        ticks = clock.ticks(frame.pts)
        try:
            planes = self._picture(frame).as_planes()
            encoded = encoder.encode(planes, ticks, self.wants_keyframe(frame.source))
        except SinkError as error:
            self.complain(error)
            encoded = []
        self.take(frame, ticks, encoded)

    def missed(self, events: MissedEvents) -> None:
        """Remember what happened in a frame that was dropped."""
        if self._encodes:
            self.remember(events)

    def remember(self, events: MissedEvents) -> None:
        """Let the source's next frame stand for one that was dropped."""
        self._missed.setdefault(events.source, []).extend(events.lines)

    def take(self, frame: Frame, ticks: int, encoded: Sequence[Encoded]) -> None:
        """Make clips of a frame's events, and of encoded pictures up to this frame.

        Args:
            frame: with its events.
            ticks: of this frame, as it was or will be encoded.
            encoded: what has become ready, in order, from a keyframe on.
        """
        maker = self._maker(frame.source)
        maker.comes(ticks)
        for picture in encoded:
            maker.add(picture, self._picture(frame))
        happened = [*self._missed.pop(frame.source, ()), *event_lines(frame)]
        lines = [line for line in happened if wanted(line, self.settings.on)]
        if lines:
            maker.happened(lines, self._picture(frame), self._occasion(frame, lines[0], ticks))

    def source_changed(self, state: SourceState) -> None:
        """Finish a clip that only waits for the pictures of a source that has been silent for long enough."""
        if self._encodes:
            self.rest(state)

    def rest(self, state: SourceState) -> None:
        """Do that for whoever encodes: a source that cannot be reached says so again with each try."""
        if state.state != "streaming" and state.source in self._makers:
            self._makers[state.source].rest()

    def wants_keyframe(self, source: str) -> bool:
        """Whether the next picture of a source should be one, asked once for each: memory was too small."""
        return source in self._makers and self._makers[source].ring.wants_keyframe()

    def end(self, source: str) -> None:
        """Finish the source's clip."""
        if self._encodes and source in self._encoders:
            encoder = self._encoders.pop(source)[1]
            try:
                encoded = encoder.flush() if self._maker(source).is_busy else []
            except SinkError as error:
                self.complain(error)
                encoded = []
            self.finish(source, encoded)

    def finish(self, source: str, encoded: Sequence[Encoded]) -> None:
        """Take the last encoded pictures of a source, and finish its clip."""
        if source in self._makers:
            maker = self._makers.pop(source)
            for picture in encoded:
                maker.add(picture)
            maker.finish()

    def close(self) -> None:
        """Finish all clips."""
        for source in list(self._encoders):
            self.end(source)

    @property
    def files(self) -> list[Path]:
        """The folder, where there were any."""
        return [self.settings.folder] if self._begun else []

    @property
    def dropped(self) -> int:
        """Clips that were given up."""
        return self._dropped

    def remark(self) -> str | None:
        """Say how many clips are missing."""
        if not self._dropped:
            return None
        clips = "1 clip was" if self._dropped == 1 else f"{self._dropped} clips were"
        return f"clips: {clips} given up, in whole or in part, because {self.settings.folder} could not be written"

    # ------------------------------------------------------------------ what makers ask for

    def begin(self, occasion: Occasion, thumbnail: Picture | None, continues: Clip | None) -> Clip:
        """Begin a clip in the folder.

        Raises:
            OSError: it cannot be written.
        """
        clip = Clip(
            self.settings.folder, occasion, self.settings.pictures, None if continues is None else continues.video.name
        )
        try:
            if thumbnail is not None and self.settings.thumbnail:
                clip.add_thumbnail(thumbnail)
        except OSError:
            clip.abandon()
            raise
        self._begun += 1
        return clip

    def make_room(self, ahead: int = 0, *, look: bool = False) -> bool:
        """Delete the oldest clips where all take too much.

        Args:
            ahead: bytes that are about to be written.
            look: whether to look at the folder first.

        Returns:
            False where those that are being written take too much alone.
        """
        if look:
            self._look()
        growing = (maker.clip.size for maker in self._makers.values() if maker.clip is not None)
        return not self._retention.is_on or self._retention.make_room(sum(growing) + ahead)

    def closed(self, clip: Clip) -> None:
        """A clip is no longer being written: it may be deleted like any other."""
        self._retention.add(clip.paths)
        self.make_room(look=True)

    def ends_early(self, clip: Clip) -> None:
        """Say, once, that clips do not fit."""
        if not self._was_too_large:
            most = self.settings.max_mb
            logger.warning("clips: %s ends early: it alone takes clips.max_mb, which is %g", clip.video.name, most)
        self._was_too_large = True

    def complain(self, error: Exception) -> None:
        """Say what is wrong, once until it works again."""
        if not self._complained:
            reason = (
                error if isinstance(error, SinkError) else f"cannot write to {self.settings.folder}: {describe(error)}"
            )
            logger.warning("clips: %s; clips are given up until it works again", reason)
        self._complained = True

    def give_up(self, error: Exception) -> None:
        """Count a clip that could not be written, or not to its end."""
        self._dropped += 1
        self.complain(error)

    def succeeded(self) -> None:
        """A clip was written to its end: what is wrong after it is news."""
        self._complained = False

    # ------------------------------------------------------------------ details

    def _look(self) -> None:
        running = (path for maker in self._makers.values() if maker.clip is not None for path in maker.clip.paths)
        being_read = {self.settings.folder / path.name for path in self._being_read if self._is_in_folder(path)}
        self._retention.look(being_read.union(running))

    def _is_in_folder(self, path: Path) -> bool:
        return path.parent.resolve() == self.settings.folder.resolve()

    def _picture(self, frame: Frame) -> Picture:
        return frame.output if self.settings.pictures == "annotated" else frame.picture

    def _occasion(self, frame: Frame, line: dict[str, Any], ticks: int) -> Occasion:
        wall_time = time.time() if frame.wall_time is None else frame.wall_time
        return Occasion(frame.source, str(line.get("event")), frame.pts, wall_time, ticks)

    def _encoder(self, source: str) -> tuple[RisingClock, VideoEncoder]:
        if source not in self._encoders:
            fps = self._rates.get(source, DEFAULT_FPS)
            self._encoders[source] = RisingClock(fps), VideoEncoder(fps, self._video)
        return self._encoders[source]

    def _maker(self, source: str) -> ClipMaker:
        if source not in self._makers:
            self._makers[source] = ClipMaker(self)
        return self._makers[source]
