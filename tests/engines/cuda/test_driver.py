"""What the driver is asked: through ctypes, and by cuda-python itself, over a libcuda made of host memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import engines.cuda.driver
from engines.cuda.driver import Driver, Gpu, driver, gpu_for, probe
from engines.errors import BackendUnavailable

SOURCE = Path(__file__).with_name("fake_libcuda.cpp")
GIB = 1 << 30


@pytest.fixture(scope="session")
def libcuda(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A libcuda.so.1 with two GPUs, in a folder of its own."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    library = tmp_path_factory.mktemp("libcuda") / "libcuda.so.1"
    command = ["g++", "-std=c++17", "-Wall", "-Werror", "-shared", "-fPIC", str(SOURCE), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    return library


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> tuple[Gpu, ...]:
    gpus = (Gpu(0, "Big", "9.0", 140 * GIB, "580.65.06"), Gpu(1, "Small", "8.6", 12 * GIB, "580.65.06"))
    monkeypatch.setattr(engines.cuda.driver, "_probe_once", lambda: Driver(None, gpus, "13.0"))
    return gpus


def test_every_gpu_is_listed_with_the_drivers_version(
    libcuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = tmp_path / "version"
    version.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs@host)\n"
    )
    monkeypatch.setattr(engines.cuda.driver, "KERNEL_MODULE", version)
    first, second = (
        Gpu(0, "Fake RTX 0", "8.6", 12 * GIB, "580.65.06"),
        Gpu(1, "Fake RTX 1", "8.7", 12 * GIB, "580.65.06"),
    )
    assert probe(str(libcuda)) == Driver(None, (first, second), "13.0")
    assert str(second) == "Fake RTX 1 (cuda:1, compute capability 8.7, 12 GiB)"


def test_where_linux_does_not_tell_the_drivers_version_it_is_that_of_its_cuda(
    libcuda: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.cuda.driver, "KERNEL_MODULE", tmp_path / "none")
    assert probe(str(libcuda)).gpus[0].driver == "for CUDA 13.0"


@pytest.mark.parametrize(
    ("function", "code", "problem"),
    [
        ("cuInit", "100", "cuInit answers CUDA_ERROR_NO_DEVICE (100): no CUDA-capable device is detected"),
        ("cuInit", "999", "cuInit answers CUDA_ERROR_UNKNOWN (999): unknown error"),
        ("cuDeviceGetCount", "100", "cuDeviceGetCount answers CUDA_ERROR_NO_DEVICE (100)"),
        ("cuDeviceGetName", "999", "cuDeviceGetName answers CUDA_ERROR_UNKNOWN"),
        ("cuDeviceTotalMem_v2", "999", "cuDeviceTotalMem_v2 answers CUDA_ERROR_UNKNOWN"),
    ],
)
def test_a_driver_that_fails_is_a_problem_in_its_own_words(
    libcuda: Path, monkeypatch: pytest.MonkeyPatch, function: str, code: str, problem: str
) -> None:
    monkeypatch.setenv("FAKE_CUDA_FAILS", function)
    monkeypatch.setenv("FAKE_CUDA_CODE", code)
    found = probe(str(libcuda))
    assert found.problem is not None
    assert problem in found.problem
    assert found.gpus == ()


def test_a_driver_without_a_gpu_is_a_problem(libcuda: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA_DEVICES", "0")
    assert "lists no GPU" in str(probe(str(libcuda)).problem)


def test_a_library_that_is_missing_or_a_stub_is_a_problem(tmp_path: Path) -> None:
    assert "no NVIDIA driver is installed" in str(probe(str(tmp_path / "libcuda.so.1")).problem)
    assert "has no function cuInit" in str(probe("libm.so.6").problem)


def test_the_driver_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(engines.cuda.driver, "probe", lambda: asked.append(1))
    engines.cuda.driver._probe_once.cache_clear()
    driver()
    driver()
    engines.cuda.driver._probe_once.cache_clear()
    assert asked == [1]


@pytest.mark.parametrize(
    ("device", "index"),
    [("auto", 0), ("0", 0), ("1", 1), ("cuda", 0), ("cuda:1", 1), ("GPU", 0), ("gpu:1", 1), (" cuda:0 ", 0)],
)
def test_a_device_is_named_by_index(two_gpus: tuple[Gpu, ...], device: str, index: int) -> None:
    assert gpu_for(device) is two_gpus[index]


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("2", "there is no GPU 2: there is Big (cuda:0, compute capability 9.0, 140 GiB); Small (cuda:1,"),
        ("cuda:7", "there is no GPU 7"),
        ("cpu", "'cpu' is no NVIDIA GPU: choose auto or an index such as 0; there is Big"),
        ("", "'' is no NVIDIA GPU"),
        ("-1", "'-1' is no NVIDIA GPU"),
    ],
)
def test_a_gpu_that_is_not_there_is_refused_with_those_that_are(
    two_gpus: tuple[Gpu, ...], device: str, message: str
) -> None:
    with pytest.raises(BackendUnavailable) as refused:
        gpu_for(device)
    assert message in str(refused.value)


def test_without_a_driver_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.cuda.driver, "_probe_once", lambda: Driver("it is broken"))
    with pytest.raises(BackendUnavailable, match=r"can be used: it is broken; install or repair .* or run on the CPU"):
        gpu_for("auto")


def test_cuda_python_itself_takes_every_call_as_it_is_made(libcuda: Path) -> None:
    """In a process of its own, which finds this libcuda as its driver; the fakes of Python would take anything."""
    pytest.importorskip("cuda.bindings.driver")
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.engines.cuda.over_libcuda"],
        cwd=SOURCE.parents[3],
        env={**os.environ, "LD_LIBRARY_PATH": str(libcuda.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
