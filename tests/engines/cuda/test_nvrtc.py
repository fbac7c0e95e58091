"""Compiling for GPUs that NVRTC knows, does not know yet, and knows no more."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from engines.cuda.nvrtc import compile_source
from engines.errors import EngineBuildError

SOURCE = 'extern "C" __global__ void nothing() {}'


def test_a_gpu_newer_than_nvrtc_gets_ptx_for_the_newest_it_knows() -> None:
    ptx = compile_source(SOURCE, "99.0", "nothing").decode()
    assert ".target sm_" in ptx
    assert ".entry nothing" in ptx


def test_a_gpu_that_nvrtc_knows_no_more_is_refused_with_those_it_knows() -> None:
    with pytest.raises(
        EngineBuildError, match=r"nothing cannot be compiled for compute capability 3\.0: NVRTC .* 8\.9"
    ):
        compile_source(SOURCE, "3.0", "nothing")


def test_the_same_source_is_compiled_once_for_each_kind_of_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from cuda.bindings import nvrtc

    compiled: list[str] = []
    real = nvrtc.nvrtcCompileProgram

    def counted(program: Any, count: int, options: list[bytes]) -> Any:
        compiled.append(options[0].decode())
        return real(program, count, options)

    monkeypatch.setattr(nvrtc, "nvrtcCompileProgram", counted)
    mine, other = SOURCE.replace("nothing", "once"), SOURCE.replace("nothing", "twice")
    cubins = [compile_source(source, capability, "once") for source, capability in [(mine, "8.9"), (mine, "8.6")] * 2]
    assert cubins[:2] == cubins[2:]
    assert cubins[0] != cubins[1]
    assert compile_source(other, "8.9", "once") != cubins[0]
    assert compiled == [f"--gpu-architecture=sm_{arch}" for arch in (89, 86, 89)]


def test_what_was_refused_is_refused_again_with_the_compilers_lines() -> None:
    for _ in range(2):
        with pytest.raises(EngineBuildError, match=r"(?s)NVRTC refused wrong for sm_89 .*not_declared"):
            compile_source("void broken() { not_declared(); }", "8.9", "wrong")


def test_without_nvrtc_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(EngineBuildError, match=r"NVRTC is missing .*: pip install 'cuda-python\[all\]'"):
        compile_source(SOURCE, "8.9", "nothing")
