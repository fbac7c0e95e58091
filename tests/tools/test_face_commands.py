"""Commands about faces: what is said before the work begins, and in which words."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from engines.errors import FrameloomError, ModelError, ModelNotFound
from engines.zoo import Zoo
from pipeline.arrays import FloatArray
from pipeline.assemble import find_model
from pipeline.assemble_faces import find_encoder
from pipeline.config.find_settings import FacesSettings
from pipeline.errors import ConfigError, GalleryError
from pipeline.gallery.operating_point import OperatingPoint
from pipeline.gallery.records import EmbedderId, Encoding
from pipeline.gallery.store import GalleryFile
from pipeline.gallery.verification import Verification
from tools.cli import app
from tools.evaluate_faces import evaluate_identification
from tools.face_images import FaceModels
from tools.targets import check_target

SMALL = ("--finder", "yunet", "--embedder", "mobilefacenet", "--backend", "onnxruntime")
EMBEDDER = EmbedderId("my-faces", "a" * 64, "cosine", 32)


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def simm(shared: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Pictures of one person; the models are at hand."""
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(shared / "models"))
    return sorted((shared / "data/faces/johns/John_Simm").iterdir())


def frameloom(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)


def views(person: int, count: int, spread: float = 0.3) -> FloatArray:
    """Return unit vectors around a person's own direction."""
    rows = np.random.default_rng(person).normal(size=32)
    rows = rows + spread * np.random.default_rng(100 + person).normal(size=(count, 32))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


def gallery_of(*people: str, embedder: EmbedderId = EMBEDDER) -> Path:
    """Make `gallery.db`; the first person is person 0 of `views`."""
    with GalleryFile.open("gallery.db", embedder, create=True) as file:
        for number, name in enumerate(people):
            file.add(name, [Encoding(row, 0.9, "", "", "") for row in views(number, 3)])
    return Path("gallery.db")


def table(path: str, *rows: Sequence[object]) -> Path:
    with Path(path).open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return Path(path)


# ---- what is written


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("gone/x.csv", r"^--save gone/x\.csv: there is no folder gone, make it first$"),
        (".", r"^--save \.: that is a folder, name a file$"),
        ("file/x.csv", r"^--save file/x\.csv: there is no folder file"),
    ],
)
def test_a_target_that_cannot_be_written_is_refused(desk: Path, path: str, words: str) -> None:
    Path("file").touch()
    with pytest.raises(ConfigError, match=words):
        check_target("--save", Path(path))
    for good in (None, Path("new.csv"), Path("file"), desk / "x"):
        check_target("--save", good)
    assert [each.name for each in desk.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "verify", "--pairs", "t.csv", "--images", ".", "--save", "gone/x"),
        ("eval", "identify", "--protocol", "t.csv", "--images", ".", "--save", "gone/x"),
        ("gallery", "calibrate", "--plot", "gone/x"),
        ("train", "similarity", "--pairs", "t.csv", "--images", ".", "--out", "gone/x"),
    ],
)
def test_commands_look_where_they_will_write_before_anything_else(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="gone/x: there is no folder gone"):
        frameloom(*arguments)


def test_a_plot_that_fails_does_not_cost_the_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = gallery_of("ann", "bob", "eve")
    monkeypatch.setattr("tools.gallery_compare.check_target", lambda option, path: None)
    with pytest.raises((OSError, FrameloomError)):
        frameloom("gallery", "calibrate", "--plot", "gone/x.png")
    with GalleryFile.open(gallery) as file:
        assert file.calibration() is not None


# ---- pictures


def test_a_picture_that_is_not_there_is_not_called_unreadable(simm: list[Path]) -> None:
    Path("text.jpg").write_text("no picture")
    gallery_of(embedder=EmbedderId("mobilefacenet", str(Zoo.load().spec("mobilefacenet").sha256), "cosine", 128))
    for arguments in (("verify", simm[0]), ("identify",)):
        with pytest.raises(ConfigError, match=r"^gone\.jpg does not exist$"):
            frameloom("gallery", *arguments, "gone.jpg", *SMALL)
        with pytest.raises(ConfigError, match=r"^text\.jpg cannot be read as a picture$"):
            frameloom("gallery", *arguments, "text.jpg", *SMALL)


def test_a_wrong_folder_of_pictures_is_said_with_the_first_of_them() -> None:
    pairs = table("p.csv", ("image_a", "image_b", "same"), ("a.jpg", "b.jpg", 1))
    protocol = table("i.csv", ("image", "identity", "role"), ("a.jpg", "ann", "gallery"))
    for command in (("verify", "--pairs", pairs), ("identify", "--protocol", protocol)):
        with pytest.raises(ConfigError, match=r"^wrong/a\.jpg does not exist, nor does any other .*correct --images$"):
            frameloom("eval", *command, "--images", "wrong", "--finder", "no-such-finder")


def test_pairs_of_which_none_can_be_compared_are_said_with_a_reason(simm: list[Path]) -> None:
    Path("text.jpg").write_text("no picture")
    pairs = table("p.csv", ("image_a", "image_b", "same"), (simm[0], "text.jpg", 1))
    words = r"p\.csv: not one pair could be compared, because of pictures like text\.jpg: cannot be read as a picture$"
    with pytest.raises(ConfigError, match=words):
        frameloom("eval", "verify", "--pairs", pairs, "--images", ".", *SMALL)


def test_without_probes_nothing_is_said_of_them(simm: list[Path]) -> None:
    rows = [(simm[0], "simm", "gallery"), (simm[1], "", "probe_unknown")]
    report = evaluate_identification(
        table("i.csv", ("image", "identity", "role"), *rows), Path("/"), FaceModels("yunet", "mobilefacenet")
    )
    assert report["unknown probes"] == 1
    assert "threshold at FPIR 0.01" in report
    assert not [key for key in report if key.startswith(("rank", "TPIR"))]


def test_a_face_that_a_run_would_not_match_is_not_matched(simm: list[Path]) -> None:
    frameloom("gallery", "add", "simm", simm[0], *SMALL)
    portrait = cv2.imread(str(simm[1]))
    assert portrait is not None
    small = cv2.resize(portrait, None, fx=0.16, fy=0.16, interpolation=cv2.INTER_AREA)
    cv2.imwrite("far.png", cv2.copyMakeBorder(small, 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=(90, 90, 90)))
    lines = frameloom("gallery", "identify", "far.png", *SMALL).output.splitlines()
    quality = float(lines[0].rpartition("quality ")[2].rstrip(":"))
    assert quality < FacesSettings().min_quality
    assert lines[1].startswith("  too poor to match: ")
    assert lines[2].startswith("1 face; threshold")


def test_a_head_of_another_encoder_is_said_before_pictures_are_read(simm: list[Path]) -> None:
    Path("wrong.npz").write_bytes(b"nothing")
    with pytest.raises(GalleryError, match=r"wrong\.npz is no similarity head"):
        frameloom("gallery", "verify", "gone.jpg", "gone.jpg", "--head", "wrong.npz", *SMALL)


# ---- models


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--finder", "yolox-nano"),
            "'yolox-nano' is a model for detect, not for face-detect: choose centerface,",
        ),
        (
            ("--finder", "yunet", "--embedder", "centerface"),
            "'centerface' is a model for face-detect, not for face-e",
        ),
    ],
)
def test_a_model_for_something_else_is_refused_by_its_name(
    simm: list[Path], arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        frameloom("gallery", "verify", simm[0], simm[1], *arguments)


def test_a_face_finder_is_no_detector() -> None:
    with pytest.raises(ModelError, match="'yunet' is a model for face-detect, not for detect: choose yolox-nano"):
        find_model("yunet", None, None)


def test_a_copy_of_a_known_file_is_for_what_the_original_is_for(shared: Path, simm: list[Path]) -> None:
    spec = Zoo.load().spec("yunet")
    shutil.copy(spec.path, "finder.onnx")
    assert Zoo.load().spec("finder.onnx", task="face-detect").head == "yunet"
    with pytest.raises(ModelError, match="not for face-encode"):
        Zoo.load().spec("finder.onnx", task="face-encode")


@pytest.mark.parametrize(
    ("name", "task", "meant"),
    [("x.onnx", "face-points", ""), ("yolo", "face-detect", ""), ("centreface", "face-detect", "centerface")],
)
def test_only_models_for_the_task_are_suggested(name: str, task: str, meant: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        Zoo.load().spec(name, task=task)
    assert ("did you mean" in str(caught.value)) == bool(meant)
    assert meant in str(caught.value)


def test_an_encoder_that_is_not_known_is_asked_for(simm: list[Path]) -> None:
    gallery_of("ann", "bob")
    words = r"gallery\.db was made with the encoder my-faces \(sha256 aaaaaaaaaaaa\), which is not .*by --embedder$"
    with pytest.raises(GalleryError, match=words):
        find_encoder(FacesSettings(gallery=Path("gallery.db")))
    pairs = table("p.csv", ("image_a", "image_b", "same"), (simm[0], simm[1], 1))
    with pytest.raises(GalleryError, match=words):
        frameloom("gallery", "calibrate", "--pairs", pairs, "--images", "/")


def test_a_gallerys_encoder_is_known_by_its_file_whatever_it_was_called(simm: list[Path]) -> None:
    sha256 = str(Zoo.load().spec("mobilefacenet").sha256)
    gallery_of(embedder=EmbedderId("renamed-since", sha256, "cosine", 128))
    assert find_encoder(FacesSettings(gallery=Path("gallery.db"))).name == "mobilefacenet"


def test_what_an_encoder_compares_by_is_told_and_no_head(shared: Path) -> None:
    lines = frameloom("models", "info", "mobilefacenet").output.splitlines()
    facts = {line[:15].strip(): line[16:] for line in lines}
    assert facts["template"].startswith("arcface: (38.2946, 51.6963), (73.5318, 51.5014), ")
    assert facts["compared by"] == "cosine"
    assert facts["threshold 1:1"] == "0.27"
    assert facts["threshold 1:N"] == "0.417 among 100 people, +0.076 for ten times as many"
    assert "head" not in facts
    assert "head" in frameloom("models", "info", "yunet").output


# ---- unknown people


def log_of(*people: int) -> Path:
    """Write an event log with three faces of each person."""
    lines: list[str] = []
    for person in people:
        for row in views(person, 3).tolist():
            face = {"box": [0, 0, 9, 9], "name": None, "track": person, "quality": 0.5, "encoding": row}
            frame = {"type": "frame", "source": "door", "frame": len(lines), "faces": [face | {"embedder": "a" * 64}]}
            lines.append(json.dumps(frame))
    Path("e.jsonl").write_text("\n".join(lines) + "\n")
    return Path("e.jsonl")


def unknowns(*enrol: str) -> Result:
    options = [part for each in enrol for part in ("--enrol", each)]
    return frameloom("gallery", "unknowns", "e.jsonl", *options)


def counts() -> dict[str, int]:
    with GalleryFile.open("gallery.db", read_only=True) as file:
        return {person.name: person.count for person in file.people()}


def test_unknown_people_are_enrolled_once() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    gallery_of("ann")
    log_of(1, 2)
    assert unknowns("1=bob", "2=eve").output.splitlines()[-2:] == [
        "added    bob: 3 faces of person 1",
        "added    eve: 3 faces of person 2",
    ]
    again = unknowns("1= bob ")
    assert (again.exit_code, again.output.splitlines()[-1]) == (1, "refused  person 1: already there, as bob")
    second = unknowns("1=robert")
    assert (second.exit_code, second.output.splitlines()[-1]) == (1, "refused  person 1: looks like bob (1.00)")
    assert counts() == {"ann": 3, "bob": 3, "eve": 3}


def test_who_has_become_known_since_is_refused_and_the_others_are_enrolled() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    gallery_of("ann")
    log_of(0, 1)
    done = unknowns("1=somebody", "2=bob")
    assert done.exit_code == 0
    assert [line[:38] for line in done.output.splitlines()[-2:]] == [
        "refused  person 1: looks like ann (1.0",
        "added    bob: 3 faces of person 2",
    ]
    assert counts() == {"ann": 3, "bob": 3}


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        (("1=bob", "2=a\nb"), "has the control character"),
        (("1=bob", "3=eve"), "--enrol '3=eve': there are 2 unknown people"),
        (("1=bob", "1=eve"), "--enrol '1=eve': person 1 is enrolled already by another --enrol"),
    ],
)
def test_one_wrong_choice_and_nobody_is_enrolled(choices: tuple[str, ...], words: str) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    gallery_of("ann")
    log_of(1, 2)
    with pytest.raises((ConfigError, GalleryError), match=words):
        unknowns(*choices)
    assert counts() == {"ann": 3}


# ---- one of a kind


def test_one_is_counted_as_one() -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    gallery_of("ann")
    log_of(1)
    with Path("e.jsonl").open("a") as file:
        file.write("{\n")
    lines = unknowns().output.splitlines()
    assert lines[-2] == "1 unknown person, 0 faces belong to none; 3 faces in the logs"
    assert lines[-1] == "1 damaged line or face was left out"
    with pytest.raises(ConfigError, match=r"there is 1 unknown person$"):
        unknowns("2=eve")
    with pytest.raises(GalleryError, match="the gallery has one person: a threshold needs two at least"):
        frameloom("gallery", "calibrate")
    with pytest.raises(GalleryError, match="the only pair is not of two people"):
        Verification(np.array([0.5], np.float32), np.array([True]))
    point = OperatingPoint(0.5, 0.1, 0.0, 0.9, 0, 5, people=1, searched=1)
    assert "searches for a stranger among 1 person " in point.sentence
