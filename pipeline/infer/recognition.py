"""Recognition: what a detector's file that nobody describes is, how it is fed, and how its outputs are read.

The file's own words come first (metadata), then the shapes of its outputs, then their values for real pictures: the
model is run on a few of those that come with the package, fed as each head that fits by shapes is usually fed.
What somebody stated in an entry file beside the model is kept. `InputSpec` cannot say which of its fields were stated,
so an entry's `input` counts as stated as a whole where it differs from the defaults in anything but size and batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from engines import graph
from engines.errors import UnknownHead
from engines.metadata import Metadata, read_metadata
from engines.names_file import names_beside
from engines.spec import InputSpec
from pipeline.infer.assumptions import (
    IN_FILE,
    STATED,
    Assumption,
    of_head,
    of_input,
    of_labels,
    of_objects,
    size_of_input,
)
from pipeline.infer.probe import Probe, person_of
from pipeline.postprocess import heads
from pipeline.postprocess.heads.head import Seen
from pipeline.postprocess.heads.refusal import without_numbers

if TYPE_CHECKING:
    from engines.spec import ModelSpec
    from pipeline.postprocess.heads import Chosen
    from pipeline.postprocess.heads.head import Head

USUAL = InputSpec(colour="rgb", std=(255.0,) * 3, fit="letterbox-centre", pad=114)
"""How most detectors are fed."""
SURE = 3
"""People that must be found to say that a model is fed rightly."""


@dataclass(frozen=True)
class Recognition:
    """A model as it was recognised."""

    spec: ModelSpec
    """Complete: head, its options, input and labels are set."""
    assumptions: tuple[Assumption, ...] = ()


def recognise(spec: ModelSpec, size: tuple[int, int] | None = None) -> ModelSpec:
    """Complete the spec of a file that no zoo entry describes; one that names its head is returned as it is.

    Args:
        spec: what is known.
        size: height and width of the input; None: the model's own.

    Raises:
        UnknownHead: no head fits the outputs.
    """
    return spec if spec.head is not None else explain(spec, size).spec


def explain(spec: ModelSpec, size: tuple[int, int] | None = None, *, input_stated: bool = False) -> Recognition:
    """Do the same, whatever the spec names, and say what was assumed and why.

    Args:
        spec: what is known.
        size: height and width of the input; None: the model's own.
        input_stated: whether the spec's input is what somebody said, also where it is as the defaults are.
    """
    model = graph.load(spec.path)
    metadata, declared = read_metadata(model), graph.declared_size(model)
    stated = input_stated or _is_stated(spec.input)
    probe = Probe(spec, size)
    chosen = _choose(spec, metadata, probe, stated=stated)
    head, fed = chosen.head, spec.input if stated else _fed_as(chosen.head.input, spec.input, metadata)
    if (broken := next(filter(None, map(without_numbers, probe.outputs(fed))), None)) is not None:
        raise UnknownHead(broken)
    classes = head.class_count(probe.shapes(fed))
    labels, source = _labels(spec, metadata, classes)
    found, person = probe.find(head, fed), person_of(labels, classes)
    why = "as stated" if stated else f"usual for models with the head {head.name}"
    if not (stated or len(found) or person is None) and (other := _better(head, fed, metadata, probe, person)):
        fed, found = other, probe.find(head, other)
        why = f"finds {found.of_class(person)} people in the pictures that come with Frameloom, unlike the usual input"
    complete = replace(spec, head=head.name, head_options=head.options, input=fed, labels=labels)
    if size is None and None in declared:
        complete = replace(complete, input=replace(fed, height=probe.size[0], width=probe.size[1]))
    assumptions = (
        *of_head(spec, chosen, metadata),
        size_of_input(spec, probe.size, size, declared),
        *of_input(fed, why),
        of_labels(labels, source, classes, head, found),
        of_objects(found, knows_people=person is not None),
    )
    return Recognition(complete, assumptions)


def _is_stated(given: InputSpec) -> bool:
    return replace(given, height=None, width=None, batch=None) != InputSpec()


def _labels(spec: ModelSpec, metadata: Metadata, classes: int) -> tuple[tuple[str, ...], str]:
    """Return the names of the classes, and where they are from."""
    if spec.labels or metadata.labels:
        return spec.labels or metadata.labels, STATED if spec.labels else IN_FILE
    beside = names_beside(spec.path, classes)
    return (beside.names, f"{beside.path.name} beside the file, which names none itself") if beside else ((), "")


def _fed_as(usual: InputSpec, given: InputSpec, metadata: Metadata) -> InputSpec:
    """Return the usual input of a head, with what is known of this model's."""
    multiple = metadata.stride or usual.multiple
    if metadata.raw_pixels:
        usual = replace(usual, mean=InputSpec().mean, std=InputSpec().std)
    return replace(usual, height=given.height, width=given.width, batch=given.batch, multiple=multiple)


def _choose(spec: ModelSpec, metadata: Metadata, probe: Probe, *, stated: bool) -> Chosen:
    """Choose the head by values for pictures that are fed as it is usually fed, where its shapes fit."""
    first = spec.input if stated else _fed_as(USUAL, spec.input, metadata)
    shapes = probe.shapes(first)

    def see(head: type[Head] | None) -> Seen:
        fed = first if stated or head is None else _fed_as(head.input, spec.input, metadata)
        by_shapes = Seen(shapes, probe.size, metadata=metadata)
        if head is not None and not probe.has_run(fed) and head.fit(by_shapes, spec.head_options) is None:
            return by_shapes
        return replace(by_shapes, shapes=probe.shapes(fed), outputs=probe.busiest(fed))

    return heads.choose_by(spec.head, see, spec.head_options)


def _better(head: Head, fed: InputSpec, metadata: Metadata, probe: Probe, person: int) -> InputSpec | None:
    """Return how a model that knows people finds some, of the usual inputs of all heads; None: it does not.

    An export of YOLOX that holds its decoding looks as YOLOv6 does and wants other pixels.
    """
    others = {replace(_fed_as(each.input, fed, metadata), pad=fed.pad): None for each in heads.HEADS}
    people = {other: probe.find(head, other).of_class(person) for other in others if other != fed}
    best = max(people, key=people.__getitem__, default=None)
    return best if best is not None and people[best] >= SURE else None
