"""People: the stage that ties names to bodies, and says who comes, goes, or is not known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.boxes import rounded
from pipeline.frame import UNTRACKED, Frame
from pipeline.postprocess.attendance import Attendance, AttendanceOptions
from pipeline.postprocess.links import Bodies, link
from pipeline.postprocess.persons import person_rows
from pipeline.stage import Stage

if TYPE_CHECKING:
    from pipeline.faces import Faces
    from pipeline.frame import Detections


class People(Stage):
    """Comes after faces were recognised. Adds `detections.names`, and the events of people."""

    name = "people"

    def __init__(self, options: AttendanceOptions, known: Callable[[str], bool] = lambda name: True) -> None:
        """Nobody is there yet.

        Args:
            options: when something is said.
            known: whether a person is still in the gallery.
        """
        self._options, self._known = options, known
        self._bodies: dict[str, Bodies] = {}
        self._attendance: dict[str, Attendance] = {}

    def process(self, frame: Frame) -> None:
        """Name the bodies, and report; images have nothing to do with each other."""
        if frame.faces is None or frame.faces.names is None:
            return
        if frame.file is None:
            self._name_bodies(frame, frame.faces)
            self._report(frame, frame.faces)
        elif frame.detections is not None:
            frame.detections.names = _names_in_image(frame, frame.faces, frame.detections)

    def _name_bodies(self, frame: Frame, faces: Faces) -> None:
        detections = frame.detections
        if detections is None or detections.track_ids is None or faces.names is None:
            return
        bodies = self._bodies.setdefault(frame.source, Bodies(self._known))
        persons = person_rows(frame)
        persons = persons[detections.track_ids[persons] != UNTRACKED]
        if not (frame.predicted or faces.predicted):  # else they have not been seen together
            for face, person in link(faces.boxes, detections.boxes[persons]):
                if faces.names[face] is not None or _was_compared(faces, face):
                    bodies.see(int(detections.track_ids[persons[person]]), faces.names[face])
        names: list[str | None] = [None] * len(detections)
        for row in persons.tolist():
            names[row] = bodies.name_of(int(detections.track_ids[row]))
        detections.names = tuple(names)

    def _report(self, frame: Frame, faces: Faces) -> None:
        assert faces.names is not None
        places = _places(frame, faces)
        attendance = self._attendance.setdefault(frame.source, Attendance(self._options))
        changes = attendance.update(places.keys(), _unknown(faces), frame.pts)
        for name in changes.appeared:
            frame.events.append({"event": "person.appeared", "name": name} | places[name])
        for name, seen_s in changes.left:
            frame.events.append({"event": "person.left", "name": name, "seen_s": round(seen_s, 3)})
        for track in changes.unknown:
            assert faces.track_ids is not None
            row = faces.track_ids.tolist().index(track)
            frame.events.append({"event": "person.unknown", "track": track, "box": rounded(faces.boxes[row].tolist())})

    def end(self, source: str) -> None:
        """Forget the source."""
        self._bodies.pop(source, None)
        self._attendance.pop(source, None)


def _names_in_image(frame: Frame, faces: Faces, detections: Detections) -> tuple[str | None, ...]:
    names: list[str | None] = [None] * len(detections)
    persons = person_rows(frame)
    for face, person in link(faces.boxes, detections.boxes[persons]):
        names[persons[person]] = (faces.names or ())[face]
    return tuple(names)


def _places(frame: Frame, faces: Faces) -> dict[str, dict[str, Any]]:
    """Return who is seen in a frame, by a face or by a body that has a name, and where."""
    places: dict[str, dict[str, Any]] = {}
    detections = frame.detections
    if detections is not None and detections.names is not None and detections.track_ids is not None:
        rows = zip(detections.names, detections.track_ids.tolist(), detections.boxes, strict=True)
        places = {
            name: {"similarity": None, "track": track, "box": rounded(box.tolist())}
            for name, track, box in rows
            if name
        }
    similarities = np.full(len(faces), math.nan) if faces.similarities is None else faces.similarities
    tracks = [None] * len(faces) if faces.track_ids is None else faces.track_ids.tolist()
    for name, similarity, track, box in zip(faces.names or (), similarities.tolist(), tracks, faces.boxes, strict=True):
        if name is not None:
            places[name] = {"similarity": round(similarity, 4), "track": track, "box": rounded(box.tolist())}
    return places


def _unknown(faces: Faces) -> list[int]:
    """Return the tracks of faces that were compared with everybody and are nobody."""
    if faces.track_ids is None or faces.names is None:
        return []
    return [
        track
        for row, (track, name) in enumerate(zip(faces.track_ids.tolist(), faces.names, strict=True))
        if name is None and _was_compared(faces, row)
    ]


def _was_compared(faces: Faces, row: int) -> bool:
    return faces.similarities is not None and math.isfinite(faces.similarities[row])
