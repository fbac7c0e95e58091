"""ClipMaker: when the clips of one source begin and end. Encoded pictures come in, clips come out.

                an event                    that fails
        IDLE ---------------> RECORDING ------------------> GIVING_UP
         ^                        |    <------------------      |
         |   nothing for after_s  |     an event, RETRY later   |
         +------------------------+-----------------------------+

What the encoder gives is some pictures behind the frames: `comes` and `happened` are about frames, `add` is about
encoded pictures. What was before an outage is never in a clip that begins after it.
"""

from __future__ import annotations

import math
import time
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from pipeline.errors import SinkError
from pipeline.picture import Picture
from pipeline.sinks.clip import Clip, Occasion
from pipeline.sinks.packet_ring import PacketRing
from pipeline.sinks.paths import MEGABYTE
from pipeline.sinks.video import SECOND, Encoded

if TYPE_CHECKING:
    from pipeline.sinks.clips import Clips

RETRY = 5 * SECOND
"""Ticks after which, while events go on, it is tried again to write."""


class State(Enum):
    """What a ClipMaker does with pictures, besides keeping the last ones in memory."""

    IDLE = auto()
    """Nothing: no event was long ago enough."""
    RECORDING = auto()
    """They go to a clip, up to the time `_until`."""
    GIVING_UP = auto()
    """They should go to a clip, but that cannot be written; tried again with an event from `_retry_at` on."""


class ClipMaker:
    """The clips of one source, one at a time."""

    def __init__(self, clips: Clips) -> None:
        settings = clips.settings
        self._clips = clips
        self._before, self._after = round(settings.before_s * SECOND), round(settings.after_s * SECOND)
        self._longest = round(settings.max_s * SECOND)
        fits = math.inf if settings.max_mb is None else settings.max_mb / 2
        self.ring = PacketRing(settings.before_s, min(settings.memory_mb, fits) * MEGABYTE)
        self.state = State.IDLE
        self.clip: Clip | None = None
        """The one that is being written, while RECORDING."""
        self._occasion: Occasion | None = None
        """Why there is a clip, or should be."""
        self._until = -1
        """Ticks up to which the events so far ask for pictures."""
        self._retry_at = 0
        """Ticks."""
        self._is_counted = False
        """Whether it is said already that what the events ask for is given up: once for all tries."""
        self._now, self._gap, self._came_at = 0, 0, time.monotonic()
        """Ticks of the last frame, ticks between it and the one before it, and when it came."""
        self._outage_end = 0
        """Ticks of the first frame after the last outage."""
        self._begins_at = 0
        """Ticks before which no picture belongs to the clip, although the encoder may still give some."""
        self._group_size = 0
        """Bytes since the last keyframe."""

    @property
    def is_busy(self) -> bool:
        """Whether there is a clip."""
        return self.state is State.RECORDING

    def comes(self, ticks: int) -> None:
        """Know the time of the next frame, before what happened in it and before the pictures encoded up to it."""
        self._now, self._gap, self._came_at = ticks, ticks - self._now, time.monotonic()
        if self._gap > self._before + SECOND:
            self._outage_end = ticks

    def happened(self, lines: list[dict[str, Any]], picture: Picture, occasion: Occasion) -> None:
        """Begin a clip, or let it go on for longer."""
        ticks = occasion.ticks
        if ticks > self._until:
            self._is_counted = False
            if self.state is State.GIVING_UP:
                self.state = State.IDLE
            elif self._gap > SECOND:  # else it is still written: the encoder has its last pictures
                self.finish()
        self._until = ticks + self._after
        if self.state is State.IDLE or (self.state is State.GIVING_UP and ticks >= self._retry_at):
            self._occasion = occasion
            self._begin(ticks, picture, self.ring.before(ticks))
        if self.clip is not None:
            self.clip.add_events(lines, ticks)

    def add(self, picture: Encoded, shown: Picture | None = None) -> None:
        """Take the next encoded picture; `shown` is one of about that time, for a thumbnail."""
        self.ring.add(picture)
        if picture.is_keyframe:
            group, self._group_size = self._group_size, 0
        self._group_size += len(picture.data)
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

    def rest(self) -> None:
        """End the clip if the source was silent for as long as pictures are asked for; its last two may be missing."""
        silent = (time.monotonic() - self._came_at) * SECOND
        if self.clip is not None and self.clip.shows_event and self._now + silent > self._until:
            self.finish()

    def finish(self) -> None:
        """End the clip."""
        clip, self.clip = self.clip, None
        if clip is None:
            return
        self.state = State.IDLE
        try:
            clip.close()
        except (SinkError, OSError) as error:
            clip.abandon()
            self._clips.give_up(error)
        else:
            self._is_counted = False
            self._clips.succeeded()
        self._clips.closed(clip)

    def _begin(
        self, ticks: int, thumbnail: Picture | None, pictures: list[Encoded], continues: Clip | None = None
    ) -> None:
        assert self._occasion is not None
        try:
            self.clip = self._clips.begin(self._occasion, thumbnail, continues)
        except (SinkError, OSError) as error:
            self._fail(error, ticks)
            return
        self.state = State.RECORDING
        self._begins_at = min(self._outage_end, ticks)
        self._clips.make_room(self.ring.size, look=True)
        self._write(self.clip, pictures)

    def _write(self, clip: Clip, pictures: list[Encoded]) -> None:
        try:
            for picture in pictures:
                if picture.ticks >= self._begins_at:
                    clip.write(picture)
        except (SinkError, OSError) as error:
            self.clip = None
            clip.abandon()
            self._clips.closed(clip)
            self._fail(error, pictures[-1].ticks)

    def _fail(self, error: Exception, ticks: int) -> None:
        """Give up what is to be recorded, counted once for all tries."""
        if not self._is_counted:
            self._clips.give_up(error)
        self.state, self._is_counted, self._retry_at = State.GIVING_UP, True, ticks + RETRY

    def _is_long(self, clip: Clip, picture: Encoded) -> bool:
        """Whether a clip would get too long before the next keyframe."""
        return picture.is_keyframe and clip.lasts(picture) + SECOND > self._longest
