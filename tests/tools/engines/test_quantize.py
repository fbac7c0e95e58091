"""`frameloom engines quantize`: what is accepted runs, what is not is never stored, what was changed is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from engines.cache.manifest import Quantisation
from engines.engine import EngineOptions, open_engine
from engines.errors import BackendUnavailable, EngineBuildError, EngineStale, ModelError, ParityFailed
from engines.int8 import circumstances, kept, search
from engines.int8.cpu import Calibrated
from engines.own_models import describe
from engines.prepare import prepare
from engines.spec import ModelSpec
from engines.zoo import Zoo
from engines.zoo_entry import Entry
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError
from tests.engines.int8.squares import COLOURS, LABELS, pictures, squares_detector, write_pictures
from tools.engines.commands import app
from tools.engines.models import named
from tools.engines.quantize_judges import MatchedBoxes, Measured, wilson
from tools.engines.quantize_parts import Asked, parts_of

OUTLIER = 1e5
BACKENDS = ("openvino", "onnxruntime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")


def described(folder: Path, outlier: float = 0.0) -> ModelSpec:
    """The squares detector, with an entry beside it."""
    from engines.model_files import sha256_of

    spec = squares_detector(folder, outlier)
    fields = {
        "name": "squares",
        "task": "detect",
        "file": spec.path.name,
        "accepts": [{"sha256": sha256_of(spec.path), "bytes": spec.path.stat().st_size}],
        "licence": "CC0",
        "commercial_use": True,
        "note": "made by a test",
        "input": {"colour": "bgr", "fit": "letterbox-topleft"},
        "head": "yolox",
        "labels": LABELS,
    }
    describe(spec.path, Entry.model_validate(fields))
    return Zoo.load().spec(spec.path)


def run(*arguments: object) -> Any:  # typer does not export the result's type
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "100"})


def quantize(spec: ModelSpec, images: Path, backend: str = "openvino", *more: object) -> Any:
    return run("quantize", spec.path, "--images", images, "--backend", backend, *more)


def stored(tmp_path: Path) -> list[str]:
    return sorted(file.name for file in (tmp_path / "cache" / "engines").glob("*") if file.name[0] != ".")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "images", pictures(64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_accepted_is_stored_listed_run_and_removed(backend: Any, images: Path, tmp_path: Path) -> None:
    spec = described(tmp_path)
    result = quantize(spec, images, backend)
    assert result.exit_code == 0, result.exception
    assert "matched %" in result.stdout
    assert f"--backend {backend} --precision int8" in result.stdout
    engine = open_engine(spec, EngineOptions(backend, "int8"))
    try:
        info = engine.describe()
        assert (info.precision, info.origin) == ("int8", "cache")
        assert engine.infer(pictures(1, 9))["output"].shape == (1, 84, 7)
    finally:
        engine.close()
    (listed,) = json.loads(run("list", "--json").stdout)
    assert listed["state"] == "valid"
    made = listed["manifest"]["quantisation"]
    assert made["after"] >= made["bound"] == 98.0
    assert made["calibration_pictures"] == 32
    shown = " ".join(run("show", "squares").stdout.split())
    assert "accepted: matched" in shown
    assert "left in float" in shown or not made["in_float"]
    assert run("clean", "--all", "--yes").exit_code == 0
    assert stored(tmp_path) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_model_that_collapses_is_repaired_by_layers_in_float(backend: str, images: Path, tmp_path: Path) -> None:
    spec = described(tmp_path, OUTLIER)
    result = quantize(spec, images, backend, "--json")
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    assert report["attempts"][0]["figure"] < 50
    assert report["attempts"][-1]["figure"] >= 98
    assert report["in_float"]


def test_a_collapse_that_cannot_be_repaired_is_not_stored(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_IN_FLOAT", 0.2)
    spec = described(tmp_path, OUTLIER)
    result = quantize(spec, images)
    assert isinstance(result.exception, ParityFailed)
    assert not result.exception.request_was_wrong
    assert "was not accepted, and nothing is stored: matched is" in str(result.exception)
    assert "FAILED" in result.stdout
    assert stored(tmp_path) == []
    with pytest.raises(BackendUnavailable, match="no int8 engine for openvino yet"):
        open_engine(spec, EngineOptions("openvino", "int8"))


def test_an_engine_that_was_accepted_before_stays_where_a_new_one_is_not(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = described(tmp_path)
    assert quantize(spec, images).exit_code == 0
    before = stored(tmp_path)
    monkeypatch.setattr(search, "MOST_IN_FLOAT", 0.2)
    dim = write_pictures(tmp_path / "dim", _every_other_dim())
    assert quantize(spec, dim).exit_code == 1
    assert stored(tmp_path) == before


def _every_other_dim() -> np.ndarray:
    frames = pictures(64)
    frames[::2] = pictures(32, 1, brightest=80)
    return frames


def test_calibration_on_pictures_of_another_world_is_not_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_IN_FLOAT", 0.2)
    dim = write_pictures(tmp_path / "dim", _every_other_dim())
    result = quantize(described(tmp_path), dim)
    assert isinstance(result.exception, ParityFailed)
    assert stored(tmp_path) == []


def test_black_calibration_pictures_are_refused(tmp_path: Path) -> None:
    frames = pictures(64)
    frames[::2] = 0
    result = quantize(described(tmp_path), write_pictures(tmp_path / "black", frames))
    assert isinstance(result.exception, EngineBuildError)
    assert "of 32, 32 are of one colour" in str(result.exception)
    assert stored(tmp_path) == []


def test_too_few_pictures_or_boxes_are_refused_with_the_number(tmp_path: Path) -> None:
    spec = described(tmp_path)
    few = quantize(spec, write_pictures(tmp_path / "few", pictures(31)))
    assert isinstance(few.exception, ConfigError)
    assert "31 pictures are too few" in str(few.exception)
    empty = np.random.default_rng(0).integers(0, 60, (32, 64, 64, 3)).astype(np.uint8)
    nothing = quantize(spec, write_pictures(tmp_path / "nothing", empty))
    assert isinstance(nothing.exception, ConfigError)
    assert "the float engine finds 0 boxes" in str(nothing.exception)
    sparse = quantize(spec, write_pictures(tmp_path / "sparse", pictures(40)))
    assert isinstance(sparse.exception, ConfigError)
    assert "finds 40 boxes in the 10 pictures" in str(sparse.exception)
    assert "or about 12 more pictures like these" in str(sparse.exception)  # 3 more in each part


# ---- what was chosen is judged by pictures that had no part in choosing


def test_what_only_holds_on_the_pictures_that_chose_is_not_stored(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([Measured(99.0, "lucky"), Measured(97.0, "97 of 100 boxes match")])
    monkeypatch.setattr(MatchedBoxes, "measure", lambda self, engine: next(looks))
    result = quantize(described(tmp_path), images)
    assert isinstance(result.exception, ParityFailed)
    assert "matched is 97.0 on the pictures that had no part in choosing" in str(result.exception)
    assert "(97 of 100 boxes match), and must be 98.0" in str(result.exception)
    assert "matched %, choosing" in result.stdout
    assert next(looks, None) is None, "the pictures that decide are asked once"
    assert stored(tmp_path) == []


def test_no_picture_calibrates_chooses_and_decides(images: Path, tmp_path: Path) -> None:
    (wanted,) = named([str(described(tmp_path).path)], Settings(), None)
    parts = parts_of(wanted, (64, 64), Asked([str(images)], None, None, (), 100, 0.0, 98.0))
    assert isinstance(parts.choosing, MatchedBoxes)
    assert isinstance(parts.deciding, MatchedBoxes)
    lots = (parts.calibration, parts.choosing.pictures, parts.deciding.pictures)
    assert [len(lot) for lot in lots] == [32, 16, 16]
    assert len({picture.tobytes() for lot in lots for picture in lot}) == 64


def test_the_interval_around_a_share_is_wilsons() -> None:
    assert wilson(81, 263) == pytest.approx((25.53, 36.62), abs=0.01)  # Newcombe (1998), table I
    assert wilson(15, 148) == pytest.approx((6.24, 16.05), abs=0.01)
    assert wilson(29, 29) == pytest.approx((88.30, 100.0), abs=0.01)
    assert wilson(0, 0) == (0.0, 100.0)


# ---- labelled pictures


def label_file(folder: Path, frames: np.ndarray) -> Path:
    """COCO labels of the squares in the pictures of a folder."""
    records: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for number, frame in enumerate(frames):
        records.append({"id": number, "file_name": f"{number}.png", "width": 64, "height": 64, "part": number % 2})
        for kind, colour in enumerate(COLOURS):
            for top, left in np.argwhere((frame[::8, ::8] == colour).all(axis=2)) * 8:
                box = [int(left), int(top), 8, 8]
                labels.append({"id": len(labels) + 1, "image_id": number, "category_id": kind, "bbox": box})
    categories = [{"id": kind, "name": name} for kind, name in enumerate(LABELS)]
    file = folder / "labels.json"
    file.write_text(json.dumps({"images": records, "annotations": labels, "categories": categories}))
    return file


def test_labelled_pictures_judge_by_ap_and_others_calibrate(tmp_path: Path) -> None:
    frames = pictures(72)
    folder = write_pictures(tmp_path / "images", frames)
    labels = label_file(tmp_path, frames)
    spec = described(tmp_path, OUTLIER)
    result = quantize(spec, folder, "onnxruntime", "--annotations", labels, "--where", "part=1", "--json")
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    assert (report["figure"], report["calibration_pictures"], report["notes"]) == ("AP", 36, [])
    for part in (report["choosing"], report["deciding"]):
        assert part["judged_on"] == "18 labelled pictures"
        assert part["before"] > 95
        assert part["least"] == pytest.approx(part["before"] - 1)
    assert report["after"] >= report["deciding"]["least"]
    assert "AP on 18 pictures" in report["uncertainty"]


def test_where_all_pictures_are_labelled_some_calibrate_and_are_not_judged(tmp_path: Path) -> None:
    frames = pictures(64)
    folder = write_pictures(tmp_path / "images", frames)
    labels = label_file(tmp_path, frames)
    result = quantize(described(tmp_path), folder, "onnxruntime", "--annotations", labels, "--json")
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    judged = [report[part]["judged_on"] for part in ("choosing", "deciding")]
    assert (judged, report["calibration_pictures"]) == (["16 labelled pictures"] * 2, 32)
    assert "32 labelled ones calibrate, and do not count" in report["notes"][0]


def test_too_few_labelled_pictures_are_refused_with_how_many_more(tmp_path: Path) -> None:
    frames = pictures(60)
    folder = write_pictures(tmp_path / "images", frames)
    labels = label_file(tmp_path, frames)
    result = quantize(described(tmp_path), folder, "onnxruntime", "--annotations", labels)
    assert isinstance(result.exception, ConfigError)
    assert "28 labelled pictures are left to judge by, which is too few" in str(result.exception)
    assert "give 4 more" in str(result.exception)


def test_labels_of_something_else_judge_nothing(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "images", pictures(64))
    labels = label_file(tmp_path, pictures(64, 99))
    result = quantize(described(tmp_path), folder, "onnxruntime", "--annotations", labels, "--max-ap-loss", 20)
    assert isinstance(result.exception, ConfigError)
    assert "are these labels for this model?" in str(result.exception)


# ---- what is stored


def test_what_no_longer_fits_is_a_sentence_with_the_command(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = described(tmp_path)
    assert quantize(spec, images).exit_code == 0
    (plan,) = (tmp_path / "cache" / "engines").glob("*.plan")
    command = "judge it again: frameloom engines quantize"
    options = EngineOptions("openvino", "int8")
    with monkeypatch.context() as other:
        other.setattr(kept, "version_of", lambda backend: "2027.1.0")
        with pytest.raises(EngineStale, match=rf"by openvino .*, and 2027\.1\.0 is installed; {command}"):
            open_engine(spec, options)
    with monkeypatch.context() as other:
        other.setattr(kept, "machine", lambda: "Linux x86_64 avx2")
        with pytest.raises(EngineStale, match=f"and this is Linux x86_64 avx2; {command}"):
            open_engine(spec, options)
    with pytest.raises(EngineStale, match=f"which is now {'0' * 64}; {command}"):
        open_engine(replace(spec, sha256="0" * 64), options)
    with monkeypatch.context() as other:
        other.setattr(circumstances, "machine", lambda: "Linux x86_64 avx2")
        assert json.loads(run("list", "--json").stdout)[0]["state"] == "elsewhere"
    manifest = json.loads(plan.with_suffix(".json").read_text())
    for change in ({"state": "refused"}, {"quantisation": None}):
        plan.with_suffix(".json").write_text(json.dumps(manifest | change))
        with pytest.raises(EngineStale, match=f"was not accepted, so it is not used; {command}"):
            open_engine(spec, options)
        assert json.loads(run("list", "--json").stdout)[0]["state"] == "refused"
    plan.write_bytes(plan.read_bytes()[:-1] + b"x")
    plan.with_suffix(".json").write_text(json.dumps(manifest))
    with pytest.raises(EngineStale, match=f"is damaged: its sha256 is .*; {command}"):
        open_engine(spec, options)
    assert run("clean").exit_code == 0
    assert stored(tmp_path) == []


def test_an_engine_that_says_something_else_than_when_it_was_accepted_is_refused(images: Path, tmp_path: Path) -> None:
    """As one does that the backend compiles wrongly: here another network stands in the place of the accepted one."""
    spec = described(tmp_path)
    assert quantize(spec, images).exit_code == 0
    (file,) = (tmp_path / "cache" / "engines").glob("*.json")
    made = Quantisation.model_validate(json.loads(file.read_text())["quantisation"])
    folder = tmp_path / "other"
    folder.mkdir()
    other = prepare(squares_detector(folder, OUTLIER), None)
    calibrated = Calibrated(other, spec.input, [pictures(20)], "openvino")
    kept.keep(spec, "openvino", None, calibrated.in_int8(calibrated.layers), made, 1.0)
    with pytest.raises(ParityFailed, match=r"is \d+% off what it said .*: frameloom engines quantize"):
        open_engine(spec, EngineOptions("openvino", "int8"))


def test_auto_never_picks_int8_by_itself(images: Path, tmp_path: Path) -> None:
    spec = described(tmp_path)
    assert quantize(spec, images).exit_code == 0
    engine = open_engine(spec, EngineOptions("openvino"))
    assert engine.describe().precision in ("fp32", "bf16")
    engine.close()


# ---- refusals


def test_models_that_nobody_could_judge_are_refused(
    shared: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    for name, words in (("mobilefacenet", "encodes faces"), ("minifasnet-v2", "nobody could judge it")):
        result = run("quantize", name, "--images", images)
        assert isinstance(result.exception, ModelError)
        assert words in str(result.exception)


def test_a_gpu_backend_is_sent_to_build(images: Path, tmp_path: Path) -> None:
    spec = described(tmp_path)
    result = run("quantize", spec.path, "--images", images, "--set", "engine.backend=tensorrt-rtx")
    assert isinstance(result.exception, ConfigError)
    assert "frameloom engines build --precision int8" in str(result.exception)


def test_yolox_nano_keeps_its_decisions(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted((shared / "data" / "coco").rglob("*.jpg"))[:64]:
        (photos / path.name).symlink_to(path)
    result = run("quantize", "yolox-nano", "--images", photos, "--backend", "openvino", "--min-matched", 80, "--json")
    assert result.exit_code == 0, result.exception
    report = json.loads(result.stdout)
    assert report["attempts"][-1]["figure"] >= 80
    assert report["depthwise"] == 30 + 1  # OpenVINO's first
    assert report["layers"] > 60
    assert report["int8_bytes"] < 0.5 * report["float_bytes"]
