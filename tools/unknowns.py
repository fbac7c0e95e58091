"""Unknown faces of event logs: read, a few good ones of each track, and grouped into people.

Groups are DBSCAN's (Ester et al. 1996): faces more alike than the threshold are neighbours, a face with enough
neighbours is at the core of a group, and what reaches no core is noise. It needs no number of people beforehand.
"""

from __future__ import annotations

import heapq
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.spec import Metric
from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError

PER_TRACK = 3
"""Faces taken of each track: its best, by quality. More would be the same face a moment later."""
MAX_LOOSE = 5000
"""Faces without a track that are kept of each source: each stands for itself."""
NOISE = -1
ENCODINGS_KEY = "sinks.events.encodings=true"

Track = tuple[Path, str, int | None]
"""Log, source, track."""


@dataclass(frozen=True)
class Sighting:
    """An unknown face."""

    log: Path
    source: str
    frame: int
    track: int | None
    box: tuple[float, ...]
    """xyxy in frame pixels."""
    quality: float
    """0..1; 0 where it was not measured."""
    embedder: str | None
    """sha256 of the encoder, where the log says it."""
    encoding: FloatArray = field(repr=False, compare=False)
    """(D,)."""


@dataclass(frozen=True)
class Unknowns:
    """The unknown faces of some logs."""

    sightings: tuple[Sighting, ...]
    """In the order of the logs."""
    faces: int
    """All faces in the logs, also known ones."""
    damaged: int
    """Lines that are no JSON, and faces whose encoding is none."""

    @property
    def encodings(self) -> FloatArray:
        """(N, D) float32."""
        return np.stack([each.encoding for each in self.sightings]) if self.sightings else np.empty((0, 0), np.float32)


def cluster(encodings: FloatArray, metric: Metric, similarity: float, min_faces: int) -> npt.NDArray[np.int64]:
    """Group encodings by person.

    Args:
        encodings: (N, D).
        metric: `cosine` ones are normalised first.
        similarity: faces at least as alike are neighbours; as Euclidean distance sqrt(2 (1 - similarity)).
        min_faces: neighbours that make a group, the face itself counted.

    Returns:
        (N,) the group of each, the largest being 0; -1 for faces in none.

    Raises:
        GalleryError: scikit-learn is missing, or `similarity` or `min_faces` makes no sense.
    """
    if not similarity < 1:
        raise GalleryError(f"similarity {similarity:g}: only a face itself is so alike, give one below 1")
    if min_faces < 1:
        raise GalleryError(f"{min_faces} faces make no group: give 1 or more")
    try:
        from sklearn.cluster import DBSCAN
    except ImportError as error:
        raise GalleryError(
            f"unknown faces are grouped by scikit-learn, which cannot be imported ({error}): "
            "pip install 'frameloom[train]'"
        ) from error
    if not len(encodings):
        return np.empty(0, np.int64)
    rows = encodings
    if metric == "cosine":
        rows = encodings / np.maximum(np.linalg.norm(encodings, axis=1, keepdims=True), 1e-12)
    labels = DBSCAN(eps=math.sqrt(2 * (1 - similarity)), min_samples=min_faces).fit_predict(rows)
    return _by_size(np.asarray(labels, np.int64))


def _by_size(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the labels renumbered, the largest group being 0; of equal ones, the first seen."""
    groups, first, counts = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    numbers = np.full(len(groups) + 1, NOISE, np.int64)  # its last stands for noise, which is -1
    numbers[groups[order]] = np.arange(len(groups))
    return numbers[labels]


def read_unknowns(logs: Sequence[Path], per_track: int = PER_TRACK) -> Unknowns:
    """Read the unknown faces of event logs, line by line.

    A track that was given a name at any time is known as a whole. Of the others the best faces are taken, by quality.

    Args:
        logs: `events.jsonl` files, each of one run.
        per_track: faces kept of a track.

    Raises:
        GalleryError: a log cannot be read or holds no encodings, or encodings are of different lengths.
    """
    reader = _Reader(per_track)
    for log in logs:
        reader.read(log)
    sightings = reader.sightings()
    if len({each.embedder for each in sightings}) > 1:
        raise GalleryError("the logs hold encodings of several encoders, which cannot be compared: give logs of one")
    if len(sizes := {len(each.encoding) for each in sightings}) > 1:
        lengths = " and ".join(str(size) for size in sorted(sizes))
        raise GalleryError(f"the logs hold encodings of {lengths} numbers: give logs of one embedder")
    return Unknowns(tuple(sightings), reader.faces, reader.damaged)


class _Reader:
    """Keeps the best unknown faces of each track, in memory that does not grow with a track."""

    def __init__(self, per_track: int) -> None:
        self._per_track = per_track
        self._best: dict[Track, list[tuple[float, int, Sighting]]] = {}
        self._known: set[Track] = set()
        self.faces = self.damaged = 0
        self._encoded = 0

    def read(self, log: Path) -> None:
        faces, encoded = self.faces, self._encoded
        for record in self._records(log):
            for face in _list(record.get("faces")):
                self._take(log, record, face)
        if self.faces == faces:
            raise GalleryError(f"{log} holds no faces: it takes a run with --set faces.enabled=true")
        if self._encoded == encoded:
            raise GalleryError(f"{log} holds faces without encodings: run with --set {ENCODINGS_KEY}")

    def _records(self, log: Path) -> Iterator[dict[str, Any]]:
        try:
            with log.open("rb") as file:
                for line in file:
                    try:
                        record = json.loads(line)
                    except (ValueError, RecursionError):
                        self.damaged += 1
                        continue
                    if isinstance(record, dict) and record.get("type") == "frame":
                        yield record
        except OSError as error:
            raise GalleryError(f"{log} cannot be read: {error.strerror}") from error

    def _take(self, log: Path, record: dict[str, Any], face: Any) -> None:
        if not isinstance(face, dict):
            self.damaged += 1
            return
        self.faces += 1
        number = face.get("track")
        track = (log, str(record.get("source")), number if isinstance(number, int) else None)
        encoded = face.get("encoding") is not None
        self._encoded += encoded
        if face.get("name") is not None:
            if track[2] is not None:
                self._known.add(track)
                self._best.pop(track, None)
        elif encoded and track not in self._known:
            self._keep(track, record, face)

    def _keep(self, track: Track, record: dict[str, Any], face: dict[str, Any]) -> None:
        try:
            with np.errstate(over="ignore"):
                encoding = np.array(face["encoding"], np.float64).astype(np.float32)
            box = tuple(float(edge) for edge in face["box"])
            quality, frame = float(face.get("quality") or 0.0), int(record["frame"])
        except (KeyError, TypeError, ValueError, OverflowError):
            self.damaged += 1
            return
        if encoding.ndim != 1 or not len(encoding) or not np.isfinite([*encoding, *box, quality]).all():
            self.damaged += 1
            return
        embedder = face.get("embedder")
        made_by = embedder if isinstance(embedder, str) else None
        sighting = Sighting(track[0], track[1], frame, track[2], box, quality, made_by, encoding)
        best = self._best.setdefault(track, [])
        # of equal quality the earlier stays; the count also keeps sightings from being compared
        heapq.heappush(best, (quality, -self.faces, sighting))
        if len(best) > (MAX_LOOSE if track[2] is None else self._per_track):
            heapq.heappop(best)

    def sightings(self) -> list[Sighting]:
        kept = [each for best in self._best.values() for each in best]
        return [sighting for _, _, sighting in sorted(kept, key=lambda each: -each[1])]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
