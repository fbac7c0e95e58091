"""Unknown people of event logs: grouped, listed, and enrolled by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery.records import Encoding
from pipeline.gallery.store import GalleryFile
from tools.terminal import count_of
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

    def lines(self) -> Iterator[str]:
        """Say who was seen how often, and where to look."""
        for number, group in enumerate(self.groups, 1):
            tracks = len({(each.log, each.source, each.track) for each in group})
            best = group[0]
            box = ", ".join(f"{edge:.0f}" for edge in best.box)
            seen = f"{count_of(len(group), 'face')} of {count_of(tracks, 'track')}"
            place = f"{best.source}, frame {best.frame}, at [{box}], quality {best.quality:.2f}"
            yield f"person {number}: {seen}; the best is in {place}"
        alone = len(self.unknowns.sightings) - sum(map(len, self.groups))
        faces = self.unknowns.faces
        yield f"{len(self.groups)} unknown people, {alone} faces belong to none; {faces} faces in the logs"
        if self.unknowns.damaged:
            yield f"{self.unknowns.damaged} damaged lines or faces were left out"

    def enrol(self, number: int, name: str, gallery: GalleryFile) -> int:
        """Add a group's best faces to a gallery; return how many."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        chosen = self.groups[number - 1][:MOST_ENROLLED]
        faces = [Encoding(each.encoding, each.quality, f"{each.source} frame {each.frame}", "", now) for each in chosen]
        gallery.add(name, faces)
        return len(faces)


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
    return UnknownPeople(unknowns, tuple(groups))


def parse_choices(texts: Sequence[str], groups: int) -> list[tuple[int, str]]:
    """Return number and name of each NUMBER=NAME.

    Raises:
        ConfigError: it is something else, or there is no such group.
    """
    choices = []
    for text in texts:
        number, _, name = text.partition("=")
        if not number.strip().isdecimal() or not name.strip():
            raise ConfigError(f"--enrol {text!r}: write NUMBER=NAME, such as 1=ann")
        if not 1 <= int(number) <= groups:
            raise ConfigError(f"--enrol {text!r}: there are {groups} unknown people")
        choices.append((int(number), name.strip()))
    return choices
