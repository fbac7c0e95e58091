"""The stages of faces: find them, then say who they are. Both keep several requests in flight.

Two stages and not one, so that the finder works on the next frame while the encoder works on this one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from engines.engine import EngineOptions
from pipeline.faces import Faces
from pipeline.frame import Detections, Frame
from pipeline.infer.embedder import Encoding, FaceEmbedder
from pipeline.infer.face_finder import FaceFinder, FinderOptions
from pipeline.infer.face_finder import Search as Finding
from pipeline.infer.face_quality import measure
from pipeline.postprocess.identity import Identities
from pipeline.postprocess.persons import person_rows
from pipeline.postprocess.tracker import Tracker, TrackerOptions
from pipeline.stage import AsyncStage

if TYPE_CHECKING:
    from engines.spec import ModelSpec
    from pipeline.arrays import FloatArray
    from pipeline.gallery.known import KnownPeople, People

LIKELY_SIZE = (720, 1280)
"""Height and width of frames of a source that does not say."""
FOLLOWING = TrackerOptions(high=-1.0, low=-1.0, min_iou=0.2, confirm_frames=1)
"""How faces are followed: the finder has decided what is one, and each has its number at once."""


def face_tracker() -> Tracker:
    """Return what follows the faces of one source."""
    return Tracker(FOLLOWING)


def follow(tracker: Tracker, faces: Faces, time_s: float) -> None:
    """Give faces, each of which has an area, the numbers of their tracks."""
    found = Detections(faces.boxes, faces.scores, np.zeros(len(faces), np.int32))  # in the same order: best first
    faces.track_ids = tracker.update(found, time_s).track_ids


class FindFaces(AsyncStage[Finding]):
    """Adds a frame's faces: boxes, scores, landmarks, track ids."""

    name = "find_faces"

    def __init__(
        self,
        spec: ModelSpec,
        engine: EngineOptions,
        options: FinderOptions,
        *,
        sizes: Sequence[tuple[int, int]] = (),
        inside_persons: bool = False,
        bypass: bool = False,
    ) -> None:
        """Nothing is compiled before `open`.

        Args:
            spec: the finder.
            engine: how to run it.
            options: what counts as a face.
            sizes: heights and widths of the frames to expect, so that the first ones are not late.
            inside_persons: whether to look only where the detector has found persons.
            bypass: as in `AsyncStage`.
        """
        self._spec, self._engine, self._options = spec, engine, options
        self._sizes = sizes or [LIKELY_SIZE]
        self._inside_persons, self.bypass = inside_persons, bypass
        self._finder: FaceFinder | None = None
        self._description = ""
        self._trackers: defaultdict[str, Tracker] = defaultdict(face_tracker)
        self._last: dict[str, Faces] = {}

    @property
    def finder(self) -> FaceFinder:
        """The finder, once open."""
        assert self._finder is not None
        return self._finder

    def open(self) -> None:
        """Compile the finder."""
        self._finder = FaceFinder(self._spec, self._engine, self._options)
        for height, width in self._sizes:
            self._finder.prepare(height, width)
        self.in_flight = self._finder.requests

    def wants(self, frame: Frame) -> bool:
        """Return whether there is a place to look."""
        return not self._inside_persons or _persons(frame) is not None

    def submit(self, frame: Frame) -> Finding:
        """Start to look."""
        return self.finder.submit(frame.picture, _persons(frame) if self._inside_persons else None)

    def collect(self, frame: Frame, ticket: Finding) -> None:
        """Add the faces, and follow them; images have nothing to do with each other."""
        faces = self.finder.collect(ticket)
        if frame.file is None:
            follow(self._trackers[frame.source], faces, frame.pts)
        frame.faces = self._last[frame.source] = faces

    def skip(self, frame: Frame) -> None:
        """Take over the faces that the source's last frame had, or none where there is no person."""
        last = self._last.get(frame.source)
        if last is None or not self.wants(frame):
            frame.faces = replace(Faces.empty(), predicted=self.wants(frame))
        else:
            self._trackers[frame.source].pass_by(frame.pts)
            frame.faces = replace(last.clip(frame.width, frame.height), predicted=True)

    def end(self, source: str) -> None:
        """Forget the source."""
        self._trackers.pop(source, None)
        self._last.pop(source, None)

    def describe(self) -> str | None:
        """Name the finder and what runs it."""
        return f"faces: {self._description}" if self._description else None

    def close(self) -> None:
        """Give the engines back."""
        if self._finder:
            self._description = self._finder.describe()
            self._finder.close()


def _persons(frame: Frame) -> FloatArray | None:
    """Return the xyxy box around all persons of a frame; None where there are none."""
    rows = person_rows(frame)
    if frame.detections is None or not len(rows):
        return None
    boxes = frame.detections.boxes[rows]
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


@dataclass(frozen=True)
class RecogniseOptions:
    """Which faces are encoded and matched."""

    min_quality: float = 0.15
    """Faces of less are shown, and not matched."""
    min_liveness: float = 0.5
    """The same for faces whose liveness was measured."""
    match_every: int = 1
    """Every n-th frame of a source; the others take over what is known of their tracks."""
    mirrored: bool = False
    """Whether an encoding is the mean over the face and its mirror image."""


@dataclass(frozen=True)
class Recognition:
    """Encodings that have been started."""

    encoding: Encoding
    rows: npt.NDArray[np.intp]
    """The faces that are encoded."""
    qualities: FloatArray


class RecogniseFaces(AsyncStage[Recognition]):
    """Adds to a frame's faces: quality, encoding, name, similarity."""

    name = "recognise"

    def __init__(
        self,
        spec: ModelSpec,
        engine: EngineOptions,
        options: RecogniseOptions,
        people: Callable[[FaceEmbedder], KnownPeople] | None = None,
        *,
        bypass: bool = False,
    ) -> None:
        """Nothing is compiled or read before `open`.

        Args:
            spec: the encoder.
            engine: how to run it.
            options: which faces.
            people: opens the gallery for the encoder; None: encode only.
            bypass: as in `AsyncStage`.
        """
        self._spec, self._engine, self._options = spec, engine, options
        self._open_people, self.bypass = people, bypass
        self._embedder: FaceEmbedder | None = None
        self._people: KnownPeople | None = None
        self._to_pass: Counter[str] = Counter()
        """Frames of each source to let pass before the next is matched."""
        self._identities: dict[str, Identities] = {}

    @property
    def embedder(self) -> FaceEmbedder:
        """The encoder, once open."""
        assert self._embedder is not None
        return self._embedder

    def open(self) -> None:
        """Compile the encoder, read the gallery."""
        self._embedder = FaceEmbedder(self._spec, self._engine, mirrored=self._options.mirrored)
        self.in_flight = self._embedder.engine.requests
        if self._open_people:
            self._people = self._open_people(self._embedder)

    def wants(self, frame: Frame) -> bool:
        """Return whether it is the frame's turn, and its faces were found in it."""
        passes = self._to_pass[frame.source]
        self._to_pass[frame.source] = max(0, passes - 1)
        is_due = passes == 0 or frame.file is not None  # an image has no track to take a name from
        return is_due and not _faces(frame).predicted

    def submit(self, frame: Frame) -> Recognition:
        """Align the faces, and start to encode those that are good enough."""
        self._to_pass[frame.source] = self._options.match_every - 1
        faces = _faces(frame)
        chips = self.embedder.chips(frame.picture, faces.landmarks)
        qualities = measure(faces, chips).values
        rows = np.flatnonzero((qualities >= self._options.min_quality) & self._live(faces))
        return Recognition(self.embedder.submit(chips[rows]), rows, qualities)

    def _live(self, faces: Faces) -> npt.NDArray[np.bool_]:
        """Return which faces are not known to be photos or screens."""
        if faces.liveness is None:
            return np.ones(len(faces), np.bool_)
        return np.asarray(~(faces.liveness < self._options.min_liveness))

    def collect(self, frame: Frame, ticket: Recognition) -> None:
        """Add encodings and, with a gallery, names."""
        found = self.embedder.collect(ticket.encoding)
        faces = _faces(frame)
        encodings = np.full((len(faces), self.embedder.dimensions), np.nan, np.float32)
        encodings[ticket.rows] = found
        frame.faces = replace(
            faces, encodings=encodings, qualities=ticket.qualities, embedder=self.embedder.spec.sha256
        )
        if self._people is None:
            return
        if faces.track_ids is None:
            self._name_each(frame.faces, ticket.rows, found, self._people.now)
        else:
            self._name_tracks(frame, ticket, found, self._people.now)

    def _name_each(self, faces: Faces, rows: npt.NDArray[np.intp], found: FloatArray, people: People) -> None:
        best = people.search(found)
        names: list[str | None] = [None] * len(faces)
        similarities = np.full(len(faces), np.nan, np.float32)
        similarities[rows] = best.similarities
        for row, name, similarity in zip(rows, best.names, best.similarities, strict=True):
            names[row] = name if similarity >= people.threshold.value else None
        faces.names, faces.similarities = tuple(names), similarities

    def _name_tracks(self, frame: Frame, ticket: Recognition, found: FloatArray, people: People) -> None:
        faces, identities = _faces(frame), self._identities_of(frame.source)
        assert faces.track_ids is not None
        seen, weights = faces.track_ids[ticket.rows], ticket.qualities[ticket.rows]
        if faces.liveness is not None:
            weights = weights * np.nan_to_num(faces.liveness[ticket.rows], nan=1.0)
        if len(seen):
            evidence = identities.observe(seen, found, weights, frame.pts)
            identities.decide(seen, people.search_tracks(*evidence), people.threshold.value)
        self._take_over(frame, faces, people)

    def skip(self, frame: Frame) -> None:
        """Say of each track what is known of it."""
        if self._people is not None and _faces(frame).track_ids is not None:
            frame.faces = replace(_faces(frame))
            self._take_over(frame, frame.faces, self._people.now)

    def _take_over(self, frame: Frame, faces: Faces, people: People) -> None:
        assert faces.track_ids is not None
        identities = self._identities_of(frame.source)
        best = identities.of(faces.track_ids, frame.pts, people.names.__contains__)
        names = zip(best.names, self._live(faces).tolist(), strict=True)
        faces.names, faces.similarities = tuple(name if live else None for name, live in names), best.similarities

    def _identities_of(self, source: str) -> Identities:
        if source not in self._identities:
            self._identities[source] = Identities(self.embedder.encoder.verify_threshold)
        return self._identities[source]

    def knows(self, name: str) -> bool:
        """Return whether a person is in the gallery now; from any thread."""
        return self._people is not None and name in self._people.now.names

    def end(self, source: str) -> None:
        """Forget the source."""
        self._identities.pop(source, None)

    def describe(self) -> str | None:
        """Name the encoder, and whom it can know."""
        if self._embedder is None:
            return None
        known = f"; {self._people.describe()}" if self._people else ""
        return f"recognise: {self._embedder.describe()}{known}"

    def close(self) -> None:
        """Give engine and gallery back."""
        if self._people:
            self._people.close()
        if self._embedder:
            self._embedder.close()


def _faces(frame: Frame) -> Faces:
    assert frame.faces is not None, "RecogniseFaces comes after FindFaces"
    return frame.faces
