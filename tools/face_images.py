"""Faces in picture files: what enrolment, verification, evaluation and training have in common.

A picture may hold several faces, or none; `only_face` and `central_face` choose the one that is meant, or say in a few
words why there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from engines.engine import EngineOptions
from engines.zoo import Zoo
from pipeline.assemble_faces import DEFAULT_EMBEDDER
from pipeline.capture.images import read_image
from pipeline.errors import ConfigError
from pipeline.infer.alignment import align
from pipeline.infer.embedder import FaceEmbedder
from pipeline.infer.face_finder import FaceFinder, FinderOptions, recognise
from pipeline.infer.face_reader import FaceReader
from pipeline.picture import Picture

if TYPE_CHECKING:
    from engines.download import Progress
    from engines.spec import ModelSpec, Points
    from pipeline.arrays import FloatArray, Image
    from pipeline.faces import Faces

PHOTO_SHORT_SIDE = 480
"""Short side of the finder's input for photos: see PERFORMANCE.md for what it finds at which size."""
RIVAL = 0.4
"""A second face with more than this part of the first one's area makes it unclear who is meant."""
Done = Callable[[int, int], None]
"""Told how many pictures are done, and how many there are."""


@dataclass(frozen=True)
class FaceModels:
    """Which models look at faces, and how they run."""

    finder: str = "centerface"
    embedder: str = DEFAULT_EMBEDDER
    engine: EngineOptions = field(default_factory=EngineOptions)
    short_side: int = PHOTO_SHORT_SIDE
    mirrored: bool = True
    """Pictures are encoded once, so they are encoded well: an encoding is the mean of the face and its mirror image."""


@contextmanager
def opened(models: FaceModels, progress: Progress | None = None) -> Iterator[FaceReader]:
    """Open finder and encoder, fetching them where needed.

    Raises:
        ModelError: one is nowhere, damaged, or is no such model.
        EngineError: one cannot be compiled.
    """
    finder = open_finder(models, progress)
    try:
        embedder = FaceEmbedder(encoder_spec(models, progress), models.engine, mirrored=models.mirrored)
    except BaseException:
        finder.close()
        raise
    with FaceReader(finder, embedder) as reader:
        yield reader


def open_finder(models: FaceModels, progress: Progress | None = None) -> FaceFinder:
    """Open the finder alone."""
    spec = recognise(Zoo.load().spec(models.finder, task="face-detect", progress=progress))
    return FaceFinder(spec, models.engine, FinderOptions(short_side=models.short_side))


def encoder_spec(models: FaceModels, progress: Progress | None = None) -> ModelSpec:
    """Return the encoder's spec."""
    return Zoo.load().spec(models.embedder, task="face-encode", progress=progress)


def picture_at(path: Path) -> Picture | None:
    """Read a picture file, turned as its EXIF data says; None where it cannot be read."""
    image = read_image(path)
    return None if image is None else Picture(bgr=np.ascontiguousarray(image))


def readable_picture(path: Path) -> Picture:
    """Read a picture file that must be one.

    Raises:
        ConfigError: it is not there, or no picture.
    """
    picture = picture_at(path)
    if picture is None:
        raise ConfigError(f"{path} {_why_unreadable(path)}")
    return picture


def _why_unreadable(path: Path) -> str:
    return "cannot be read as a picture" if path.exists() else "does not exist"


class Chosen(NamedTuple):
    """The face that is meant, or why there is none."""

    row: int | None
    reason: str = ""


def only_face(faces: Faces) -> Chosen:
    """Choose the face of a portrait: the largest, unless another is nearly as large."""
    if not len(faces):
        return Chosen(None, "no face")
    areas = np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1)
    order = np.argsort(-areas)
    rivals = int((areas[order[1:]] > RIVAL * areas[order[0]]).sum())
    if rivals:
        return Chosen(None, "two faces" if rivals == 1 else f"{rivals + 1} faces")
    return Chosen(int(order[0]))


def central_face(faces: Faces, picture: Picture) -> Chosen:
    """Choose the face nearest to the picture's centre, as is the convention for LFW."""
    if not len(faces):
        return Chosen(None, "no face")
    centres = (faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2
    away = np.linalg.norm(centres - (picture.width / 2, picture.height / 2), axis=1)
    return Chosen(int(away.argmin()))


class Encoded(NamedTuple):
    """A picture's face as numbers, or why it has none."""

    encoding: FloatArray | None
    reason: str = ""
    quality: float = 0.0


def encode_images(
    paths: Iterable[Path], models: FaceModels, done: Done = lambda count, total: None
) -> dict[Path, Encoded]:
    """Encode the face nearest to the centre of each picture.

    Raises:
        ConfigError: not one of them is there.
    """
    wanted = list(dict.fromkeys(paths))
    if wanted and not any(path.exists() for path in wanted):
        raise ConfigError(f"{wanted[0]} does not exist, nor does any other of the pictures: correct --images")
    results = {}
    with opened(models) as reader:
        for count, path in enumerate(wanted, 1):
            results[path] = _encode(path, reader)
            done(count, len(wanted))
    return results


def _encode(path: Path, reader: FaceReader) -> Encoded:
    picture = picture_at(path)
    if picture is None:
        return Encoded(None, _why_unreadable(path))
    faces, quality = reader(picture)
    row, reason = central_face(faces, picture)
    if row is None or faces.encodings is None:
        return Encoded(None, reason)
    return Encoded(faces.encodings[row], "", float(quality.values[row]))


def aligned_chips(
    paths: Iterable[Path],
    models: FaceModels,
    template: Points,
    size: tuple[int, int],
    done: Done = lambda count, total: None,
) -> dict[Path, Image | None]:
    """Cut out the face nearest to each picture's centre: (height, width, 3) uint8 BGR; None where there is none."""
    wanted = list(dict.fromkeys(paths))
    chips: dict[Path, Image | None] = {}
    finder = open_finder(models)
    try:
        for count, path in enumerate(wanted, 1):
            picture = picture_at(path)
            faces = None if picture is None else finder(picture)
            row = None if picture is None or faces is None else central_face(faces, picture).row
            if picture is None or faces is None or row is None:
                chips[path] = None
            else:
                chips[path] = align(picture, faces.landmarks[row : row + 1], template, size)[0]
            done(count, len(wanted))
    finally:
        finder.close()
    return chips
