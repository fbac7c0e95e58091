"""Where the rows of a detector's main output are among its outputs, which axis counts them, and what cells they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pipeline.postprocess.cells import count

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from pipeline.postprocess.heads.head import Shapes

LEVELS = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
"""Strides of the usual models, of those for large and for small objects, and of tiny ones."""
RANK = 3


def only(shapes: Shapes) -> tuple[int, ...] | None:
    """Return the shape of the only output of rank 3, which is 1 x rows x columns or transposed; None: there is not one.

    Beside it there may be feature maps (rank 4 or 5) that it was made of: old exports of YOLOv5, v7 and v8 have
    them. Those are never what else a model says of its boxes: their last two axes are those of a grid, or the three
    before the last are.
    """
    main = [shape for shape in shapes.values() if len(shape) == RANK]
    others = [shape for shape in shapes.values() if len(shape) != RANK]
    if len(main) != 1 or main[0][0] != 1 or 0 in main[0]:
        return None
    columns = set(main[0][1:])
    return main[0] if all(_is_made_from(shape, columns) for shape in others) else None


def _is_made_from(shape: tuple[int, ...], columns: set[int]) -> bool:
    """Whether a map is YOLOv5's, 1 x anchors x h x w x columns, or YOLOv8's, 1 x (64 bins + classes) x h x w."""
    if len(shape) == 5:
        return shape[-1] in columns
    return len(shape) == 4 and shape[1] - 60 in columns


def rows_of(outputs: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Return what `only` found, without its first axis."""
    found: npt.NDArray[Any] = next(array for array in outputs.values() if array.ndim == RANK)[0]
    return found


def levels_of(number: int, size: tuple[int, int], per_cell: int = 1) -> tuple[int, ...] | None:
    """Return the strides of `LEVELS` whose cells, `per_cell` rows each, make `number` rows in an input of `size`."""
    for strides in LEVELS:
        if number == per_cell * sum(count(size, stride) for stride in strides):
            return strides
    return None


def is_transposed(sides: tuple[int, int], size: tuple[int, int] | None) -> bool:
    """Whether the first of two axes counts the cells, and the second what is said of each.

    The axis that is as long as there are cells; where both are or none, the longer one. A small input has fewer cells
    than a model may have classes: 525 at 160 x 160.

    Args:
        sides: lengths of both.
        size: height and width of the input; None: not known.
    """
    if size is not None:
        counts_cells = [levels_of(side, size) is not None for side in sides]
        if counts_cells[0] != counts_cells[1]:
            return counts_cells[0]
    return sides[0] > sides[1]


def values_of(sides: tuple[int, int], size: tuple[int, int] | None) -> int:
    """Return how many values are said of each cell, for the same arguments."""
    return sides[1] if is_transposed(sides, size) else sides[0]


def planes_of(output: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[Any]:
    """Return (values, N) of a model that says several values of each of N cells, written in either direction."""
    return output.T if is_transposed((output.shape[0], output.shape[1]), size) else output


def in_words(strides: tuple[int, ...]) -> str:
    """Return `cells of strides 8, 16, 32`."""
    return f"cells of strides {', '.join(map(str, strides))}"
