"""Which stages of faces come out of which settings, and what is refused before anything runs."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.errors import ModelError
from engines.spec import ARCFACE_TEMPLATE
from engines.zoo import Zoo
from pipeline.assemble_faces import face_stages, find_encoder
from pipeline.capture.source import SourceInfo
from pipeline.config.settings import Settings
from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery.records import EmbedderId
from pipeline.gallery.store import GalleryFile
from pipeline.infer.face_stages import FindFaces, RecogniseFaces
from pipeline.stage import Stage
from tests.pipeline.face_models import square_finder
from tests.pipeline.faces import patterns

VIDEO = SourceInfo("video", "video.mp4", width=640, height=480)
CAMERA = SourceInfo("camera", "0", live=True, width=1280, height=720)
SMALL = {"finder": "yunet", "embedder": "mobilefacenet"}
LOG = {"path": "e.jsonl", "encodings": True}


@pytest.fixture(autouse=True)
def at_hand(shared: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """A gallery of MobileFaceNet's with nobody in it."""
    sha256 = Zoo.load().spec("mobilefacenet").sha256
    assert sha256 is not None
    with GalleryFile.open(tmp_path / "g.db", EmbedderId("mobilefacenet", sha256, "cosine", 128), create=True):
        return tmp_path / "g.db"


def settings_of(faces: dict[str, Any], **others: Any) -> Settings:
    return Settings.model_validate({"faces": faces, **others})


def stages_of(faces: dict[str, Any], *sources: SourceInfo, **others: Any) -> list[Stage]:
    return face_stages(settings_of(faces, **others), sources or (VIDEO,))


def test_without_a_gallery_nothing_looks_for_faces() -> None:
    assert stages_of({}) == []
    assert stages_of({"finder": "no such finder"}) == []


def test_a_gallery_switches_faces_on_and_off_is_off(gallery: Path) -> None:
    faces = {"finder": "yunet", "gallery": gallery}
    assert [stage.name for stage in stages_of(faces)] == ["find_faces", "recognise"]
    assert stages_of(faces | {"enabled": False}) == []


def test_faces_alone_are_found_and_not_encoded() -> None:
    assert [stage.name for stage in stages_of(SMALL | {"enabled": True})] == ["find_faces"]
    log = {"events": {"path": "e.jsonl"}}
    assert [stage.name for stage in stages_of(SMALL | {"enabled": True}, sinks=log)] == ["find_faces"]


def test_encodings_that_are_asked_for_are_made_without_a_gallery() -> None:
    finder, recogniser = stages_of(SMALL | {"enabled": True}, sinks={"events": LOG})
    assert isinstance(finder, FindFaces)
    assert isinstance(recogniser, RecogniseFaces)
    recogniser.open()
    try:
        described = recogniser.describe()
    finally:
        recogniser.close()
    assert described is not None
    assert described.startswith("recognise: mobilefacenet 112x112 on ")
    assert "people" not in described


def test_checks_stand_between_finding_and_recognising(shared: Path, gallery: Path) -> None:
    points = shared / "models" / "face" / "pfld_68.onnx"
    faces = {"finder": "yunet", "gallery": gallery, "liveness": True, "points": str(points)}
    assert [stage.name for stage in stages_of(faces)] == ["find_faces", "liveness", "face_points", "recognise"]


def test_the_gallery_says_which_encoder(gallery: Path) -> None:
    assert find_encoder(settings_of({"gallery": gallery}).faces).name == "mobilefacenet"


def test_an_encoder_is_found_by_its_file_too(gallery: Path, shared: Path) -> None:
    path = shared / "models" / "face" / "MobileFaceNet.onnx"
    faces = settings_of({"gallery": gallery, "embedder": str(path)}).faces
    assert find_encoder(faces).name == "mobilefacenet"


def test_the_finder_is_compiled_for_the_sizes_of_all_sources_before_they_begin(tmp_path: Path) -> None:
    faces = {"enabled": True, "finder": str(square_finder(tmp_path).path), "short_side": 96}
    (stage,) = stages_of(faces, VIDEO, CAMERA, SourceInfo("unknown", "rtsp://camera/", live=True))
    stage.open()
    stage.close()
    assert stage.describe() is not None
    sizes = {each for each in ("128x96", "192x96") if each in str(stage.describe())}
    assert sizes == {"128x96", "192x96"}


@pytest.mark.parametrize(("policy", "bypass"), [("drop", False), ("bypass", True)])
def test_the_stages_let_frames_pass_where_detection_does(gallery: Path, policy: str, bypass: bool) -> None:
    stages = stages_of({"finder": "yunet", "gallery": gallery}, detect={"on_overload": policy})
    assert [stage.bypass for stage in stages if isinstance(stage, FindFaces | RecogniseFaces)] == [bypass] * 2


@pytest.mark.parametrize(("sources", "requests"), [((CAMERA,), 1), ((CAMERA, CAMERA), 2)])
def test_a_camera_has_one_request_in_flight(tmp_path: Path, sources: tuple[SourceInfo, ...], requests: int) -> None:
    faces = {"enabled": True, "finder": str(square_finder(tmp_path).path), "short_side": 96}
    (stage,) = stages_of(faces, *sources, engine={"threads": 2})
    assert isinstance(stage, FindFaces)
    stage.open()
    stage.close()
    assert stage.in_flight == requests


def other_encoder(folder: Path) -> Path:
    """Write an encoder with the entry that describes it."""
    path = patterns.encoder(folder).path
    entry = {
        "name": "patterns", "task": "face-encode", "file": path.name, "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "licence": "MIT",
        "encoder": {"template": [list(point) for point in ARCFACE_TEMPLATE], "metric": "cosine",
                    "verify_threshold": 0.6, "identify_threshold": 0.7},
    }  # fmt: skip
    path.with_suffix(".yaml").write_text(yaml.safe_dump(entry))
    return path


def test_an_encoder_that_is_not_the_gallerys_is_refused_with_both_names(gallery: Path, tmp_path: Path) -> None:
    path = other_encoder(tmp_path)
    with pytest.raises(GalleryError, match=r"g\.db holds encodings of mobilefacenet .* with those of patterns"):
        stages_of({"finder": "yunet", "gallery": gallery, "embedder": str(path)})


@pytest.mark.parametrize(
    ("faces", "others", "kind", "message"),
    [
        (
            {"inside_persons": True},
            {"detect": {"enabled": False}},
            ConfigError,
            "faces.inside_persons: persons are found",
        ),
        ({"finder": "yunett"}, {}, ModelError, "yunet"),
        ({"finder": "mobilefacenet"}, {}, ModelError, "'mobilefacenet' is a model for face-encode"),
        ({"gallery": "gone.db"}, {}, GalleryError, "there is no gallery gone.db"),
        ({"points": "gone.onnx"}, {}, ModelError, "gone.onnx"),
        ({"embedder": "mobilefacenett"}, {"sinks": {"events": LOG}}, ModelError, "mobilefacenet"),
    ],
)
def test_what_cannot_be_used_is_refused_before_a_stage_opens(
    faces: dict[str, Any], others: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        stages_of(SMALL | {"enabled": True} | faces, **others)
