"""A build that is interrupted ends, and says so; else it is as if it ran on the thread that called."""

from __future__ import annotations

import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest

from engines.cuda.choose import open_cuda
from engines.cuda.current import current_context, make_current
from engines.cuda.driver import gpu_for
from engines.tensorrt import apart
from engines.tensorrt.apart import run_apart
from tests.engines.cuda.fake_driver import FakeGpu, fake_gpus  # noqa: F401

INTERRUPTED = """
import os, signal, sys, threading, time
from pathlib import Path
from engines.tensorrt.build import build_plan
from engines.tensorrt.flavour import find_flavour
from engines.tensorrt.network import network_of
from engines.tensorrt.recipe import Recipe
from tests.engines.onnx_files import spec_of

signal.signal(signal.SIGINT, signal.default_int_handler)
def interrupt():
    os.kill(os.getpid(), signal.SIGINT)
recipe = Recipe("fp16", (256, 256), batch=4, usual_batch=1)
network = network_of(spec_of(Path(sys.argv[1])), recipe)
times = int(sys.argv[2])
told = iter(range(times))
def progress(*_):
    if (number := next(told, None)) is not None:
        time.sleep(0.3 * number)  # two at once would be one
        interrupt()
if not times:
    progress = None
    threading.Timer(0.05, interrupt).start()
try:
    plan = build_plan(find_flavour("tensorrt-rtx"), network, recipe, progress)
except KeyboardInterrupt:
    print("interrupted")
    if times < 2:
        assert threading.active_count() == 1
else:
    print("a plan", len(plan))
"""


@pytest.mark.parametrize("times", [0, 1, 2], ids=["without progress", "once", "twice"])
def test_ctrl_c_ends_a_build_of_the_real_builder(times: int, shared: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = shared / "models" / "detect" / "yolox_nano.onnx"
    command = [sys.executable, "-c", INTERRUPTED, str(model), str(times)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("interrupted\n", 0), done.stderr
    assert "Exception caught" not in done.stderr  # TensorRT's words for what it has dropped


def test_what_the_work_returns_or_raises_is_given_on() -> None:
    assert run_apart(lambda _: threading.current_thread()) is not threading.main_thread()

    def fail(_: threading.Event) -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        run_apart(fail)


class Interruption:
    """Interrupts the waiting thread once the work has begun."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun = threading.Event()
        wait = threading.Event.wait

        def interrupted(event: threading.Event, timeout: float | None = None) -> bool:
            if timeout == apart.LOOK_S:
                assert wait(self.begun, 10)
                raise KeyboardInterrupt
            return wait(event, timeout)

        monkeypatch.setattr(threading.Event, "wait", interrupted)


def test_an_interrupted_work_is_told_and_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    interruption, ended = Interruption(monkeypatch), []

    def work(cancelled: threading.Event) -> None:
        interruption.begun.set()
        assert cancelled.wait(10)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        run_apart(work)
    assert ended == [True]


def test_a_work_that_does_not_stop_is_not_waited_for_for_long(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(apart, "PATIENCE_S", 0.05)
    interruption, over = Interruption(monkeypatch), threading.Event()

    def work(cancelled: threading.Event) -> None:
        interruption.begun.set()
        over.wait(10)

    with pytest.raises(KeyboardInterrupt):
        run_apart(work)
    assert "has not stopped yet" in caplog.text
    over.set()


def test_the_callers_cuda_context_is_current_there(fake_gpus: list[FakeGpu]) -> None:  # noqa: F811
    cuda = open_cuda("cuda-python", gpu_for("1"))
    with cuda.active():
        assert current_context() == fake_gpus[1].context
        assert run_apart(lambda _: fake_gpus[1].current_context()) == fake_gpus[1].context
    assert run_apart(lambda _: current_context()) == 0
    cuda.close()


def test_where_there_is_no_driver_no_context_is_current(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(library: str = "") -> Any:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr("engines.cuda.driver.load", missing)
    assert current_context() == 0
    make_current(0)


def test_what_a_failure_leaves_behind_is_given_back_before_it_is_told() -> None:
    """A builder that is kept by a traceback would outlive the CUDA context."""

    class Builder:
        pass

    kept: list[weakref.ref[Builder]] = []

    def work(_: threading.Event) -> None:
        builder = Builder()
        kept.append(weakref.ref(builder))
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused") as failure:
        run_apart(work)
    assert kept[0]() is None
    assert failure.traceback
