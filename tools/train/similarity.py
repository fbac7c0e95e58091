"""`frameloom train similarity`: learn how to compare two faces from labelled pairs of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from engines.engine import EngineOptions
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from pipeline.gallery.words import counted
from tools.evaluate_faces import read_csv
from tools.face_images import FaceModels, encode_images
from tools.face_options import BackendOption, FinderOption, PrecisionOption
from tools.targets import check_target
from tools.terminal import bar
from tools.train.similarity_fit import Learned, Pairs, fit

if TYPE_CHECKING:
    from pipeline.arrays import FloatArray

Labelled = tuple[str, str, bool]
"""Two pictures' names, and whether they show one person."""


def read_pairs(path: Path) -> list[Labelled]:
    """Read `image_a,image_b,same`.

    Raises:
        ConfigError: it cannot be read, or is no such file.
    """
    pairs = []
    for row in read_csv(path, ("image_a", "image_b", "same")):
        if row["same"] not in ("0", "1"):
            raise ConfigError(f"{path}: same is {row['same']!r}, it must be 0 or 1")
        pairs.append((row["image_a"], row["image_b"], row["same"] == "1"))
    return pairs


def people_of(pairs: Sequence[Labelled]) -> dict[str, str]:
    """Return whose picture each is: its folder's, as far as the labels agree, else what pairs of one person connect."""
    folders = {image: str(Path(image).parent) for a, b, _ in pairs for image in (a, b)}
    if all((folders[a] == folders[b]) == same for a, b, same in pairs):
        return folders
    parents = {image: image for image in folders}

    def root(image: str) -> str:
        while parents[image] != image:
            parents[image] = image = parents[parents[image]]
        return image

    for a, b, same in pairs:
        if same:
            parents[root(a)] = root(b)
    return {image: root(image) for image in parents}


def scores_table(learned: Learned) -> Table:
    """Return the figures on held-out people."""
    table = Table(box=None, pad_edge=False)
    for heading in ("on held-out people", "accuracy", "AUC", "log loss"):
        table.add_column(heading, justify="left" if heading.startswith("on") else "right", no_wrap=True)
    for score in learned.scores:
        mark = " (saved)" if score.name == learned.head.form else ""
        table.add_row(score.name + mark, f"{score.accuracy:.4f}", f"{score.auc:.4f}", f"{score.log_loss:.4f}")
    return table


def similarity(
    pairs: Annotated[Path, typer.Option(metavar="FILE", help="CSV: image_a,image_b,same.")],
    images: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder that the pictures' names begin in.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the head goes: .npz.")],
    embedder: Annotated[str, typer.Option(help="Name of a known face encoder, or a file.")] = FaceModels.embedder,
    finder: FinderOption = FaceModels.finder,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
) -> None:
    """Learn a similarity of two faces from labelled pairs; `gallery verify --head` uses it."""
    check_target("--out", out)
    rows = read_pairs(pairs)
    models = FaceModels(finder, embedder, EngineOptions(backend, precision))
    names = list(dict.fromkeys(image for a, b, _ in rows for image in (a, b)))
    with bar("encode") as done:
        found = encode_images([images / name for name in names], models, done)
    learned = fit(pair_up(rows, {name: found[images / name].encoding for name in names}), _sha256_of(embedder))
    learned.head.save(out)
    console = Console(highlight=False, markup=False)
    console.print(scores_table(learned))
    for note in notes(learned):
        console.print(f"note: {note}", soft_wrap=True)
    if missing := [name for name in names if found[images / name].encoding is None]:
        reason = found[images / missing[0]].reason
        lost = f"{counted(len(missing), 'picture')} left out, such as {missing[0]}: {reason}"
        console.print(f"note: {lost}", soft_wrap=True)
    console.print(f"wrote {out}", soft_wrap=True)


def notes(learned: Learned) -> list[str]:
    """Return what the figures rest on, and whether the head is worth using."""
    counts = f"{learned.training} pairs of some people to learn from, {learned.held_out} of others to test on"
    texts = [f"{counts}; {learned.left_out} with one of each were left out"]
    plain, chosen = learned.scores[0], next(each for each in learned.scores if each.name == learned.head.form)
    if chosen.log_loss >= plain.log_loss:
        texts.append("the plain similarity does better on held-out people: use that, or learn from more pairs")
    return texts


def _sha256_of(embedder: str) -> str:
    return Zoo.load().spec(embedder, task="face-encode").sha256 or ""


def pair_up(rows: Sequence[Labelled], encodings: dict[str, FloatArray | None]) -> Pairs:
    """Return the pairs both of whose pictures have an encoding.

    Raises:
        ConfigError: there is none.
    """
    people = people_of(rows)
    known = {name: encoding for name, encoding in encodings.items() if encoding is not None}
    kept = [row for row in rows if row[0] in known and row[1] in known]
    if not kept:
        raise ConfigError(f"there is no pair of which both pictures show a face ({counted(len(rows), 'pair')} given)")
    return Pairs(
        np.stack([known[a] for a, _, _ in kept]),
        np.stack([known[b] for _, b, _ in kept]),
        np.array([same for _, _, same in kept]),
        np.array([(people[a], people[b]) for a, b, _ in kept]),
    )
