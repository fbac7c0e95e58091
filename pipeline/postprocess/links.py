"""Links: whose face is on which body, so that a name stays with a person who turns away.

A face belongs to the person whose head is where the face is: it lies inside the person's box, near its middle and
near its top. All faces and persons of a frame are matched at once, by what is nearest. A body takes a name when named
faces on it have spoken for it in several frames, and keeps it as long as its track lives, until faces on it speak for
somebody else, are long compared with everybody and are nobody, or the name is seen on another body.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import FloatArray
from pipeline.boxes import centres
from pipeline.postprocess.tracker.association import assign

INSIDE = 0.7
"""Part of a face's box that must be inside the person's."""
HEAD = 0.12
"""Where the middle of a face is in a standing person's box, from its top, as part of its height."""
FARTHEST = 0.5
"""Part of the person's width (sideways) or height (downwards) by which a face may be off: somebody may sit or bend."""
VOTES = 3
"""Frames that must agree before a body takes a name, or changes it."""
DOUBTS = 20
"""Frames in which the face on a body is nobody that is known, before its name is taken away."""
BODIES_KEPT = 1024
"""Of one source; those not seen for longest are forgotten first."""


@dataclass
class Body:
    """What is known of one track of a person."""

    name: str | None = None
    candidate: str | None = None
    votes: int = 0
    doubts: int = 0

    def hear(self, name: str) -> None:
        """Count a frame in which the face on this body had a name."""
        self.doubts = 0
        if name == self.name:
            self.candidate, self.votes = None, 0
            return
        self.votes = self.votes + 1 if name == self.candidate else 1
        self.candidate = name
        if self.votes >= VOTES:
            self.name, self.candidate, self.votes = name, None, 0

    def doubt(self) -> None:
        """Count a frame in which the face on this body was compared with everybody, and is nobody."""
        self.doubts += 1
        if self.doubts >= DOUBTS:
            self.name, self.doubts = None, 0


class Bodies:
    """The persons of one source, by the numbers of their tracks."""

    def __init__(self, known: Callable[[str], bool] = lambda name: True) -> None:
        """Begin with nobody.

        Args:
            known: whether a person is still in the gallery; a name that is not is not said any more.
        """
        self._known = known
        self._bodies: OrderedDict[int, Body] = OrderedDict()

    def see(self, track_id: int, name: str | None) -> None:
        """Take note of whose the face on a body is (None: of nobody who is known); nobody is in two places."""
        body = self._bodies.setdefault(track_id, Body())
        self._bodies.move_to_end(track_id)
        if name is None:
            body.doubt()
        else:
            body.hear(name)
        if name is not None and body.name == name:
            for other_id, other in self._bodies.items():
                if other_id != track_id and other.name == name:
                    other.name = None
        while len(self._bodies) > BODIES_KEPT:
            self._bodies.popitem(last=False)

    def name_of(self, track_id: int) -> str | None:
        """Return who a body is; None: not known."""
        body = self._bodies.get(track_id)
        return body.name if body is not None and body.name is not None and self._known(body.name) else None


def link(faces: FloatArray, persons: FloatArray) -> list[tuple[int, int]]:
    """Return which face is on which person, as pairs of rows; each row once at most.

    Args:
        faces: (N, 4) xyxy.
        persons: (M, 4) xyxy.
    """
    if not (len(faces) and len(persons)):
        return []
    corners = np.maximum(faces[:, None, :2], persons[None, :, :2]), np.minimum(faces[:, None, 2:], persons[None, :, 2:])
    shared = np.clip(corners[1] - corners[0], 0, None).prod(axis=2)
    inside = shared / np.maximum((faces[:, 2:] - faces[:, :2]).prod(axis=1), 1e-6)[:, None]
    width, height = np.maximum(persons[:, 2:] - persons[:, :2], 1e-6).T
    middle = centres(faces)
    sideways = np.abs(middle[:, None, 0] - (persons[:, 0] + persons[:, 2]) / 2) / width
    downwards = np.abs(middle[:, None, 1] - (persons[:, 1] + HEAD * height)) / height
    possible = (inside >= INSIDE) & (sideways <= FARTHEST) & (downwards <= FARTHEST)
    nearness = 2 * FARTHEST + 1 - (sideways + downwards)
    rows, columns = assign(nearness, possible)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))
