"""Enrolment: pictures of people -> encodings in a gallery, or a reason why not.

What goes into a gallery decides what comes out of it: a blurred picture, somebody else's face or a second name for the
same person is refused here, where a person can still do something about it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from engines.model_files import sha256_of
from pipeline.arrays import FloatArray
from pipeline.capture.images import is_image
from pipeline.errors import ConfigError
from pipeline.gallery.pairs import similarity_matrix
from pipeline.gallery.records import Encoding, checked_name
from pipeline.gallery.store import GalleryFile
from pipeline.infer.face_reader import FaceReader
from tools.face_images import Done, only_face, picture_at

STRANGERS = 100
"""A new face is held against a gallery of at least so many: how alike strangers may be must not depend on the order in
which people are enrolled."""


SLACK = 0.15
"""Part of the way from the 1:1 threshold to 1 by which a person's pictures may be less alike than that."""


@dataclass(frozen=True)
class Rules:
    """What is refused."""

    min_quality: float = 0.25
    """A face of less quality; higher than for matching, because a picture can be taken again."""
    alike: float = 1.0
    """Similarity from which a face is that of somebody else in the gallery."""
    same: float = 0.0
    """Similarity below which a face is not of the same person as the other pictures."""
    allow_alike: bool = False
    """Whether people may look like others in the gallery: twins."""

    @classmethod
    def of(cls, identify: float, verify: float, min_quality: float = min_quality, allow_alike: bool = False) -> Rules:
        """Make rules of an encoder's thresholds; a person's own pictures may differ a little more than 1:1 allows."""
        return cls(min_quality, identify, verify - SLACK * (1 - verify), allow_alike)


@dataclass
class Report:
    """What came of an enrolment."""

    added: dict[str, int] = field(default_factory=dict)
    """Pictures that were added, per person."""
    refused: list[tuple[Path, str]] = field(default_factory=list)
    """Pictures that were not, and why."""


class Others:
    """Everybody in the gallery, and those who are added on the way."""

    def __init__(self, gallery: GalleryFile) -> None:
        snapshot = gallery.encodings()
        self._names = np.array([snapshot.names[person] for person in snapshot.persons], object)
        self._vectors: list[FloatArray] = [snapshot.vectors]

    def of(self, name: str) -> FloatArray:
        """Return (K, D) encodings of a person."""
        vectors: FloatArray = np.concatenate(self._vectors)[self._names == name]
        return vectors

    def most_alike(self, encoding: FloatArray, name: str) -> tuple[str, float]:
        """Return who else is most alike, and how much; nobody is at -inf."""
        alike = np.concatenate([similarity_matrix(block, encoding[None])[:, 0] for block in self._vectors])
        alike[self._names == name] = -np.inf
        if not len(alike) or np.isneginf(alike.max()):
            return "", -np.inf
        return str(self._names[alike.argmax()]), float(alike.max())

    def add(self, name: str, vectors: Sequence[FloatArray]) -> None:
        """Remember a person's new encodings."""
        if vectors:
            self._vectors.append(np.stack(vectors))
            self._names = np.concatenate([self._names, np.array([name] * len(vectors), object)])


class Enrolment:
    """Adds people to one gallery."""

    def __init__(self, gallery: GalleryFile, reader: FaceReader, rules: Rules) -> None:
        """Begin with whom the gallery has."""
        self._gallery, self._reader, self._rules = gallery, reader, rules
        self._others = Others(gallery)
        self.report = Report()

    def enrol_all(self, people: Sequence[tuple[str, Sequence[Path]]], done: Done) -> None:
        """Add people, one after the other; `done` is told after each picture."""
        total = sum(len(pictures) for _, pictures in people)
        numbers = itertools.count(1)
        for name, pictures in people:
            self.enrol(name, pictures, lambda: done(next(numbers), total))

    def enrol(self, name: str, paths: Sequence[Path], done: Callable[[], None] = lambda: None) -> None:
        """Add a person's pictures in one transaction; `done` is called after each.

        Raises:
            GalleryError: it is no name, or the gallery cannot be written.
        """
        name = checked_name(name)
        candidates: list[tuple[Path, Encoding]] = []
        hashes: set[str] = set()
        for path in paths:
            candidate = self._read(path, name, hashes)
            if isinstance(candidate, str):
                self.report.refused.append((path, candidate))
            else:
                candidates.append((path, candidate))
                hashes.add(candidate.image_sha256)
            done()
        kept = self._without_outliers(name, candidates)
        left_out = self._gallery.add(name, [encoding for _, encoding in kept]) if kept else []
        by_others = {each.encoding: each.holder for each in left_out}  # while we were reading the pictures
        added = [encoding.vector for _, encoding in kept if encoding not in by_others]
        self.report.refused += [(path, _there(by_others[each], name)) for path, each in kept if each in by_others]
        self._others.add(name, added)
        self.report.added[name] = self.report.added.get(name, 0) + len(added)

    def _read(self, path: Path, name: str, hashes: set[str]) -> Encoding | str:
        """Return a picture's encoding, or why it is refused."""
        if not path.is_file():
            return "does not exist" if not path.exists() else "is no file"
        sha256 = sha256_of(path)
        holder = name if sha256 in hashes else self._gallery.has_image(sha256)
        if holder is not None:
            return _there(holder, name)
        picture = picture_at(path)
        if picture is None:
            return "cannot be read as a picture"
        faces, quality = self._reader(picture)
        row, reason = only_face(faces)
        if row is None or faces.encodings is None:
            return reason
        value, encoding = float(quality.values[row]), faces.encodings[row]
        if value < self._rules.min_quality:
            return f"{quality.worst(row)} (quality {value:.2f})"
        who, alike = self._others.most_alike(encoding, name)
        if alike >= self._rules.alike and not self._rules.allow_alike:
            return f"looks like {who} ({alike:.2f})"
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return Encoding(encoding, value, path.name, sha256, now)

    def _without_outliers(self, name: str, candidates: list[tuple[Path, Encoding]]) -> list[tuple[Path, Encoding]]:
        """Refuse, the worst first, what is unlike the mean of a person's other pictures; of two, both."""
        known = list(self._others.of(name))
        while candidates and len(known) + len(candidates) > 1:
            vectors = np.stack(known + [encoding.vector for _, encoding in candidates])
            means = (vectors.sum(axis=0) - vectors) / (len(vectors) - 1)
            if self._gallery.embedder.metric == "cosine":
                means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)
            alike = (1 - np.square(means - vectors).sum(axis=1) / 2)[len(known) :]
            worst = int(alike.argmin())
            if alike[worst] >= self._rules.same:
                break
            unclear = len(candidates) == 2 and not known
            for path, _ in candidates if unclear else [candidates[worst]]:
                others = "the other picture" if len(vectors) == 2 else "the other pictures"
                self.report.refused.append((path, f"unlike {others} of {name} ({alike[worst]:.2f})"))
            candidates = [] if unclear else candidates[:worst] + candidates[worst + 1 :]
        return candidates


def _there(holder: str, name: str) -> str:
    return "already there" if holder == name else f"already there, as {holder}"


def people_in(folder: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each person of a folder of folders, and their pictures.

    Raises:
        ConfigError: it is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"--dir {folder}: name a folder that has a folder per person")
    found = False
    for person in sorted(path for path in folder.iterdir() if path.is_dir()):
        if pictures := sorted(path for path in person.iterdir() if is_image(path)):
            found = True
            yield person.name, pictures
    if not found:
        raise ConfigError(f"--dir {folder}: none of its folders has pictures; it wants a folder per person")
