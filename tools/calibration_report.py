"""What `frameloom gallery calibrate` calibrates on, prints and draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from pipeline.arrays import FloatArray
from pipeline.gallery.calibration import Calibration, Subject, calibrate
from pipeline.gallery.identification import Searches, search_gallery
from pipeline.gallery.pairs import all_pairs, least_alike_within, most_alike_across
from pipeline.gallery.records import EmbedderId, Snapshot
from pipeline.gallery.verification import Verification
from tools.evaluate_faces import similarities_of
from tools.face_images import Done, FaceModels
from tools.plot import plot_calibration

SHOWN = 5
"""Pairs that are listed of each kind."""
MANY_FOR = {"dlib-resnet": 30}
"""People from which another encoder is worth fetching."""
BETTER = (
    "mobilefacenet keeps strangers apart better among many people (98 % of the known against 94 % are found where 1 % "
    "of strangers get a name, on LFW with 40 people): frameloom gallery add --embedder mobilefacenet"
)


@dataclass(frozen=True, eq=False)
class Comparisons:
    """What thresholds are chosen on."""

    data: str
    """What it is, for a person."""
    similarities: FloatArray
    """(P,)."""
    same: npt.NDArray[np.bool_]
    """(P,) whether a pair is of one person."""
    searches: Searches | None
    """For strangers in the gallery; None with less than two people."""


def of_gallery(snapshot: Snapshot) -> Comparisons:
    """Compare everybody in the gallery with everybody.

    Raises:
        GalleryError: there are fewer than two people.
    """
    similarities, same = all_pairs(snapshot.vectors, snapshot.persons)
    return Comparisons("the gallery itself", similarities, same, search_gallery(snapshot.vectors, snapshot.persons))


def of_pairs(pairs: Path, images: Path, models: FaceModels, snapshot: Snapshot, done: Done) -> Comparisons:
    """Compare labelled pairs of pictures; strangers are searched for in the gallery, one of its people at a time.

    Raises:
        ConfigError: the file has other columns, or not one pair can be compared.
    """
    _, labels, scores, _ = similarities_of(pairs, images, models, done)
    compared = np.array([score is not None for score in scores])
    similarities = np.array([score for score in scores if score is not None], np.float32)
    searches = search_gallery(snapshot.vectors, snapshot.persons) if len(snapshot.names) > 1 else None
    return Comparisons(pairs.name, similarities, labels[compared], searches)


def calibration_of(
    comparisons: Comparisons, snapshot: Snapshot, embedder: EmbedderId, made: str, far: float, fpir: float
) -> Calibration:
    """Choose the thresholds."""
    subject = Subject(embedder.sha256, comparisons.data, made, len(snapshot.names), len(snapshot))
    return calibrate(subject, comparisons.similarities, comparisons.same, comparisons.searches, far=far, fpir=fpir)


def show(found: Calibration, snapshot: Snapshot, embedder: EmbedderId, console: Console) -> None:
    """Print the thresholds, what supports them, and which pictures to look at."""
    say = partial(console.print, soft_wrap=True)
    subject = found.subject
    say(f"{subject.data}: {found.same_pairs:,} pairs of one person, {found.different_pairs:,} of two people")
    figures = {"AUC": found.auc, "EER": found.eer, "accuracy (10 folds)": found.accuracy}
    for name, value in figures.items():
        if value is not None:
            say(f"{name:<20} {value:.4f}")
    for each in found.tar_at_far:
        say(f"{f'TAR at FAR {each.point.asked:g}':<20} {each.tar:.4f}   {each.point.sentence}")
    say(f"threshold 1:1        {found.verify.threshold:.4f}   {found.verify.sentence}")
    if found.identify is None:
        say("threshold 1:N        none: strangers can only be searched for in a gallery of two people or more")
    else:
        say(f"threshold 1:N        {found.identify.threshold:.4f}   {found.identify.sentence}")
    _show_pairs(snapshot, found, say)
    if len(snapshot.names) >= MANY_FOR.get(embedder.name, len(snapshot.names) + 1):
        say(f"hint: {BETTER}")


def _show_pairs(snapshot: Snapshot, found: Calibration, say: Callable[[str], None]) -> None:
    worst = sorted(least_alike_within(snapshot.vectors, snapshot.persons), key=lambda pair: pair.similarity)
    if worst:
        say("least alike pictures of one person:")
        for pair in worst[:SHOWN]:
            mark = "" if pair.similarity >= found.verify.threshold else "  below the 1:1 threshold"
            say(f"  {pair.similarity:6.3f}  {snapshot.names[pair.person_a]}{mark}")
    alike = most_alike_across(snapshot.vectors, snapshot.persons, SHOWN) if len(snapshot.names) > 1 else []
    if alike:
        say("most alike people (enrolled under two names?):")
        for pair in alike:
            say(f"  {pair.similarity:6.3f}  {snapshot.names[pair.person_a]}, {snapshot.names[pair.person_b]}")


def draw(found: Calibration, comparisons: Comparisons, path: Path) -> None:
    """Draw ROC, similarities and growth as a PNG."""
    both = comparisons.same.any() and not comparisons.same.all()
    verification = Verification(comparisons.similarities, comparisons.same) if both else None
    title = f"{found.subject.data}, {found.subject.made}"
    plot_calibration(path, title, verification, found.verify, comparisons.searches, found.identify)
