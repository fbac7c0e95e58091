"""Which pictures int8 is calibrated on, and which it is judged by: never the same.

Those that judge are parted again, in turns: some choose which layers stay in float, the others decide whether what was
chosen is accepted. A figure on the pictures that chose is the best of several tries, and too good.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engines.int8.pictures import FEWEST_PICTURES
from pipeline.capture.images import find_images, is_image, read_image
from pipeline.errors import ConfigError
from pipeline.picture import Picture
from tools import coco
from tools.engines.pictures import batches, sample
from tools.labels import read_labels

if TYPE_CHECKING:
    from engines.engine import Batch
    from engines.spec import ModelSpec
    from tools.labels import LabelledSet, Record

Size = tuple[int, int]


@dataclass(frozen=True)
class Labels:
    """Labelled pictures to judge by."""

    labelled: LabelledSet
    folder: Path
    records: list[Record]


def halves(places: Sequence[str], count: int, spec: ModelSpec, size: Size) -> tuple[list[Batch], list[Batch]]:
    """Return pictures to calibrate on, and as many others to judge by, in turns.

    Args:
        places: folders, globs or videos.
        count: how many of each, at most.
        spec: what they are cut for.
        size: height and width of its input.

    Raises:
        ConfigError: there are too few.
    """
    found = list(batches(spec, size, sample(places, 2 * count)))
    if len(found) < 2 * FEWEST_PICTURES:
        raise ConfigError(
            f"--images: {len(found)} pictures are too few: int8 needs {FEWEST_PICTURES} to be calibrated on and "
            f"{FEWEST_PICTURES} others to be judged by; give more, or a longer video"
        )
    return found[::2], found[1::2]


def in_turns(judged: Labels) -> tuple[Labels, Labels]:
    """Return the labelled pictures that choose, and those that decide.

    Raises:
        ConfigError: there are too few.
    """
    records, needed = judged.records, 2 * FEWEST_PICTURES
    if len(records) < needed:
        raise ConfigError(
            f"{len(records)} labelled pictures are left to judge by, which is too few: {FEWEST_PICTURES} choose what "
            f"stays in float, and {FEWEST_PICTURES} others decide; give {needed - len(records)} more"
        )
    choosing, deciding = (Labels(judged.labelled, judged.folder, part) for part in (records[::2], records[1::2]))
    return choosing, deciding


def labels(annotations: Path, folder: Path | None, where: Sequence[str]) -> Labels:
    """Return the labelled pictures that are there.

    Args:
        annotations: see `tools.labels.read_labels`.
        folder: of their pictures; None: where the labels say.
        where: filters, each KEY=VALUE[,VALUE].

    Raises:
        ConfigError: they cannot be read, or not one picture is there.
    """
    labelled = read_labels(annotations, folder)
    if labelled.folder is None:
        raise ConfigError(f"{annotations} does not say where its pictures are: add --annotated FOLDER")
    chosen = coco.select_images(labelled.images, coco.parse_where(where))
    records = [record for record in chosen if (labelled.folder / record["file_name"]).is_file()]
    if not records:
        raise ConfigError(f"{labelled.folder} holds none of the {len(chosen)} labelled pictures")
    return Labels(labelled, labelled.folder, records)


def beside(
    places: Sequence[str], count: int, judged: Labels, spec: ModelSpec, size: Size
) -> tuple[list[Batch], Labels, str]:
    """Return pictures to calibrate on, what is left to judge by, and a note on where they came from.

    Where the places hold too few other pictures than the labelled ones, some of those are taken, and are not judged.

    Raises:
        SourceError: a place holds no pictures.
    """
    labelled = {(judged.folder / record["file_name"]).resolve() for record in judged.records}
    files = [file for place in places if _holds_images(place) for file in find_images(place)]
    others = [file for file in dict.fromkeys(files) if file.resolve() not in labelled]
    videos = [place for place in places if not _holds_images(place)]
    if len(others) >= FEWEST_PICTURES or videos:
        pictures = _read(_spread(others, count)) if others else sample(videos, count)
        return list(batches(spec, size, pictures)), judged, ""
    taken = _spread([judged.folder / record["file_name"] for record in judged.records], min(count, 2 * FEWEST_PICTURES))
    names = set(taken)
    left = [record for record in judged.records if judged.folder / record["file_name"] not in names]
    note = (
        f"--images holds {len(others)} pictures without labels: {len(taken)} labelled ones calibrate, and do not count"
    )
    return list(batches(spec, size, _read(taken))), Labels(judged.labelled, judged.folder, left), note


def _holds_images(place: str) -> bool:
    return os.path.isdir(place) or is_image(Path(place))


def _spread(files: Sequence[Path], count: int) -> list[Path]:
    """Return `count` of the files at most, spread evenly."""
    count = min(count, len(files))
    return [files[number * len(files) // count] for number in range(count)]


def _read(files: Sequence[Path]) -> Iterator[Picture]:
    for file in files:
        if (pixels := read_image(file)) is not None:
            yield Picture(bgr=pixels)
