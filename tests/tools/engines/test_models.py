"""Which models `frameloom engines` takes from a configuration, and how each is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.errors import ModelError, ModelNotFound
from pipeline.config.load import load_settings, parse_set
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from pipeline.infer.detector import Detector
from pipeline.infer.picture_detector import DetectorOptions
from tests.engines.onnx_files import focus
from tests.engines.own_files import foreign_operator
from tools.engines.models import configured, named
from tools.engines.options import input_size_of, settings_of


@pytest.fixture(autouse=True)
def mirrored(face_models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")


def settings(*sets: str) -> Settings:
    return load_settings(None, [parse_set(text) for text in sets]).settings


def listed(*sets: str) -> list[tuple[str, tuple[int, int] | None]]:
    return [(each.spec.name, each.options.input_size) for each in configured(settings(*sets))]


def test_the_defaults_use_one_detector_at_its_own_size() -> None:
    (only,) = configured(settings())
    assert (only.spec.name, only.options.input_size) == ("yolox-nano", None)
    assert only.judge is not None


def test_the_engine_is_opened_as_a_run_opens_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidates are part of what an engine is built for: with others, a run would build it again."""
    opened: list[object] = []

    def note(*arguments: object) -> None:
        opened.extend(arguments[:2])
        raise InterruptedError

    monkeypatch.setattr("pipeline.infer.detector.open_engine", note)
    wanted = settings("engine.batch=4", "engine.precision=fp16", "detect.input_size=320")
    (only,) = configured(wanted)
    with pytest.raises(InterruptedError):
        Detector(only.spec, only.options, DetectorOptions()).open()
    assert opened == [only.spec, only.options]
    assert only.options.candidates is not None
    assert (only.options.batch, only.options.precision, only.options.input_size) == (4, "fp16", (320, 320))


def test_the_ladders_last_step_is_a_model_too(shared: Path) -> None:
    other = shared / "models" / "detect" / "yolox_nano.onnx"
    assert listed("latency.objective_ms=50") == [("yolox-nano", None), ("yolox-nano", (320, 320))]
    two = listed("latency.objective_ms=50", "detect.input_size=640", f"detect.smaller_model={other}")
    assert two == [("yolox-nano", (640, 640)), ("yolox-nano", None)]
    assert listed("latency.objective_ms=50", "latency.ladder=[detect_every_2]") == [("yolox-nano", None)]


def test_everything_about_faces_is_built_as_far_as_it_is_on() -> None:
    faces = ["detect.enabled=false", "faces.enabled=true"]
    assert listed(*faces) == [("centerface", (256, 448))]
    assert listed(*faces, "faces.short_side=384") == [("centerface", (384, 704))]
    encodings = ["sinks.events.path=e.jsonl", "sinks.events.encodings=true", "faces.embedder=mobilefacenet"]
    assert listed(*faces, "faces.finder=yunet", "faces.liveness=true", *encodings) == [
        ("yunet", (256, 448)),
        ("minifasnet-v2", None),
        ("minifasnet-v1se", None),
        ("mobilefacenet", None),
    ]
    assert [name for name, _ in listed(*faces, *encodings[:2])] == ["centerface", "dlib-resnet"]


def test_a_file_for_points_is_fed_as_in_a_run(tmp_path: Path) -> None:
    file = focus(tmp_path)
    faces = ["detect.enabled=false", "faces.enabled=true", f"faces.points={file}"]
    points = [each for each in configured(settings(*faces)) if each.spec.task == "face-points"]
    assert [(each.spec.input.fit, each.spec.input.std) for each in points] == [("stretch", (255.0, 255.0, 255.0))]


def test_a_configuration_without_models_is_said() -> None:
    with pytest.raises(ConfigError, match="runs no model"):
        list(configured(settings("detect.enabled=false")))


@pytest.mark.parametrize(
    ("name", "size", "expected", "judged"),
    [
        ("yolox-nano", None, None, True),
        ("yolox-nano", (320, 640), (320, 640), True),
        ("centerface", None, (256, 448), True),
        ("yunet", (320, 320), (320, 320), True),
        ("mobilefacenet", None, None, False),
        ("minifasnet-v2", None, None, False),
    ],
)
def test_a_model_is_named_with_a_size_that_suits_it(
    name: str, size: tuple[int, int] | None, expected: tuple[int, int] | None, judged: bool
) -> None:
    (wanted,) = named([name], settings(), size)
    assert wanted.options.input_size == expected
    assert (wanted.judge is not None) == judged
    assert not wanted.note


def test_a_file_that_only_runs_at_its_own_size_says_which(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = shared / "models" / "detect" / "yolov8n_640.onnx"
    with pytest.raises(ModelError, match=r"^yolov8n_640.onnx only runs at 640x640, .* not at 320x320: leave the size"):
        list(named([str(file)], settings(), (320, 320)))
    (own,) = named([str(file)], settings(), (640, 640))
    assert own.options.input_size == (640, 640)
    assert capfd.readouterr().err == ""


def test_a_file_that_runs_nowhere_is_not_told_to_take_another_size(tmp_path: Path) -> None:
    plugin = foreign_operator(tmp_path / "plugin.onnx")
    (wanted,) = named([str(plugin)], settings(), (32, 32))
    assert wanted.note.startswith("only tensors are compared")


def test_a_named_detector_has_the_configured_size_and_other_models_have_not() -> None:
    wanted = named(["yolox-nano", "mobilefacenet"], settings("detect.input_size=320"), None)
    assert [each.options.input_size for each in wanted] == [(320, 320), None]


def test_a_file_whose_outputs_nobody_knows_is_taken_with_a_note(tmp_path: Path) -> None:
    (wanted,) = named([str(focus(tmp_path))], settings(), None)
    assert wanted.note.startswith("only tensors are compared: the model is no detector")
    assert wanted.judge is None


def test_a_model_that_is_nowhere_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="did you mean yolox-nano"):
        list(named(["yolox-nan"], settings(), None))
    with pytest.raises(ModelError, match="not for face-detect"):
        list(configured(settings("faces.enabled=true", "faces.finder=yolox-nano")))


@pytest.mark.parametrize(
    ("text", "size"), [("640", (640, 640)), ("384x640", (384, 640)), ("384X640", (384, 640)), (None, None)]
)
def test_an_input_size_is_a_side_or_height_and_width(text: str | None, size: tuple[int, int] | None) -> None:
    assert input_size_of(text) == size


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("large", "write the side or HEIGHTxWIDTH"),
        ("1x2x3", "write the side or HEIGHTxWIDTH"),
        ("", "write the side or HEIGHTxWIDTH"),
        ("100", "--input-size 100"),
        ("32x8192", "--input-size 32x8192"),
    ],
)
def test_an_input_size_that_no_model_takes_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        input_size_of(text)


def test_only_models_that_find_boxes_take_steps_of_32(shared: Path) -> None:
    assert input_size_of("360x640", any_step=True) == (360, 640)
    with pytest.raises(ConfigError, match="--input-size 30"):
        input_size_of("30x8192", any_step=True)
    (style,) = named([str(shared / "models" / "style" / "tnet_candy.onnx")], settings(), (360, 640))
    assert style.options.input_size == (360, 640)
    with pytest.raises(ConfigError, match=r"--input-size 360x640: models that find boxes .* the nearest is 352x640"):
        list(named(["centerface"], settings(), (360, 640)))


def test_options_win_over_the_configuration_and_their_names_are_in_the_message(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("engine: {backend: openvino, precision: bf16, batch: 2}\ndetect: {model: yolox-s}\n")
    engine = settings_of(file, ["engine.cuda=pycuda"], {"backend": "tensorrt", "precision": "int8", "batch": None})
    assert (engine.engine.backend, engine.engine.precision, engine.engine.batch) == ("tensorrt", "int8", 2)
    assert (engine.engine.cuda, engine.detect.model) == ("pycuda", "yolox-s")
    with pytest.raises(ConfigError, match=r"--precision: engine.precision: 'bf16' does not work with backend tensorrt"):
        settings_of(None, None, {"backend": "tensorrt", "precision": "bf16"})
