"""`frameloom gallery verify|identify|calibrate`: compare faces, look them up, and find the threshold for it."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from engines.engine import EngineOptions
from pipeline.arrays import FloatArray
from pipeline.assemble_faces import encoder_name
from pipeline.config.find_settings import FacesSettings
from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery.known import id_of
from pipeline.gallery.matcher import Matcher
from pipeline.gallery.pairs import similarity_matrix
from pipeline.gallery.similarity_head import SimilarityHead
from pipeline.gallery.store import GalleryFile
from pipeline.gallery.words import counted
from pipeline.infer.face_reader import FaceReader
from tools import calibration_report
from tools.face_images import FaceModels, encoder_spec, only_face, readable_picture
from tools.face_options import (
    DEFAULT_GALLERY,
    BackendOption,
    EmbedderOption,
    FinderOption,
    GalleryOption,
    PrecisionOption,
)
from tools.gallery_access import embedder_of, opened_reader, threshold_at, threshold_in
from tools.targets import check_target
from tools.terminal import Output, bar, say

TOP = 5
"""People that are listed for each face."""


def verify(
    first: Annotated[Path, typer.Argument(metavar="IMAGE")],
    second: Annotated[Path, typer.Argument(metavar="IMAGE")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    head: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="A trained similarity head: frameloom train similarity.")
    ] = None,
    finder: FinderOption = "centerface",
    embedder: EmbedderOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Compare two pictures: are they of one person? A gallery's calibration is used where there is one."""
    models = FaceModels(finder, embedder or embedder_of(gallery), EngineOptions(backend, precision))
    with opened_reader(models) as reader:
        learned = None if head is None else SimilarityHead.load(head, id_of(reader.embedder).sha256)
        a, b = (_one_face(path, reader) for path in (first, second))
        threshold = threshold_at(gallery, reader)
    alike = float(similarity_matrix(a[None], b[None])[0, 0])
    same = alike >= threshold.value
    say(f"similarity {alike:.3f} (distance {math.sqrt(max(0.0, 2 - 2 * alike)):.3f}); threshold {threshold.sentence}")
    if head and learned:
        probability = float(learned.probability(a[None], b[None])[0])
        say(f"{head.name}: one person with a probability of {probability:.1%}")
        same = probability >= 0.5
    say("the same person" if same else "two people")


def identify(
    image: Annotated[Path, typer.Argument(metavar="IMAGE")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    finder: FinderOption = "centerface",
    embedder: EmbedderOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Say who is in a picture: for each face the five most alike people."""
    models = FaceModels(finder, embedder or embedder_of(gallery), EngineOptions(backend, precision))
    with opened_reader(models) as reader, GalleryFile.open(gallery, id_of(reader.embedder), read_only=True) as file:
        matcher = Matcher(file.encodings(), file.embedder.metric)
        threshold = threshold_in(file, reader, len(matcher.names))
        faces, quality = reader(readable_picture(image))
        assert faces.encodings is not None
        matches = matcher.search(faces.encodings, TOP)
    for row in range(len(faces)):
        left, top, right, bottom = faces.boxes[row].round().astype(int).tolist()
        say(f"face at {left},{top} to {right},{bottom}, quality {quality.values[row]:.2f}:")
        if quality.values[row] < FacesSettings().min_quality:
            say(f"  too poor to match: {quality.worst(row)}")
            continue
        known = False
        for name, alike in zip(matches.names[row], matches.similarities[row].tolist(), strict=True):
            if name is not None:
                known = known or alike >= threshold.value
                mark = "" if alike >= threshold.value else "  (below the threshold)"
                say(f"  {alike:6.3f}  {name}{mark}")
        if not known:
            say("  unknown")
    say(f"{counted(len(faces), 'face')}; threshold {threshold.sentence}")


def calibrate(
    gallery: GalleryOption = DEFAULT_GALLERY,
    pairs: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Labelled pairs, image_a,image_b,same, instead of the gallery.")
    ] = None,
    images: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the pairs' pictures are.")] = None,
    far: Annotated[float, typer.Option(min=0, max=1, help="1:1: share of strangers that may be accepted.")] = 0.001,
    fpir: Annotated[float, typer.Option(min=0, max=1, help="1:N: share of strangers that may get a name.")] = 0.01,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw ROC, scores and growth.")] = None,
    finder: FinderOption = "centerface",
    embedder: EmbedderOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Choose the thresholds by data, say what the data supports, and store them in the gallery."""
    check_target("--plot", plot)
    made = datetime.now(timezone.utc).date().isoformat()
    with GalleryFile.open(gallery) as file:
        snapshot = file.encodings()
        if pairs is None:
            comparisons = calibration_report.of_gallery(snapshot)
        else:
            encoder = embedder or encoder_name(file.embedder, gallery)
            models = FaceModels(finder, encoder, EngineOptions(backend, precision))
            _check_encoder(models, file)
            with bar("encode") as done:
                comparisons = calibration_report.of_pairs(pairs, images or pairs.parent, models, snapshot, done)
        found = calibration_report.calibration_of(comparisons, snapshot, file.embedder, made, far, fpir)
        calibration_report.show(found, snapshot, file.embedder, Output(highlight=False, markup=False))
        file.store_calibration(found.to_document())
    say(f"stored in {gallery}; a running pipeline uses it within two seconds")
    if plot is not None:
        calibration_report.draw(found, comparisons, plot)
        say(f"wrote {plot}")


def _check_encoder(models: FaceModels, file: GalleryFile) -> None:
    """Refuse an encoder whose similarities mean nothing for the gallery."""
    spec = encoder_spec(models)
    if spec.sha256 != file.embedder.sha256:
        raise GalleryError(f"{file.path} holds encodings of {file.embedder}: it cannot be calibrated by {spec.name}")


def _one_face(path: Path, reader: FaceReader) -> FloatArray:
    """Return the (D,) encoding of a portrait.

    Raises:
        ConfigError: it cannot be read, or it is not clear whose face is meant.
    """
    faces, _ = reader(readable_picture(path))
    row, reason = only_face(faces)
    if row is None or faces.encodings is None:
        raise ConfigError(f"{path}: {reason}; show a picture with one face")
    encoding: FloatArray = faces.encodings[row]
    return encoding
