"""Choosing the head that reads a model's outputs, for detectors and face finders alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from engines.errors import UnknownHead

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Shapes = Mapping[str, tuple[int, ...]]


class Named(Protocol):
    """What is said of a head."""

    name: str
    layout: str


class Layout(Named, Protocol):
    """What is asked of a head here."""

    def matches(self, shapes: Shapes, size: tuple[int, int]) -> bool:
        """Whether outputs of these shapes have this layout."""


AnyHead = TypeVar("AnyHead", bound=Layout)


def choose_head(
    known: Sequence[AnyHead], name: str | None, shapes: Shapes, size: tuple[int, int], purpose: str
) -> AnyHead:
    """Return the head called `name`, or with None the one whose layout fits the outputs.

    Args:
        known: the heads to choose from.
        name: from the model's spec.
        shapes: the model's outputs.
        size: height and width of its input.
        purpose: what the model is wanted for, in words: `detector`.

    Raises:
        UnknownHead: no head fits; the message lists the outputs seen and the layouts known.
    """
    for head in known:
        if name in (None, head.name) and head.matches(shapes, size):
            return head
    raise no_head(known, name, shapes, size, purpose)


def no_head(
    known: Sequence[Named], name: str | None, shapes: Shapes, size: tuple[int, int], purpose: str
) -> UnknownHead:
    """Return the error that says what was seen and what is known; the arguments are those of `choose_head`."""
    seen = ", ".join(f"{output} {list(shape)}" for output, shape in shapes.items())
    layouts = "; ".join(f"{head.name}: {head.layout}" for head in known)
    asked = "" if name is None else f"the head {name!r} was asked for, "
    return UnknownHead(
        f"the model is no {purpose} that can be read: {asked}for input {size[0]}x{size[1]} it gives {seen}. "
        f"Known: {layouts}"
    )
