"""Clock: the time that a tracker's tracks live in, which stands while frames pass that nobody looks at.

Where detection pauses (`detect.every`, `detect.when: motion`, a busy machine), nobody knows where things are. They are
taken to go on for a moment, as they are shown, and then to stay. The clock does the same: it goes on for that moment,
and then stands until somebody looks. So things are looked for where they were shown last, and are no older than that.
"""

from __future__ import annotations

GO_ON_S = 1.0
"""For so long things go on. Shorter loses what moves: with 4 of 10 frames a second looked at, by chance, IDF1 on the
TUD and KITTI sequences was 68 at 0.5 s, and 70 at 1 s. Longer leads astray what stands: boxes tremble, and where they
do by 2 % of their size, what is taken for their speed moves them by 10 % of it in 1 s."""


class Clock:
    """Turns media time of one source into its tracks' time; both in seconds, and the same as long as nothing passes."""

    def __init__(self) -> None:
        """No frame has come."""
        self.has_passed = False
        """Whether frames have passed since somebody looked last."""
        self._frame_s: float | None = None
        """The last frame's."""
        self._looked_s: float | None = None
        self._stood_s = 0.0
        """For how long the clock has stood, in all."""

    @property
    def has_looked(self) -> bool:
        """Whether somebody has looked at a frame."""
        return self._looked_s is not None

    def since_frame(self, time_s: float) -> float:
        """Return the time since the last frame; 0 where there was none, less where media time has jumped back."""
        return 0.0 if self._frame_s is None else time_s - self._frame_s

    def pass_by(self, time_s: float) -> None:
        """Take a frame that nobody looks at."""
        self._frame_s, self.has_passed = time_s, True

    def look(self, time_s: float) -> float:
        """Take a frame that somebody looks at; return its time by this clock."""
        if self._looked_s is not None and self.has_passed:
            self._stood_s += time_s - self._looked_s - self.goes_on_for(time_s)
        self._frame_s = self._looked_s = time_s
        self.has_passed = False
        return time_s - self._stood_s

    def goes_on_for(self, time_s: float) -> float:
        """Return for how long things go on between the last look and `time_s`, if nobody looks."""
        return 0.0 if self._looked_s is None else min(max(time_s - self._looked_s, 0.0), GO_ON_S)
