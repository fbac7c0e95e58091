"""Layers that do harm are found and left in float; what cannot be repaired is never accepted."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.engine import EngineOptions, Outputs
from engines.int8.cpu import Calibrated
from engines.int8.kept import opened
from engines.int8.search import Harm, decision_loss, harms_of, search
from engines.prepare import prepare
from engines.trust.drift import Decisions
from pipeline.infer.decisions import judge_of
from tests.engines.int8.squares import SIDE, pictures, squares_detector

OUTLIER = 1e5


def decisions(*rows: tuple[float, ...]) -> Decisions:
    """Rows of x1, y1, x2, y2, score, class."""
    table = np.array(rows, np.float32).reshape(-1, 6)
    return Decisions(table[:, :4], table[:, 4], table[:, 5].astype(np.int32))


ONE = (0.0, 0.0, 10.0, 10.0, 0.9, 1.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "loss"),
    [
        ([], [], 0.0),
        ([ONE], [ONE], 0.0),
        ([], [ONE], 1.0),
        ([ONE], [], 1.0),
        ([ONE, (20, 20, 30, 30, 0.5, 0)], [ONE], 1 / 3),
        ([(0, 0, 10, 10, 0.7, 1)], [ONE], 0.1),
        ([(0, 0, 10, 8, 0.9, 1)], [ONE], 0.1),
        ([(0, 0, 10, 10, 0.9, 0)], [ONE], 1.0),
    ],
    ids=["nothing", "same", "lost", "invented", "one more", "score", "place", "class"],
)
def test_the_loss_counts_boxes_lost_invented_and_moved(
    ours: list[tuple[float, ...]], theirs: list[tuple[float, ...]], loss: float
) -> None:
    assert decision_loss(decisions(*ours), decisions(*theirs)) == pytest.approx(loss, abs=1e-6)


def calibrated(folder: Path, outlier: float = OUTLIER) -> tuple[Calibrated, list[Harm]]:
    spec = squares_detector(folder, outlier)
    made = Calibrated(prepare(spec, None), spec.input, [pictures(20)], "onnxruntime")
    judge = judge_of(spec)
    assert judge is not None
    return made, harms_of(made, lambda network: run(folder, network), judge((SIDE, SIDE)))


def run(folder: Path, network: onnx.ModelProto) -> list[Outputs]:
    with closing(opened(squares_detector(folder), "onnxruntime", EngineOptions(), network)) as engine:
        return [engine.infer(picture) for picture in pictures(4, 5)[:, None]]


def test_the_layers_that_lose_boxes_are_found(tmp_path: Path) -> None:
    _, harms = calibrated(tmp_path)
    assert {harm.layer for harm in harms[:3]} == {"first", "second", "head8"}
    assert harms[2].loss > 0.5 > harms[3].loss
    assert [harm.loss for harm in harms] == sorted((harm.loss for harm in harms), reverse=True)


def test_a_layer_whose_values_become_no_numbers_is_the_worst(tmp_path: Path) -> None:
    made, _ = calibrated(tmp_path, 0.0)

    def broken(network: onnx.ModelProto) -> list[Outputs]:
        outputs = run(tmp_path, network)
        if any(tensor.name == "h16_quantized" for tensor in network.graph.initializer):
            outputs[1]["output"][:] = np.nan
        return outputs

    assert harms_of(made, broken, None)[0] == Harm("head16", float("inf"))


def test_ever_more_layers_are_left_in_float_until_it_is_accepted(tmp_path: Path) -> None:
    made, harms = calibrated(tmp_path)
    asked: list[int] = []

    def look(network: onnx.ModelProto) -> tuple[float, bool]:
        asked.append(sum(node.op_type == "QuantizeLinear" for node in network.graph.node))
        return float(len(asked)), len(asked) == 4

    attempts = search(made, lambda: harms, look)
    assert [len(each.in_float) for each in attempts] == [0, 1, 2, 3]
    assert [each.accepted for each in attempts] == [False, False, False, True]
    assert attempts[-1].in_float == tuple(harms[:3])
    assert set(attempts[-1].in_int8) == {"head16", "head32"}
    assert asked == sorted(asked, reverse=True)


def test_no_layer_is_looked_at_where_all_can_be_int8(tmp_path: Path) -> None:
    made, _ = calibrated(tmp_path, 0.0)
    attempts = search(made, lambda: pytest.fail("asked for harms"), lambda network: (100.0, True))
    assert [(each.accepted, each.in_float) for each in attempts] == [(True, ())]


def test_a_model_of_which_most_would_stay_in_float_is_not_accepted(tmp_path: Path) -> None:
    made, harms = calibrated(tmp_path)
    attempts = search(made, lambda: harms, lambda network: (0.0, False))
    assert not any(each.accepted for each in attempts)
    assert max(len(each.in_float) for each in attempts) == 3
