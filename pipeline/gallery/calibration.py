"""The thresholds of a gallery, with the data that justifies them: made once, stored with it, read by the pipeline.

A threshold is only as good as its data. Where the data cannot show the rate that was asked for, the embedder's default
stands if it is the stricter one: ten comparisons of two people without an error say nothing about one in a thousand.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from engines.spec import EncoderSpec
from pipeline.arrays import FloatArray
from pipeline.errors import GalleryError, GalleryFailure
from pipeline.gallery.identification import Searches, search_gallery
from pipeline.gallery.operating_point import STRICT, OperatingPoint, carry, percent
from pipeline.gallery.pairs import all_pairs
from pipeline.gallery.verification import Verification, far_point
from pipeline.gallery.words import people as people_of

VERSION = 1
DEFAULT_FAR = 0.001
DEFAULT_FPIR = 0.01
FARS = (0.01, 0.001)
"""At which the TAR is given."""
CALIBRATE = "`frameloom gallery calibrate`"


@dataclass(frozen=True)
class Subject:
    """What was calibrated."""

    __pydantic_config__ = STRICT
    embedder: str
    """sha256 of its file: thresholds mean nothing for another one."""
    data: str
    """What the comparisons were made of, for a person: `the gallery itself`, a file's name."""
    made: str
    """ISO 8601 date."""
    people: int
    """In the gallery."""
    encodings: int

    def __post_init__(self) -> None:
        if not re.fullmatch("[0-9a-f]{64}", self.embedder):
            raise ValueError(f"embedder {self.embedder!r} is no sha256")


@dataclass(frozen=True)
class TarAtFar:
    """The share of pairs of one person that is accepted at a FAR; the point says whether the data shows that FAR."""

    __pydantic_config__ = STRICT
    tar: float
    point: OperatingPoint


@dataclass(frozen=True)
class Calibration:
    """Thresholds for 1:1 and 1:N, and the figures of the data that they were chosen on."""

    __pydantic_config__ = STRICT
    subject: Subject
    same_pairs: int
    different_pairs: int
    verify: OperatingPoint
    identify: OperatingPoint | None = None
    """None: no stranger was searched for."""
    eer: float | None = None
    """None, as the figures below: there was no pair of one person, or too few."""
    auc: float | None = None
    accuracy: float | None = None
    """Mean over the folds, with the threshold chosen on the others."""
    accuracy_error: float | None = None
    """Its standard error."""
    tar_at_far: tuple[TarAtFar, ...] = ()
    """At each of `FARS`."""

    def to_document(self) -> dict[str, Any]:
        """Return it as what JSON can hold."""
        return {"version": VERSION, **asdict(self)}

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps(self.to_document(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Calibration:
        """Read what `to_json` wrote.

        Raises:
            GalleryError: it is something else, or of another version.
        """
        try:
            fields = from_json(text)
        except ValueError as error:
            raise _damaged(str(error)) from error
        return cls.from_document(fields)

    @classmethod
    def from_document(cls, document: Any) -> Calibration:
        """Read what `to_document` gave.

        Raises:
            GalleryError: it is something else, or of another version.
        """
        if not isinstance(document, dict):
            raise _damaged(f"it is {type(document).__name__}, not a mapping")
        fields = dict(document)
        if (version := fields.pop("version", None)) != VERSION:
            raise GalleryError(
                f"the stored calibration is of version {version}, this program reads {VERSION}: "
                f"update Frameloom, or repeat {CALIBRATE}"
            )
        try:
            return TypeAdapter(cls).validate_json(to_json(fields))
        except ValidationError as error:
            first = error.errors()[0]
            raise _damaged(".".join(str(part) for part in first["loc"]) + f": {first['msg']}") from error


def _damaged(reason: str) -> GalleryError:
    return GalleryFailure(f"the stored calibration is damaged ({reason}): repeat {CALIBRATE}")


@dataclass(frozen=True)
class Threshold:
    """The threshold to use, and why it is this one."""

    value: float
    origin: Literal["calibrated", "default", "configured"]
    sentence: str


def calibrate(
    subject: Subject,
    similarities: FloatArray,
    same: npt.NDArray[np.bool_],
    searches: Searches | None = None,
    *,
    far: float = DEFAULT_FAR,
    fpir: float = DEFAULT_FPIR,
) -> Calibration:
    """Choose thresholds from labelled comparisons and searches for strangers.

    Args:
        subject: what is calibrated; the 1:N threshold is for a gallery of `subject.people`.
        similarities: (P,) of pairs.
        same: (P,) whether a pair is of one person; without any such pair there are thresholds and no accuracy.
        searches: for the 1:N threshold.
        far: share of comparisons between two people that may be accepted.
        fpir: share of strangers that may be taken for somebody.

    Raises:
        GalleryError: there is no comparison between two people, or a similarity that is not finite.
    """
    figures: dict[str, Any] = {}
    if same.any() and not same.all():
        verification = Verification(similarities, same)
        figures = {"eer": verification.eer, "auc": verification.auc}
        if min(same.sum(), (~same).sum()) > 1:
            accuracy = verification.accuracy
            figures |= {"accuracy": accuracy.mean, "accuracy_error": accuracy.error}
        points = [verification.threshold_for(each) for each in FARS]
        figures["tar_at_far"] = tuple(TarAtFar(verification.tar(point.threshold), point) for point in points)
    different = similarities[~same]
    return Calibration(
        subject,
        same_pairs=int(same.sum()),
        different_pairs=len(different),
        verify=far_point(different, far),
        identify=searches.threshold_for(fpir, max(1, subject.people)) if searches else None,
        **figures,
    )


def calibrate_gallery(
    encodings: FloatArray,
    persons: npt.ArrayLike,
    *,
    embedder: str,
    made: str,
    far: float = DEFAULT_FAR,
    fpir: float = DEFAULT_FPIR,
) -> Calibration:
    """Choose thresholds from a gallery itself: all pairs for 1:1, leaving one person out for 1:N.

    Args:
        encodings: (N, D).
        persons: (N,) whose they are.
        embedder: sha256 of the embedder's file.
        made: ISO 8601 date.
        far, fpir: as in `calibrate`.

    Raises:
        GalleryError: there are fewer than two people, or an encoding is not finite.
    """
    searches = search_gallery(encodings, persons)
    subject = Subject(embedder, "the gallery itself", made, len(np.unique(persons)), len(encodings))
    return calibrate(subject, *all_pairs(encodings, persons), searches, far=far, fpir=fpir)


def effective_threshold(
    calibration: Calibration | None,
    encoder: EncoderSpec,
    people: int | None = None,
    configured: float | None = None,
) -> Threshold:
    """Return the threshold to use: the configured one, else the calibrated one, else the embedder's default.

    Args:
        calibration: the gallery's, if it has one.
        encoder: of the embedder, for its defaults.
        people: how many the gallery has now; None: two faces are compared with each other.
        configured: what the user has set.
    """
    if configured is not None:
        return Threshold(configured, "configured", f"{configured:.3f}, as configured")
    default = encoder.verify_threshold if people is None else encoder.threshold_for(people)
    point = None
    if calibration is not None:
        point = calibration.verify if people is None else calibration.identify
    if calibration is None or point is None:
        sentence = f"{default:.3f}, the embedder's default: nothing was calibrated ({CALIBRATE})"
        return Threshold(default, "default", sentence)
    if not point.supported and default > point.threshold:
        sentence = f"{default:.3f}, the embedder's default, for the calibration is too small: {point.sentence}"
        return Threshold(default, "default", sentence)
    origin = f"{point.threshold:.3f}, calibrated on {calibration.subject.data} {calibration.subject.made}"
    return Threshold(point.threshold, "calibrated", f"{origin}: {point.sentence}{_grown(point, people)}")


def _grown(point: OperatingPoint, people: int | None) -> str:
    """Return what more people than a threshold was chosen for do to it."""
    if people is None or point.people is None or people <= point.people:
        return ""
    rate = carry(point.asked, people / point.people)
    return (
        f"; it was chosen for {percent(point.asked)} among {people_of(point.people)}: among {people:,} that becomes "
        f"{percent(rate)} by 1-(1-FAR)^G, so repeat {CALIBRATE}"
    )
