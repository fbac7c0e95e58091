"""The real builder of TensorRT-RTX, which needs no GPU: every kind of model builds, every refusal is ours."""

from __future__ import annotations

import hashlib
import logging
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.cache.file_lock import locked
from engines.cuda import driver as cuda
from engines.cuda.driver import Driver
from engines.engine import Batch, Candidates
from engines.errors import BackendUnavailable, EngineBuildError
from engines.graph import dimensions
from engines.spec import ModelSpec
from engines.tensorrt.build import build_plan
from engines.tensorrt.flavour import Flavour, find_flavour, targets
from engines.tensorrt.network import calibrated, network_of, network_of_calibrated
from engines.tensorrt.recipe import PlanPrecision, Recipe
from engines.zoo import Zoo
from tests.engines.exported import style_network, u_net
from tests.engines.onnx_files import identity, spec_of, value
from tools.train.style_export import export_style
from tools.train.style_network import StyleNetwork

NAMES = ["yolox-nano", "centerface", "dlib-resnet", "mobilefacenet", "yunet", "style", "u-net"]
FINDER = (256, 448)
"""A size that CenterFace is used at."""
BATCH = 4

Plans = Callable[[str, PlanPrecision, int], bytes]


@pytest.fixture(scope="module")
def rtx() -> Flavour:
    pytest.importorskip("tensorrt_rtx")
    return find_flavour("tensorrt-rtx")


@pytest.fixture(scope="module")
def specs(shared: Path, face_models: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelSpec]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FRAMELOOM_MIRROR", face_models["FRAMELOOM_MIRROR"])
        zoo = Zoo.load()
        found = {name: zoo.spec(name) for name in NAMES[:5]}
    exported = [make(tmp_path_factory.mktemp("exported")) for make in (style_network, u_net)]
    return {**found, **{spec.name: spec for spec in exported}}


def recipe(name: str, precision: PlanPrecision, batch: int, **more: Any) -> Recipe:
    return Recipe(precision, FINDER if name == "centerface" else None, batch, min(batch, 2), **more)


@pytest.fixture(scope="module")
def plans(rtx: Flavour, specs: dict[str, ModelSpec]) -> Plans:
    """Plans of real models, each built once."""
    built: dict[tuple[str, PlanPrecision, int], bytes] = {}

    def plan(name: str, precision: PlanPrecision, batch: int) -> bytes:
        key = (name, precision, batch)
        if key not in built:
            wanted = recipe(*key)
            built[key] = build_plan(rtx, network_of(specs[name], wanted), wanted)
        return built[key]

    return plan


# ---- what builds


@pytest.mark.parametrize("batch", [1, BATCH])
@pytest.mark.parametrize("name", NAMES)
def test_a_plan_is_built_and_is_smaller_in_fp16(name: str, batch: int, plans: Plans) -> None:
    fp32, fp16 = plans(name, "fp32", batch), plans(name, "fp16", batch)
    assert len(fp32) > 500_000
    if name not in ("yunet", "style", "u-net"):  # there most of a plan is kernels, of which fp16 has more
        assert len(fp16) < 0.9 * len(fp32)
    assert fp16 != fp32


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_the_same_model_makes_the_same_plan(
    name: str, precision: PlanPrecision, rtx: Flavour, specs: dict[str, ModelSpec], plans: Plans
) -> None:
    """For one picture; with an open batch TensorRT-RTX numbers inner tensors differently each time."""
    wanted = recipe(name, precision, 1)
    again = build_plan(rtx, network_of(specs[name], wanted), wanted)
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(plans(name, precision, 1)).hexdigest()


@pytest.mark.parametrize(
    ("name", "number"), [("selfie-landscape", None), ("deeplabv3", None), ("candy", 1), ("light-style", None)]
)
def test_models_that_segment_and_stylize_are_built_in_fp16(
    name: str, number: int | None, rtx: Flavour, shared: Path, tmp_path: Path
) -> None:
    """TFLite files, Johnson's network as it was exported for one picture, and the light one that is trained here.

    Args:
        name: of the model.
        number: how many pictures it takes at once; None: any.
    """
    if name == "light-style":
        export_style(StyleNetwork(), tmp_path / "light-style.onnx")
    folder = shared / "models"
    files = {
        "selfie-landscape": folder / "seg" / "selfie_segmentation_landscape.tflite",
        "deeplabv3": folder / "seg" / "lite-model_deeplabv3_1_metadata_2.tflite",
        "candy": folder / "style" / "tnet_candy.onnx",
        "light-style": tmp_path / "light-style.onnx",
    }
    size = (360, 640) if name in ("candy", "light-style") else None
    wanted = Recipe("fp16", size, BATCH, 1)
    network = network_of(Zoo.load().spec(files[name]), wanted)
    plan = build_plan(rtx, network, wanted)
    assert len(plan) > 500_000
    halves = {each.name for each in network.graph.initializer if each.data_type == TensorProto.FLOAT16}
    layers = [node for node in network.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert layers
    assert all(halves.intersection(node.input) for node in layers)
    assert dimensions(network.graph.input[0])[0] == number


@pytest.fixture(scope="module")
def photos(shared: Path) -> Batch:
    paths = sorted((shared / "data" / "coco").rglob("*.jpg"))[:16]
    read = [cv2.imread(str(path)) for path in paths]
    return np.stack([np.asarray(cv2.resize(each, (416, 416)), np.uint8) for each in read if each is not None])


def test_yolox_is_built_in_int8_and_always_the_same(rtx: Flavour, specs: dict[str, ModelSpec], photos: Batch) -> None:
    wanted = recipe("yolox-nano", "int8", 1)
    spec = specs["yolox-nano"]
    network = network_of_calibrated(calibrated(spec, None, [photos]), spec, wanted)
    assert any(node.op_type == "QuantizeLinear" for node in network.graph.node)
    plan = build_plan(rtx, network, wanted)
    in_two = calibrated(spec, None, [photos[:5], photos[5:]])
    again = build_plan(rtx, network_of_calibrated(in_two, spec, wanted), wanted)
    assert hashlib.sha256(again).hexdigest() == hashlib.sha256(plan).hexdigest()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("batch", [1, BATCH])
def test_candidates_are_built(
    precision: PlanPrecision, batch: int, rtx: Flavour, specs: dict[str, ModelSpec], plans: Plans
) -> None:
    wanted = recipe("yolox-nano", precision, batch, candidates=Candidates(classes=5, objectness=4, count=1000))
    assert build_plan(rtx, network_of(specs["yolox-nano"], wanted), wanted) != plans("yolox-nano", precision, batch)


@pytest.fixture
def small(tmp_path: Path) -> ModelSpec:
    return spec_of(identity(tmp_path, ("n", 3, 8, 6)))


def test_a_plan_for_several_targets_is_another(rtx: Flavour, small: ModelSpec) -> None:
    network = network_of(small, Recipe("fp32"))
    sets: list[tuple[str, ...]] = [(), ("8.6",), ("8.6", "8.9"), ("7.5", "12.0")]
    plans = [build_plan(rtx, network, Recipe("fp32", compute_capabilities=targets)) for targets in sets]
    assert len(set(plans)) == len(sets)


@pytest.mark.parametrize("wanted", ["9.0", "86", "sm_86", ""])
def test_targets_that_it_does_not_know_are_refused_with_those_it_does(
    wanted: str, rtx: Flavour, small: ModelSpec
) -> None:
    words = rf"cannot build for compute capability {wanted}; it knows 7\.5, 8\.0, 8\.6, 8\.9, 12\.0, 12\.1"
    with pytest.raises(BackendUnavailable, match=words):
        build_plan(rtx, network_of(small, Recipe("fp32")), Recipe("fp32", compute_capabilities=("8.9", wanted)))


def test_the_kind_of_the_gpu_at_hand_is_a_target_where_one_is_at_hand(
    rtx: Flavour, small: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda, "driver", lambda: Driver("no NVIDIA driver is installed"))
    with pytest.raises(BackendUnavailable, match="needs an NVIDIA GPU: no NVIDIA driver is installed"):
        build_plan(rtx, network_of(small, Recipe("fp32")), Recipe("fp32", compute_capabilities=("current",)))
    monkeypatch.setattr(cuda, "driver", lambda: Driver(None))
    kinds = rtx.trt.ComputeCapability
    assert targets(rtx, ("8.6", "current")) == [kinds.SM86, kinds.CURRENT]


def test_progress_grows_to_the_end_and_is_in_words(rtx: Flavour, specs: dict[str, ModelSpec]) -> None:
    told: list[tuple[str, float]] = []
    wanted = recipe("mobilefacenet", "fp32", 1)
    build_plan(rtx, network_of(specs["mobilefacenet"], wanted), wanted, lambda *what: told.append(what))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len({round(share, 2) for share in shares}) > 5
    assert all(" " in what or what == "built" for what, _ in told)


# ---- what it is told, seen through a module that only passes on


class Told:
    """TensorRT-RTX, and what its configuration and profiles were told."""

    def __init__(self, trt: Any) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.instead: dict[str, Callable[..., Any]] = {}
        """What is asked before the real one; it answers, or says NotImplemented."""
        self.made: list[Any] = []
        """The logger."""
        told = self

        class Watched:
            def __init__(self, real: Any) -> None:
                self._real = real

            def __getattr__(self, name: str) -> Any:
                found = getattr(self._real, name)
                if not callable(found):
                    return found

                def call(*arguments: Any) -> Any:
                    told.calls.append((name, *arguments))
                    real = [each._real if isinstance(each, Watched) else each for each in arguments]
                    result = told.instead[name](*real) if name in told.instead else NotImplemented
                    if result is NotImplemented:
                        result = found(*real)
                    wrapped = name in ("create_builder_config", "create_optimization_profile")
                    return Watched(result) if wrapped else result

                return call

        class Module:
            def __getattr__(self, name: str) -> Any:
                return getattr(trt, name)

            def Builder(self, log: Any) -> Any:  # noqa: N802
                told.made.append(log)
                return Watched(trt.Builder(log))

        self.module: Any = Module()

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]


def test_plans_can_be_recorded(rtx: Flavour, small: ModelSpec, caplog: pytest.LogCaptureFixture) -> None:
    told = Told(rtx.trt)
    with caplog.at_level(logging.INFO):
        build_plan(Flavour(rtx.backend, told.module, rtx.version), network_of(small, Recipe()), Recipe())
    assert told.of("set_flag") == [(rtx.trt.BuilderFlag.REQUIRE_USER_ALLOCATION,)]
    assert told.of("clear_flag") == []
    assert caplog.messages == []


def test_a_version_without_the_flag_for_recording_builds_without(rtx: Flavour, small: ModelSpec) -> None:
    told = Told(rtx.trt)
    told.module.BuilderFlag = types.SimpleNamespace(TF32=rtx.trt.BuilderFlag.TF32)
    assert build_plan(Flavour(rtx.backend, told.module, rtx.version), network_of(small, Recipe()), Recipe())
    assert told.of("set_flag") == []


NOT_RECORDABLE = "BuilderFlag::kREQUIRE_USER_ALLOCATION is not compatible with networks that contain data-dependent"


def test_what_cannot_be_built_to_be_recorded_is_built_without_and_that_is_said(
    rtx: Flavour, small: ModelSpec, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(rtx.trt)
    flag = rtx.trt.BuilderFlag.REQUIRE_USER_ALLOCATION

    def refuse(network: Any, config: Any) -> Any:
        """As a network whose shapes depend on its data, of which TensorRT-RTX 1.7 parses none without a GPU."""
        if config.get_flag(flag):
            told.made[0].log(rtx.trt.ILogger.Severity.ERROR, NOT_RECORDABLE)
            return None
        return NotImplemented

    told.instead["build_serialized_network"] = refuse
    with caplog.at_level(logging.INFO):
        plan = build_plan(Flavour(rtx.backend, told.module, rtx.version), network_of(small, Recipe()), Recipe())
    assert plan
    assert told.of("clear_flag") == [(flag,)]
    (line,) = caplog.messages
    assert f"CUDA graphs may be off: {NOT_RECORDABLE}" in line


def test_what_cannot_be_built_at_all_is_tried_once(rtx: Flavour) -> None:
    told = Told(rtx.trt)
    with pytest.raises(EngineBuildError, match="no runners that implement it"):
        build_plan(Flavour(rtx.backend, told.module, rtx.version), suppression(), Recipe())
    assert len(told.of("build_serialized_network")) == 1


@pytest.mark.parametrize(("precision", "cleared"), [("fp32", True), ("fp16", False)])
def test_fp32_means_fp32(precision: PlanPrecision, cleared: bool, rtx: Flavour, small: ModelSpec) -> None:
    told = Told(rtx.trt)
    flavour = Flavour(rtx.backend, told.module, rtx.version)
    build_plan(flavour, network_of(small, Recipe(precision)), Recipe(precision))
    assert told.of("clear_flag") == ([(rtx.trt.BuilderFlag.TF32,)] if cleared else [])


@pytest.mark.parametrize(("batch", "usual", "profile"), [(8, 4, (1, 4, 8)), (8, 16, (1, 8, 8)), (2, 0, (1, 1, 2))])
def test_the_profile_goes_from_one_picture_to_the_most_and_is_tuned_for_the_usual_number(
    batch: int, usual: int, profile: tuple[int, ...], rtx: Flavour, small: ModelSpec
) -> None:
    told = Told(rtx.trt)
    wanted = Recipe("fp32", batch=batch, usual_batch=usual, workspace_bytes=64 << 20)
    build_plan(Flavour(rtx.backend, told.module, rtx.version), network_of(small, wanted), wanted)
    assert told.of("set_shape") == [("pictures", *((count, 8, 6, 3) for count in profile))]
    assert told.of("set_memory_pool_limit") == [(rtx.trt.MemoryPoolType.WORKSPACE, 64 << 20)]


# ---- what fails: TensorRT's own words, and no crash


def model(nodes: list[onnx.NodeProto], tensors: dict[str, Any], opset: int = 17) -> onnx.ModelProto:
    """A network that no refusal has looked at: x, 1 x 3 x 8 x 6, to y."""
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in tensors.items()]
    graph = helper.make_graph(nodes, "made", [value("x", (1, 3, 8, 6))], [value("y", (None,) * 4)], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def quantised(zero: Any, bias: bool = False) -> onnx.ModelProto:
    pair = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
    ]
    operands = ["d", "w"]
    tensors = {"scale": np.float32(0.5), "zero": zero, "w": np.ones((3, 3, 1, 1), np.float32)}
    if bias:
        pair.append(helper.make_node("DequantizeLinear", ["b", "scale"], ["bias"]))
        tensors["b"] = np.ones(3, np.int32)
        operands.append("bias")
    return model([*pair, helper.make_node("Conv", operands, ["y"])], tensors)


def unsigned_weights() -> onnx.ModelProto:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["d"]),
        helper.make_node("Conv", ["x", "d"], ["y"]),
    ]
    return model(nodes, {"scale": np.float32(0.5), "zero": np.uint8(0), "w": np.ones((3, 3, 1, 1), np.uint8)})


def bytes_moved_before_they_are_cast() -> onnx.ModelProto:
    nodes = [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("Cast", ["t"], ["y"], to=TensorProto.FLOAT)]
    made = model(nodes, {})
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return made


def suppression() -> onnx.ModelProto:
    """NonMaxSuppression on the first numbers of the picture."""
    nodes = [
        helper.make_node("Reshape", ["x", "boxes"], ["b"]),
        helper.make_node("Reshape", ["x", "scores"], ["s"]),
        helper.make_node("NonMaxSuppression", ["b", "s", "most", "iou", "score"], ["y"]),
    ]
    limits = {"most": np.array([5]), "iou": np.array([0.5], np.float32), "score": np.array([0.1], np.float32)}
    made = model(nodes, {"boxes": np.array([1, 36, 4]), "scores": np.array([1, 4, 36]), **limits})
    made.graph.output[0].CopyFrom(value("y", (None, 3), TensorProto.INT64))
    return made


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (quantised(np.int8(3)), "Non-zero zero point is not supported"),
        (unsigned_weights(), "Found unsupported input type of UINT8"),
        (bytes_moved_before_they_are_cast(), "first input has type UInt8 but must have type Float"),
        (quantised(np.int8(0), bias=True), "Int32"),
        (suppression(), "no runners that implement it"),
        (model([helper.make_node("EfficientNMS_TRT", ["x", "x"], ["y"])], {}), "EfficientNMS_TRT"),
        (model([helper.make_node("NoSuchThing", ["x"], ["y"], name="odd")], {}), "NoSuchThing 'odd'"),
    ],
    ids=["asymmetric", "uint8", "bytes", "bias", "nms", "efficient nms", "unknown"],
)
def test_what_tensorrt_refuses_is_an_error_with_its_own_words(
    network: onnx.ModelProto, words: str, rtx: Flavour
) -> None:
    with pytest.raises(EngineBuildError) as refusal:
        build_plan(rtx, network, Recipe("int8"))
    assert words in str(refusal.value)
    assert "tensorrt-rtx" in str(refusal.value)
    assert rtx.version in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_builder_that_needs_the_gpu_at_hand_and_finds_none_is_an_error(rtx: Flavour, small: ModelSpec) -> None:
    if cuda.driver().problem is None:
        pytest.skip("needs a machine without an NVIDIA GPU driver")

    class Wrong:
        """Says that 8.6 is whatever GPU is there."""

        ComputeCapability = types.SimpleNamespace(__members__={"SM86": rtx.trt.ComputeCapability.CURRENT})

        def __getattr__(self, name: str) -> Any:
            return getattr(rtx.trt, name)

    flavour = Flavour(rtx.backend, Wrong(), rtx.version)
    with pytest.raises(EngineBuildError, match=r"cannot build the network: .*cudaError 35"):
        build_plan(flavour, network_of(small, Recipe("fp32")), Recipe("fp32", compute_capabilities=("8.6",)))


def test_more_than_the_batch_may_not_be_open(rtx: Flavour) -> None:
    network = model([helper.make_node("Relu", ["x"], ["y"])], {})
    network.graph.input[0].CopyFrom(value("x", ("n", 3, "h", 6)))
    with pytest.raises(EngineBuildError, match="x leaves more open than the number of pictures"):
        build_plan(rtx, network, Recipe("fp32", batch=2))


# ---- plain TensorRT, which is not here: what is done before it is touched, and its timing cache


def test_plain_tensorrt_is_not_touched_without_a_driver(monkeypatch: pytest.MonkeyPatch, small: ModelSpec) -> None:
    class Untouchable:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was touched")

    monkeypatch.setattr(cuda, "driver", lambda: Driver("no NVIDIA driver is installed"))
    with pytest.raises(BackendUnavailable, match=r"tensorrt 11\.4 needs an NVIDIA GPU: no NVIDIA driver"):
        build_plan(Flavour("tensorrt", Untouchable(), "11.4"), network_of(small, Recipe("fp32")), Recipe("fp32"))


class Plain:
    """TensorRT-RTX as plain TensorRT: without targets, with a timing cache of which a test says what it takes."""

    def __init__(self, trt: Any, accepts: Callable[[bytes], bool]) -> None:
        self._trt = trt
        self.offered: list[bytes] = []
        plain = self

        class Config:
            def __init__(self, real: Any) -> None:
                object.__setattr__(self, "_real", real)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

            def __setattr__(self, name: str, value: Any) -> None:
                setattr(self._real, name, value)

            def create_timing_cache(self, content: bytes) -> Any:
                plain.offered.append(content)
                return types.SimpleNamespace(content=content, serialize=lambda: content + b" measured")

            def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
                assert not ignore_mismatch
                return accepts(cache.content)

        class Builder:
            def __init__(self, log: Any) -> None:
                self._real = trt.Builder(log)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._real, name)

            def create_builder_config(self) -> Any:
                return Config(self._real.create_builder_config())

            def build_serialized_network(self, network: Any, config: Config) -> Any:
                return self._real.build_serialized_network(network, config._real)

        self.Builder = Builder

    def __getattr__(self, name: str) -> Any:
        if name == "ComputeCapability":
            raise AttributeError(name)
        return getattr(self._trt, name)


@pytest.fixture
def with_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "driver", lambda: Driver(None))


@pytest.mark.usefixtures("with_a_driver")
def test_what_a_build_measured_is_kept_for_the_next(rtx: Flavour, small: ModelSpec, tmp_path: Path) -> None:
    kept = tmp_path / "new" / "timing.cache"
    module = Plain(rtx.trt, accepts=lambda _: True)
    flavour, network = Flavour("tensorrt", module, "11.4"), network_of(small, Recipe("fp32"))
    for _ in range(2):
        build_plan(flavour, network, Recipe("fp32"), timing_cache=kept)
    assert module.offered == [b"", b" measured"]
    assert kept.read_bytes() == b" measured measured"
    assert list(kept.parent.iterdir()) == [kept]


@pytest.mark.usefixtures("with_a_driver")
def test_measurements_that_another_process_is_keeping_are_left_to_it(
    rtx: Flavour, small: ModelSpec, tmp_path: Path
) -> None:
    kept = tmp_path / "tensorrt-11.4-ab.timing"
    flavour = Flavour("tensorrt", Plain(rtx.trt, accepts=lambda _: True), "11.4")
    with locked(tmp_path / ".tensorrt-11.4-ab.lock", "keeps them"):
        build_plan(flavour, network_of(small, Recipe("fp32")), Recipe("fp32"), timing_cache=kept)
    assert list(tmp_path.glob("*.timing*")) == []


@pytest.mark.usefixtures("with_a_driver")
def test_measurements_of_another_gpu_are_replaced(rtx: Flavour, small: ModelSpec, tmp_path: Path) -> None:
    kept = tmp_path / "timing.cache"
    kept.write_bytes(b"of another GPU")
    module = Plain(rtx.trt, accepts=lambda content: not content)
    build_plan(Flavour("tensorrt", module, "11.4"), network_of(small, Recipe("fp32")), Recipe("fp32"), None, kept)
    assert module.offered == [b"of another GPU", b""]
    assert kept.read_bytes() == b" measured"


@pytest.mark.usefixtures("with_a_driver")
def test_measurements_that_cannot_be_kept_do_no_harm(rtx: Flavour, small: ModelSpec, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    flavour = Flavour("tensorrt", Plain(rtx.trt, accepts=lambda _: True), "11.4")
    network = network_of(small, Recipe("fp32"))
    assert build_plan(flavour, network, Recipe("fp32"), timing_cache=tmp_path / "file" / "timing.cache")


def test_rtx_keeps_no_measurements(rtx: Flavour, small: ModelSpec, tmp_path: Path) -> None:
    build_plan(rtx, network_of(small, Recipe("fp32")), Recipe("fp32"), timing_cache=tmp_path / "timing.cache")
    assert list(tmp_path.glob("timing*")) == []


@pytest.mark.usefixtures("with_a_driver")
def test_plain_tensorrt_builds_for_no_other_gpu(rtx: Flavour, small: ModelSpec) -> None:
    flavour = Flavour("tensorrt", Plain(rtx.trt, accepts=lambda _: True), "11.4")
    with pytest.raises(BackendUnavailable, match="builds for the GPU at hand only"):
        build_plan(flavour, network_of(small, Recipe("fp32")), Recipe("fp32", compute_capabilities=("8.6",)))
