"""Runs the checks of `test_cuda` with the real cuda-python, over whatever libcuda the process finds."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest

from engines.cuda.choose import open_cuda
from engines.cuda.driver import gpu_for
from engines.cuda.layer import Cuda
from engines.errors import EngineError
from tests.engines.cuda.test_cuda import check_events, check_graph, check_kernel, check_round_trip


def main() -> None:
    """Fail where anything does."""
    cuda = open_cuda("cuda-python", gpu_for("1"))
    cuda.activate()
    check_all(cuda)
    cuda.close()
    with ThreadPoolExecutor(1) as other:
        other.submit(check_thread).result()


def check_all(cuda: Cuda) -> None:
    for pinned in (True, False):
        check_round_trip(cuda, pinned)
    check_graph(cuda)
    check_events(cuda)
    assert cuda.memory() == (1 << 30, 2 << 30)
    with pytest.raises(EngineError, match=r"no room for 2048\.0 MiB: 1024\.0 of 2048\.0"):
        cuda.allocate(1 << 31)
    # NVRTC itself would look for things in this libcuda that it does not have
    with patch("engines.cuda.with_cuda_python.compile_source", lambda *_: b"\x7fELF"):
        check_kernel(cuda)


def check_thread() -> None:
    cuda = open_cuda("cuda-python", gpu_for("0"))
    with pytest.raises(EngineError, match="while creating a stream: CUDA_ERROR_INVALID_CONTEXT"):
        cuda.create_stream()
    cuda.activate()
    check_round_trip(cuda, pinned=True)
    cuda.close()


if __name__ == "__main__":
    main()
