"""A file that is no ONNX model is called what it is, with what to do; a damaged one is told from a strange one."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines import graph
from engines.errors import ModelError
from engines.file_kinds import refuse_foreign
from engines.zoo import Zoo
from tests.engines.own_files import NAMES, detector, foreign_operator, with_weights_beside


def zipped(*members: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for member in members:
            archive.writestr(member, b"x")
    return content.getvalue()


def tarred() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("best.onnx"))
    return content.getvalue()


def ultralytics_engine() -> bytes:
    metadata = json.dumps({"names": {"0": "a"}}).encode()
    return len(metadata).to_bytes(4, "little") + metadata + b"ftrt" + bytes(100)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4116144\n"
PAGE = b"\n<!DOCTYPE html>\n<html><head><title>404</title></head></html>"
IR = b'<?xml version="1.0"?>\n<net name="model" version="11"><layers/></net>'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", r"is empty \(0 bytes\): copy or download it again"),
        (
            zipped("best/data.pkl", "best/version"),
            r"is a PyTorch file, .* rename it to m.pt, then .* `yolo export model=m.pt format=onnx`",
        ),
        (pickle.dumps({"epoch": 1}), "is a Python pickle, as PyTorch writes, .*yolo export"),
        (zipped("config.json", "model.weights.h5"), "is a Keras file, .*tf2onnx"),
        (zipped("deep/best.onnx"), "is a zip archive, .* give deep/best.onnx"),
        (zipped("a.txt"), "is a zip archive, .* unpack it"),
        (zipped("a.txt")[:40], "is a damaged zip archive"),
        (b"\x1c\x00\x00\x00TFL3" + bytes(50), "is a TensorFlow Lite file, .* rename it to m.tflite"),
        (b"ftrt" + bytes(50), "is a compiled TensorRT engine, .* the ONNX file that it was built from"),
        (b"vtrt" + bytes(50), "is a compiled TensorRT engine"),
        (ultralytics_engine(), "is a compiled TensorRT engine of Ultralytics"),
        (IR, r"is OpenVINO's format \(.xml and .bin\), .* the ONNX file that it was converted from"),
        (LFS, "is a pointer of Git LFS, not the file itself, .*git lfs pull"),
        (PAGE, "is a web page, .* download the file itself"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "is an HDF5 file, as Keras writes"),
        (gzip.compress(b"x" * 100), r"is packed \(gzip\), .* unpack it"),
        (tarred(), "is a tar archive, .* unpack it"),
        (b"Salted__" + random.Random(0).randbytes(100), r"is encrypted \(OpenSSL\), .* decrypt it"),
        (random.Random(0).randbytes(5000), "is not an ONNX model: it is encrypted, or damaged, or another format"),
        (bytes(1000), "is not an ONNX model: it is encrypted, or damaged, or another format"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), r"is a picture \(PNG\), .* give it as --source"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(50), r"is a video \(MP4\), .* give it as --source"),
        ((10).to_bytes(8, "little") + b'{"a":{}}  ' + bytes(50), r"is a file of weights alone \(safetensors\)"),
        ("näme\n".encode() * 1000, "is text, not an ONNX model: export"),
        (b"7767517\n75 83\n", "is ncnn's network text"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_is_called_what_it_is(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"m\.onnx {words}") as caught:
        graph.load(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", [0.02, 0.3, 0.9, 0.999])
def test_a_file_that_ends_too_early_says_how_much_is_there(part: float, tmp_path: Path) -> None:
    whole = detector(tmp_path / "m.onnx", metadata={"names": NAMES}).read_bytes()
    cut = whole[: int(len(whole) * part)]
    (tmp_path / "m.onnx").write_bytes(cut)
    with pytest.raises(ModelError, match=rf"is cut off: {len(cut)} bytes are there, of \d+ or more"):
        graph.load(tmp_path / "m.onnx")


def test_damage_inside_a_file_is_called_damage(tmp_path: Path) -> None:
    whole = bytearray(detector(tmp_path / "m.onnx").read_bytes())
    place = whole.index(b"ReduceMean") - 1
    whole[place] = 0x7F  # the length of a text
    (tmp_path / "m.onnx").write_bytes(whole)
    with pytest.raises(ModelError, match="is damaged"):
        graph.load(tmp_path / "m.onnx")


def test_three_gigabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.write(b"\x08\x08\x3a")
        file.truncate(3_000_000_000)
    began = time.monotonic()
    for refuse in (graph.load, refuse_foreign, Zoo.load().spec):
        with pytest.raises(ModelError, match=r"large.onnx has 3.0 GB, and an ONNX file can hold 2 GB at most: export"):
            refuse(path)
    assert time.monotonic() - began < 1


def test_weights_beside_the_model_are_part_of_it(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path / "m.onnx")
    plain = graph.constants(onnx.load(detector(tmp_path / "plain.onnx")))
    found = graph.constants(onnx.ModelProto.FromString(graph.load(path).SerializeToString()))
    assert found.keys() == plain.keys()
    for name, values in plain.items():
        np.testing.assert_array_equal(found[name], values)


def test_missing_or_short_weights_are_named(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path / "m.onnx")
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ModelError, match=r"weights.bin is cut off: m.onnx needs \d+ bytes of it, \d+ are there"):
        graph.load(path)
    weights.unlink()
    with pytest.raises(ModelError, match=r"m.onnx keeps its weights in 'weights.bin', which is not in .*: put"):
        graph.load(path)


def test_weights_of_more_than_two_gigabytes_are_refused_without_being_read(tmp_path: Path) -> None:
    path = with_weights_beside(tmp_path / "m.onnx")
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        del tensor.external_data[:]
        for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", "2500000000")):
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    with (tmp_path / "weights.bin").open("r+b") as file:
        file.truncate(2_500_000_000)
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"has 5.0 GB with its weights, and a model can have 2 GB at most here"):
        graph.load(path)
    assert time.monotonic() - began < 1


def test_weights_outside_the_models_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = with_weights_beside(tmp_path / "inner" / "m.onnx")
    (tmp_path / "weights.bin").write_bytes((tmp_path / "inner" / "weights.bin").read_bytes())
    path.write_bytes(path.read_bytes().replace(b"weights.bin", b"../secret.x"))
    (tmp_path / "secret.x").write_bytes((tmp_path / "weights.bin").read_bytes())
    with pytest.raises(ModelError, match=r"the weights of .*m.onnx cannot be read"):
        graph.load(path)


def test_a_model_without_outputs_is_refused(tmp_path: Path) -> None:
    model = onnx.load(detector(tmp_path / "m.onnx"))
    del model.graph.output[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"m.onnx is a model without outputs: export it again"):
        graph.load(tmp_path / "m.onnx")


def test_protobuf_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    with pytest.raises(ModelError, match=r"is not an ONNX model: it holds no graph; if it is TensorFlow's"):
        graph.load(tmp_path / "m.onnx")


def test_versions_that_are_too_new_are_named_both(tmp_path: Path) -> None:
    path = detector(tmp_path / "m.onnx", ir_version=99)
    with pytest.raises(ModelError, match=rf"version 99 of ONNX's file format .* knows {onnx.IR_VERSION} at most: pip"):
        graph.load(path)
    model = onnx.load(foreign_operator(path, ""))
    model.opset_import[0].version = 99
    onnx.save(model, path)
    known = onnx.defs.onnx_opset_version()
    with pytest.raises(ModelError, match=rf"version 99 of ONNX's operators .* knows {known} at most: pip install"):
        graph.load(path)


def test_operators_that_onnx_does_not_have_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"operators that ONNX does not have \(EfficientNMS_TRT '/nms'\); export"):
        graph.load(foreign_operator(tmp_path / "m.onnx", ""))


def test_an_output_without_a_shape_does_no_harm(tmp_path: Path) -> None:
    model = onnx.load(detector(tmp_path / "m.onnx"))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "m.onnx")
    assert graph.load(tmp_path / "m.onnx") == model


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        graph.load(tmp_path)
