"""Held: which of two sides each object is on, changed only by what lasts.

Two things keep what trembles on an edge from changing sides with every frame: it must be past the edge by a margin
(hysteresis; between the margins nothing changes), and stay there for a while (debounce).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.postprocess.zones.tracks import Table

if TYPE_CHECKING:
    from pipeline.postprocess.zones.geometry import Values
    from pipeline.postprocess.zones.tracks import Places

ROUNDING_S = 1e-6
"""Times of frames are rounded: 0.2 s may be a little less."""


class Changes(NamedTuple):
    """Which rows have changed sides."""

    rows: list[int]
    since: Values
    """(N,) when each came to where it is, media time; of those rows only."""


class Held:
    """The side, -1 or 1, of each place; 0 where nobody knows."""

    def __init__(self, debounce_s: float, first: float) -> None:
        """Say how long a side must be held, and on which side those are who come."""
        self._debounce_s = debounce_s
        self._table = Table(side=first, since=np.nan)

    def reach(self, size: int) -> None:
        """Have at least so many places."""
        self._table.reach(size)

    def observe(self, places: Places, sides: Values, time_s: float) -> Changes:
        """Take (N,) where objects are: -1 or 1 where they are beyond the margin, 0 between.

        A side that nobody knew is taken at once, and is no change.
        """
        before, waited = self._table["side"][places], self._table["since"][places]
        now = np.where(before == 0, sides, before)
        other = sides * now < 0
        since = np.where(other, np.fmin(waited, time_s), np.nan)
        changed = other & (time_s - since >= self._debounce_s - ROUNDING_S)
        self._table["side"][places] = np.where(changed, sides, now)
        self._table["since"][places] = np.where(changed, np.nan, since)
        return Changes(changed.nonzero()[0].tolist(), since)

    def sides(self, places: Places) -> Values:
        """Return (N,) the sides."""
        return self._table["side"][places]

    def wavering(self, place: int) -> float:
        """Return the side that somebody was on when last seen, but not yet for long enough; 0 if there is none."""
        side = float(self._table["side"][place])
        return 0.0 if np.isnan(self._table["since"][place]) else -side

    def clear(self, place: int) -> None:
        """Forget somebody."""
        self._table.clear(place)


def beyond(distances: Values, least: Values | float, most: Values | float) -> Values:
    """Return 1 where a distance is over `most`, -1 where it is under `least`, 0 between."""
    above: npt.NDArray[np.bool_] = distances > most
    return above.astype(np.float64) - (distances < least)
