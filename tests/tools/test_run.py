"""`frameloom run`: what each option sets, what is refused, what is printed where."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.runner import Runner
from tests.e2e import program
from tests.e2e.program import ENDLESS, NO_MODEL, begin, events, times_of
from tests.pipeline.fakes import FakeSink, FakeSource
from tools import run
from tools.cli import app
from tools.terminal import RunProgress, print_summary

SHORT = f"{ENDLESS}?frames=30"


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a command line leads to; nothing is run."""
    seen: list[Settings] = []
    monkeypatch.setattr(run, "execute", seen.append)
    return seen


def at(settings: Settings, key: str) -> Any:
    value: Any = settings
    for part in key.split("."):
        value = value[int(part)] if part.isdecimal() else getattr(value, part)
    return value


@pytest.mark.parametrize(
    ("arguments", "key", "value"),
    [
        (["--source", "a.mp4"], "sources.0.url", "a.mp4"),
        (["--source", "a.mp4", "--source", "b.mp4"], "sources.1.url", "b.mp4"),
        (["--model", "yolox-s"], "detect.model", "yolox-s"),
        (["--record", "out.mp4"], "sinks.record.path", Path("out.mp4")),
        (["--record", "out.mp4", "--segment-s", "5"], "sinks.record.segment_s", 5.0),
        (["--events", "e.jsonl"], "sinks.events.path", Path("e.jsonl")),
        (["--frames", "pictures"], "sinks.frames.path", Path("pictures")),
        (["--window"], "sinks.window.enabled", True),
        ([], "sinks.window", None),
        (["--max-frames", "7"], "max_frames", 7),
        (["--backend", "onnxruntime"], "engine.backend", "onnxruntime"),
        (["--precision", "fp32"], "engine.precision", "fp32"),
        (["--set", "detect.confidence=0.7"], "detect.confidence", 0.7),
        (["--set", "detect.classes=[cat, dog]"], "detect.classes", ("cat", "dog")),
        (["--set", "detect.iou=0.1", "--set", "detect.iou=0.2"], "detect.iou", 0.2),
        (["--model", "a", "--set", "detect.model=b"], "detect.model", "b"),
        (["--source", "a.mp4", "--set", "sources.0.policy=latest"], "sources.0.policy", "latest"),
    ],
)
def test_each_option_sets_its_key(asked: list[Settings], arguments: list[str], key: str, value: object) -> None:
    result = CliRunner().invoke(app, ["run", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    assert at(asked[0], key) == value


def test_options_win_over_the_file(asked: list[Settings]) -> None:
    Path("my.yaml").write_text("detect: {model: a, confidence: 0.1}\nsources: [x.mp4, y.mp4]\nsinks: {record: z.mp4}\n")
    CliRunner().invoke(app, ["run", "my.yaml", "--model", "b", "--source", "c.mp4", "--segment-s", "2"])
    settings = asked[0]
    assert (settings.detect.model, settings.detect.confidence) == ("b", 0.1)
    assert [source.url for source in settings.sources] == ["c.mp4"]
    assert settings.sinks.record is not None
    assert (settings.sinks.record.path, settings.sinks.record.segment_s) == (Path("z.mp4"), 2.0)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "detect.confidnce=1"], "confidence"),
        (["--set", "nonsense"], "KEY=VALUE"),
        (["--backend", "cuda"], "--backend"),
        (["--max-frames", "0"], "--max-frames"),
        (["--record", "out.avi"], "--record"),
        (["missing.yaml"], "missing.yaml"),
    ],
)
def test_a_wrong_value_is_refused_by_name(asked: list[Settings], arguments: list[str], named: str) -> None:
    result = CliRunner().invoke(app, ["run", *arguments])
    assert isinstance(result.exception, ConfigError)
    assert named in str(result.exception)
    assert asked == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--sorce", "a.mp4"], 2, "--sorce"),
        (["--max-frames", "many"], 2, "--max-frames"),
        (["--source", "missing.mp4"], 2, "no such file: missing.mp4"),
        ([], 2, "no source"),
        (["--source", SHORT, "--set", "detect.confidence=7"], 2, "detect.confidence"),
        (
            ["--source", SHORT, *NO_MODEL, "--events", "/proc/nowhere/e.jsonl"],
            2,
            "cannot write to folder /proc/nowhere",
        ),
        (["--source", SHORT, *NO_MODEL, "--events", "/dev/full"], 0, "/dev/full"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words_and_by_the_exit_code(
    tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    done = program.run(tmp_path, *arguments)
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_writes_its_files_and_prints_its_summary_without_control_characters(tmp_path: Path) -> None:
    done = program.run(
        tmp_path, "--source", SHORT, *NO_MODEL, "--record", "out.mp4", "--events", "e.jsonl", "--frames", "pictures"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stdout)
    assert re.search(r"^synthetic +30 +30 +0$", done.stdout, re.MULTILINE)
    for stage in ("capture", "render", "record", "events", "frames"):
        assert re.search(rf"^{stage}( +[\d.]+){{6}}$", done.stdout, re.MULTILINE)
    assert re.search(r"^[\d.]+ fps in all; capture to delivery p50 \d+ ms", done.stdout, re.MULTILINE)
    for path in ("out.mp4", "e.jsonl", "pictures"):
        assert f"wrote {path}" in done.stdout
    assert len(times_of(tmp_path / "out.mp4")) == len(list((tmp_path / "pictures").iterdir())) == 30
    assert [line["type"] for line in events(tmp_path / "e.jsonl")] == ["frame"] * 30 + ["summary"]


def test_several_sources_and_max_frames(tmp_path: Path) -> None:
    done = program.run(
        tmp_path, "--source", ENDLESS, "--source", SHORT, "--max-frames", "40", *NO_MODEL, "--events", "e.jsonl"
    )
    assert done.returncode == 0
    counts = events(tmp_path / "e.jsonl")[-1]["sources"]
    assert {name: account["delivered"] for name, account in counts.items()} == {"synthetic": 40, "synthetic-2": 30}


@pytest.mark.skipif(not program.MODELS.is_dir(), reason="the shared models are not here")
def test_with_a_model_the_summary_names_it_and_what_ran_it(tmp_path: Path) -> None:
    done = program.run(tmp_path, "--source", ENDLESS, "--max-frames", "3", "--backend", "onnxruntime")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^detect: yolox-nano \d+x\d+ on onnxruntime", done.stdout, re.MULTILINE)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = program.run(tmp_path, "--source", SHORT, *NO_MODEL, "--trace", "/dev/full", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_failed_run_prints_its_summary_too(tmp_path: Path) -> None:
    done = program.run(tmp_path, "--source", SHORT, *NO_MODEL, "--trace", "/dev/full", "--record", "out.mp4")
    assert done.returncode == 1
    assert "wrote out.mp4" in done.stdout
    assert times_of(tmp_path / "out.mp4")


def test_a_full_disk_behind_standard_output_is_an_error(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        process = begin(tmp_path, "--source", SHORT, *NO_MODEL, stdout=full)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err == "frameloom: cannot write the summary to standard output: No space left on device\n"


def test_the_summary_of_nothing_has_dashes(capsys: pytest.CaptureFixture[str]) -> None:
    runner = Runner([FakeSource(frames=0)], [], [FakeSink()])
    runner.run()
    print_summary(runner)
    out = capsys.readouterr().out
    assert re.search(r"^cam +0 +0 +0$", out, re.MULTILINE)
    assert "- fps in all" in out


def test_the_summary_names_drops_per_source_and_per_sink(capsys: pytest.CaptureFixture[str]) -> None:
    runner = Runner([FakeSource(frames=40, live=True, damaged={0})], [], [FakeSink("slow", 0.01)])
    runner.run()
    print_summary(runner)
    out = capsys.readouterr().out
    assert re.search(r"^cam +40 +39 +1 corrupt$", out, re.MULTILINE)
    assert f"slow: {runner.sink_drops['slow']} not taken, or given up" in out


def test_without_a_terminal_there_is_no_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    runner = Runner([FakeSource(frames=5)], [], [])
    with RunProgress(runner, None):
        runner.run()
    assert capsys.readouterr() == ("", "")


def test_the_summary_line_of_the_event_log_is_what_the_runner_says(tmp_path: Path) -> None:
    program.run(tmp_path, "--source", SHORT, *NO_MODEL, "--events", "e.jsonl")
    summary = json.loads((tmp_path / "e.jsonl").read_text().splitlines()[-1])
    assert set(summary) == {"type", "fps", "latency_ms", "stages", "waits", "sources", "sink_drops", "abandoned"}
    assert set(summary["latency_ms"]) == {"p50", "p95", "p99"}
    assert set(summary["sources"]["synthetic"]["dropped"]) == {"stale", "mailbox_full", "stopped", "corrupt"}
