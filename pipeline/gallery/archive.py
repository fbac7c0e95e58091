"""A gallery as an .npz file: to keep, to move, to make elsewhere.

Arrays of N rows: `encodings` (N, D) float32, `qualities` float32, and the texts `names`, `images`, `image_sha256` and
`created_at`; beside them `embedder`, a JSON text with name, sha256, metric and dimensions, and `format`, the number 1.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import numpy as np

from engines.spec import Metric
from pipeline.errors import GalleryError
from pipeline.gallery.private_file import kind_of, unfinished
from pipeline.gallery.records import EmbedderId, Encoding, checked_record
from pipeline.gallery.store import GalleryFile

FORMAT = 1
TEXTS = ("names", "images", "image_sha256", "created_at")
ARRAYS = ("encodings", "qualities", *TEXTS, "embedder", "format")
UNREADABLE = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, MemoryError)
"""What NumPy raises for a file that is no `.npz`, or damaged."""


def export(gallery: GalleryFile, file: Path) -> int:
    """Write all encodings into a file of the mode 0600, which is whole or not there; return how many they are.

    An earlier export is replaced, and no other file.

    Raises:
        GalleryError: it cannot be written.
    """
    _check_target(file, gallery)
    records = gallery.records()
    texts = [(name, each.image, each.image_sha256, each.created_at) for name, each in records]
    columns = dict(zip(TEXTS, zip(*texts, strict=True) if texts else [()] * len(TEXTS), strict=True))
    vectors = np.array([each.vector for _, each in records], np.float32)
    try:
        with unfinished(file) as beside:
            with beside.open("wb") as opened:
                np.savez(
                    opened,
                    allow_pickle=False,
                    encodings=vectors.reshape(-1, gallery.embedder.dimensions),
                    qualities=np.array([each.quality for _, each in records], np.float32),
                    embedder=np.array(json.dumps(asdict(gallery.embedder))),
                    format=np.array(FORMAT),
                    **{name: np.array(column, np.str_) for name, column in columns.items()},
                )
            beside.replace(file)
    except OSError as error:
        raise kind_of(error)(f"cannot write the export {file}: {error.strerror or error}") from error
    return len(records)


def _check_target(file: Path, gallery: GalleryFile) -> None:
    """Refuse what must not be overwritten, and what cannot be written."""
    try:
        if file.is_dir():
            raise GalleryError(f"{file} is a folder: name a file in it for the export")
        if not file.parent.is_dir():
            raise GalleryError(f"cannot write the export {file}: there is no folder {file.parent}, make it first")
        if not file.exists():
            return
        if file.samefile(gallery.path):
            raise GalleryError(f"{file} is the gallery itself: name another file for the export")
        if not _is_export(file):
            raise GalleryError(f"{file} is there already, and is no export of a gallery: name another file")
    except OSError as error:
        raise kind_of(error)(f"cannot write the export {file}: {error.strerror}") from error


def _is_export(file: Path) -> bool:
    """Whether a file has the arrays of an export, by their names."""
    try:
        if not file.is_file():
            return False
        with zipfile.ZipFile(file) as arrays:
            return {f"{name}.npy" for name in ARRAYS} <= set(arrays.namelist())
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return False


def import_into(gallery: Path, file: Path) -> tuple[int, int]:
    """Add the encodings of a file to a gallery, in one transaction; a gallery that does not exist is made.

    What a person has already, number by number, and pictures that somebody has, are left out.

    Returns:
        How many were added, and how many left out.

    Raises:
        GalleryError: the file is no export or damaged, or the gallery is of another embedder.
    """
    embedder, records = read(file)
    with GalleryFile.open(gallery, embedder, create=True) as opened:
        added = opened.add_records(records, skip_known=True)
    return added, len(records) - added


def read(file: Path) -> tuple[EmbedderId, list[tuple[str, Encoding]]]:
    """Return whose encodings an export holds, and (person, encoding) of all, each fit to be stored.

    Raises:
        GalleryError: there is none, or it is no export, damaged, or of another format.
    """
    arrays = _load(file)
    missing = [name for name in ARRAYS if name not in arrays]
    if missing:
        raise GalleryError(f"{file} is no export of a gallery, for it lacks {', '.join(missing)}: name another file")
    if (found := arrays["format"].tolist()) != FORMAT:
        raise GalleryError(f"{file} has the format {found}, and this program reads {FORMAT}: install a newer Frameloom")
    embedder = _embedder(arrays["embedder"].tolist(), file)
    count = len(arrays["encodings"]) if arrays["encodings"].ndim else 0
    shapes = {"encodings": (count, embedder.dimensions), **dict.fromkeys(("qualities", *TEXTS), (count,))}
    kinds = {"encodings": "f", "qualities": "f", **dict.fromkeys(TEXTS, "U")}
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind != kinds[name]:
            raise GalleryError(
                f"{file} is damaged, for its {name} are {array.dtype} of the shape {array.shape} instead of {shape}: "
                f"export the gallery again"
            )
    texts = zip(*(arrays[name].tolist() for name in TEXTS), strict=True)
    qualities = arrays["qualities"].tolist()
    records = [
        (name, Encoding(vector, quality, *origin))
        for vector, quality, (name, *origin) in zip(arrays["encodings"], qualities, texts, strict=True)
    ]
    for name, encoding in records:
        try:
            checked_record(name, encoding, embedder)
        except GalleryError as error:
            raise GalleryError(f"{file} cannot be imported: {error}") from error
    return embedder, records


def _load(file: Path) -> dict[str, Any]:
    """Return the arrays; nothing of the file is ever run (`allow_pickle`)."""
    try:
        with file.open("rb") as opened:
            arrays = np.load(opened, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it is no .npz file")
            return {name: arrays[name] for name in ARRAYS if name in arrays}
    except OSError as error:
        raise kind_of(error)(f"cannot read the export {file}: {error.strerror or error}") from error
    except UNREADABLE as error:
        raise GalleryError(f"{file} is no export of a gallery, or is damaged: {error}") from error


def _embedder(text: str, file: Path) -> EmbedderId:
    try:
        embedder = EmbedderId(**json.loads(text))
        if not (embedder.name.isprintable() and re.fullmatch("[0-9a-f]{64}", embedder.sha256)):
            raise ValueError(text)
        if embedder.metric not in get_args(Metric) or type(embedder.dimensions) is not int or embedder.dimensions < 1:
            raise ValueError(text)
        return embedder
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise GalleryError(
            f"{file} does not say which embedder made it ({text!r}): export the gallery again"
        ) from error
