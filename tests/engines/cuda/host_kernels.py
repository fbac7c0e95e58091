"""The project's own CUDA sources, compiled by g++ and run on the host, for a FakeGpu; and what compilers are here."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from ctypes import c_double, c_float, c_int32, c_uint64
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engines.cuda.letterbox import KERNELS
from tests.engines.cuda.fake_gpu import Kernel

SHIM = Path(__file__).parent / "host_shim"
PLACE = [c_uint64, *[c_int32] * 7]
"""Target; its height and width, top, left, height and width of the content, padding."""
PARAMETERS: dict[str, list[Any]] = {
    "letterbox_bgr": [c_uint64, *[c_int32] * 3, *PLACE, *[c_double] * 2],
    "letterbox_yuv": [*[c_uint64] * 3, *[c_int32] * 5, *PLACE, *[c_double] * 4, *[c_float] * 12],
}


def needs_nvcc(library: str = "pycuda") -> None:
    """Skip a test that compiles by pycuda, which calls nvcc, where there is none."""
    if library == "pycuda" and shutil.which("nvcc") is None:
        pytest.skip("no nvcc here")


def letterbox_kernels() -> dict[str, Kernel]:
    """Return both kernels for `FakeGpu.kernels`."""
    return {name: Kernel(tuple(types), host_function(name)) for name, types in PARAMETERS.items()}


@cache
def host_function(name: str) -> Callable[..., None]:
    """Compile a kernel by g++; return a function of grid, block and its arguments."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    folder = Path(tempfile.mkdtemp(prefix="host-kernels-"))
    runner = f'extern "C" {{ void *runner = (void *)&Host<{name}>::run; }}'
    (folder / "whole.cpp").write_text(f'#include "cuda_on_host.h"\n#include "{name}.cu"\n{runner}\n')
    command = ["g++", "-std=c++17", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{SHIM}", f"-I{KERNELS}"]
    done = subprocess.run([*command, "whole.cpp", "-o", "whole.so"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    library = ctypes.CDLL(str(folder / "whole.so"))
    shutil.rmtree(folder)
    three = ctypes.c_uint * 3
    signature = ctypes.CFUNCTYPE(None, three_pointer := ctypes.POINTER(ctypes.c_uint), three_pointer, *PARAMETERS[name])
    function = signature(ctypes.c_void_p.in_dll(library, "runner").value or 0)
    return lambda grid, block, *arguments: function(three(*grid), three(*block), *arguments)
