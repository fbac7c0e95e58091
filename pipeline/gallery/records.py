"""What a gallery holds: people, their encodings, and the embedder that made them."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.spec import Metric
from pipeline.arrays import FloatArray, IntArray
from pipeline.errors import GalleryError

NAME_MAX = 200
"""Characters of the longest name."""
UNIT_WITHIN = 1e-3
"""How far the length of a `cosine` encoding may be from 1: float32 rounding stays below 1e-6."""
BIDI_CONTROLS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


@dataclass(frozen=True)
class EmbedderId:
    """Which model made an encoding; those of two models cannot be compared."""

    name: str
    sha256: str
    """Of the model's file."""
    metric: Metric
    dimensions: int

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:12]}, {self.metric}, {self.dimensions} numbers)"

    def same_encodings_as(self, other: EmbedderId) -> bool:
        """Whether encodings of both can be compared; the name is only a label."""
        return (self.sha256, self.metric, self.dimensions) == (other.sha256, other.metric, other.dimensions)


@dataclass(frozen=True, eq=False)
class Encoding:
    """One face of a person as numbers, and where it came from."""

    vector: FloatArray
    """(D,) float32, normalised for `cosine`, raw for `l2`."""
    quality: float
    """0..1: how well the face could be recognised."""
    image: str
    """Name of the picture, to show to people."""
    image_sha256: str
    """Of the picture's file; empty where there was none."""
    created_at: str
    """UTC, ISO 8601."""


@dataclass(frozen=True, eq=False)
class LeftOut:
    """An encoding that was not added."""

    person: str
    """Whose it would have been."""
    encoding: Encoding
    holder: str
    """Who has its picture already."""


@dataclass(frozen=True)
class Person:
    """One line of a gallery's list."""

    name: str
    count: int
    """Encodings."""
    created_at: str
    """UTC, ISO 8601."""
    quality: float
    """The best of the encodings' qualities."""


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All encodings of a gallery at one moment, a person's encodings in neighbouring rows."""

    vectors: FloatArray
    """(N, D) float32, C-contiguous, read-only."""
    names: tuple[str, ...]
    """(P,) the people."""
    persons: IntArray
    """(N,) int32, ascending: row of `names` that the encoding belongs to; nobody is left out."""
    qualities: FloatArray
    """(N,) float32 in 0..1."""
    ids: npt.NDArray[np.int64]
    """(N,) of the encodings in their file."""

    @classmethod
    def empty(cls, dimensions: int) -> Snapshot:
        """Nobody is known."""
        none = np.empty(0, np.float32)
        return cls(np.empty((0, dimensions), np.float32), (), none.astype(np.int32), none, none.astype(np.int64))

    def __len__(self) -> int:
        return len(self.vectors)


def checked_name(name: str) -> str:
    """Return the name as it is stored: without blanks around it, composed (Unicode NFC).

    Raises:
        GalleryError: it is empty, too long, or has control characters.
    """
    checked = unicodedata.normalize("NFC", name).strip()
    if not checked:
        raise GalleryError("a person's name is empty: give one")
    if len(checked) > NAME_MAX:
        raise GalleryError(f"the name {checked[:20]!r}... has {len(checked)} characters: give one of up to {NAME_MAX}")
    for character in checked:
        control = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
        if control or unicodedata.bidirectional(character) in BIDI_CONTROLS:
            raise GalleryError(f"the name {checked!a} has the control character {character!a}: leave it out")
    return checked


def checked_record(name: str, encoding: Encoding, embedder: EmbedderId) -> tuple[str, FloatArray]:
    """Return a person's name and encoding as they are stored.

    Raises:
        GalleryError: as `checked_name` and `checked_vector`, or the quality or the origin is none.
    """
    person = checked_name(name)
    vector = checked_vector(encoding.vector, embedder, person)
    if not 0 <= encoding.quality <= 1:
        raise GalleryError(f"an encoding for {person} has the quality {encoding.quality:g}: give one from 0 to 1")
    if encoding.image_sha256 and not re.fullmatch("[0-9a-f]{64}", encoding.image_sha256):
        raise GalleryError(
            f"an encoding for {person} is of a picture {encoding.image_sha256!a}, which is no sha256: give 64 "
            f"hexadecimal digits, or none"
        )
    if not encoding.created_at.isascii():
        raise GalleryError(f"an encoding for {person} was made {encoding.created_at!a}, which is no ISO 8601 time")
    return person, vector


def checked_vector(vector: FloatArray, embedder: EmbedderId, owner: str) -> FloatArray:
    """Return the encoding as (D,) float32.

    Raises:
        GalleryError: it has another length, NaN or infinite numbers, only zeros, or is not normalised where it must be.
    """
    with np.errstate(over="ignore"):  # to infinity, which is refused
        checked = np.asarray(vector, np.float32)
    if checked.shape != (embedder.dimensions,):
        raise GalleryError(
            f"an encoding for {owner} has the shape {checked.shape}, but those of {embedder} are "
            f"({embedder.dimensions},): encode the picture with that embedder"
        )
    if not np.isfinite(checked).all():
        raise GalleryError(f"an encoding for {owner} has numbers that are not finite (NaN): encode the picture again")
    length = float(np.linalg.norm(checked))
    if not length:
        raise GalleryError(f"an encoding for {owner} is all zeros, as no face is: encode the picture again")
    if embedder.metric == "cosine" and abs(length - 1) > UNIT_WITHIN:
        raise GalleryError(
            f"an encoding for {owner} has the length {length:.4g}, but those of {embedder} are stored with length 1: "
            f"normalise it"
        )
    return checked
