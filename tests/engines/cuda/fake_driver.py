"""A GPU for tests: fixtures that put a FakeGpu in the place of libcuda, cuda-python and pycuda.

How to use it (import the fixtures into your `conftest.py`, or into the test file with `# noqa: F401`):

    def test_something(fake_gpu: FakeGpu) -> None:
        cuda = open_cuda("cuda-python", gpu_for("auto"))     # or "pycuda": the project's own adapters over the fake
        cuda.activate()
        ...
        cuda.close()

- `fake_gpu`: one GPU; `fake_gpus`: two. `engines.cuda.driver.driver()` tells of them, `cuda.bindings.driver` and
  `pycuda` are fakes over them. When the test is over everything must have been given back: memory, pinned memory,
  streams, the primary context (`problems()`); a test that loses the device is not asked.
- `FakeGpu.enqueue(handle, work)` puts a function on the stream with that integer handle (what a fake TensorRT context
  does in `execute_async_v3(handle)`). It runs later, on the stream's own thread, in order; while the stream is being
  captured it is recorded instead and run by each launch of the graph. If it raises, the device is lost, and
  `gpu.failures` keeps the exception.
- `FakeGpu.memory(address, size)` is a uint8 view of device memory, to be called inside such a function (when the work
  is *done*, not when it is enqueued): memory that has been released meanwhile is an illegal address.
  E.g. `gpu.memory(address, 4 * n).view(np.float32).reshape(shape)[...] = result`.
- `with gpu.paused():` all streams stand still; `gpu.delay_s = 0.05` slows each piece of work down. New device and
  pinned memory is full of 0xDD: an output that was read too early is rubbish and not accidentally right.
- `gpu.lose()` makes every later call give CUDA_ERROR_ILLEGAL_ADDRESS (or the code given).
  `FakeGpu(memory_bytes=...)`, or `exhaust(gpu, free)` for out of memory.
- Kernels: `gpu.kernels.update(host_kernels.letterbox_kernels())` makes the real letterbox sources run on the host,
  compiled by g++. `compile_kernel` really compiles (NVRTC or nvcc), then the host's function of that name is run.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator

import pytest

import engines.cuda.driver
from engines.cuda.driver import Driver
from tests.engines.cuda.fake_cuda_python import cuda_python
from tests.engines.cuda.fake_gpu import FakeGpu
from tests.engines.cuda.fake_pycuda import Libcuda, pycuda

__all__ = ["FakeGpu", "exhaust", "fake_gpu", "fake_gpus", "install"]


def install(gpus: list[FakeGpu], patch: pytest.MonkeyPatch) -> None:
    """Put these GPUs in the place of the machine's own for as long as `patch` lasts."""
    with contextlib.suppress(ImportError):
        importlib.import_module("cuda.bindings.nvrtc")  # the real one, which needs the real driver module to load
    patch.setitem(sys.modules, "cuda.bindings.driver", cuda_python(gpus))
    for name, module in pycuda(gpus).items():
        patch.setitem(sys.modules, name, module)
    found = Driver(None, tuple(gpu.gpu for gpu in gpus), "13.0")
    patch.setattr(engines.cuda.driver, "_probe_once", lambda: found)
    patch.setattr(engines.cuda.driver, "load", lambda library="": Libcuda(gpus))


def exhaust(gpu: FakeGpu, free: int) -> None:
    """Leave only `free` bytes of device memory."""
    gpu.gpu = gpu.gpu.__class__(**{**gpu.gpu.__dict__, "memory_bytes": gpu.used + free})


@pytest.fixture
def fake_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[FakeGpu]]:
    """Two GPUs."""
    gpus = [FakeGpu(0), FakeGpu(1, compute_capability="9.0")]
    install(gpus, monkeypatch)
    yield gpus
    for gpu in gpus:
        gpu.running.set()
        assert gpu.lost or not gpu.problems(), gpu.problems()


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """One GPU."""
    gpu = FakeGpu()
    install([gpu], monkeypatch)
    yield gpu
    gpu.running.set()
    assert gpu.lost or not gpu.problems(), gpu.problems()
