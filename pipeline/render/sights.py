"""Sights: on which bodies of one source the face of somebody known was seen lately.

A body's name goes with the number of its track. A tracker that takes one person for another, as they pass in front of
each other, gives the number to the other one, and the name with it. So a name on a body is not enough to show it: the
face must have been seen on it within `hold_s`, and no other face since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipeline.frame import UNTRACKED
from pipeline.postprocess.links import link

if TYPE_CHECKING:
    from pipeline.faces import Faces
    from pipeline.render.hidden_regions import Seen


class _Sight(NamedTuple):
    name: str
    time_s: float


class Sights:
    """The last sights of named faces, by the number of the body's track."""

    def __init__(self, hold_s: float) -> None:
        """Nobody was seen yet.

        Args:
            hold_s: how long a sight counts, seconds of media time.
        """
        self._hold_s = hold_s
        self._sights: dict[int, _Sight] = {}

    def see(self, faces: Faces | None, persons: Seen, time_s: float) -> None:
        """Take note of whose faces are on which bodies, in a picture in which both were looked for."""
        self._sights = {track: sight for track, sight in self._sights.items() if self._counts(sight, time_s)}
        if faces is None or faces.names is None or faces.predicted:
            return
        for face, person in link(faces.boxes, persons.boxes):
            track, name = int(persons.tracks[person]), faces.names[face]
            if name is None:
                self._sights.pop(track, None)
            elif track > UNTRACKED:
                self._sights[track] = _Sight(name, time_s)

    def confirm(self, track: int, name: str, time_s: float) -> bool:
        """Return whether the last face on a body was that person's, and was seen lately."""
        sight = self._sights.get(track)
        return sight is not None and sight.name == name and self._counts(sight, time_s)

    def forget(self) -> None:
        """Begin anew: another scene."""
        self._sights = {}

    def _counts(self, sight: _Sight, time_s: float) -> bool:
        return 0 <= time_s - sight.time_s <= self._hold_s
