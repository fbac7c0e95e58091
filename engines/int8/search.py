"""Which layers must stay in float, so that what a model decides stays what it was.

One layer is put into int8 at a time, and what that does to the decisions on a few pictures is its loss. Then the most
harmful ones are given back to float, 0, 1, 2, 4, 8, ... of them, until somebody who looks at the whole accepts it.
Layers harm alone nearly as they harm together, and doubling needs few of the expensive looks: at most 9 for 100 layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from engines.trust.drift import iou_of, match

if TYPE_CHECKING:
    import onnx

    from engines.engine import Outputs
    from engines.int8.cpu import Calibrated
    from engines.trust.drift import Decisions
    from engines.trust.parity import Decide

PICTURES = 6
"""So many tell the layers apart; all that is judged is judged on others."""
TENSORS_WEIGH = 1e-3
"""Of the outputs' error beside that of decisions, which is 0 for most layers or, without any box, for all."""
MOST_IN_FLOAT = 0.75
"""A model of which more must stay in float is no int8 model."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Harm:
    """What one layer does to decisions when it alone is in int8."""

    layer: str
    loss: float
    """Boxes lost, invented or moved, as a share of all boxes; see `decision_loss`."""


@dataclass(frozen=True)
class Attempt:
    """A model with some layers in int8, and what came of it."""

    network: onnx.ModelProto
    in_int8: tuple[str, ...]
    in_float: tuple[Harm, ...]
    """The most harmful first."""
    figure: float
    """What whoever looked at it has measured."""
    accepted: bool


def search(
    calibrated: Calibrated,
    find_harms: Callable[[], Sequence[Harm]],
    look: Callable[[onnx.ModelProto], tuple[float, bool]],
    progress: Progress = lambda doing, share: None,
) -> list[Attempt]:
    """Try ever more layers in float until one is accepted.

    Args:
        calibrated: the model.
        find_harms: gives those of all its layers, the most harmful first; asked only where not all can be in int8.
        look: judges a network: its figure, and whether it is accepted.
        progress: told what is done and how far it is.

    Returns:
        Every attempt; the last is the one that was accepted, or none was.
    """
    total = len(calibrated.layers)
    counts = list(_ever_more(int(total * MOST_IN_FLOAT)))
    attempts: list[Attempt] = []
    harms: Sequence[Harm] = ()
    for number, count in enumerate(counts):
        if number == 1:
            harms = find_harms()
        progress(f"judging it with {count} of {total} layers in float", number / len(counts))
        left = {harm.layer for harm in harms[:count]}
        kept = tuple(layer for layer in calibrated.layers if layer not in left)
        network = calibrated.in_int8(kept)
        figure, accepted = look(network)
        attempts.append(Attempt(network, kept, tuple(harms[:count]), figure, accepted))
        if accepted:
            break
    progress("judged", 1.0)
    return attempts


def _ever_more(most: int) -> Iterator[int]:
    yield 0
    count = 1
    while count < most:
        yield count
        count *= 2
    if most:
        yield most


def harms_of(
    calibrated: Calibrated,
    run: Callable[[onnx.ModelProto], Sequence[Outputs]],
    decide: Decide | None,
    progress: Progress = lambda doing, share: None,
) -> list[Harm]:
    """Put one layer into int8 at a time and return what that does, the worst first.

    Args:
        calibrated: the model.
        run: gives the outputs of a network for each of a few pictures, by the backend that it is for: backends have
            errors of their own (OpenVINO 2026.4 spoils some first layers that ONNX Runtime computes well).
        decide: reads the outputs of one picture; None: only values are compared.
        progress: told what is done and how far it is.
    """
    theirs = run(calibrated.in_int8(()))
    harms = []
    for number, layer in enumerate(calibrated.layers):
        progress(f"layer {number + 1} of {len(calibrated.layers)}", number / len(calibrated.layers))
        ours = run(calibrated.in_int8([layer]))
        losses = [_loss(mine, reference, decide) for mine, reference in zip(ours, theirs, strict=True)]
        harms.append(Harm(layer, float(np.mean(losses))))
    return sorted(harms, key=lambda harm: -harm.loss)


def _loss(ours: Outputs, theirs: Outputs, decide: Decide | None) -> float:
    values = float(np.mean([relative_error(ours[name], theirs[name]) for name in theirs]))
    if decide is None:
        return values
    return decision_loss(decide(ours), decide(theirs)) + TENSORS_WEIGH * values


def relative_error(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """Return the mean absolute error as a share of the mean absolute value; infinite where it is no number."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = float(np.abs(a - b).mean()) / max(float(np.abs(b).mean()), 1e-9) if b.size else 0.0
    return error if np.isfinite(error) else np.inf


def decision_loss(ours: Decisions, theirs: Decisions) -> float:
    """Return how far the boxes of one picture are from the reference's, a share of all boxes of both.

    A box without counterpart, or of another class, counts 1; a pair counts half its drift in score and place (1 - IoU).
    """
    boxes = len(ours.boxes) + len(theirs.boxes)
    pairs = list(match(ours, theirs))
    if not boxes:
        return 0.0
    mine, reference = np.array([i for i, _ in pairs], int), np.array([j for _, j in pairs], int)
    drift = np.abs(ours.scores[mine] - theirs.scores[reference])
    moved = 1 - iou_of(ours.boxes[mine], theirs.boxes[reference]).diagonal()
    other = ours.class_ids[mine] != theirs.class_ids[reference]
    each = np.where(other, 2.0, (drift + moved).clip(max=2))
    return float((boxes - 2 * len(pairs) + each.sum()) / boxes)
