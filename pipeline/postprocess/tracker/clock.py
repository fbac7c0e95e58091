"""Clock: the time that a tracker's tracks live in, which stands while frames pass that nobody looks at.

Where detection pauses (`detect.every`, `detect.when: motion`, a busy machine), nobody knows where things are. They are
taken to go on for a moment, as they are shown, and then to stay. The clock does the same: it goes on for that moment,
and then stands until somebody looks. So things are looked for where they were shown last, and are no older than that.
"""

from __future__ import annotations

from collections import deque
from statistics import median_low

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

GO_ON_S = 1.0
"""For so long things go on. Shorter loses what moves: with 4 of 10 frames a second looked at, by chance, IDF1 on the
TUD and KITTI sequences was 68 at 0.5 s, and 70 at 1 s. Longer leads astray what stands: boxes tremble, and where they
do by 2 % of their size, what is taken for their speed moves them by 10 % of it in 1 s."""
INTERVALS = 5
"""Of how many intervals between frames the median says how rare they are: two long gaps in a row do not."""
RARE = 3
"""Intervals between frames that what is not seen is waited for at least: with a frame in 3 s, the next comes after any
`max_gap_s` of less."""
ROUNDING_S = 1e-6
"""Times that differ by less are the same."""


class Clock:
    """Turns media time of one source into its tracks' time; both in seconds, and the same as long as nothing passes."""

    def __init__(self, max_gap_s: float) -> None:
        """No frame has come.

        Args:
            max_gap_s: what was not seen for longer has gone; where frames are rare, after `RARE` of them at least.
        """
        self._max_gap_s = max_gap_s
        self._intervals: deque[float] = deque(maxlen=INTERVALS)
        """Between the last frames."""
        self._has_passed = self._had_passed = False
        """Whether frames have passed since somebody looked last; and, before that, since the look before."""
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

    def is_gap(self, time_s: float) -> bool:
        """Return whether so long no frame has come that nobody can say what is still there."""
        return self.since_frame(time_s) > self._patience_s()

    def pass_by(self, time_s: float) -> None:
        """Take a frame that nobody looks at."""
        self._take(time_s)
        self._has_passed = True

    def look(self, time_s: float) -> float:
        """Take a frame that somebody looks at; return its time by this clock."""
        if self._looked_s is not None and self._has_passed:
            self._stood_s += time_s - self._looked_s - self.goes_on_for(time_s)
        self._take(time_s)
        self._looked_s = time_s
        self._had_passed, self._has_passed = self._has_passed, False
        return time_s - self._stood_s

    def are_over(self, seen_at: Values, missed: Values | Counts) -> Bools:
        """Return (N,) what has gone by the last look: it was not seen for too long although somebody looked.

        Args:
            seen_at: (N,) when each was seen last, by this clock.
            missed: (N,) in how many looks since then, without the last, it was not seen. Where frames have passed
                before the last look, one at least: what passes is no evidence.
        """
        if self._looked_s is None:
            return np.zeros(len(seen_at), bool)
        is_over = self._looked_s - self._stood_s - seen_at > self._patience_s() + ROUNDING_S
        return np.asarray(is_over & (missed > 0) if self._had_passed else is_over)

    def _take(self, time_s: float) -> None:
        if self._frame_s is not None:
            self._intervals.append(time_s - self._frame_s)
        self._frame_s = time_s

    def _patience_s(self) -> float:
        return max(self._max_gap_s, RARE * median_low(self._intervals)) if self._intervals else self._max_gap_s

    def goes_on_for(self, time_s: float) -> float:
        """Return for how long things go on between the last look and `time_s`, if nobody looks."""
        return 0.0 if self._looked_s is None else min(max(time_s - self._looked_s, 0.0), GO_ON_S)
