"""Both ways to speak to a GPU, under the same tests: over a fake GPU, and with `pytest -m gpu` on a real one."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from ctypes import c_float, c_int32, c_uint8, c_uint64

import numpy as np
import pytest

from engines.cuda import choose
from engines.cuda.choose import open_cuda
from engines.cuda.driver import driver, gpu_for
from engines.cuda.layer import Bytes, Choice, Cuda
from engines.errors import BackendUnavailable, DeviceLost, EngineBuildError, EngineError
from tests.engines.cuda.fake_driver import FakeGpu, exhaust, fake_gpu, fake_gpus  # noqa: F401
from tests.engines.cuda.fake_gpu import Kernel
from tests.engines.cuda.host_kernels import needs_nvcc

BOTH: tuple[Choice, ...] = ("cuda-python", "pycuda")
ADD = """
extern "C" __global__ void add(unsigned char *bytes, int count, float times, unsigned char more) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) bytes[i] = (unsigned char)(bytes[i] * times + more);
}
"""


@pytest.fixture(params=BOTH)
def cuda(request: pytest.FixtureRequest, fake_gpu: FakeGpu) -> Iterator[Cuda]:  # noqa: F811
    """A GPU, by each library, over the fake one."""
    opened = open_cuda(request.param, gpu_for("auto"))
    opened.activate()
    yield opened
    if not fake_gpu.lost:
        opened.close()


@pytest.fixture(params=BOTH)
def real(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    """The machine's own GPU, by each library that is installed."""
    if driver().problem is not None:
        pytest.skip(f"needs an NVIDIA GPU: {driver().problem}")
    try:
        opened = open_cuda(request.param, gpu_for("auto"))
    except BackendUnavailable as reason:
        pytest.skip(f"needs an NVIDIA GPU's library: {reason}")
    opened.activate()
    yield opened
    opened.close()


def rubbish(size: int) -> Bytes:
    return np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)


def check_round_trip(cuda: Cuda, pinned: bool) -> None:
    stream, size = cuda.create_stream(), 100_003
    address = cuda.allocate(size)
    there, back = (cuda.allocate_pinned(size) if pinned else np.zeros(size, np.uint8) for _ in range(2))
    there[:], back[:] = rubbish(size), 0
    cuda.upload(address, there, stream)
    cuda.download(back, address, stream)
    cuda.synchronise(stream)
    assert np.array_equal(back, rubbish(size))
    cuda.fill(address + 3, 7, 10, stream)
    cuda.download(back, address, stream)
    cuda.synchronise(stream)
    assert back[:14].tolist() == [*rubbish(size)[:3], *[7] * 10, rubbish(size)[13]]
    cuda.release(address)
    if pinned:
        cuda.release_pinned(there)
        cuda.release_pinned(back)
    cuda.destroy_stream(stream)


def check_threads(cuda: Cuda) -> None:
    """Several threads, each with a stream and memory of its own, and none that was made where it is used."""
    failures: list[BaseException] = []
    streams, addresses = [cuda.create_stream() for _ in range(4)], [cuda.allocate(5000) for _ in range(4)]

    def work(stream: object, address: int, value: int) -> None:
        try:
            cuda.activate()
            own = cuda.allocate_pinned(5000)
            for _ in range(10):
                cuda.fill(address, value, 5000, stream)
                cuda.download(own, address, stream)
                cuda.synchronise(stream)
                assert (own == value).all()
            cuda.release_pinned(own)
            cuda.release(address)
            cuda.destroy_stream(stream)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(streams[i], addresses[i], i + 1)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def check_kernel(cuda: Cuda) -> None:
    stream, size = cuda.create_stream(), 1000
    address = cuda.allocate(size)
    kernel = cuda.compile_kernel(ADD, "add")
    cuda.fill(address, 10, size, stream)
    arguments = (np.uint64(address), np.int32(size - 1), np.float32(2.5), np.uint8(3))
    cuda.launch(kernel, (8, 1, 1), (128, 1, 1), arguments, stream)
    back = np.zeros(size, np.uint8)
    cuda.download(back, address, stream)
    cuda.synchronise(stream)
    assert (back[:-1] == 28).all()
    assert back[-1] == 10
    cuda.release(address)
    cuda.destroy_stream(stream)


def check_graph(cuda: Cuda) -> None:
    stream, size = cuda.create_stream(), 1000
    address, there, back = cuda.allocate(size), cuda.allocate_pinned(size), cuda.allocate_pinned(size)
    back[:] = 0
    cuda.begin_capture(stream)
    cuda.upload(address, there, stream)
    cuda.fill(address, 9, 10, stream)
    cuda.download(back, address, stream)
    graph = cuda.end_capture(stream)
    cuda.synchronise(stream)
    assert not back.any(), "it was done, not recorded"
    for seed in (1, 2):
        there[:] = rubbish(size + seed)[:size]
        cuda.launch_graph(graph, stream)
        cuda.synchronise(stream)
        assert back[:11].tolist() == [9] * 10 + [there[10]]
        assert np.array_equal(back[10:], there[10:])
    cuda.destroy_graph(graph)
    cuda.release(address)
    cuda.release_pinned(there)
    cuda.release_pinned(back)
    cuda.destroy_stream(stream)


def check_events(cuda: Cuda) -> None:
    stream, (first, second) = cuda.create_stream(), (cuda.create_event(), cuda.create_event())
    address = cuda.allocate(1 << 20)
    cuda.record(first, stream)
    cuda.fill(address, 1, 1 << 20, stream)
    cuda.record(second, stream)
    cuda.synchronise(stream)
    assert 0 < cuda.elapsed_ms(first, second) < 10_000
    cuda.release(address)
    cuda.destroy_stream(stream)


@pytest.mark.parametrize("pinned", [True, False])
def test_bytes_come_back_as_they_went(cuda: Cuda, pinned: bool) -> None:
    check_round_trip(cuda, pinned)


def test_threads_share_a_gpu_and_give_back_what_others_made(cuda: Cuda) -> None:
    check_threads(cuda)


def test_a_kernel_gets_its_arguments_by_type(cuda: Cuda, fake_gpu: FakeGpu) -> None:  # noqa: F811
    def add(grid: object, block: object, address: int, count: int, times: float, more: int) -> None:
        memory = fake_gpu.memory(address, count)
        memory[:] = memory * times + more

    needs_nvcc(cuda.name)
    fake_gpu.kernels["add"] = Kernel((c_uint64, c_int32, c_float, c_uint8), add)
    check_kernel(cuda)
    assert fake_gpu.launched == [("add", (8, 1, 1), (128, 1, 1))]


def test_a_graph_is_recorded_once_and_launched_often(cuda: Cuda) -> None:
    if cuda.has_graphs:
        check_graph(cuda)
    else:
        with pytest.raises(EngineError, match="graphs cannot be recorded by pycuda"):
            cuda.begin_capture(None)


def test_events_measure_time(cuda: Cuda, fake_gpu: FakeGpu) -> None:  # noqa: F811
    fake_gpu.delay_s = 0.01
    check_events(cuda)


def test_work_is_done_later_and_in_order(cuda: Cuda, fake_gpu: FakeGpu) -> None:  # noqa: F811
    stream, address, back = cuda.create_stream(), cuda.allocate(8), cuda.allocate_pinned(8)
    back[:] = 0
    with fake_gpu.paused():
        cuda.fill(address, 1, 8, stream)
        cuda.fill(address, 2, 4, stream)
        cuda.download(back, address, stream)
        assert not back.any()
    cuda.synchronise(stream)
    assert back.tolist() == [2, 2, 2, 2, 1, 1, 1, 1]
    cuda.release(address)
    cuda.release_pinned(back)
    cuda.destroy_stream(stream)


def test_what_is_enqueued_by_handle_runs_in_order_with_the_rest(cuda: Cuda, fake_gpu: FakeGpu) -> None:  # noqa: F811
    """This is how TensorRT gets its work onto a stream."""
    stream, address, back = cuda.create_stream(), cuda.allocate(4), cuda.allocate_pinned(4)

    def double() -> None:
        fake_gpu.memory(address, 4)[:] *= 2

    cuda.fill(address, 21, 4, stream)
    fake_gpu.enqueue(cuda.handle_of(stream), double)
    cuda.download(back, address, stream)
    cuda.synchronise(stream)
    assert back.tolist() == [42] * 4
    cuda.release(address)
    cuda.release_pinned(back)
    cuda.destroy_stream(stream)


def test_an_array_with_gaps_is_not_copied(cuda: Cuda) -> None:
    stream, address = cuda.create_stream(), cuda.allocate(100)
    gaps = np.zeros((10, 10), np.uint8)[:, :5]
    with pytest.raises(ValueError, match="only a contiguous array"):
        cuda.upload(address, gaps, stream)
    with pytest.raises(ValueError, match="only a contiguous array"):
        cuda.download(gaps, address, stream)
    cuda.release(address)
    cuda.destroy_stream(stream)


def test_a_full_device_says_how_much_was_asked_and_free(cuda: Cuda, fake_gpu: FakeGpu) -> None:  # noqa: F811
    exhaust(fake_gpu, free=5 << 20)
    with pytest.raises(EngineError, match=r"no room for 6\.0 MiB: 5\.0 of 5\.0 MiB are free; use a smaller") as refused:
        cuda.allocate(6 << 20)
    assert not isinstance(refused.value, DeviceLost)
    address = cuda.allocate(1 << 20)
    assert cuda.memory() == (4 << 20, 5 << 20)
    cuda.release(address)
    assert cuda.memory() == (5 << 20, 5 << 20)


def test_a_stream_is_gone_once_destroyed_whoever_still_holds_it(cuda: Cuda, fake_gpu: FakeGpu) -> None:  # noqa: F811
    stream = cuda.create_stream()
    assert list(fake_gpu.streams) == [cuda.handle_of(stream)]
    cuda.destroy_stream(stream)
    assert not fake_gpu.streams


@pytest.mark.parametrize("choice", BOTH)
def test_closing_leaves_no_context_on_the_thread(fake_gpu: FakeGpu, choice: Choice) -> None:  # noqa: F811
    cuda = open_cuda(choice, gpu_for("auto"))
    cuda.activate()
    assert fake_gpu.stack == [fake_gpu.context]
    cuda.close()
    assert fake_gpu.stack == []


def test_memory_is_given_back_only_once(cuda: Cuda, fake_gpu: FakeGpu) -> None:  # noqa: F811
    address = cuda.allocate(10)
    cuda.release(address)
    with pytest.raises(EngineError, match="while freeing memory"):
        cuda.release(address)
    fake_gpu._complaints.clear()


LOSSES: list[Callable[[Cuda, object, int, Bytes], object]] = [
    lambda cuda, stream, address, pinned: cuda.synchronise(stream),
    lambda cuda, stream, address, pinned: cuda.upload(address, pinned, stream),
    lambda cuda, stream, address, pinned: cuda.download(pinned, address, stream),
    lambda cuda, stream, address, pinned: cuda.fill(address, 0, 10, stream),
    lambda cuda, stream, address, pinned: cuda.allocate(10),
    lambda cuda, stream, address, pinned: cuda.allocate_pinned(10),
    lambda cuda, stream, address, pinned: cuda.create_stream(),
    lambda cuda, stream, address, pinned: cuda.memory(),
]


@pytest.mark.parametrize("call", LOSSES)
@pytest.mark.parametrize(("code", "name"), [(700, "ILLEGAL_ADDRESS"), (719, "LAUNCH_FAILED"), (999, "UNKNOWN")])
def test_whatever_is_done_on_a_lost_device_says_so(
    cuda: Cuda,
    fake_gpu: FakeGpu,  # noqa: F811
    call: Callable[[Cuda, object, int, Bytes], object],
    code: int,
    name: str,
) -> None:
    stream, address, pinned = cuda.create_stream(), cuda.allocate(10), cuda.allocate_pinned(10)
    fake_gpu.lose(code)
    with pytest.raises(DeviceLost, match=rf"Fake GPU 0 .* is lost: CUDA_ERROR_{name} while .*; start again, and look"):
        call(cuda, stream, address, pinned)
    with pytest.raises(DeviceLost):
        call(cuda, stream, address, pinned)


def test_a_kernel_that_crashes_is_told_where_its_stream_is_waited_for(cuda: Cuda, fake_gpu: FakeGpu) -> None:  # noqa: F811
    stream = cuda.create_stream()
    with fake_gpu.paused():
        fake_gpu.enqueue(cuda.handle_of(stream), lambda: fake_gpu.memory(0, 1).fill(0))
    with pytest.raises(DeviceLost, match="CUDA_ERROR_ILLEGAL_ADDRESS while waiting for its work"):
        cuda.synchronise(stream)


def test_no_thread_is_left_with_a_context_that_pycuda_would_abort_over(fake_gpu: FakeGpu) -> None:  # noqa: F811
    """It does when a thread ends with one on pycuda's own stack; here, after the device was lost in between."""
    cuda = open_cuda("pycuda", gpu_for("auto"))

    def work() -> None:
        cuda.activate()
        cuda.release(cuda.allocate(10))
        fake_gpu.lose()
        with pytest.raises(DeviceLost):
            cuda.allocate(10)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not [text for text in fake_gpu.problems() if "abort" in text]


def test_without_a_context_on_the_thread_nothing_is_done(cuda: Cuda) -> None:
    failures: list[str] = []

    def work() -> None:
        try:
            cuda.memory()
        except EngineError as error:
            failures.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(failures) == 1
    assert "while asking for its memory" in failures[0]


def test_closing_lets_the_context_go_on_any_thread(fake_gpus: list[FakeGpu]) -> None:  # noqa: F811
    opened = [open_cuda(choice, gpu_for("cuda:1")) for choice in BOTH]
    assert [gpu.retained for gpu in fake_gpus] == [0, 2]
    for cuda in opened:
        thread = threading.Thread(target=cuda.close)
        thread.start()
        thread.join()
    assert [gpu.retained for gpu in fake_gpus] == [0, 0]


def test_two_gpus_are_two(fake_gpus: list[FakeGpu]) -> None:  # noqa: F811
    for choice in BOTH:
        first, second = open_cuda(choice, gpu_for("0")), open_cuda(choice, gpu_for("1"))
        for cuda, used in ((first, [64, 0]), (second, [0, 64])):
            cuda.activate()
            address = cuda.allocate(64)
            assert [gpu.used for gpu in fake_gpus] == used
            cuda.release(address)
        first.close()
        second.close()


def test_a_source_that_does_not_compile_is_refused_with_the_compilers_lines(cuda: Cuda) -> None:
    needs_nvcc(cuda.name)
    with pytest.raises(EngineBuildError, match=r'identifier "nonsense" is undefined'):
        cuda.compile_kernel('extern "C" __global__ void add(int *x) { x[0] = nonsense; }', "add")


def test_a_function_that_is_not_in_the_source_is_refused(cuda: Cuda) -> None:
    needs_nvcc(cuda.name)
    with pytest.raises(EngineBuildError, match=r"named symbol|NOT_FOUND"):
        cuda.compile_kernel(ADD, "subtract")


def test_auto_takes_cuda_python_else_pycuda_and_says_so_once(
    fake_gpu: FakeGpu,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    choose._skipped.cache_clear()
    caplog.set_level(logging.INFO)
    opened = [open_cuda("auto", gpu_for("auto"))]
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    opened += [open_cuda("auto", gpu_for("auto")) for _ in range(2)]
    assert [cuda.name for cuda in opened] == ["cuda-python", "pycuda", "pycuda"]
    assert [record.message.split(":")[0] for record in caplog.records] == ["cuda-python skipped"]
    for cuda in opened:
        cuda.close()


def test_without_either_library_the_message_says_what_to_install(
    fake_gpu: FakeGpu,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("cuda.bindings.driver", "pycuda.driver"):
        monkeypatch.setitem(sys.modules, module, None)
    for choice in BOTH:
        with pytest.raises(BackendUnavailable, match=r"cannot be imported .*: pip install"):
            open_cuda(choice, gpu_for("auto"))
    with pytest.raises(BackendUnavailable, match=r"neither .*; pip install 'cuda-python\[all\]>=12.6'"):
        open_cuda("auto", gpu_for("auto"))


@pytest.mark.gpu
def test_on_a_real_gpu_everything_does_the_same(real: Cuda) -> None:
    for pinned in (True, False):
        check_round_trip(real, pinned)
    check_threads(real)
    check_events(real)
    check_kernel(real)
    if real.has_graphs:
        check_graph(real)


@pytest.mark.gpu
def test_on_a_real_gpu_a_full_device_says_so_and_goes_on(real: Cuda) -> None:
    free, total = real.memory()
    assert 0 < free <= total
    with pytest.raises(EngineError, match="no room for"):
        real.allocate(2 * total)
    check_round_trip(real, pinned=True)


@pytest.mark.gpu
def test_on_a_real_gpu_torch_shares_the_context(real: Cuda) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA GPU that torch is built for")
    tensor = torch.arange(100, dtype=torch.uint8, device=f"cuda:{real.gpu.index}")
    torch.cuda.synchronize()
    real.activate()
    stream, back = real.create_stream(), np.zeros(100, np.uint8)
    real.download(back, tensor.data_ptr(), stream)
    real.synchronise(stream)
    assert np.array_equal(back, np.arange(100))
    real.fill(tensor.data_ptr(), 5, 100, stream)
    real.synchronise(stream)
    assert int(tensor.sum()) == 500
    real.destroy_stream(stream)
