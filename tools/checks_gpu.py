"""What `frameloom doctor` looks at for running models on a GPU: the driver, TensorRT, and what reaches the GPU.

Nothing of TensorRT is constructed: without a driver its Runtime brings the process down.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Iterator

from tools.check import Check

MIB = 1 << 20
CPU_IS_ENOUGH = "only for NVIDIA GPUs; a CPU is enough to run"


def gpu() -> Iterator[Check]:
    """Ask the driver which GPUs there are."""
    from engines.cuda.driver import driver

    found = driver()
    if found.problem is not None:
        yield Check("gpu", "missing", found.problem, f"{CPU_IS_ENOUGH}; for a GPU, install or repair its driver")
    for each in found.gpus:
        yield Check("gpu", "ok", f"{each}, driver {each.driver}, speaks CUDA {found.cuda}")


def tensorrt() -> Iterator[Check]:
    """Look for each flavour of TensorRT."""
    from engines.errors import BackendUnavailable
    from engines.tensorrt.flavour import MODULES, find_flavour

    for backend in MODULES:
        try:
            yield Check(backend, "ok", find_flavour(backend).version)
        except BackendUnavailable as reason:
            yield Check(backend, "missing", str(reason), CPU_IS_ENOUGH)


def cuda_libraries() -> Iterator[Check]:
    """Look for what reaches the GPU from Python, one of which is enough, and for the compiler of kernels."""
    from engines.cuda import nvrtc, with_cuda_python, with_pycuda

    yield _library("cuda-python", "cuda.bindings.driver", "cuda-bindings", with_cuda_python.INSTALL)
    yield _library("pycuda", "pycuda.driver", "pycuda", f"only in place of cuda-python: {with_pycuda.INSTALL}")
    yield _nvrtc(f"frames are cut on the CPU without it: {nvrtc.INSTALL}")


def _library(name: str, module: str, package: str, advice: str) -> Check:
    try:
        importlib.import_module(module)
    except (ImportError, OSError, RuntimeError) as error:  # pycuda: without a driver, its libraries do not load
        return Check(name, "missing", str(error), advice)
    return Check(name, "ok", importlib.metadata.version(package))


def _nvrtc(advice: str) -> Check:
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        _, major, minor = nvrtc.nvrtcVersion()
    except (ImportError, RuntimeError) as error:  # RuntimeError: the bindings are there, the library is not
        return Check("nvrtc", "missing", str(error), advice)
    return Check("nvrtc", "ok", f"{major}.{minor}, compiles kernels for the GPU")


def compiled_engines() -> Iterator[Check]:
    """Count the engines of the cache, unread."""
    from engines.cache.engine_cache import EngineCache

    cache = EngineCache()
    sizes = [path.stat().st_size for path in cache.plans() if path.is_file()]
    if sizes:
        yield Check("engines", "ok", f"{len(sizes)} compiled, {sum(sizes) / MIB:.1f} MiB in {cache.folder}")
