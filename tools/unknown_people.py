"""Unknown people of event logs: grouped, listed, and enrolled by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery.records import Encoding, checked_name
from pipeline.gallery.store import GalleryFile
from pipeline.gallery.words import counted
from tools.enrol import Others
from tools.unknowns import Sighting, Unknowns, cluster, read_unknowns

MOST_ENROLLED = 5
"""Faces of a group that are enrolled: its best."""
GROUPED_AT = {"cosine": 0.45, "l2": 0.87}
"""Similarity from which faces are neighbours: strict, for a chain of neighbours joins groups."""


@dataclass(frozen=True, eq=False)
class UnknownPeople:
    """The groups."""

    unknowns: Unknowns
    groups: tuple[tuple[Sighting, ...], ...]
    """Each person's faces, the best first; the largest group first."""
    similarity: float
    """What faces of one group were more alike than."""

    def lines(self) -> Iterator[str]:
        """Say who was seen how often, and where to look."""
        for number, group in enumerate(self.groups, 1):
            tracks = len({(each.log, each.source, each.track) for each in group})
            best = group[0]
            box = ", ".join(f"{edge:.0f}" for edge in best.box)
            seen = f"{counted(len(group), 'face')} of {counted(tracks, 'track')}"
            place = f"{best.source}, frame {best.frame}, at [{box}], quality {best.quality:.2f}"
            yield f"person {number}: {seen}; the best is in {place}"
        alone = len(self.unknowns.sightings) - sum(map(len, self.groups))
        faces = self.unknowns.faces
        loose = counted(alone, "face belongs", "faces belong")
        yield f"{_people(len(self.groups))}, {loose} to none; {counted(faces, 'face')} in the logs"
        if self.unknowns.damaged:
            lost = counted(self.unknowns.damaged, "damaged line or face was", "damaged lines or faces were")
            yield f"{lost} left out"

    def enrol(self, choices: Sequence[tuple[int, str]], gallery: GalleryFile, alike: float) -> tuple[int, list[str]]:
        """Add the best faces of groups to a gallery in one transaction, but those that are there already.

        Args:
            choices: number and name of each group.
            gallery: of the encoder of the faces.
            alike: a group with a face that is so much like somebody else in the gallery is refused.

        Returns:
            How many faces were added, and what became of each group, for a person.
        """
        others, records, lines = Others(gallery), [], []
        for number, name in choices:
            chosen = self.groups[number - 1][:MOST_ENROLLED]
            who, most = max((others.most_alike(each.encoding, name) for each in chosen), key=lambda found: found[1])
            held = others.of(name)
            new = [each for each in chosen if not (held == each.encoding).all(axis=1).any()]
            if most >= alike:
                lines.append(f"refused  person {number}: looks like {who} ({most:.2f})")
            elif not new:
                lines.append(f"refused  person {number}: already there, as {name}")
            else:
                lines.append(f"added    {name}: {counted(len(new), 'face')} of person {number}")
                records += [(name, _as_encoding(each)) for each in new]
        return gallery.add_records(records, skip_known=True) if records else 0, lines


def _people(count: int) -> str:
    return counted(count, "unknown person", "unknown people")


def group_unknowns(
    logs: Sequence[Path], gallery: GalleryFile, similarity: float | None, min_faces: int
) -> UnknownPeople:
    """Group the unknown faces of event logs.

    Raises:
        GalleryError: a log cannot be read, has no encodings, or those of another encoder than the gallery's.
    """
    unknowns, embedder = read_unknowns(logs), gallery.embedder
    for each in unknowns.sightings[:1]:  # all are of one encoder
        if each.embedder not in (None, embedder.sha256) or len(each.encoding) != embedder.dimensions:
            raise GalleryError(
                f"the logs hold encodings of another encoder (sha256 {str(each.embedder)[:12]}, {len(each.encoding)} "
                f"numbers), which cannot be compared with those of {embedder} in {gallery.path}"
            )
    at_least = GROUPED_AT[embedder.metric] if similarity is None else similarity
    labels = cluster(unknowns.encodings, embedder.metric, at_least, min_faces)
    groups = []
    for label in range(int(labels.max(initial=-1)) + 1):
        members = [unknowns.sightings[row] for row in np.flatnonzero(labels == label)]
        groups.append(tuple(sorted(members, key=lambda each: -each.quality)))
    return UnknownPeople(unknowns, tuple(groups), at_least)


def _as_encoding(face: Sighting) -> Encoding:
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return Encoding(face.encoding, face.quality, f"{face.source} frame {face.frame}", "", now)


def parse_choices(texts: Sequence[str], groups: int) -> list[tuple[int, str]]:
    """Return number and name of each NUMBER=NAME.

    Raises:
        ConfigError: it is something else, there is no such group, or one is given twice.
        GalleryError: nobody can have that name.
    """
    choices: list[tuple[int, str]] = []
    for text in texts:
        number, _, name = text.partition("=")
        if not number.strip().isdecimal() or not name.strip():
            raise ConfigError(f"--enrol {text!r}: write NUMBER=NAME, such as 1=ann")
        if not 1 <= int(number) <= groups:
            raise ConfigError(f"--enrol {text!r}: there {'is' if groups == 1 else 'are'} {_people(groups)}")
        if int(number) in (each for each, _ in choices):
            raise ConfigError(f"--enrol {text!r}: person {int(number)} is enrolled already by another --enrol")
        choices.append((int(number), checked_name(name)))
    return choices
