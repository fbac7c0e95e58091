"""`frameloom train embedding`: a face encoder of your own, learnt from a folder per person.

What a network learns from a few hundred people does not come near one that has seen a hundred thousand; it is for
pictures that no published encoder knows (another camera, another spectrum, masks, animals), and for learning how it is
done. What comes out is an ONNX file that is registered like any model of the zoo: `frameloom gallery add --embedder`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from engines import own_models
from engines.engine import Backend, EngineOptions
from engines.errors import FrameloomError
from engines.spec import Precision
from engines.zoo import Zoo
from engines.zoo_entry import Entry
from pipeline.arrays import Image
from tools.terminal import bar, say
from tools.train.device import Device, usable_device
from tools.train.embedding_data import (
    ChipReader,
    Progress,
    find_people,
    left_out,
    read_aligned,
    read_faces,
    split,
    template,
)
from tools.train.embedding_settings import Mining, TrainingSettings

if TYPE_CHECKING:
    from tools.train.embedding_loop import Epoch, Training

LEAST_SIZE = 32
DEFAULTS = TrainingSettings()


@dataclass(frozen=True)
class Request:
    """What is to be trained, and where it goes."""

    faces: Path
    """A folder per person."""
    name: str
    """Of the model."""
    out: Path
    """Folder for the checkpoint and the ONNX file."""
    settings: TrainingSettings = DEFAULTS
    device: Device = "auto"
    resume: bool = False
    replace: bool = False
    """Whether an own model of that name may be overwritten."""


def embedding(
    faces: Annotated[Path, typer.Argument(metavar="FOLDER", help="Pictures: a folder per person.")],
    name: Annotated[str, typer.Option(help="Name of the new model.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="For checkpoint and ONNX file (default: ./NAME).")
    ] = None,
    epochs: Annotated[int, typer.Option(min=1, help="At most.")] = DEFAULTS.epochs,
    patience: Annotated[int, typer.Option(min=1, help="Epochs without progress to end after.")] = DEFAULTS.patience,
    margin: Annotated[float, typer.Option(min=0.01, max=2, help="In squared distance.")] = DEFAULTS.margin,
    mining: Annotated[Mining, typer.Option(help="Which triplets of a batch to learn from.")] = DEFAULTS.mining,
    people_per_batch: Annotated[int, typer.Option(min=2, help="People in a batch.")] = DEFAULTS.people_per_batch,
    images_per_person: Annotated[int, typer.Option(min=2, help="Pictures of each.")] = DEFAULTS.images_per_person,
    learning_rate: Annotated[float, typer.Option(min=1e-6, max=1, help="At the start.")] = DEFAULTS.learning_rate,
    held_out: Annotated[float, typer.Option(min=0.05, max=0.5, help="Part to test on.")] = DEFAULTS.held_out,
    size: Annotated[int, typer.Option(min=LEAST_SIZE, max=256, help="Side of a face, pixels.")] = DEFAULTS.size,
    dimensions: Annotated[int, typer.Option(min=8, max=1024, help="Of an encoding.")] = DEFAULTS.dimensions,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, another network.")] = DEFAULTS.seed,
    device: Annotated[Device, typer.Option(help="What computes.")] = "auto",
    aligned: Annotated[bool, typer.Option("--aligned", help="The pictures are aligned faces already.")] = False,
    finder: Annotated[str, typer.Option(help="Model that finds the faces.")] = "centerface",
    backend: Annotated[Backend, typer.Option(help="What runs the finder.")] = "auto",
    precision: Annotated[Precision, typer.Option(help="What it computes in.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the checkpoint was written.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite an own model of that name.")] = False,
) -> None:
    """Train a face encoder by triplet loss and register it as a model of your own; Ctrl-C keeps the best so far."""
    settings = TrainingSettings(
        size=size,
        dimensions=dimensions,
        epochs=epochs,
        margin=margin,
        mining=mining,
        people_per_batch=people_per_batch,
        images_per_person=images_per_person,
        learning_rate=learning_rate,
        held_out=held_out,
        patience=patience,
        seed=seed,
    )
    request = Request(faces, name, out or Path(name), settings, device, resume, replace)
    reader = read_aligned(size) if aligned else read_photos(finder, size, EngineOptions(backend, precision))
    with bar("faces") as progress:
        entry = train_embedding(request, reader, progress=progress, say=say)
    say(f"registered as {entry.name}: {entry.accuracy}")


def train_embedding(request: Request, chips_of: ChipReader, *, progress: Progress, say: Callable[[str], None]) -> Entry:
    """Train, export, compare and register; `say` gets a line for everything that a person wants to know.

    Raises:
        BackendUnavailable: PyTorch is not installed, or the device is not there.
        ConfigError: the pictures or the settings do not do, or the checkpoint does not fit.
        ModelError: the name is taken, or files cannot be written.
        FrameloomError: training failed, taught nothing, or was stopped before there was anything to keep.
    """
    device = usable_device(request.device)
    from tools.train.checkpoint import new_checkpoint

    zoo = Zoo.load()
    zoo.check_free(request.name, replace=request.replace)
    checkpoint = new_checkpoint(request.out, resume=request.resume)
    training = _begin(request, chips_of, device, progress, say)
    if request.resume:
        training.resume(checkpoint)
        say(f"resumed after epoch {training.history[-1].number}")
    try:
        training.run(checkpoint, lambda epoch: say(_as_line(epoch, training.best is epoch, request.settings.epochs)))
    except KeyboardInterrupt:
        if len(training.history) < 2:
            raise FrameloomError("stopped before the first epoch was done: there is nothing to keep") from None
        say(f"stopped; the best so far is kept, and --resume goes on from {checkpoint}")
    return _keep(request, zoo, training, say)


def _begin(
    request: Request, chips_of: ChipReader, device: str, progress: Progress, say: Callable[[str], None]
) -> Training:
    from tools.train.embedding_loop import Training

    people = find_people(request.faces)
    faces = read_faces(people, request.settings.size, chips_of, progress)
    for remark in left_out(people, faces):
        say(f"note: {remark}")
    learn, test = split(faces, request.settings.held_out, request.settings.seed)
    say(
        f"learning from {len(learn.chips)} pictures of {len(learn.names)} people, "
        f"testing on {len(test.chips)} of {len(test.names)} others, on {device}"
    )
    return Training(learn, test, request.settings, device)


def _keep(request: Request, zoo: Zoo, training: Training, say: Callable[[str], None]) -> Entry:
    """Export the best network, compare, register."""
    from tools.train.embedding_export import describe, export, largest_difference, spec_of

    if training.best.number == 0:
        raise FrameloomError(
            "nothing was learnt: no epoch tells held-out people apart better than the untrained network, so there is "
            "nothing to register; give more people and more pictures of each"
        )
    network, size = training.best_network(), request.settings.size
    file = request.out / f"{request.name}.onnx"
    export(network, size, file)
    differences = largest_difference(network, spec_of(request.name, file, size), training.held_out.chips)
    scores, people = training.test(network), len(training.held_out.names)
    entry = zoo.register(file, describe(request.name, size, scores, people, differences), replace=request.replace)
    described = own_models.describe(file, entry)
    say(f"wrote {file} (epoch {training.best.number}) and {described.name}, which describes it")
    return entry


def _as_line(epoch: Epoch, best: bool, epochs: int) -> str:
    scores = f"AUC {epoch.auc:.4f}, accuracy {epoch.accuracy:.3f}, separation {epoch.separation:.3f}"
    tested = f"held-out {scores}{' *' if best else ''}"
    if epoch.number == 0:
        return f"untrained: {tested}"
    learnt = f"loss {epoch.loss:.4f}, active {epoch.active:.0%}"
    return f"epoch {epoch.number}/{epochs}: {learnt}, {tested} ({epoch.seconds:.1f} s)"


def read_photos(finder: str, size: int, options: EngineOptions) -> ChipReader:
    """Return a reader that finds the face of each picture and aligns it."""

    def read(paths: Sequence[Path], progress: Progress) -> dict[Path, Image | None]:
        from tools.face_images import FaceModels, aligned_chips

        models = FaceModels(finder=finder, engine=options)
        return aligned_chips(paths, models, template(size), (size, size), progress)

    return read
