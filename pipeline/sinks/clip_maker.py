"""ClipMaker: when the clips of one source begin and end. Encoded pictures come in, clips come out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pipeline.errors import SinkError
from pipeline.picture import Picture
from pipeline.sinks.clip import Clip, Occasion
from pipeline.sinks.packet_ring import PacketRing
from pipeline.sinks.retention import MEGABYTE
from pipeline.sinks.video import SECOND, Encoded

if TYPE_CHECKING:
    from pipeline.sinks.clips import Clips

RETRY = 5 * SECOND
"""Ticks after which, while events go on, it is tried again to write."""


class ClipMaker:
    """The clips of one source, one at a time."""

    def __init__(self, clips: Clips) -> None:
        settings = clips.settings
        self._clips = clips
        self._before, self._after = round(settings.before_s * SECOND), round(settings.after_s * SECOND)
        self._longest = round(settings.max_s * SECOND)
        self._group = 0
        """Bytes since the last keyframe."""
        fits = math.inf if settings.max_mb is None else settings.max_mb / 2
        self.ring = PacketRing(settings.before_s, min(settings.memory_mb, fits) * MEGABYTE)
        self.clip: Clip | None = None
        """The one that is being written."""
        self._occasion: Occasion | None = None
        self.last_ticks = 0
        """Of the last frame."""
        self._until = -1
        """Ticks up to which is to be recorded."""
        self._retry_at: int | None = None
        """While what is to be recorded cannot be written: when to try again, in ticks."""

    @property
    def is_busy(self) -> bool:
        """Whether there is a clip."""
        return self.clip is not None

    def happened(self, lines: list[dict[str, Any]], picture: Picture, occasion: Occasion) -> None:
        """Begin a clip, or let it go on for longer."""
        ticks = occasion.ticks
        gap = ticks - self.last_ticks
        if ticks > self._until:
            self._retry_at = None
            if gap > SECOND:  # else it is still written: the encoder has its last pictures
                self.finish()
        if gap > self._before + SECOND:
            self.ring.clear()
        self._until = ticks + self._after
        if self.clip is None and (self._retry_at is None or ticks >= self._retry_at):
            self._occasion = occasion
            self._begin(ticks, picture, self.ring.before(ticks))
        if self.clip is not None:
            self.clip.add_events(lines, ticks)

    def add(self, picture: Encoded, shown: Picture | None = None) -> None:
        """Take the next encoded picture; `shown` is one of about that time, for a thumbnail."""
        self.ring.add(picture)
        if picture.is_keyframe:
            group, self._group = self._group, 0
        self._group += len(picture.data)
        clip = self.clip
        if clip is None:
            return
        if picture.ticks > self._until:
            self.finish()
        elif not clip.belongs(picture) or self._is_long(clip, picture):
            self.finish()
            self._begin(picture.ticks, shown, [picture], continues=clip)
        elif picture.is_keyframe and not self._clips.make_room(2 * group):
            self._clips.ends_early(clip)
            self._until = picture.ticks
            self.finish()
        else:
            self._write(clip, [picture])

    def finish(self) -> None:
        """End the clip."""
        clip, self.clip = self.clip, None
        if clip is None:
            return
        try:
            clip.close()
        except (SinkError, OSError) as error:
            clip.abandon()
            self._clips.give_up(error)
        else:
            self._retry_at = None
            self._clips.succeeded()
        self._clips.make_room(look=True)

    def _begin(
        self, ticks: int, thumbnail: Picture | None, pictures: list[Encoded], continues: Clip | None = None
    ) -> None:
        assert self._occasion is not None
        try:
            self.clip = self._clips.begin(self._occasion, thumbnail, continues)
        except (SinkError, OSError) as error:
            self._fail(error, ticks)
            return
        self._clips.make_room(self.ring.size, look=True)
        self._write(self.clip, pictures)

    def _write(self, clip: Clip, pictures: list[Encoded]) -> None:
        try:
            for picture in pictures:
                clip.write(picture)
        except (SinkError, OSError) as error:
            self.clip = None
            clip.abandon()
            self._fail(error, pictures[-1].ticks)

    def _fail(self, error: Exception, ticks: int) -> None:
        """Give up what is to be recorded, counted once for all tries."""
        if self._retry_at is None:
            self._clips.give_up(error)
        self._retry_at = ticks + RETRY

    def _is_long(self, clip: Clip, picture: Encoded) -> bool:
        """Whether a clip would get too long before the next keyframe."""
        return picture.is_keyframe and clip.lasts(picture) + SECOND > self._longest
