"""`frameloom bench nms` measures each method on each heap of boxes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools import bench_nms
from tools.cli import app


def test_a_row_for_each_heap_and_a_figure_for_each_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_nms, "REPEAT_S", 0.0)
    file = tmp_path / "nms.json"
    asked = ["bench", "nms", "--count", "150", "--classes", "1", "--classes", "3", "--most", "5", "--json", str(file)]
    result = CliRunner().invoke(app, asked, env={"COLUMNS": "180"}, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 2 + 2 * len(bench_nms.DISTRIBUTIONS)
    costs = json.loads(file.read_text())["costs"]
    methods = {"NMS iou", "NMS diou", "NMS ios", "NMS, best 5", *bench_nms.OTHERS}
    assert {each["method"] for each in costs} == methods
    assert len(costs) == len(methods) * 2 * len(bench_nms.DISTRIBUTIONS)
    assert all(each["ms"] > 0 for each in costs)
    equal = {(each["method"], each["kept"]) for each in costs if each["boxes"] == "equal" and each["classes"] == 1}
    assert {("NMS iou", 1), ("fusion", 1)} <= equal


def test_made_boxes_are_as_many_as_asked_for_and_the_same_each_time() -> None:
    for name in bench_nms.DISTRIBUTIONS:
        one, other = bench_nms.made(name, 100, 4), bench_nms.made(name, 100, 4)
        assert len(one) == 100
        assert one.boxes.tolist() == other.boxes.tolist()
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
