"""What the commands of `frameloom gallery` share: the models that fit a gallery, and its thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engines.zoo import Zoo
from pipeline.assemble_faces import DEFAULT_EMBEDDER, encoder_name
from pipeline.gallery.calibration import Calibration, Threshold, effective_threshold
from pipeline.gallery.known import id_of
from pipeline.gallery.store import GalleryFile
from pipeline.infer.face_reader import FaceReader
from tools.enrol import STRANGERS
from tools.face_images import FaceModels, opened
from tools.terminal import download_progress


@contextmanager
def opened_reader(models: FaceModels) -> Iterator[FaceReader]:
    """Open finder and encoder, with a bar where they are downloaded."""
    with download_progress("face models") as progress, opened(models, progress) as reader:
        yield reader


def embedder_of(gallery: Path) -> str:
    """Return the name of the encoder whose encodings a gallery holds; the default where there is none yet."""
    held = GalleryFile.embedder_of(gallery)
    return DEFAULT_EMBEDDER if held is None else encoder_name(held, gallery)


def calibration_in(file: GalleryFile) -> Calibration | None:
    """Return what a gallery was calibrated to."""
    stored = file.calibration()
    return None if stored is None else Calibration.from_document(stored)


def threshold_in(file: GalleryFile, reader: FaceReader, people: int | None) -> Threshold:
    """Return the threshold of a gallery: for so many people, or with None for two pictures."""
    return effective_threshold(calibration_in(file), reader.embedder.encoder, people)


def threshold_at(gallery: Path, reader: FaceReader) -> Threshold:
    """Return the 1:1 threshold of a gallery, or the encoder's own where there is none."""
    if GalleryFile.embedder_of(gallery) is None:
        return effective_threshold(None, reader.embedder.encoder)
    with GalleryFile.open(gallery, id_of(reader.embedder), read_only=True) as file:
        return threshold_in(file, reader, None)


def alike_in(file: GalleryFile, otherwise: float) -> float:
    """Return the similarity from which a face is somebody of the gallery; `otherwise` for an encoder nobody knows."""
    zoo = Zoo.load()
    name = zoo.name_of(file.embedder.sha256)
    encoder = None if name is None else zoo.entry(name).encoder
    if encoder is None:
        return otherwise
    return effective_threshold(calibration_in(file), encoder, max(STRANGERS, len(file.people()))).value
