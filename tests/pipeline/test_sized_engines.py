"""Engines per input size: opened on demand, the ones used last kept, none closed under its work."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from engines.engine import EngineOptions
from engines.errors import BackendUnavailable, EngineError, ModelError, UnknownHead
from engines.spec import ModelSpec
from pipeline.infer.sized_engines import SizedEngine, SizedEngines, declared_size
from tests.pipeline.face_models import answering, square_finder

OPTIONS = EngineOptions("onnxruntime", "fp32", threads=1, requests=1)
Shapes = Mapping[str, tuple[int, ...]]


def reader(shapes: Shapes, size: tuple[int, int]) -> tuple[int, ...]:
    return next(iter(shapes.values()))


@pytest.fixture
def sized(tmp_path: Path) -> Iterator[SizedEngines[tuple[int, ...]]]:
    engines = SizedEngines(square_finder(tmp_path), OPTIONS, reader, keep=2)
    yield engines
    engines.close()


def blank(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.zeros((1, height, width, 3), np.uint8)


def works(sized: SizedEngine[tuple[int, ...]]) -> bool:
    try:
        sized.engine.infer(blank(*sized.engine.input_size))
    except EngineError:
        return False
    return True


def test_each_size_is_compiled_once_and_its_outputs_are_shown_to_the_reader(
    sized: SizedEngines[tuple[int, ...]],
) -> None:
    first = sized.at((64, 96))
    assert (first.engine.input_size, first.reader) == ((64, 96), (1, 1, 16, 24))
    assert sized.at((96, 64)).reader == (1, 1, 24, 16)
    assert sized.at((64, 96)) is first


def test_of_more_sizes_than_are_kept_the_one_not_used_for_longest_is_closed(
    sized: SizedEngines[tuple[int, ...]],
) -> None:
    first, second = sized.at((32, 32)), sized.at((32, 64))
    sized.at((32, 32))
    third = sized.at((32, 96))
    assert [works(each) for each in (first, second, third)] == [True, False, True]
    assert [engine.input_size for engine in sized.engines] == [(32, 32), (32, 96)]
    assert sized.at((32, 64)) is not second


def test_an_engine_with_a_request_in_flight_is_closed_only_after_it(sized: SizedEngines[tuple[int, ...]]) -> None:
    busy = sized.at((32, 32))
    pending = sized.submit(busy, lambda engine: engine.submit(blank(32, 32)))
    others = [sized.at((32, 64)), sized.at((32, 96))]
    assert [works(each) for each in (busy, *others)] == [True, False, True]
    assert sized.collect(busy, pending)["heat"].shape == (1, 1, 8, 8)
    sized.at((32, 128))
    assert not works(busy)


def test_a_request_that_fails_is_not_in_flight(sized: SizedEngines[tuple[int, ...]]) -> None:
    first = sized.at((32, 32))
    with pytest.raises(ValueError, match="uint8"):
        sized.submit(first, lambda engine: engine.submit(blank(32, 64)))
    assert first.in_flight == 0


def test_after_close_no_engine_works(tmp_path: Path) -> None:
    engines = SizedEngines(square_finder(tmp_path), OPTIONS, reader)
    opened = [engines.at(size) for size in ((32, 32), (64, 64))]
    engines.close()
    assert not any(works(each) for each in opened)


def only_own(shapes: Shapes, size: tuple[int, int]) -> str:
    """A reader of a model that only one size can be read of."""
    if size != (128, 160):
        raise UnknownHead(f"nothing to read at {size}")
    return "read"


def fixed(folder: Path) -> ModelSpec:
    return answering(folder, {"y": np.zeros((1, 3))}, (128, 160))


def test_a_model_that_refuses_a_size_runs_at_its_own_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engines = SizedEngines(fixed(tmp_path), OPTIONS, only_own)
    own = engines.at((128, 160))
    sizes = [engines.only_size]
    with caplog.at_level(logging.WARNING):
        assert engines.at((64, 64)) is own
        assert engines.at((96, 64)) is own
    sizes.append(engines.only_size)
    assert sizes == [None, (128, 160)]
    assert [record.getMessage() for record in caplog.records] == [
        "finder runs at its own size only, 128x160, not at 64x64"
    ]
    engines.close()


@pytest.mark.parametrize("shape", [(1, 3, "h", "w"), (1, 3, 64, 64), (1, 3, 128, "w")], ids=str)
def test_without_a_size_of_its_own_the_refusal_is_the_answer(tmp_path: Path, shape: tuple[int | str, ...]) -> None:
    engines = SizedEngines(square_finder(tmp_path, shape), OPTIONS, only_own)
    with pytest.raises(UnknownHead, match="nothing to read"):
        engines.at((96, 96))
    assert engines.engines == []


def test_a_backend_that_is_not_there_is_no_matter_of_size(tmp_path: Path) -> None:
    engines = SizedEngines(fixed(tmp_path), EngineOptions("onnxruntime", "fp16"), only_own)
    with pytest.raises(BackendUnavailable):
        engines.at((64, 64))
    assert engines.only_size is None


def test_the_size_that_a_file_declares(tmp_path: Path) -> None:
    assert declared_size(fixed(tmp_path)) == (128, 160)
    assert declared_size(square_finder(tmp_path)) is None
    assert declared_size(square_finder(tmp_path, (1, 3, 64, "w"))) is None
    (tmp_path / "finder.onnx").write_bytes(b"x")
    with pytest.raises(ModelError, match="not an ONNX model"):
        declared_size(ModelSpec("broken", tmp_path / "finder.onnx", "face-detect"))
