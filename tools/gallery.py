"""`frameloom gallery`: who is known. Enrol, remove, rename, list, carry elsewhere; `gallery_compare` has the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from engines.engine import EngineOptions
from pipeline.errors import ConfigError
from pipeline.gallery import archive
from pipeline.gallery.known import id_of
from pipeline.gallery.records import checked_name
from pipeline.gallery.store import GalleryFile
from pipeline.gallery.words import counted
from tools import gallery_compare
from tools.enrol import STRANGERS, Enrolment, Report, Rules, people_in
from tools.face_images import FaceModels
from tools.face_options import (
    DEFAULT_GALLERY,
    BackendOption,
    EmbedderOption,
    FinderOption,
    GalleryOption,
    PrecisionOption,
)
from tools.gallery_access import alike_in, calibration_in, embedder_of, opened_reader, threshold_in
from tools.terminal import Output, bar, say
from tools.unknown_people import group_unknowns, parse_choices

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
    models = FaceModels(finder, embedder or embedder_of(gallery), EngineOptions(backend, precision))
    with opened_reader(models) as reader, GalleryFile.open(gallery, id_of(reader.embedder), create=True) as file:
        count = max(STRANGERS, len({person.name for person in file.people()} | set(names)))
        identify, verify = threshold_in(file, reader, count).value, threshold_in(file, reader, None).value
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
    say(f"removed {name} from {gallery}")


@app.command()
def rename(old: str, new: str, gallery: GalleryOption = DEFAULT_GALLERY) -> None:
    """Give a person another name."""
    with GalleryFile.open(gallery) as file:
        file.rename(old, new)
    say(f"renamed {old} to {new}")


@app.command("list")
def list_people(
    gallery: GalleryOption = DEFAULT_GALLERY,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document.")] = False,
) -> None:
    """List who is known, and how well they can be told apart."""
    with GalleryFile.open(gallery, read_only=True) as file:
        people, embedder, calibration = file.people(), file.embedder, calibration_in(file)
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
    say(f"{counted(len(people), 'person', 'people')}, encodings of {embedder}")
    say(f"calibrated {calibration.subject.made}" if calibration else "not calibrated: frameloom gallery calibrate")


@app.command("export")
def export_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.npz")], gallery: GalleryOption = DEFAULT_GALLERY
) -> None:
    """Write all encodings into an .npz file (personal data: handle it like the gallery)."""
    with GalleryFile.open(gallery, read_only=True) as opened_gallery:
        count = archive.export(opened_gallery, file)
    say(f"wrote {counted(count, 'encoding')} to {file}")


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE.npz")], gallery: GalleryOption = DEFAULT_GALLERY
) -> None:
    """Add the encodings of an .npz file; those that are there already are left out."""
    added, skipped = archive.import_into(gallery, file)
    say(f"added {counted(added, 'encoding')} to {gallery}, {skipped} were there already")


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
            say(line)
        choices = parse_choices(enrol or [], len(found.groups))
        added, outcome = found.enrol(choices, file, alike_in(file, found.similarity)) if choices else (0, [])
    for line in outcome:
        say(line)
    if choices and not added:
        raise typer.Exit(1)


app.command()(gallery_compare.verify)
app.command()(gallery_compare.identify)
app.command()(gallery_compare.calibrate)


def _print_report(report: Report, gallery: Path) -> None:
    for path, reason in report.refused:
        say(f"refused  {path}: {reason}")
    for name, count in report.added.items():
        if count:
            say(f"added    {name}: {counted(count, 'picture')}")
    pictures = counted(sum(report.added.values()), "picture")
    people = counted(sum(map(bool, report.added.values())), "person", "people")
    say(f"{pictures} of {people} added to {gallery}, {len(report.refused)} refused")
