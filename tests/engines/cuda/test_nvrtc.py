"""Compiling for GPUs that NVRTC knows, does not know yet, and knows no more."""

from __future__ import annotations

import sys

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


def test_without_nvrtc_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.nvrtc", None)
    with pytest.raises(EngineBuildError, match=r"NVRTC is missing .*: pip install 'cuda-python\[all\]'"):
        compile_source(SOURCE, "8.9", "nothing")
