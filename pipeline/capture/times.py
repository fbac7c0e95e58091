"""MediaTime: when a decoded picture is shown, also where the container's own timestamps are wrong.

AVI stores only the order of decoding; with B-frames the presentation times that a decoder makes of it jump back and
forth. FFmpeg's players then trust the decoding times, which rise picture by picture (`guess_correct_pts` in its
libavcodec/decode.c); so does this.
"""

from __future__ import annotations

from typing import Any


class MediaTime:
    """Seconds of one stream's pictures, in the order the decoder gives them."""

    def __init__(self, step_s: float) -> None:
        """Begin one nominal step before 0."""
        self._step_s = step_s
        self._last_s = -step_s
        self._last_pts: int | None = None
        self._last_dts: int | None = None
        self._faulty_pts = self._faulty_dts = 0

    def of(self, decoded: Any) -> float:
        """Return the time of the next picture: its own, else its decoding time, else one step after the last."""
        pts, dts = decoded.pts, decoded.dts
        self._faulty_pts += _is_not_later(pts, self._last_pts)
        self._faulty_dts += _is_not_later(dts, self._last_dts)
        self._last_pts, self._last_dts = pts, dts
        if pts is not None and self._faulty_pts <= self._faulty_dts:
            self._last_s = float(pts * decoded.time_base)
        elif dts is not None:
            self._last_s = float(dts * decoded.time_base)
        else:
            self._last_s += self._step_s
        return self._last_s


def _is_not_later(ticks: int | None, before: int | None) -> bool:
    return ticks is not None and before is not None and ticks <= before
