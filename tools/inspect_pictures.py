"""What a model is taken for whose answer is a picture, or a map of one: a style network, or one that segments."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engines.errors import UnknownHead
from engines.spec import InputSpec
from pipeline.infer import picture_segmenter
from pipeline.infer.assumptions import STATED, Assumption, of_input
from pipeline.infer.probe import Probe
from pipeline.infer.recognition import Recognition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engines.spec import ModelSpec
    from tools.inspect_options import Stated

SEGMENT, STYLIZE = picture_segmenter.TASK, "stylize"
TASKS = (SEGMENT, STYLIZE)
USUAL = "usual, nothing in the file says it: --colour, --mean, --std and --fit state it"
CHANNELS = 3
MOST_SHOWN = 4
"""Labels."""


def recognise(spec: ModelSpec, stated: Stated, size: tuple[int, int] | None) -> Recognition:
    """Complete the spec of a model for one of `TASKS`.

    Args:
        spec: the file, and what is known of it.
        stated: what somebody says of it.
        size: height and width of its input; None: its own.

    Raises:
        UnknownHead: its outputs are not what such a model gives.
        FrameloomError: it cannot be run, or its classes have too many or too few names.
    """
    said = replace(stated.of_outputs(spec), input=stated.of_input(spec.input))
    return _segmenter(said, size) if spec.task == SEGMENT else _stylizer(said, size)


def guess(spec: ModelSpec, stated: Stated, size: tuple[int, int] | None) -> Recognition | None:
    """Do the same for a model that nobody says the task of; None: it is for neither."""
    for task in (STYLIZE, SEGMENT):  # a style network's pictures could also be a map of three classes
        try:
            return recognise(replace(spec, task=task), stated, size)
        except UnknownHead:
            continue
    return None


def _segmenter(said: ModelSpec, size: tuple[int, int] | None) -> Recognition:
    complete = picture_segmenter.recognise(said, size)
    found = "agrees with what it gives for real pictures"
    labels = complete.labels
    shown = ", ".join(labels[:MOST_SHOWN]) + (", ..." if len(labels) > MOST_SHOWN else "")
    return Recognition(
        complete,
        (
            Assumption("head", str(complete.head), STATED if said.head else found),
            Assumption("scores", str(complete.head_options.scores), STATED if said.head_options.scores else found),
            Assumption("labels", f"{len(labels)} names ({shown})", STATED if said.labels else "the file's, or numbers"),
            *_of_input(said, complete),
        ),
    )


def _stylizer(said: ModelSpec, size: tuple[int, int] | None) -> Recognition:
    """Run it on pictures of the package: it must give a picture as large as the input."""
    complete = replace(said, input=replace(said.input, fit="stretch")) if _is_open(said) else said
    probe = Probe(complete, size)
    outputs = probe.outputs(complete.input)
    (name, shape), *others = probe.shapes(complete.input).items()
    if others or len(shape) != 4 or shape[1] != CHANNELS or shape[2] < probe.size[0] or shape[3] < probe.size[1]:
        more = " and others" if others else ""
        raise UnknownHead(
            "the model is no style network: one gives a picture as large as its input, "
            f"{probe.size[1]}x{probe.size[0]} here, and this one gives {name} {list(shape)}{more}"
        )
    values = [float(value) for each in outputs for value in (each[name].min(), each[name].max())]
    given = Assumption(
        "gives", f"pictures of {shape[3]}x{shape[2]}, values {min(values):.3g} to {max(values):.3g}", "seen"
    )
    return Recognition(complete, (given, *_of_input(said, complete)))


def _of_input(said: ModelSpec, complete: ModelSpec) -> Iterator[Assumption]:
    return of_input(complete.input, USUAL if _is_open(said) else STATED)


def _is_open(said: ModelSpec) -> bool:
    """Whether nobody says how the model is fed."""
    return replace(said.input, height=None, width=None, batch=None) == InputSpec()
