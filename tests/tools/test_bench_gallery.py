"""`frameloom bench gallery`, with small galleries; and that its made-up people lie as it says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tools.bench_gallery import centres, gallery, measure, pictures


def test_pictures_of_one_person_are_alike_and_strangers_are_not() -> None:
    random = np.random.default_rng(0)
    persons = centres(2000, 128, random)
    one, other = pictures(persons, random), pictures(persons, random)
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    same = (one * other).sum(axis=1)
    assert same.mean() == pytest.approx(0.65, abs=0.005)
    assert ((same > 0.6) & (same < 0.7)).mean() > 0.85
    assert abs((one[:-1] * other[1:]).sum(axis=1).mean()) < 0.01


def test_the_index_is_measured_against_exact_search() -> None:
    pytest.importorskip("faiss")
    exact, indexed = measure(3000, 5, 128), measure(3000, 5, 128, exact_up_to=1000)
    assert (exact.exact, exact.recall) == (True, 1.0)
    assert not indexed.exact
    assert indexed.recall >= 0.98
    assert 0.2 < exact.strangers < exact.known < 0.65
    assert exact.frame_ms <= exact.frame_p95_ms


def test_the_command_prints_a_row_for_each_size_and_writes_json(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(gallery)
    file = tmp_path / "gallery.json"
    result = CliRunner().invoke(app, ["--people", "100", "--people", "2000", "--faces", "3", "--json", str(file)])
    assert result.exit_code == 0, result.output
    assert "2,000" in result.output
    report = json.loads(file.read_text())
    assert [each["people"] for each in report["galleries"]] == [100, 2000]
    assert report["faces"] == 3
    assert all(each["exact"] and each["recall"] == 1.0 for each in report["galleries"])
