"""The list of models itself, finding files without a network, and describing them."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import requests

from engines.errors import ChecksumMismatch, ModelError, ModelNotFound
from engines.model_files import identity_of, model_cache, sha256_of
from engines.package_member import IndexSettings
from engines.zoo import Zoo
from engines.zoo_entry import Address, PackageMember
from tests.conftest import SHARED
from tests.engines.own_files import detector, with_weights_beside
from tests.engines.package_site import MODEL, companion, entry, sha256, zoo_of

REAL_MIRROR = SHARED / "models"
ZOO = Zoo.load()
NETWORK = companion("tiny.cfg", b"[net]")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FRAMELOOM_MIRROR", raising=False)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mirror"
    (folder / "deep" / "down").mkdir(parents=True)
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(folder))
    return folder


# ---- the list


@pytest.mark.parametrize("name", ZOO.names())
def test_every_entry_says_what_it_is_and_where_it_is_from(name: str) -> None:
    listed = ZOO.entry(name)
    assert listed.licence
    assert listed.commercial_use is True or listed.note, "a doubtful licence needs a note"
    assert listed.sources or listed.shipped_path or "mirror" in listed.note
    assert len(listed.labels) in (0, 2, 21, 80)
    for source in listed.sources:
        if isinstance(source, PackageMember):
            assert source.member.endswith((".onnx", ".dat", ".weights", ".h5", ".tflite", ".mp4"))
        else:
            assert isinstance(source, Address)
            assert source.url.startswith("https://")
            assert any(len(part) == 40 for part in source.url.split("/")), "pinned to a commit"


def test_encoders_ask_for_fp32_so_that_galleries_mean_the_same_everywhere() -> None:
    assert {each.precision for each in ZOO if each.task == "face-encode"} == {"fp32"}


def test_both_exports_of_the_default_detector_are_accepted() -> None:
    assert len(ZOO.entry("yolox-nano").accepts) == 2
    assert ZOO.entry("yolox-nano").labels[0] == "person"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": "bgr"}, "models.0.colour: Extra inputs are not permitted"),
        ({"input": {"color": "bgr"}}, "models.0.input.color"),
        ({"accepts": []}, "models.0.accepts"),
        ({"accepts": [{"bytes": 3}]}, "models.0.accepts.0.sha256: Field required"),
        ({"accepts": [{"sha256": "A" * 64, "bytes": 3}]}, "models.0.accepts.0.sha256"),
        ({"file": "../tiny.onnx"}, "models.0.file"),
        ({"name": "tiny.onnx"}, "models.0.name"),
        ({"sources": [{"package": "p", "archive": "wheel", "member": "m"}]}, "models.0.sources.0.*version"),
        ({"sources": [{"url": "file:///model"}]}, "models.0.sources.0"),
        ({"companions": [{**NETWORK, "sha256": "0"}]}, "models.0.companions.0.sha256"),
        ({"companions": [{**NETWORK, "file": "other.cfg"}]}, "other.cfg should be called tiny with another suffix"),
        ({"companions": [{**NETWORK, "file": "tiny.onnx"}]}, "tiny.onnx should be called tiny with another suffix"),
        (
            {"companions": [NETWORK], "sources": [{"url": "https://there/tiny.onnx"}]},
            "tiny.cfg cannot come from a url: companions come out of packages",
        ),
    ],
)
def test_a_mistake_in_a_zoo_file_is_named_by_its_place(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        zoo_of(tmp_path, {**entry(), **change})


@pytest.mark.parametrize("change", [{}, {"name": "other"}, {"name": "other", "file": "other.onnx"}])
def test_a_name_a_file_or_a_hash_used_twice_is_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="used twice"):
        zoo_of(tmp_path, entry(), {**entry(), **change})


def test_a_companion_counts_as_a_file_of_the_zoo(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"used twice: tiny\.cfg"):
        zoo_of(tmp_path, entry(companions=[NETWORK]), entry("tiny", file="tiny.cfg") | {"name": "other"})


@pytest.mark.parametrize("text", ["models: [", "models: {}", "- 1", ""])
def test_what_is_not_a_zoo_file_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "zoo.yaml").write_text(text)
    with pytest.raises(ModelError, match=str(tmp_path / "zoo.yaml")):
        Zoo.load(tmp_path / "zoo.yaml")


def test_a_zoo_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="No such file"):
        Zoo.load(tmp_path / "zoo.yaml")


# ---- finding files


def test_what_is_nowhere_is_not_located(mirror: Path) -> None:
    assert ZOO.locate("yolox-nano") is None


def test_a_mirrored_file_is_known_by_its_hash_whatever_it_is_called(tmp_path: Path, mirror: Path) -> None:
    (mirror / "tiny.onnx").write_bytes(MODEL[::-1])  # the right name and size, but another file
    wanted = mirror / "deep" / "down" / "something.bin"
    wanted.write_bytes(MODEL)
    zoo = zoo_of(tmp_path, entry())
    assert zoo.locate("tiny") == zoo.fetch("tiny") == wanted
    assert zoo.spec("tiny").path == wanted


def test_a_mirror_is_only_read(tmp_path: Path, mirror: Path) -> None:
    (mirror / "tiny.onnx").write_bytes(MODEL[::-1])
    (mirror / "right.onnx").write_bytes(MODEL)
    before = {path: path.stat().st_mtime_ns for path in mirror.rglob("*")}
    zoo_of(tmp_path, entry()).fetch("tiny")
    assert {path: path.stat().st_mtime_ns for path in mirror.rglob("*")} == before
    assert not model_cache().exists()


def test_several_mirrors_are_searched_and_a_missing_one_is_skipped_with_a_warning(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (mirror / "x").write_bytes(MODEL)
    (mirror / "broken").symlink_to(tmp_path / "nothing")
    monkeypatch.setenv("FRAMELOOM_MIRROR", os.pathsep.join([str(tmp_path / "absent"), "", str(mirror)]))
    with caplog.at_level(logging.WARNING):
        assert zoo_of(tmp_path, entry()).locate("tiny") == mirror / "x"
    assert str(tmp_path / "absent") in caplog.text


def test_the_cache_comes_before_the_mirrors(tmp_path: Path, mirror: Path) -> None:
    (mirror / "x").write_bytes(MODEL)
    model_cache().mkdir(parents=True)
    (cached := model_cache() / "tiny.onnx").write_bytes(MODEL)
    assert zoo_of(tmp_path, entry()).locate("tiny") == cached


def test_a_wrong_file_in_the_cache_is_refused_with_both_hashes_and_left_there(tmp_path: Path, mirror: Path) -> None:
    (mirror / "x").write_bytes(MODEL)
    model_cache().mkdir(parents=True)
    (cached := model_cache() / "tiny.onnx").write_bytes(b"something else")
    zoo = zoo_of(tmp_path, entry())
    for call in (zoo.locate, zoo.fetch, zoo.spec):
        with pytest.raises(ChecksumMismatch) as caught:
            call("tiny")
        for words in (str(cached), sha256(b"something else"), sha256(MODEL), "move or delete that file"):
            assert words in str(caught.value)
    assert cached.read_bytes() == b"something else"


# ---- files that belong together


@pytest.fixture
def pair(tmp_path: Path) -> Zoo:
    return zoo_of(tmp_path, entry(file="tiny.weights", companions=[NETWORK]))


def test_a_model_without_its_companion_is_not_at_hand(pair: Zoo, mirror: Path) -> None:
    (mirror / "tiny.weights").write_bytes(MODEL)
    assert pair.locate("tiny") is None
    (mirror / "tiny.cfg").write_bytes(b"[other]")
    assert pair.locate("tiny") is None
    with pytest.raises(ModelNotFound, match=f"sha256 {sha256(MODEL)} and one with sha256 {sha256(b'[net]')} into"):
        pair.fetch("tiny")


def test_both_files_are_used_where_they_lie_together_in_a_mirror(pair: Zoo, mirror: Path) -> None:
    for suffix, content in ((".weights", MODEL), (".cfg", b"[net]")):
        (mirror / "deep" / f"called-otherwise{suffix}").write_bytes(content)
    assert pair.locate("tiny") == pair.fetch("tiny") == mirror / "deep" / "called-otherwise.weights"
    assert not model_cache().exists()


def test_files_that_are_scattered_over_mirrors_are_put_together_in_the_cache(pair: Zoo, mirror: Path) -> None:
    (mirror / "deep" / "x").write_bytes(MODEL)
    (mirror / "deep" / "down" / "y").write_bytes(b"[net]")
    assert pair.locate("tiny") is None
    assert pair.fetch("tiny") == model_cache() / "tiny.weights"
    assert sorted(path.name for path in model_cache().iterdir()) == ["tiny.cfg", "tiny.weights"]
    assert pair.locate("tiny") == model_cache() / "tiny.weights"


def test_a_wrong_companion_in_the_cache_is_refused_and_left_there(pair: Zoo) -> None:
    model_cache().mkdir(parents=True)
    (model_cache() / "tiny.weights").write_bytes(MODEL)
    (model_cache() / "tiny.cfg").write_bytes(b"[other]")
    for call in (pair.locate, pair.fetch, pair.spec):
        with pytest.raises(ChecksumMismatch, match=f"tiny.cfg is not tiny: .*{sha256(b'[other]')}.*{sha256(b'[net]')}"):
            call("tiny")
    assert (model_cache() / "tiny.cfg").read_bytes() == b"[other]"


def test_weights_are_another_model_with_another_network(tmp_path: Path) -> None:
    (weights := tmp_path / "own.weights").write_bytes(b"weights")
    seen = set()
    for text in (b"[net]", b"[net]\nwidth = 32"):
        (network := tmp_path / "own.cfg").write_bytes(text)
        by_weights, by_network = ZOO.spec(weights), ZOO.spec(network)
        assert by_weights == by_network
        assert by_weights.path == weights
        seen.add(by_weights.sha256)
    assert len(seen) == 2
    assert identity_of(weights) in seen


def test_a_model_with_weights_beside_it_is_known_by_both(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path / "own.onnx")
    before, plain = ZOO.spec(path).sha256, sha256_of(path)
    assert before == identity_of(path) != plain
    (weights := tmp_path / "weights.bin").write_bytes(weights.read_bytes()[:-1] + b"x")
    assert sha256_of(path) == plain
    assert ZOO.spec(path).sha256 == identity_of(path) != before
    weights.unlink()
    assert identity_of(path) == plain  # whoever loads it says what is missing


@pytest.mark.parametrize("content", [b"", b"no model, and yet \n\x08location"])
def test_what_is_no_model_is_known_by_its_file(content: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "own.onnx").write_bytes(content)
    assert identity_of(path) == sha256_of(path)


def test_a_model_with_its_weights_inside_is_known_by_its_file(tmp_path: Path) -> None:
    path = detector(tmp_path / "own.onnx")
    assert identity_of(path) == sha256_of(path)


def test_weights_without_their_network_are_no_model(tmp_path: Path) -> None:
    (weights := tmp_path / "own.weights").write_bytes(b"weights")
    with pytest.raises(ModelNotFound, match=r"needs its network beside it: own\.cfg is not there"):
        ZOO.spec(weights)


# ---- names and paths


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("yolox_nano", "no model is called 'yolox_nano' .did you mean yolox-nano"),
        ("demo", "did you mean demo-bikes or demo-carphone or demo-bigbuckbunny"),
        ("zzz", "no model is called 'zzz'; `frameloom models list` shows all"),
        ("yolox-nano.onnx", "there is no model file yolox-nano.onnx .did you mean yolox-nano"),
        ("some/where/model.onnx", "there is no model file some/where/model.onnx$"),
        (".", "is a folder"),
    ],
)
def test_what_is_neither_a_name_nor_a_file_is_said_with_the_nearest_names(
    name: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # `make demo` leaves a folder of one of these names
    with pytest.raises(ModelNotFound, match=words):
        ZOO.spec(name)


def test_an_unknown_name_is_an_error_for_every_question() -> None:
    for call in (ZOO.entry, ZOO.locate, ZOO.fetch, ZOO.cached_path):
        with pytest.raises(ModelNotFound, match="did you mean centerface"):
            call("centreface")


def test_a_users_own_file_is_described_by_defaults(tmp_path: Path) -> None:
    (own := tmp_path / "my.detector.onnx").write_bytes(b"own")
    spec = ZOO.spec(own, task="segment")
    assert (spec.name, spec.path, spec.task, spec.head, spec.labels) == ("my.detector", own, "segment", None, ())
    assert (spec.sha256, spec.commercial_use) == (sha256(b"own"), None)


def test_a_users_copy_of_a_known_file_is_described_as_in_the_zoo(tmp_path: Path) -> None:
    (copy := tmp_path / "renamed.onnx").write_bytes(MODEL)
    zoo = zoo_of(tmp_path, entry(head="yolox", labels=["cat"], input={"height": 32, "width": 64, "colour": "bgr"}))
    spec = zoo.spec(str(copy))
    assert (spec.name, spec.path, spec.head, spec.labels) == ("tiny", copy, "yolox", ("cat",))
    assert (spec.input.height, spec.input.width, spec.input.colour, spec.licence) == (32, 64, "bgr", "MIT")


def test_a_demo_clip_is_not_a_model() -> None:
    with pytest.raises(ModelError, match="a video clip, not a model"):
        ZOO.spec("demo-bikes")


# ---- the real thing


@pytest.mark.skipif(not REAL_MIRROR.is_dir(), reason="the project's shared folder of models is not on this machine")
@pytest.mark.parametrize(
    "name",
    ["yolox-nano", "deimv2-femto", "yunet", "mobilefacenet", "minifasnet-v2", "minifasnet-v1se", "selfie-landscape"],
)
def test_the_real_files_are_found_in_a_mirror_and_are_what_the_zoo_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(REAL_MIRROR))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    path = ZOO.fetch(name)
    assert REAL_MIRROR in path.parents
    assert path.stat().st_size == ZOO.entry(name).bytes_by_sha256[sha256_of(path)]


def test_the_default_detector_comes_from_the_configured_index(monkeypatch: pytest.MonkeyPatch) -> None:
    index = IndexSettings.configured()
    try:
        requests.head(index.url, timeout=10, verify=index.certificates or True)
    except requests.ConnectionError as error:
        pytest.skip(f"the package index does not answer: {type(error).__name__}")
    monkeypatch.delenv("FRAMELOOM_OFFLINE", raising=False)
    spec = ZOO.spec("yolox-nano")
    assert spec.path == ZOO.cached_path("yolox-nano")
    assert spec.sha256 == ZOO.entry("yolox-nano").accepts[0].sha256 == sha256_of(spec.path)
