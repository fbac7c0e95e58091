"""`frameloom engines list|show|clean` on a cache with engines in every state."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engines.cache.engine_cache import EngineCache
from engines.cache.manifest import CALIBRATED, key_of
from engines.cuda import driver as nvidia
from engines.cuda.driver import Driver, Gpu
from engines.engine import Candidates
from engines.model_files import sha256_of
from engines.tensorrt.flavour import find_flavour
from engines.tensorrt.recipe import Recipe
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from tools.engines.commands import app
from tools.engines.words import age

ADA = Gpu(0, "NVIDIA RTX 4000 Ada Generation", "8.9", 20 * 2**30, "580.65.06")
ON_ADA = {"gpu": ADA.name, "compute_capability": "8.9", "driver": ADA.driver}
PARITY: dict[str, Any] = {
    "pictures": 12,
    "tensors": {"output": {"max_error": 0.031, "mean_error": 2e-05}},
    "decisions": {"reference": 40, "engine": 40, "matched": 39, "max_score_drift": 0.012, "unmatched": 2},
}


@pytest.fixture(autouse=True)
def mirrored(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.setattr(nvidia, "_probe_once", lambda: Driver("no NVIDIA driver is installed"))


@pytest.fixture
def rtx() -> str:
    return find_flavour("tensorrt-rtx").version


def store(
    model: str,
    version: str,
    recipe: Recipe | None = None,
    machine: dict[str, str] | None = None,
    backend: str = "tensorrt-rtx",
    **judged: Any,
) -> Path:
    """Put an engine of 1 MiB into the cache."""
    key = key_of(Zoo.load().spec(model), recipe or Recipe(), backend, version, **(machine or {}))
    cache = EngineCache()
    with cache.lock(key, "is stored"):
        return cache.store(key, bytes(1 << 20), 1.5, **judged).path


def run(*arguments: object, text: str | None = None, columns: int = 80) -> Any:  # typer does not export the type
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": str(columns)}, input=text)


def words(result: Any) -> str:
    assert result.exit_code == 0, result.exception
    return " ".join(result.stdout.split())


def test_an_empty_cache_is_said(tmp_path: Path) -> None:
    assert words(run("list")) == f"0 engines, 0.0 MiB in {tmp_path / 'cache' / 'engines'}"
    assert json.loads(run("list", "--json").stdout) == []
    assert words(run("clean")).startswith("0 files deleted, 0 bytes")


def test_the_list_says_of_what_for_what_how_old_and_whether_valid(rtx: str) -> None:
    many = Recipe(batch=8, usual_batch=8, compute_capabilities=("8.6", "8.9"), candidates=Candidates(5, 4))
    store("yolox-nano", rtx, many)
    store("mobilefacenet", rtx, Recipe("fp32"))
    result = run("list")
    listed = words(result)
    for text in (
        f"tensorrt-rtx {rtx} fp16, new",
        "416x416, up to 8",
        "for compute capability 8.6, 8.9",
        "1.0 MiB",
        "unverified",
        "112x112",
        "fp32, new",
        "for the GPUs that tensorrt-rtx chooses by itself",
        "2 engines, 2.0 MiB in",
    ):
        assert text in listed
    assert all(len(line) <= 80 for line in result.stdout.splitlines()[:-1])
    assert "…" not in listed


def test_one_that_cannot_be_used_here_says_why(rtx: str) -> None:
    store("yolox-nano", "1.0.0.1")
    store("yolox-nano", rtx, Recipe("fp32"), ON_ADA, state="verified", parity=PARITY)
    store("mobilefacenet", rtx, state="refused", refusal="the largest error of x is 9, allowed 2", parity=PARITY)
    torn = store("minifasnet-v2", rtx)
    torn.write_bytes(b"torn")
    states = {each["manifest"] and each["manifest"]["model"]: each for each in json.loads(run("list", "--json").stdout)}
    listed = words(run("list"))
    assert f"it was built by tensorrt-rtx 1.0.0.1, and {rtx} is installed" in listed
    assert f"it is for {ADA.name}; the GPU here is none that answers" in listed
    assert "the largest error of x is 9, allowed 2" in listed
    assert "is damaged: its sha256 is" in listed
    assert states[None]["state"] == "damaged"
    assert states["mobilefacenet"]["state"] == "refused"
    assert all(len(line) <= 80 for line in run("list").stdout.splitlines()[:-1])


def test_the_same_engine_is_valid_on_its_gpu_and_stale_with_another_driver(
    rtx: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store("yolox-nano", rtx, machine=ON_ADA, state="verified", parity=PARITY)
    monkeypatch.setattr(nvidia, "_probe_once", lambda: Driver(None, (ADA,), "13.0"))
    (valid,) = json.loads(run("list", "--json").stdout)
    assert (valid["state"], valid["reason"]) == ("valid", None)
    newer = replace(ADA, driver="590.1")
    monkeypatch.setattr(nvidia, "_probe_once", lambda: Driver(None, (newer,), "13.1"))
    (stale,) = json.loads(run("list", "--json").stdout)
    assert stale["state"] == "stale"
    assert stale["reason"] == "it was built with driver 580.65.06, which is 590.1 now"


def test_json_has_the_whole_manifest(rtx: str) -> None:
    path = store("yolox-nano", rtx)
    (only,) = json.loads(run("list", "--json").stdout)
    assert set(only) == {"name", "file", "bytes", "age_s", "state", "reason", "manifest"}
    assert (only["name"], only["file"]) == (path.stem, str(path))
    assert only["age_s"] < 100
    assert only["manifest"]["input_size"] == [416, 416]


@pytest.mark.parametrize("how", ["model", "stem", "plan", "json", "path"])
def test_show_finds_an_engine_by_any_of_its_names_and_tells_everything(how: str, rtx: str) -> None:
    chosen = Recipe(batch=4, usual_batch=2, candidates=Candidates(5, 4, 300))
    path = store("yolox-nano", rtx, chosen, state="verified", parity=PARITY, workspace_bytes=1 << 30)
    store("mobilefacenet", rtx)
    name = {"model": "yolox-nano", "stem": path.stem, "plan": path.name, "json": f"{path.stem}.json", "path": path}[how]
    shown = words(run("show", name))
    for text in (
        f"tensorrt-rtx {rtx}",
        "416x416, up to 4, bgr",
        "2 at once",
        "the 300 best rows, by the scores from column 5 on",
        "at most 1024.0 MiB",
        "(new), in 1.5 s",
        "verified: 12 pictures, 39 of 40 boxes matched, score drift up to 0.012",
        "output: errors up to 0.031, 2e-05 on average",
        "decisions: reference 40, engine 40, matched 39, max score drift 0.012, unmatched 2",
    ):
        assert text in shown
    assert "mobilefacenet" not in shown


def test_show_tells_of_all_engines_of_a_model(rtx: str) -> None:
    store("yolox-nano", rtx)
    store("yolox-nano", rtx, Recipe("fp32"))
    shown = run("show", "yolox-nano")
    assert words(shown).count("plan sha256") == 2
    assert len(json.loads(run("show", "yolox-nano", "--json").stdout)) == 2
    paths = [line for line in shown.stdout.splitlines() if line.startswith("file")]
    assert all(len(line) <= 80 for line in shown.stdout.splitlines() if line not in paths)


def test_show_of_one_that_was_refused_says_how_far_it_is_off(rtx: str) -> None:
    far = {"pictures": 12, "tensors": {"y": {"max_error": float("inf"), "mean_error": 1.0}}, "mixed": 3}
    far["encodings"] = {"max_drift": 0.5, "mean_drift": 0.25}
    store("mobilefacenet", rtx, state="refused", refusal="y is infinite, allowed 1", parity=far)
    shown = words(run("show", "mobilefacenet"))
    assert "state refused: y is infinite, allowed 1" in shown
    assert "y: errors up to infinite, 1 on average" in shown
    assert "encodings: max drift 0.5, mean drift 0.25" in shown
    assert "got another's outputs: 3" in shown


def test_show_finds_damaged_engines_of_a_model_by_their_names(rtx: str) -> None:
    torn, whole = store("yolox-nano", rtx), store("yolox-nano", rtx, Recipe("fp32"))
    torn.write_bytes(b"torn")
    shown = words(run("show", "yolox-nano"))
    assert "here damaged: " in shown
    assert "is damaged: its sha256 is" in shown
    assert whole.stem in shown
    whole.with_suffix(".json").write_text("{}")
    assert words(run("show", "yolox-nano")).count("here damaged: ") == 2
    assert isinstance(run("show", "yolox").exception, ConfigError), "which is no model"


def test_show_of_something_unknown_is_a_wrong_request() -> None:
    error = run("show", "yolox-nano").exception
    assert isinstance(error, ConfigError)
    assert "no engine is compiled that is called 'yolox-nano'" in str(error)


def test_an_int8_network_is_listed_as_what_it_is(rtx: str) -> None:
    store("yolox-nano", "1", Recipe("int8"), backend=CALIBRATED)
    assert "for int8 engines of any machine" in words(run("list"))
    assert "an int8 network, calibrated on pictures" in words(run("show", "yolox-nano"))


def test_clean_deletes_what_is_useless_and_says_how_much(rtx: str) -> None:
    good, old = store("yolox-nano", rtx), store("yolox-nano", "1.0.0.1")
    (left := good.parent / ".x.plan.unfinished").write_bytes(bytes(100))
    sizes = old.stat().st_size + old.with_suffix(".json").stat().st_size + 100
    result = run("clean")
    cleaned = words(result)
    assert f"3 files deleted, {sizes:,} bytes" in cleaned
    assert "a process that has ended left it unfinished" in cleaned
    assert cleaned.count("it was built by tensorrt-rtx 1.0.0.1") == 1
    for file in (old, old.with_suffix(".json"), left):
        assert file.name in "".join(result.stdout.split()), "each file that was deleted is named"
    assert all(len(line) <= 80 for line in result.stdout.splitlines()[:-1])
    assert good.exists()
    assert not old.exists()
    assert not left.exists()


def test_clean_names_manifests_without_a_plan(rtx: str) -> None:
    orphan = store("yolox-nano", rtx)
    orphan.unlink()
    (foreign := orphan.parent / "notes.json").write_text("{}")
    cleaned = run("clean")
    assert "notes.json: " in words(cleaned)
    assert f"{orphan.stem}.json" in "".join(cleaned.stdout.split())
    assert "2 files deleted" in words(cleaned)
    assert not foreign.exists()


def test_an_own_file_is_never_held_against_a_known_model_of_its_name(rtx: str, tmp_path: Path) -> None:
    own = tmp_path / "yolox-nano.onnx"
    own.write_bytes(b"somebody's model")
    spec = replace(Zoo.load().spec("yolox-nano"), path=own, sha256=sha256_of(own))
    key = key_of(spec, Recipe(), "tensorrt-rtx", rtx)
    cache, second, third = EngineCache(), *(key.model_copy(update={"batch": batch}) for batch in (2, 3))
    stored = cache.store(key, b"a plan", model_path=str(own)).path
    moved = cache.store(second, b"a plan", model_path=str(tmp_path / "gone.onnx")).path
    old = cache.store(third, b"a plan").path
    assert all(each["state"] == "unverified" for each in json.loads(run("list", "--json").stdout))
    words(run("clean"))
    assert all(path.exists() for path in (stored, moved, old))
    own.write_bytes(b"another model")
    reasons = {each["name"]: each["reason"] for each in json.loads(run("list", "--json").stdout)}
    assert f"its model file {own} had sha256" in reasons[stored.stem]
    words(run("clean"))
    assert [path.exists() for path in (stored, moved, old)] == [False, True, True]


def test_clean_all_asks_unless_it_is_told_not_to(rtx: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store("yolox-nano", rtx)
    refused = run("clean", "--all").exception
    assert isinstance(refused, ConfigError)
    assert "say --yes" in str(refused)
    monkeypatch.setattr("tools.engines.cached._is_asked", lambda: True)
    assert run("clean", "--all", text="n\n").exit_code == 1
    assert path.exists()
    assert "2 files deleted" in words(run("clean", "--all", text="y\n"))
    assert not path.exists()
    store("yolox-nano", rtx)
    assert "2 files deleted" in words(run("clean", "--all", "--yes"))


@pytest.mark.parametrize(
    ("past", "said"),
    [
        ({"seconds": 59}, "new"),
        ({"minutes": 1}, "1 minute old"),
        ({"hours": 3, "minutes": 59}, "3 hours old"),
        ({"days": 400}, "400 days old"),
        ({"seconds": -30}, "new"),
    ],
)
def test_ages_are_told_in_their_largest_unit(past: dict[str, int], said: str) -> None:
    now = datetime(2026, 11, 21, tzinfo=timezone.utc)
    assert age(now - timedelta(**past), now) == said
