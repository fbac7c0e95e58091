"""`frameloom eval verify|identify`: how well people are told apart, on labelled pictures.

Conventions: the face nearest to a picture's centre counts (as for LFW); a picture without a face is a miss, of which
verification says "different" and identification "unknown".
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from engines.engine import EngineOptions
from pipeline.arrays import FloatArray
from pipeline.assemble_faces import DEFAULT_EMBEDDER
from pipeline.errors import ConfigError
from pipeline.gallery.matcher import Matcher
from pipeline.gallery.records import Snapshot
from pipeline.gallery.verification import Verification
from tools.face_images import PHOTO_SHORT_SIDE, Done, Encoded, FaceModels, encode_images
from tools.face_options import BackendOption, FinderOption, PrecisionOption
from tools.targets import check_target
from tools.terminal import Output, bar

FPIRS = (0.01, 0.05)

ImagesOption = Annotated[Path, typer.Option("--images", metavar="FOLDER", help="Where the pictures are.")]
EncoderOption = Annotated[str, typer.Option("--embedder", help="Name of a known face encoder, or a file.")]
SaveOption = Annotated[Path | None, typer.Option("--save", metavar="CSV", help="Write every score.")]
SideOption = Annotated[int, typer.Option("--short-side", min=32, max=4096, help="Short side of the finder's input.")]
MirroredOption = Annotated[bool, typer.Option(help="Encode each face and its mirror image.")]


def verify(
    pairs: Annotated[Path, typer.Option(metavar="CSV", help="image_a,image_b,same with same 0 or 1.")],
    images: ImagesOption,
    save: SaveOption = None,
    finder: FinderOption = "centerface",
    embedder: EncoderOption = DEFAULT_EMBEDDER,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    short_side: SideOption = PHOTO_SHORT_SIDE,
    mirrored: MirroredOption = True,
) -> None:
    """1:1: are two pictures of one person? Accuracy with 10-fold threshold choice, EER, TAR at FAR."""
    models = FaceModels(finder, embedder, EngineOptions(backend, precision), short_side, mirrored)
    with bar("encode") as done:
        report = evaluate_pairs(pairs, images, models, save=save, done=done)
    _print(report)


def identify(
    protocol: Annotated[
        Path, typer.Option(metavar="CSV", help="image,identity,role with role gallery, probe or probe_unknown.")
    ],
    images: ImagesOption,
    save: SaveOption = None,
    finder: FinderOption = "centerface",
    embedder: EncoderOption = DEFAULT_EMBEDDER,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    short_side: SideOption = PHOTO_SHORT_SIDE,
    mirrored: MirroredOption = True,
) -> None:
    """1:N: who is it, or nobody known? Rank 1, and TPIR at a fixed FPIR."""
    models = FaceModels(finder, embedder, EngineOptions(backend, precision), short_side, mirrored)
    with bar("encode") as done:
        report = evaluate_identification(protocol, images, models, save=save, done=done)
    _print(report)


def evaluate_pairs(
    pairs: Path, images: Path, models: FaceModels, *, save: Path | None = None, done: Done = lambda count, total: None
) -> dict[str, Any]:
    """Compare labelled pairs; see `verify`.

    Raises:
        ConfigError: the file has other columns, not one pair can be compared, or `save` cannot be written.
    """
    check_target("--save", save)
    rows, labels, scores, encoded = similarities_of(pairs, images, models, done)
    if save is not None:
        written = [[*row.values(), _text(score)] for row, score in zip(rows, scores, strict=True)]
        write_csv(save, ("image_a", "image_b", "same", "similarity"), written)
    compared = np.array([score is not None for score in scores])
    lowest = min(score for score in scores if score is not None)
    values = np.array([lowest - 1 if score is None else score for score in scores], np.float32)
    result = Verification(values, labels)
    report: dict[str, Any] = {
        "pairs": len(rows),
        "not compared": int((~compared).sum()),
        "accuracy": result.accuracy.mean,
        "accuracy error": result.accuracy.error,
        "AUC": result.auc,
        "EER": result.eer,
    }
    for far in (1e-2, 1e-3):
        point = result.threshold_for(far)
        report[f"TAR at FAR {far:g}"] = result.tar(point.threshold)
        report[f"threshold at FAR {far:g}"] = f"{point.threshold:.4f}; {point.sentence}"
    return report | _told(models, encoded)


def similarities_of(
    pairs: Path, images: Path, models: FaceModels, done: Done
) -> tuple[list[dict[str, str]], npt.NDArray[np.bool_], list[float | None], dict[Path, Encoded]]:
    """Return the rows of a pair file, whether each is of one person, its similarity (None: no face), and the faces.

    Raises:
        ConfigError: the file has other columns, or not one pair can be compared.
    """
    rows = read_csv(pairs, ("image_a", "image_b", "same"))
    labels = np.array([_flag(row["same"], pairs) for row in rows], bool)
    encoded = encode_images([images / row[key] for row in rows for key in ("image_a", "image_b")], models, done)
    scores = [_similarity(encoded[images / row["image_a"]], encoded[images / row["image_b"]]) for row in rows]
    if all(score is None for score in scores):
        path, reason = next((path, each.reason) for path, each in encoded.items() if each.encoding is None)
        raise ConfigError(f"{pairs.name}: not one pair could be compared, because of pictures like {path}: {reason}")
    return rows, labels, scores, encoded


def evaluate_identification(
    protocol: Path,
    images: Path,
    models: FaceModels,
    *,
    save: Path | None = None,
    done: Done = lambda count, total: None,
) -> dict[str, Any]:
    """Search for probes in a gallery; see `identify`.

    Raises:
        ConfigError: the file has other columns or roles, nobody is in the gallery, or `save` cannot be written.
    """
    check_target("--save", save)
    rows = read_csv(protocol, ("image", "identity", "role"))
    if strange := {row["role"] for row in rows} - {"gallery", "probe", "probe_unknown"}:
        raise ConfigError(f"{protocol}: the role {sorted(strange)[0]!r} is none of gallery, probe, probe_unknown")
    encoded = encode_images([images / row["image"] for row in rows], models, done)
    enrolled = [row for row in rows if row["role"] == "gallery" and encoded[images / row["image"]].encoding is not None]
    if not enrolled:
        raise ConfigError(f"{protocol}: nobody is in the gallery, or none of its pictures under {images} has a face")
    searches = [_Search.of(row, encoded[images / row["image"]]) for row in rows if row["role"] != "gallery"]
    _search(searches, _gallery(enrolled, encoded, images))
    if save is not None:
        written = [[each.image, each.role, each.identity, each.name, _text(each.similarity)] for each in searches]
        write_csv(save, ("image", "role", "identity", "name", "similarity"), written)
    return _identification(searches, len({row["identity"] for row in enrolled})) | _told(models, encoded)


@dataclass
class _Search:
    """One probe and who it is most like."""

    image: str
    role: str
    identity: str
    encoding: FloatArray | None
    name: str = ""
    similarity: float | None = None

    @classmethod
    def of(cls, row: dict[str, str], encoded: Encoded) -> _Search:
        return cls(row["image"], row["role"], row["identity"], encoded.encoding)


def _gallery(enrolled: Sequence[dict[str, str]], encoded: dict[Path, Encoded], images: Path) -> Snapshot:
    names = tuple(dict.fromkeys(row["identity"] for row in enrolled))
    ordered = sorted(enrolled, key=lambda row: names.index(row["identity"]))
    pictures = [encoded[images / row["image"]] for row in ordered]
    return Snapshot(
        np.stack([each.encoding for each in pictures if each.encoding is not None]),
        names,
        np.array([names.index(row["identity"]) for row in ordered], np.int32),
        np.array([each.quality for each in pictures], np.float32),
        np.arange(len(ordered)),
    )


def _search(searches: Sequence[_Search], gallery: Snapshot) -> None:
    matcher = Matcher(gallery, "l2")  # for unit vectors the same as cosine
    for each in searches:
        if each.encoding is not None:
            found = matcher.search(each.encoding[None])
            each.name, each.similarity = found.names[0][0] or "", float(found.similarities[0, 0])


def _identification(searches: Sequence[_Search], people: int) -> dict[str, Any]:
    known = [each for each in searches if each.role == "probe"]
    unknown = [each for each in searches if each.role == "probe_unknown"]
    right = [each.similarity if each.name == each.identity else None for each in known]
    strangers = sorted((each.similarity for each in unknown if each.similarity is not None), reverse=True)
    report: dict[str, Any] = {
        "people in the gallery": people,
        "probes": len(known),
        "unknown probes": len(unknown),
    }
    if known:
        report["rank 1"] = sum(score is not None for score in right) / len(known)
    for fpir in FPIRS if unknown else ():
        allowed = int(fpir * len(unknown))
        threshold = float(np.nextafter(strangers[allowed], np.inf)) if allowed < len(strangers) else -1.0
        if known:
            report[f"TPIR at FPIR {fpir:g}"] = sum(s is not None and s >= threshold for s in right) / len(known)
        report[f"threshold at FPIR {fpir:g}"] = f"{threshold:.4f} ({allowed} of {len(unknown)} unknown accepted)"
    return report


def _told(models: FaceModels, encoded: dict[Path, Encoded]) -> dict[str, Any]:
    missing = [f"{path.name}: {each.reason}" for path, each in encoded.items() if each.encoding is None]
    how = f"{models.finder} at short side {models.short_side}, {models.embedder}"
    return {
        "pictures": len(encoded),
        "without a face": len(missing),
        "first of them": missing[:3],
        "models": how + (", mean of face and mirror image" if models.mirrored else ""),
    }


def _similarity(a: Encoded, b: Encoded) -> float | None:
    if a.encoding is None or b.encoding is None:
        return None
    return 1 - float(np.square(a.encoding.astype(np.float64) - b.encoding).sum()) / 2


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Return the rows of a CSV file with a header.

    Raises:
        ConfigError: it cannot be read, lacks a column, or is empty.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise ConfigError(f"{path} has no column {missing[0]!r}; its first line must be {','.join(columns)}")
            rows = [{column: row[column] or "" for column in columns} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV: {getattr(error, 'strerror', None) or error}") from error
    if not rows:
        raise ConfigError(f"{path} has no rows")
    return rows


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a CSV file with a header.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
    except OSError as error:
        raise ConfigError(f"--save {path}: {error.strerror}") from error


def _flag(text: str, path: Path) -> bool:
    if text not in ("0", "1"):
        raise ConfigError(f"{path}: same is {text!r}, it must be 0 or 1")
    return text == "1"


def _text(score: float | None) -> str:
    return "" if score is None else f"{score:.6f}"


def _print(report: dict[str, Any]) -> None:
    console = Output(highlight=False, markup=False)
    for name, value in report.items():
        if value != []:
            text = f"{value:.4f}" if isinstance(value, float) else str(value)
            console.print(f"{name:<24} {text}", soft_wrap=True)
