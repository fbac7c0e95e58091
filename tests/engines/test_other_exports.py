"""Models that take pictures, or more than pictures, in ways of their own: opened by each backend as the file has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import graph
from engines.engine import Batch, Engine, EngineOptions, Outputs, open_engine
from engines.errors import ModelError
from engines.prepare import input_size, prepare
from engines.spec import InputSpec, ModelSpec
from engines.trust.reference import PlainFile
from tests.engines.onnx_files import save, spec_of, value
from tests.engines.own_files import detector

Runs = Callable[[ModelSpec], Callable[[Batch], Outputs]]
HEIGHT, WIDTH = 8, 6
NORMALISED: dict[str, Any] = {"colour": "rgb", "mean": (1.0, 2.0, 3.0), "std": (2.0, 4.0, 5.0)}


@pytest.fixture(params=["openvino", "onnxruntime", "reference"])
def runs(request: pytest.FixtureRequest) -> Iterator[Runs]:
    """Opens models with each backend, and with the reference that they are compared with."""
    opened: list[Engine] = []

    def open_one(spec: ModelSpec) -> Callable[[Batch], Outputs]:
        if request.param == "reference":
            return PlainFile(spec).infer
        opened.append(open_engine(spec, EngineOptions(request.param, "fp32")))
        return opened[-1].infer

    yield open_one
    for engine in opened:
        engine.close()


def noise(count: int, height: int = HEIGHT, width: int = WIDTH) -> Batch:
    return np.random.default_rng(3).integers(0, 256, (count, height, width, 3), np.uint8)


def seen(batch: Batch, spec: InputSpec) -> npt.NDArray[np.float64]:
    """What the model should see: N x H x W x 3."""
    pixels = batch[..., ::-1] if spec.colour == "rgb" else batch
    return (pixels.astype(np.float64) - spec.mean) / spec.std


def echo(folder: Path, shape: Sequence[int | str | None], kind: int, opset: int = 13) -> Path:
    """A model that returns what it is given, in its own axes and type."""
    path = save(folder, [helper.make_node("Identity", ["x"], ["y"])], [value("x", shape, kind)],
                [value("y", shape, kind)], [])  # fmt: skip
    model = onnx.load(path)
    model.opset_import[0].version = opset
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 3, HEIGHT, WIDTH), (0, 3, 1, 2)),
        (("n", 3, HEIGHT, WIDTH), (0, 3, 1, 2)),
        ((1, HEIGHT, WIDTH, 3), (0, 1, 2, 3)),
        ((None, HEIGHT, WIDTH, 3), (0, 1, 2, 3)),
        ((3, HEIGHT, WIDTH), (2, 0, 1)),
        ((HEIGHT, WIDTH, 3), (0, 1, 2)),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8])
def test_each_layout_and_type_is_given_what_it_wants(
    runs: Runs, shape: tuple[Any, ...], axes: tuple[int, ...], kind: int, tmp_path: Path
) -> None:
    fields = {"colour": "rgb"} if kind == TensorProto.UINT8 else NORMALISED
    spec = spec_of(echo(tmp_path, shape, kind), **fields)
    batch = noise(1)
    whole = seen(batch, spec.input)
    expected = (whole if len(shape) == 4 else whole[0]).transpose(axes)
    (got,) = runs(spec)(batch).values()
    assert got.dtype == (np.uint8 if kind == TensorProto.UINT8 else np.float32)
    np.testing.assert_allclose(got, expected, rtol=1e-3 if kind == TensorProto.FLOAT16 else 1e-5, atol=1e-5)


@pytest.mark.parametrize("opset", [11, 12, 13])
def test_a_picture_without_a_batch_axis_is_taken_in_old_and_new_opsets(opset: int, tmp_path: Path) -> None:
    model = prepare(spec_of(echo(tmp_path, (3, HEIGHT, WIDTH), TensorProto.FLOAT, opset)), None)
    onnx.checker.check_model(model, full_check=True)
    assert graph.dimensions(graph.picture_input(model)) == [1, 3, HEIGHT, WIDTH]


@pytest.mark.parametrize("name", ["pictures", "planes"])
def test_an_input_may_have_the_name_that_ours_gets(runs: Runs, name: str, tmp_path: Path) -> None:
    path = save(tmp_path, [helper.make_node("Relu", [name], ["y"])], [value(name, [1, 3, HEIGHT, WIDTH])],
                [value("y", [1, 3, HEIGHT, WIDTH])], [])  # fmt: skip
    batch = noise(1)
    np.testing.assert_array_equal(runs(spec_of(path))(batch)["y"], batch.transpose(0, 3, 1, 2).astype(np.float32))


def test_several_pictures_are_run_where_the_number_is_open(runs: Runs, tmp_path: Path) -> None:
    spec = spec_of(echo(tmp_path, ("n", HEIGHT, WIDTH, 3), TensorProto.FLOAT))
    batch = noise(3)
    np.testing.assert_allclose(runs(spec)(batch)["y"], seen(batch, spec.input), rtol=1e-6)


def test_another_size_is_given_to_a_model_with_channels_at_the_end(tmp_path: Path) -> None:
    path = echo(tmp_path, (1, HEIGHT, WIDTH, 3), TensorProto.FLOAT)
    batch = noise(1, 4, 10)
    engine = open_engine(spec_of(path), EngineOptions("onnxruntime", "fp32", input_size=(4, 10)))
    np.testing.assert_array_equal(engine.infer(batch)["y"], batch)
    engine.close()
    np.testing.assert_array_equal(PlainFile(spec_of(path), (4, 10)).infer(batch)["y"], batch)


def test_pixels_in_half_precision_come_back_in_single(tmp_path: Path) -> None:
    """The output is also read by another node, whose reading must follow its new name."""
    kind = TensorProto.FLOAT16
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["y"], ["z"])]
    shape = (1, 3, HEIGHT, WIDTH)
    outputs = [value(name, shape, kind) for name in ("y", "z")]
    model = prepare(spec_of(save(tmp_path, nodes, [value("x", shape, kind)], outputs, [])), None)
    onnx.checker.check_model(model, full_check=True)
    assert [(each.name, each.type.tensor_type.elem_type) for each in model.graph.output] == [("y", 1), ("z", 1)]


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((1, 4, 8, 8), 1, "takes no N x 3 x height x width picture; inputs seen: x .1, 4, 8, 8"),
        ((8, 8), 1, "takes no N x 3"),
        ((2, HEIGHT, WIDTH, 3), 1, "only takes 2 pictures at once"),
        ((1, 3, 8, 8), TensorProto.INT64, "takes pictures as int64"),
    ],
)
def test_what_takes_no_pictures_is_refused(shape: tuple[int, ...], kind: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=words):
        prepare(spec_of(echo(tmp_path, shape, kind)), None)


def test_bytes_cannot_be_normalised_in_front_of_a_model(tmp_path: Path) -> None:
    path = echo(tmp_path, (1, 3, 8, 8), TensorProto.UINT8)
    with pytest.raises(ModelError, match=r"x is uint8, 0..255, .* set mean to 0 and std to 1"):
        prepare(spec_of(path, std=(255.0, 255.0, 255.0)), None)


# ---- second inputs


def with_sizes(
    folder: Path, name: str, kind: int, batch: int | str | None = "n", rank: int = 2, first: bool = False
) -> Path:
    """A model that gives fractions of the picture in the unit of its second input, as DETR's family does."""
    sizes = value(name, (batch, 2) if rank == 2 else (2,), kind)
    picture = value("images", (batch, 3, HEIGHT, WIDTH))
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["of_each"]),
        helper.make_node("Cast", [name], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["of_each", "sizes"], ["y"]),
    ]
    column = numpy_helper.from_array(np.array([-1, 1]), "column")
    inputs = [sizes, picture] if first else [picture, sizes]
    return save(folder, nodes, inputs, [value("y", (None, 2))], [column])


@pytest.mark.parametrize(
    ("name", "kind", "numbers"),
    [
        ("orig_target_sizes", TensorProto.INT64, (WIDTH, HEIGHT)),
        ("orig_target_sizes", TensorProto.INT32, (WIDTH, HEIGHT)),
        ("im_shape", TensorProto.FLOAT, (HEIGHT, WIDTH)),
        ("image_shape", TensorProto.FLOAT, (HEIGHT, WIDTH)),
        ("scale_factor", TensorProto.FLOAT, (1, 1)),
    ],
)
@pytest.mark.parametrize("batch", [1, "n"])
def test_sizes_are_those_of_the_input(
    runs: Runs, name: str, kind: int, numbers: tuple[int, int], batch: int | str, tmp_path: Path
) -> None:
    spec = spec_of(with_sizes(tmp_path, name, kind, batch))
    pictures = noise(3)
    expected = pictures.mean(axis=(1, 2, 3))[:, None] + numbers
    np.testing.assert_allclose(runs(spec)(pictures)["y"], expected, rtol=1e-5)


def test_the_picture_need_not_be_the_first_input(runs: Runs, tmp_path: Path) -> None:
    spec = spec_of(with_sizes(tmp_path, "im_shape", TensorProto.FLOAT, first=True))
    pictures = noise(2)
    expected = pictures.mean(axis=(1, 2, 3))[:, None] + (HEIGHT, WIDTH)
    np.testing.assert_allclose(runs(spec)(pictures)["y"], expected, rtol=1e-5)


def test_sizes_follow_the_input_when_that_is_changed(tmp_path: Path) -> None:
    path = with_sizes(tmp_path, "orig_target_sizes", TensorProto.INT64)
    engine = open_engine(spec_of(path), EngineOptions("onnxruntime", "fp32", input_size=(4, 16)))
    (said,) = engine.infer(noise(1, 4, 16) * 0)["y"]
    engine.close()
    assert said.tolist() == [16, 4]


@pytest.mark.parametrize("rank", [1, 2])
def test_a_size_of_unknown_order_is_taken_where_both_are_the_same(rank: int, tmp_path: Path) -> None:
    spec = spec_of(with_sizes(tmp_path, "orig_image_size", TensorProto.INT64, 1, rank))
    with pytest.raises(ModelError, match=r"orig_image_size may mean height, width or width, height, .* 8x6: run it at"):
        prepare(spec, None)
    prepared = prepare(spec, (8, 8))
    assert graph.constants(prepared)["orig_image_size"].ravel().tolist() == [8, 8]
    assert [each.name for each in prepared.graph.input] == ["images"]


@pytest.mark.parametrize(("name", "shape"), [("iou_threshold", (1,)), ("orig_target_sizes", (1, 3))])
def test_an_unknown_input_is_refused_with_all_names(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    inputs = [value("x", (1, 3, 8, 3)), value(name, shape)]
    path = save(tmp_path, [helper.make_node("Add", ["x", name], ["y"])], inputs, [value("y", (1, 3, 8, 3))], [])
    words = rf"more than a picture.*its inputs: x \[1, 3, 8, 3\] float, {name} .*known: im_shape, .*export it without"
    with pytest.raises(ModelError, match=words):
        prepare(spec_of(path), None)


@pytest.fixture(scope="module")
def deimv2(shared: Path) -> ModelSpec:
    path = shared / "models" / "detect" / "deimv2_hgnetv2_femto_coco.onnx"
    return ModelSpec("deimv2", path, "detect", InputSpec(std=(255.0,) * 3, fit="stretch"))


def test_a_real_detr_says_the_same_by_each_backend_in_pixels_of_its_input(
    runs: Runs, deimv2: ModelSpec, shared: Path
) -> None:
    pictures = [cv2.imread(str(shared / "data" / "images" / name)) for name in ("bus.jpg", "zidane.jpg")]
    batch = np.stack([cv2.resize(np.asarray(each, np.uint8), (416, 416)) for each in pictures])
    said = runs(deimv2)(batch.astype(np.uint8))
    sure = said["scores"][0] > 0.5
    assert sorted(said["labels"][0][sure].tolist()) == [0, 0, 0, 5]
    bus = said["boxes"][0][sure & (said["labels"][0] == 5)][0]
    np.testing.assert_allclose(bus, (13, 87, 412, 281), atol=2)
    assert (said["scores"][1] > 0.5).sum() >= 2


# ---- open sizes


@pytest.mark.parametrize(
    ("metadata", "fields", "size"),
    [
        ({"imgsz": "[96, 64]", "stride": "32"}, {}, (96, 64)),
        ({"imgsz": "[90, 50]", "stride": "32"}, {}, (96, 64)),
        ({"imgsz": "90"}, {}, (90, 90)),
        ({"imgsz": "[96, 64]"}, {"height": 32, "width": 128}, (32, 128)),
    ],
    ids=str,
)
def test_an_open_size_is_what_the_file_was_exported_for(
    metadata: dict[str, str], fields: dict[str, int], size: tuple[int, int], tmp_path: Path
) -> None:
    path = detector(tmp_path / "m.onnx", shape=("n", 3, "h", "w"), metadata=metadata)
    spec = spec_of(path, **fields)
    assert input_size(graph.load(path), spec.input) == size
    assert graph.dimensions(prepare(spec, None).graph.input[0]) == [None, 3, *size]


def test_an_open_size_that_nobody_says_must_be_said(tmp_path: Path) -> None:
    path = detector(tmp_path / "m.onnx", shape=("n", 3, "h", 64))
    with pytest.raises(ModelError, match=r"leaves its input size open .* --set detect.input_size=640"):
        prepare(spec_of(path), None)
