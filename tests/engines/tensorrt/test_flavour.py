"""A TensorRT counts only if it can build and run, and nothing of it is touched where it would crash."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from engines.cuda.driver import Driver, Gpu
from engines.errors import BackendUnavailable
from engines.tensorrt.flavour import (
    Flavour,
    builds_without_gpu,
    creation_flags,
    device_memory,
    find_flavour,
    guard,
    has_progress_monitor,
    has_targets,
    has_timing_cache,
    refuses_recording,
)


def module(**parts: Any) -> types.ModuleType:
    made = types.ModuleType("tensorrt")
    vars(made).update(parts)
    return made


WHOLE = {"Builder": object, "Runtime": object, "__version__": "11.4.0.106"}


def test_the_real_rtx_is_found() -> None:
    pytest.importorskip("tensorrt_rtx")
    flavour = find_flavour("tensorrt-rtx")
    assert flavour.backend == "tensorrt-rtx"
    assert flavour.version == flavour.trt.__version__
    assert builds_without_gpu(flavour)
    assert has_targets(flavour)
    assert has_progress_monitor(flavour)
    assert not has_timing_cache(flavour)
    assert creation_flags(flavour) == 1 << int(flavour.trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def test_a_whole_tensorrt_is_found_and_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = types.SimpleNamespace(EXPLICIT_BATCH=0, STRONGLY_TYPED=1)
    monkeypatch.setitem(sys.modules, "tensorrt", module(**WHOLE, NetworkDefinitionCreationFlag=flags))
    flavour = find_flavour("tensorrt")
    assert flavour.version == "11.4.0.106"
    assert creation_flags(flavour) == 2
    assert has_timing_cache(flavour)
    assert not builds_without_gpu(flavour)
    assert not has_targets(flavour)
    assert not has_progress_monitor(flavour)


@pytest.mark.parametrize(
    ("backend", "remedy"),
    [("tensorrt", "pip install tensorrt-cu13.*JetPack"), ("tensorrt-rtx", r"pip install 'frameloom\[rtx\]'")],
)
def test_what_is_not_installed_is_said_with_what_to_install(
    backend: Any, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = backend.replace("-", "_")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable, match=f"{name} cannot be imported .*{remedy}"):
        find_flavour(backend)


@pytest.mark.parametrize(
    "line",
    [
        "raise ImportError('libnvonnxparser.so.11: cannot open shared object file')",
        "import ctypes; ctypes.CDLL('libnvonnxparser.so.11')",
    ],
)
def test_a_missing_library_is_said(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text(line)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BackendUnavailable, match=r"cannot be imported \(libnvonnxparser\.so\.11"):
        find_flavour("tensorrt")


def test_a_folder_of_stubs_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.pyi").write_text("class Builder: ...")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BackendUnavailable) as refusal:
        find_flavour("tensorrt")
    assert f"{tmp_path}/tensorrt has no Builder and no Runtime and no __version__" in str(refusal.value)
    assert "uninstall it" in str(refusal.value)


def test_a_runtime_alone_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {name: part for name, part in WHOLE.items() if name != "Builder"}
    monkeypatch.setitem(sys.modules, "tensorrt", module(**parts))
    with pytest.raises(BackendUnavailable, match="has no Builder: it only holds stubs or a part"):
        find_flavour("tensorrt")


def test_lean_packages_are_named_where_they_are_all_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt_lean.py").write_text("raise SystemExit('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailable, match="tensorrt_lean can run plans but not build them"):
        find_flavour("tensorrt")


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0.post12", "unknown"])
def test_old_versions_are_refused(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", module(**{**WHOLE, "__version__": version}))
    with pytest.raises(BackendUnavailable, match=rf"TensorRT {version} is too old, 10\.0 is needed"):
        find_flavour("tensorrt")


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_nothing_goes_on_without_a_driver(backend: Any) -> None:
    flavour = Flavour(backend, module(**WHOLE), "1.2")
    with pytest.raises(BackendUnavailable, match=rf"{backend} 1\.2 needs an NVIDIA GPU: no driver is installed"):
        guard(flavour, Driver("no driver is installed"))
    guard(flavour, Driver(None, (Gpu(0, "RTX", "8.9", 1, "580"),), "13.0"))


def test_the_size_of_memory_is_asked_for_as_each_version_wants() -> None:
    assert device_memory(types.SimpleNamespace(device_memory_size=7)) == 7
    assert device_memory(types.SimpleNamespace(device_memory_size_v2=9)) == 9
    assert device_memory(types.SimpleNamespace(device_memory_size=7, device_memory_size_v2=9)) == 9


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        ("BuilderFlag::kREQUIRE_USER_ALLOCATION is not compatible with networks that contain data-dependent", True),
        ("Assertion !(mConfig.requireUserAllocation && !isStreamCapturable) failed.", True),
        ("[NMS] has no runners that implement it", False),
        ("Error Code 2: OutOfMemory (Requested allocation of 123 bytes failed)", False),
    ],
)
def test_only_words_about_allocation_by_the_user_mean_that_a_plan_could_be_had_without(
    words: str, refused: bool
) -> None:
    assert refuses_recording(words) == refused
