"""CUDA C++ to machine code for one GPU, by NVRTC: a library, so that no CUDA toolkit needs to be installed.

It makes code for the GPU itself (a cubin) where it knows it. PTX, which the driver compiles, is only for GPUs newer
than NVRTC: a driver older than NVRTC refuses it, but takes its cubins. What it made is remembered: every engine of a
process wants the same kernels.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from engines.errors import EngineBuildError

INSTALL = "pip install 'cuda-python[all]'"


def compile_source(source: str, capability: str, name: str) -> bytes:
    """Return a cubin, or PTX, that `cuModuleLoadData` takes.

    Args:
        source: CUDA C++ without includes.
        capability: compute capability of the GPU, such as `8.9`.
        name: what messages call it.

    Raises:
        EngineBuildError: no NVRTC is installed, it knows no such GPU, or it refuses the source; with its own lines.
    """
    try:
        nvrtc = importlib.import_module("cuda.bindings.nvrtc")
        version, known = _ask(nvrtc)
    except (ImportError, RuntimeError) as error:  # RuntimeError: the bindings are there, the library is not
        raise EngineBuildError(f"{name} cannot be compiled, NVRTC is missing ({error}): {INSTALL}") from error
    wanted = int(capability.replace(".", ""))
    older = [arch for arch in known if arch < wanted]
    if wanted in known:
        return _compile(nvrtc, source, f"sm_{wanted}", name)
    if older and wanted > max(known):
        return _compile(nvrtc, source, f"compute_{max(older)}", name)
    raise EngineBuildError(
        f"{name} cannot be compiled for compute capability {capability}: NVRTC {version} knows "
        f"{', '.join(f'{arch / 10:.1f}' for arch in known)}; install the NVRTC of an older CUDA"
    )


def _ask(nvrtc: Any) -> tuple[str, list[int]]:
    _, major, minor = nvrtc.nvrtcVersion()
    _, known = nvrtc.nvrtcGetSupportedArchs()
    return f"{major}.{minor}", list(known)


@cache
def _compile(nvrtc: Any, source: str, arch: str, name: str) -> bytes:
    done, program = nvrtc.nvrtcCreateProgram(source.encode(), f"{name}.cu".encode(), 0, [], [])
    if done != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise EngineBuildError(f"NVRTC takes no program {name}: {done.name}")
    try:
        (done,) = nvrtc.nvrtcCompileProgram(program, 1, [f"--gpu-architecture={arch}".encode()])
        if done != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            lines = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program).decode(errors="replace")
            raise EngineBuildError(f"NVRTC refused {name} for {arch} ({done.name}):\n{lines.strip(chr(0)).strip()}")
        if arch.startswith("sm_"):
            return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
        return _text(nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    finally:
        nvrtc.nvrtcDestroyProgram(program)


def _text(size_of: Any, get: Any, program: Any) -> bytes:
    """Call one of NVRTC's pairs of functions that give a size and fill a buffer."""
    _, size = size_of(program)
    buffer = b" " * int(size)
    get(program, buffer)
    return buffer
