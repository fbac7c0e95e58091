"""`frameloom bench render` measures what it says: every part on every kind of picture, and only what is switched on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.render.renderer import Renderer
from tools import bench_render
from tools.cli import app


def test_every_part_is_measured_on_every_kind_of_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_render, "SIZES", {"360p": (640, 360)})
    monkeypatch.setattr(bench_render, "REPEAT_S", 0.01)
    result = CliRunner().invoke(app, ["bench", "render", "--objects", "3", "--json", str(tmp_path / "costs.json")])
    assert result.exit_code == 0, result.output
    costs = json.loads((tmp_path / "costs.json").read_text())["costs"]
    assert {(each["part"], each["pixels"]) for each in costs} == {
        (part, pixels) for part in bench_render.SHOWN for pixels in ("planes", "bgr")
    }
    whole = {each["part"]: each["ms"] for each in costs if each["pixels"] == "planes"}
    assert whole["all"] > whole["copy"] > 0


@pytest.mark.parametrize("pixels", ["planes", "bgr"])
def test_a_part_is_drawn_where_it_is_measured_and_nothing_else_is(pixels: str) -> None:
    street = bench_render.Street((640, 360), 5)
    drawn = {}
    for part, settings in bench_render.SHOWN.items():
        renderer = Renderer(settings)
        for number in range(10):
            frame = street.frame(number, pixels, settings.zones)
            renderer.process(frame)
        assert frame.rendered is not None
        drawn[part] = int(np.any(frame.rendered.bgr != frame.picture.bgr, axis=2).sum())
    assert drawn["copy"] == 0
    assert all(count > 100 for part, count in drawn.items() if part != "copy")
    assert drawn["all"] > max(count for part, count in drawn.items() if part != "all")
