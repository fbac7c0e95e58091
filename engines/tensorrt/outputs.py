"""Outputs of a request: what is copied back for it, and what its caller is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from engines.candidates import CANDIDATES, ROWS

if TYPE_CHECKING:
    import numpy.typing as npt

    from engines.engine import Outputs
    from engines.tensorrt.graphs import Shapes


class Wanted:
    """What requests of a plan need: all values, or only the rows of its one output that are candidates."""

    def __init__(self, outputs: tuple[str, ...], has_candidates: bool) -> None:
        """Know the names of the outputs that callers see, and whether the plan chooses candidates."""
        self.everything = outputs
        self.best = (CANDIDATES, ROWS) if has_candidates and len(outputs) == 1 else outputs
        self._name = outputs[0]

    def given(self, copied: Outputs, shapes: Shapes) -> Outputs:
        """Return what the caller gets, under the names and in the order of the model's file."""
        if CANDIDATES not in copied:
            return {name: copied[name] for name in self.everything}
        return {self._name: spread(copied[CANDIDATES], copied[ROWS], shapes[self._name])}


def spread(rows: npt.NDArray[Any], places: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return an N x rows x columns array of zeros with N x k x columns rows put where N x k `places` says."""
    whole = np.zeros(shape, rows.dtype)
    whole[np.arange(len(rows))[:, None], places] = rows
    return whole


def joined(parts: list[Outputs]) -> Outputs:
    """Return the outputs of batches that were run one after another as those of one."""
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
