"""A user's own models: an entry file beside a model file, and a folder of them that is part of the zoo."""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines import own_models
from engines.errors import ChecksumMismatch, ModelError, ModelNotFound
from engines.model_files import sha256_of
from engines.own_models import own_model_folder
from engines.spec import ARCFACE_TEMPLATE, EncoderSpec, InputSpec
from engines.zoo import Zoo
from tests.engines.package_site import MODEL, OTHER_MODEL, entry, sha256, zoo_of

ENCODER = {"template": "arcface", "metric": "cosine", "verify_threshold": 0.3, "identify_threshold": 0.5}
FIELDS: dict[str, Any] = {
    "name": "my-faces",
    "task": "face-encode",
    "licence": "your own",
    "commercial_use": None,
    "input": InputSpec(64, 64, mean=(127.5,) * 3, std=(128.0,) * 3, fit="stretch"),
    "encoder": EncoderSpec(ARCFACE_TEMPLATE, "cosine", 0.31, 0.52),
    "accuracy": "AUC 0.9",
    "precision": "fp32",
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FRAMELOOM_MIRROR", raising=False)
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    return tmp_path / "cache" / "own-models"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "trained.onnx"
    path.write_bytes(MODEL)
    return path


def write(folder: Path, stem: str, data: bytes | None = MODEL, **fields: Any) -> Path:
    """Put an entry and, unless it is None, its model file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.yaml"
    path.write_text(yaml.safe_dump({**entry(stem, data or MODEL), **fields}))
    if data is not None:
        (folder / f"{stem}.onnx").write_bytes(data)
    return path


# ---- beside a file


def test_a_file_is_described_by_the_entry_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "mine", task="face-encode", encoder=ENCODER, input={"height": 32, "width": 64})
    spec = Zoo.load().spec(tmp_path / "mine.onnx", task="face-encode")
    assert (spec.name, spec.path, spec.task, spec.licence) == ("mine", tmp_path / "mine.onnx", "face-encode", "MIT")
    assert spec.encoder == EncoderSpec(ARCFACE_TEMPLATE, "cosine", 0.3, 0.5)
    assert (spec.input.height, spec.input.width, spec.sha256) == (32, 64, sha256(MODEL))


def test_a_file_that_is_not_the_described_one_is_refused_with_both_hashes(tmp_path: Path) -> None:
    write(tmp_path, "mine")
    (tmp_path / "mine.onnx").write_bytes(OTHER_MODEL)
    with pytest.raises(ChecksumMismatch) as caught:
        Zoo.load().spec(tmp_path / "mine.onnx")
    for words in (sha256(MODEL), sha256(OTHER_MODEL), "mine.yaml", str(tmp_path / "mine.onnx")):
        assert words in str(caught.value)
    assert f"`frameloom models inspect {tmp_path / 'mine.onnx'} --save-spec --replace`" in str(caught.value)


def test_the_entry_beside_a_file_counts_for_more_than_the_zoos(tmp_path: Path) -> None:
    zoo = zoo_of(tmp_path, entry("tiny"))
    described = write(tmp_path, "mine", licence="something else")
    assert (zoo.spec(tmp_path / "mine.onnx").name, zoo.spec(tmp_path / "mine.onnx").licence) == (
        "mine",
        "something else",
    )
    described.write_text("accepts: [")
    with pytest.raises(ModelError, match=r"mine\.yaml is not YAML"):
        zoo.spec(tmp_path / "mine.onnx")
    described.unlink()
    assert zoo.spec(tmp_path / "mine.onnx").name == "tiny"


def test_an_entry_is_written_beside_a_file(tmp_path: Path, model_file: Path) -> None:
    made = Zoo.load().register(model_file, {**FIELDS, "name": "trained"})
    assert own_models.describe(model_file, made) == tmp_path / "trained.yaml"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "trained.onnx", "trained.yaml"]
    spec = Zoo.load().spec(model_file, task="face-encode")
    assert (spec.name, spec.path, spec.encoder) == ("trained", model_file, FIELDS["encoder"])
    (tmp_path / "gone").write_text("")
    with pytest.raises(ModelError, match=r"gone/trained\.yaml cannot be written: File exists"):
        own_models.describe(tmp_path / "gone" / "trained.onnx", made)


def test_an_entry_for_another_task_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "mine", task="face-detect")
    with pytest.raises(
        ModelError, match=r"'mine' is a model for face-detect, not for face-encode: choose dlib-resnet, "
    ):
        Zoo.load().spec(tmp_path / "mine.onnx", task="face-encode")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accepts: [", "mine.yaml is not YAML"),
        ("- accepts", "mine.yaml holds list, not the entry of one model"),
        ("", "mine.yaml holds NoneType"),
        ("accepts: []\n", r"mine.yaml: name: Field required$"),
        (yaml.safe_dump({**entry("mine"), "colour": "bgr"}), "colour: Extra inputs are not permitted .it is 'bgr'"),
        (yaml.safe_dump({**entry("mine"), "encoder": {**ENCODER, "metric": "l1"}}), r"encoder.metric: .*it is 'l1'"),
    ],
)
def test_a_damaged_entry_beside_a_file_is_an_error_that_names_the_place(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.onnx").write_bytes(MODEL)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ModelError, match=words):
        Zoo.load().spec(tmp_path / "mine.onnx")


def test_another_yaml_file_of_the_same_name_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "mine.onnx").write_bytes(MODEL)
    (tmp_path / "mine.yaml").write_text("nc: 80\ndepth_multiple: 0.33\n")
    assert Zoo.load().spec(tmp_path / "mine.onnx", task="segment").task == "segment"
    assert "mine.yaml is ignored" in caplog.text


# ---- the user's folder


def test_a_registered_model_is_found_by_its_name_and_by_every_new_zoo(model_file: Path, own_folder: Path) -> None:
    zoo = Zoo.load()
    made = zoo.register(model_file, FIELDS)
    for each in (zoo, Zoo.load()):
        assert each.entry("my-faces") == made
        assert each.is_own("my-faces")
        assert not each.is_own("mobilefacenet")
        spec = each.spec("my-faces")
        assert (spec.path, spec.sha256) == (own_folder / "my-faces.onnx", sha256(MODEL))
        assert (spec.input, spec.encoder, spec.precision) == (FIELDS["input"], FIELDS["encoder"], "fp32")
        assert each.locate("my-faces") == each.fetch("my-faces") == each.cached_path("my-faces") == spec.path
    assert spec.path.read_bytes() == model_file.read_bytes() == MODEL
    assert sorted(path.name for path in own_folder.iterdir()) == ["my-faces.onnx", "my-faces.yaml"]


def test_a_registered_pair_can_be_carried_elsewhere(model_file: Path, own_folder: Path, tmp_path: Path) -> None:
    Zoo.load().register(model_file, FIELDS)
    elsewhere = own_folder.rename(tmp_path / "elsewhere")
    zoo = Zoo.load()
    assert "my-faces" not in zoo
    assert zoo.spec(elsewhere / "my-faces.onnx").encoder == FIELDS["encoder"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "mobilefacenet"}, "cannot be called 'mobilefacenet': a model of that name comes with Frameloom"),
        ({"name": "My Faces"}, "cannot be called 'My Faces': use lower-case"),
        ({"name": "../up"}, "use lower-case"),
        ({"licence": None}, "licence: Input should be a valid string"),
        ({"colour": "rgb"}, "colour: Extra inputs"),
    ],
)
def test_what_makes_no_entry_is_not_registered(
    model_file: Path, own_folder: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        Zoo.load().register(model_file, {**FIELDS, **change})
    assert not own_folder.exists()


def test_an_own_model_is_only_overwritten_on_request(model_file: Path) -> None:
    Zoo.load().register(model_file, FIELDS)
    model_file.write_bytes(OTHER_MODEL)
    with pytest.raises(ModelError, match=r"an own model called 'my-faces' already .*say --replace"):
        Zoo.load().register(model_file, FIELDS)
    assert Zoo.load().spec("my-faces").sha256 == sha256(MODEL)
    Zoo.load().register(model_file, FIELDS, replace=True)
    assert Zoo.load().spec("my-faces").sha256 == sha256(OTHER_MODEL)


def test_a_folder_that_cannot_be_made_is_said(model_file: Path, own_folder: Path) -> None:
    own_folder.parent.mkdir()
    own_folder.write_text("a file")
    with pytest.raises(ModelError, match=r"'my-faces' cannot be kept in .*own-models: File exists"):
        Zoo.load().register(model_file, FIELDS)


def test_a_registration_that_fails_half_way_leaves_no_entry_beside_another_file(
    model_file: Path, own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Zoo.load().register(model_file, FIELDS)
    (own_folder / "my-faces.onnx").unlink()
    (own_folder / "my-faces.onnx").mkdir()  # no file can be renamed to this
    with pytest.raises(ModelError, match="'my-faces' cannot be kept in"):
        Zoo.load().register(model_file, FIELDS, replace=True)
    assert [path.name for path in own_folder.iterdir()] == ["my-faces.onnx"]


@pytest.mark.parametrize(
    ("stem", "fields", "words"),
    [
        ("bad", {"licence": 3}, r"bad.yaml: licence: .*valid string .it is 3."),
        ("bad", {"file": "other.onnx"}, r"describes 'other.onnx': the two must have one stem, such as bad.onnx"),
        ("bad", {"file": "bad.yaml"}, "the two must have one stem"),
        ("bad", {"name": "yunet"}, r"bad.yaml is called 'yunet' as is a model that comes with Frameloom"),
        ("second", {"name": "good"}, r"second.yaml is called 'good' as is .*good.yaml"),
    ],
)
def test_an_entry_that_will_not_do_is_skipped_with_a_warning_and_the_others_stay(
    own_folder: Path, caplog: pytest.LogCaptureFixture, stem: str, fields: dict[str, Any], words: str
) -> None:
    write(own_folder, stem, OTHER_MODEL, **fields)
    write(own_folder, "good")
    (own_folder / "torn.yaml").write_bytes(b"\xff\xfe\x00 name: [")
    with caplog.at_level(logging.WARNING):
        zoo = Zoo.load()
    assert [name for name in zoo.names() if zoo.is_own(name)] == ["good"]
    assert zoo.spec("good").sha256 == sha256(MODEL)
    assert zoo.entry("yunet").licence == "MIT"
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert any(re.search(words, line) for line in lines), lines
    assert any("torn.yaml is not YAML" in line for line in lines)


def test_an_own_file_that_was_changed_is_refused_and_one_that_is_gone_is_nowhere(own_folder: Path) -> None:
    write(own_folder, "changed")
    (own_folder / "changed.onnx").write_bytes(OTHER_MODEL)
    write(own_folder, "gone", None)
    zoo = Zoo.load()
    for call in (zoo.spec, zoo.locate, zoo.fetch):
        with pytest.raises(ChecksumMismatch, match=r"changed.onnx is not the file that changed.yaml beside it"):
            call("changed")
    assert zoo.locate("gone") is None
    with pytest.raises(ModelNotFound, match=r"gone .* is nowhere to be had"):
        zoo.spec("gone")


def test_without_the_folder_no_entry_file_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def parse(file: Path) -> None:
        raise AssertionError(file)

    monkeypatch.setattr(own_models, "_parse", parse)
    assert len(Zoo.load()) > 10


def test_the_folder_is_data_of_the_user_and_not_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FRAMELOOM_CACHE")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert own_model_folder() == tmp_path / "data" / "frameloom" / "models"


def test_a_reader_never_finds_an_entry_beside_another_file_than_its_own(model_file: Path, own_folder: Path) -> None:
    """While another process registers one file after another under one name."""
    writer = (
        "import sys; from pathlib import Path; from engines.zoo import Zoo\n"
        "fields = {'name': 'my-faces', 'task': 'detect', 'licence': 'own', 'commercial_use': None}\n"
        "for turn in range(60):\n"
        "    Path(sys.argv[1]).write_bytes(b'weights %d' % turn)\n"
        "    Zoo.load().register(Path(sys.argv[1]), fields, replace=True)"
    )
    described, file = own_folder / "my-faces.yaml", own_folder / "my-faces.onnx"
    compared = set()
    process = subprocess.Popen([sys.executable, "-c", writer, str(model_file)])
    while process.poll() is None:
        with contextlib.suppress(FileNotFoundError, ModelError):  # it is being replaced
            before, sha256_now, after = described.read_text(), sha256_of(file), described.read_text()
            if before == after:
                assert sha256_now in before
                compared.add(sha256_now)
    assert process.returncode == 0
    assert len(compared) > 5
