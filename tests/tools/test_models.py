"""`frameloom models`: what is printed where, and the exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engines.errors import ModelNotFound
from engines.model_files import model_cache
from engines.zoo import Zoo
from tests.engines.package_site import MODEL, entry, zoo_file
from tools import models

NAMES = Zoo.load().names()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.delenv("FRAMELOOM_MIRROR", raising=False)


@pytest.fixture
def tiny_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A zoo of one model, which is in the cache."""
    model_cache().mkdir(parents=True)
    (cached := model_cache() / "tiny.onnx").write_bytes(MODEL)
    monkeypatch.setattr("engines.zoo.ZOO_FILE", zoo_file(tmp_path, entry()))
    return cached


def run(*arguments: str, columns: int = 80) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(models.app, arguments, env={"COLUMNS": str(columns)})


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_list_never_cuts_a_name(columns: int) -> None:
    result = run("list", columns=columns)
    assert result.exit_code == 0
    assert all(name in result.stdout for name in NAMES)
    assert all(len(line) <= columns for line in result.stdout.splitlines())
    assert "…" not in result.stdout or columns < 80


def test_list_of_a_task_and_names_only() -> None:
    of_task = [entry.name for entry in Zoo.load() if entry.task == "face-detect"]
    assert run("list", "--names").stdout.split("\n") == [*NAMES, ""]
    assert run("list", "--task", "face-detect", "--names").stdout.split("\n") == [*of_task, ""]
    assert [each["task"] for each in json.loads(run("list", "--task", "face-detect", "--json").stdout)] == (
        ["face-detect"] * len(of_task)
    )
    assert json.loads(run("list", "--task", "face-detect", "--names", "--json").stdout) == of_task
    table = run("list", "--task", "face-detect").stdout
    assert [name for name in NAMES if f"\n{name} " in table] == of_task


def test_list_of_a_task_that_no_model_is_for_names_those_there_are() -> None:
    result = run("list", "--task", "cook", columns=200)
    assert result.exit_code == 2
    assert "no model is for 'cook': choose one of detect, face-detect" in result.output


def test_list_as_json_is_json_with_a_place_for_every_model() -> None:
    listed = json.loads(run("list", "--json").stdout)
    assert [each["name"] for each in listed] == NAMES
    places = {"from package", "from url", "from package or url", "only by mirror", "comes with Frameloom"}
    assert {each["where"] for each in listed} == places


def test_list_says_what_is_cached_mirrored_or_wrong(
    tiny_at_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert json.loads(run("list", "--json").stdout)[0]["where"] == "cached"
    shutil.move(tiny_at_hand, tmp_path / "mirror.bin")
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(tmp_path))
    assert json.loads(run("list", "--json").stdout)[0]["where"] == "mirror"
    tiny_at_hand.write_bytes(b"wrong")
    assert json.loads(run("list", "--json").stdout)[0]["where"] == "cached file is WRONG"


def test_info_prints_hashes_sources_and_the_note_unwrapped() -> None:
    text = run("info", "mobilefacenet").stdout
    listed = Zoo.load().entry("mobilefacenet")
    for fact in (listed.accepts[0].sha256, str(listed.sources[0]), listed.note, "MS-Celeb-1M", "not stated", "fp32"):
        assert fact in text


def test_pull_prints_where_the_file_is(tiny_at_hand: Path) -> None:
    result = run("pull", "tiny", "tiny")
    assert (result.exit_code, result.stdout) == (0, f"tiny  {tiny_at_hand}\n")


def test_pull_says_a_misspelt_name_before_it_fetches_anything(tiny_at_hand: Path) -> None:
    result = run("pull", "tiny", "tinny")
    assert isinstance(result.exception, ModelNotFound)
    assert "did you mean tiny" in str(result.exception)
    assert result.stdout == ""


@pytest.mark.parametrize("option", ["--default", "--all"])
def test_pull_of_a_set_asks_the_sources(option: str) -> None:
    result = run("pull", option)
    assert isinstance(result.exception, ModelNotFound)
    assert "yolox-nano (yolox_nano.onnx) is nowhere to be had" in str(result.exception)


def test_pull_without_a_name_is_a_wrong_request() -> None:
    result = run("pull")
    assert result.exit_code == 2
    assert "--default" in result.output


def test_check_passes_what_is_right_and_names_what_is_not(tiny_at_hand: Path) -> None:
    assert run("check").stdout == f"tiny  ok  {tiny_at_hand}\n"
    tiny_at_hand.write_bytes(b"wrong")
    result = run("check", "tiny")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 1
    assert f"tiny  WRONG  {tiny_at_hand}" in result.stdout
    tiny_at_hand.unlink()
    assert run("check").stdout == "tiny  not at hand\n"
