"""`frameloom gallery`: who is known. Enrol, remove, rename, list, carry elsewhere, compare, calibrate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from engines.engine import EngineOptions
from engines.zoo import Zoo
from pipeline.arrays import FloatArray
from pipeline.assemble_faces import encoder_name
from pipeline.config.settings import FacesSettings
from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery import archive
from pipeline.gallery.calibration import Calibration, Threshold, effective_threshold
from pipeline.gallery.known import id_of
from pipeline.gallery.matcher import Matcher
from pipeline.gallery.pairs import similarity_matrix
from pipeline.gallery.records import checked_name
from pipeline.gallery.similarity_head import SimilarityHead
from pipeline.gallery.store import GalleryFile
from pipeline.infer.face_reader import FaceReader
from tools import calibration_report
from tools.enrol import STRANGERS, Enrolment, Report, Rules, people_in
from tools.face_images import FaceModels, encoder_spec, only_face, opened, readable_picture
from tools.face_options import (
    DEFAULT_GALLERY,
    BackendOption,
    EmbedderOption,
    FinderOption,
    GalleryOption,
    PrecisionOption,
    bar,
)
from tools.targets import check_target
from tools.terminal import Output, count_of, download_progress
from tools.unknown_people import group_unknowns, parse_choices

DEFAULT_EMBEDDER = "dlib-resnet"
TOP = 5

app = typer.Typer(help="Who is known: enrol people and find out how well they can be told apart.", no_args_is_help=True)


@app.command()
def add(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", show_default=False)] = None,
    images: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE]...", show_default=False)] = None,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="FOLDER", help="A folder with a folder per person.")
    ] = None,
    gallery: GalleryOption = DEFAULT_GALLERY,
    finder: FinderOption = "centerface",
    embedder: EmbedderOption = None,
    min_quality: Annotated[float, typer.Option(min=0, max=1, help="Refuse faces of less.")] = Rules.min_quality,
    allow_alike: Annotated[bool, typer.Option("--allow-alike", help="Also add who looks like somebody else.")] = False,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Add a person's pictures, or everybody in a folder; pictures that would do harm are refused, with the reason."""
    if (folder is None) == (name is None or not images) or (folder is not None and name is not None):
        raise ConfigError("give a name and pictures, or --dir FOLDER: frameloom gallery add ann ann1.jpg ann2.jpg")
    people = list(people_in(folder)) if folder is not None else [(str(name), images or [])]
    names = [checked_name(person) for person, _ in people]  # before anybody is added
    models = FaceModels(finder, embedder or _embedder_of(gallery), EngineOptions(backend, precision))
    with _opened(models) as reader, GalleryFile.open(gallery, id_of(reader.embedder), create=True) as file:
        count = max(STRANGERS, len({person.name for person in file.people()} | set(names)))
        identify, verify = _threshold(file, reader, count).value, _threshold(file, reader, None).value
        enrolment = Enrolment(file, reader, Rules.of(identify, verify, min_quality, allow_alike))
        try:
            with bar("enrol") as done:
                enrolment.enrol_all(people, done)
        finally:
            _print_report(enrolment.report, gallery)
    if not any(enrolment.report.added.values()):
        raise typer.Exit(1)


@app.command()
def remove(name: str, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Delete a person, and every trace of them in the file."""
    with GalleryFile.open(gallery) as file:
        file.remove(name)
    _say(f"removed {name} from {gallery}")


@app.command()
def rename(old: str, new: str, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Give a person another name."""
    with GalleryFile.open(gallery) as file:
        file.rename(old, new)
    _say(f"renamed {old} to {new}")


@app.command("list")
def list_people(
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """List who is known, and how well they can be told apart."""
    with GalleryFile.open(gallery, read_only=True) as file:
        people, embedder, calibration = file.people(), file.embedder, _calibration(file)
    if as_json:
        rows = [{"name": each.name, "encodings": each.count, "created_at": each.created_at} for each in people]
        Output().print_json(data={"embedder": embedder.name, "people": rows})
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "encodings", "best quality", "since"):
        table.add_column(heading, justify="left" if heading in ("name", "since") else "right")
    for each in people:
        table.add_row(each.name, str(each.count), f"{each.quality:.2f}", each.created_at, style=None)
    Output(highlight=False, markup=False).print(table)
    _say(f"{count_of(len(people), 'person', 'people')}, encodings of {embedder}")
    _say(f"calibrated {calibration.subject.made}" if calibration else "not calibrated: frameloom gallery calibrate")


@app.command("export")
def export_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.npz")], gallery: GalleryOption = DEFAULT_GALLERY
) -> None:
    """Write all encodings into an .npz file (personal data: handle it like the gallery)."""
    with GalleryFile.open(gallery, read_only=True) as opened_gallery:
        count = archive.export(opened_gallery, file)
    _say(f"wrote {count_of(count, 'encoding')} to {file}")


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.npz")], gallery: GalleryOption = DEFAULT_GALLERY
) -> None:
    """Add the encodings of an .npz file; those that are there already are left out."""
    added, skipped = archive.import_into(gallery, file)
    _say(f"added {count_of(added, 'encoding')} to {gallery}, {skipped} were there already")


@app.command()
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
    models = FaceModels(finder, embedder or _embedder_of(gallery), EngineOptions(backend, precision))
    with _opened(models) as reader:
        learned = None if head is None else SimilarityHead.load(head, id_of(reader.embedder).sha256)
        a, b = (_one_face(path, reader) for path in (first, second))
        threshold = _threshold_at(gallery, reader)
    alike = float(similarity_matrix(a[None], b[None])[0, 0])
    same = alike >= threshold.value
    _say(f"similarity {alike:.3f} (distance {math.sqrt(max(0.0, 2 - 2 * alike)):.3f}); threshold {threshold.sentence}")
    if head and learned:
        probability = float(learned.probability(a[None], b[None])[0])
        _say(f"{head.name}: one person with a probability of {probability:.1%}")
        same = probability >= 0.5
    _say("the same person" if same else "two people")


@app.command()
def identify(
    image: Annotated[Path, typer.Argument(metavar="IMAGE")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    finder: FinderOption = "centerface",
    embedder: EmbedderOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Say who is in a picture: for each face the five most alike people."""
    models = FaceModels(finder, embedder or _embedder_of(gallery), EngineOptions(backend, precision))
    with _opened(models) as reader, GalleryFile.open(gallery, id_of(reader.embedder), read_only=True) as file:
        matcher = Matcher(file.encodings(), file.embedder.metric)
        threshold = _threshold(file, reader, len(matcher.names))
        faces, quality = reader(readable_picture(image))
        assert faces.encodings is not None
        matches = matcher.search(faces.encodings, TOP)
    for row in range(len(faces)):
        left, top, right, bottom = faces.boxes[row].round().astype(int).tolist()
        _say(f"face at {left},{top} to {right},{bottom}, quality {quality.values[row]:.2f}:")
        if quality.values[row] < FacesSettings().min_quality:
            _say(f"  too poor to match: {quality.worst(row)}")
            continue
        known = False
        for name, alike in zip(matches.names[row], matches.similarities[row].tolist(), strict=True):
            if name is not None:
                known = known or alike >= threshold.value
                mark = "" if alike >= threshold.value else "  (below the threshold)"
                _say(f"  {alike:6.3f}  {name}{mark}")
        if not known:
            _say("  unknown")
    _say(f"{count_of(len(faces), 'face')}; threshold {threshold.sentence}")


@app.command()
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
        file.store_calibration(json.loads(found.to_json()))
    _say(f"stored in {gallery}; a running pipeline uses it within two seconds")
    if plot is not None:
        calibration_report.draw(found, comparisons, plot)
        _say(f"wrote {plot}")


@app.command()
def unknowns(
    logs: Annotated[list[Path], typer.Argument(metavar="EVENTS...", help="Event logs written with encodings.")],
    gallery: GalleryOption = DEFAULT_GALLERY,
    similarity: Annotated[
        float | None, typer.Option(min=-1, max=1, help="Faces more alike than this are one person.")
    ] = None,
    min_faces: Annotated[int, typer.Option(min=1, help="Seen at least so many times.")] = 3,
    enrol: Annotated[
        list[str] | None, typer.Option("--enrol", metavar="NUMBER=NAME", help="Add one of them to the gallery.")
    ] = None,
) -> None:
    """Group the unknown faces of event logs: who has come often and is not in the gallery? Enrol them by number."""
    with GalleryFile.open(gallery) as file:
        found = group_unknowns(logs, file, similarity, min_faces)
        for line in found.lines():
            _say(line)
        choices = parse_choices(enrol or [], len(found.groups))
        added, outcome = found.enrol(choices, file, _alike(file, found.similarity)) if choices else (0, [])
    for line in outcome:
        _say(line)
    if choices and not added:
        raise typer.Exit(1)


@contextmanager
def _opened(models: FaceModels) -> Iterator[FaceReader]:
    with download_progress("face models") as progress, opened(models, progress) as reader:
        yield reader


def _embedder_of(gallery: Path) -> str:
    """Return the name of the encoder whose encodings a gallery holds; the default where there is none yet."""
    held = GalleryFile.embedder_of(gallery)
    return DEFAULT_EMBEDDER if held is None else encoder_name(held, gallery)


def _check_encoder(models: FaceModels, file: GalleryFile) -> None:
    """Refuse an encoder whose similarities mean nothing for the gallery."""
    spec = encoder_spec(models)
    if spec.sha256 != file.embedder.sha256:
        raise GalleryError(f"{file.path} holds encodings of {file.embedder}: it cannot be calibrated by {spec.name}")


def _calibration(file: GalleryFile) -> Calibration | None:
    stored = file.calibration()
    return None if stored is None else Calibration.from_json(json.dumps(stored))


def _threshold(file: GalleryFile, reader: FaceReader, people: int | None) -> Threshold:
    return effective_threshold(_calibration(file), reader.embedder.encoder, people)


def _threshold_at(gallery: Path, reader: FaceReader) -> Threshold:
    """Return the 1:1 threshold of a gallery, or the encoder's own where there is none."""
    if GalleryFile.embedder_of(gallery) is None:
        return effective_threshold(None, reader.embedder.encoder)
    with GalleryFile.open(gallery, id_of(reader.embedder), read_only=True) as file:
        return _threshold(file, reader, None)


def _alike(file: GalleryFile, otherwise: float) -> float:
    """Return the similarity from which a face is somebody of the gallery; `otherwise` for an encoder nobody knows."""
    zoo = Zoo.load()
    name = zoo.name_of(file.embedder.sha256)
    encoder = None if name is None else zoo.entry(name).encoder
    if encoder is None:
        return otherwise
    return effective_threshold(_calibration(file), encoder, max(STRANGERS, len(file.people()))).value


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


def _print_report(report: Report, gallery: Path) -> None:
    for path, reason in report.refused:
        _say(f"refused  {path}: {reason}")
    for name, count in report.added.items():
        if count:
            _say(f"added    {name}: {count_of(count, 'picture')}")
    pictures = count_of(sum(report.added.values()), "picture")
    people = count_of(sum(map(bool, report.added.values())), "person", "people")
    _say(f"{pictures} of {people} added to {gallery}, {len(report.refused)} refused")


def _say(text: str) -> None:
    """Print one line as it is: not wrapped, not coloured, brackets not taken for markup."""
    Output(highlight=False, markup=False).print(text, soft_wrap=True)
