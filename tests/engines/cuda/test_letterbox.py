"""The letterbox on the GPU against the pipeline's own, which is OpenCV; the kernels run on the host here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from engines.cuda.choose import open_cuda
from engines.cuda.driver import driver, gpu_for
from engines.cuda.layer import Bytes, Choice, Cuda
from engines.cuda.letterbox import KERNELS, GpuLetterbox, OnDevice, kernel_source
from engines.cuda.nvrtc import compile_source
from engines.engine import Uncut
from engines.errors import BackendUnavailable
from pipeline.infer.letterbox import Letterbox
from pipeline.picture import Picture, Planes, yuv_to_bgr
from tests.engines.cuda.fake_driver import FakeGpu, fake_gpu  # noqa: F401
from tests.engines.cuda.host_kernels import letterbox_kernels, needs_nvcc

Size = tuple[int, int]
NAMES = ("letterbox_bgr", "letterbox_yuv")
CAPABILITIES = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0")
SIZES = [  # of the source, of the input, of the content in it; all height and width
    ((480, 853), (640, 640), (361, 640)),
    ((1080, 1920), (320, 320), (180, 320)),
    ((64, 48), (256, 448), (256, 192)),
    ((64, 48), (32, 24), (32, 24)),
    ((2, 2), (97, 31), (97, 31)),
    ((100, 2), (33, 65), (33, 1)),
    ((36, 50), (36, 50), (36, 50)),
]


@pytest.fixture
def cuda(fake_gpu: FakeGpu) -> Iterator[Cuda]:  # noqa: F811
    """The fake GPU, running the kernels that g++ made."""
    fake_gpu.kernels.update(letterbox_kernels())
    opened = open_cuda("cuda-python", gpu_for("auto"))
    opened.activate()
    yield opened
    opened.close()


def cut(cuda: Cuda, letterbox: GpuLetterbox, planes: list[Bytes], size: Size, frame: Uncut, target: Size) -> Bytes:
    """Upload planes, each with some rubbish at the end of its rows, cut, and download."""
    stream, addresses, pitches = cuda.create_stream(), [], []
    for plane in planes:
        rows = plane.reshape(len(plane), -1)
        padded = np.full((len(rows), rows.shape[1] + 13), 200, np.uint8)
        padded[:, : rows.shape[1]] = rows
        addresses.append(cuda.allocate(padded.nbytes))
        pitches.append(padded.shape[1])
        cuda.upload(addresses[-1], padded, stream)
    place = cuda.allocate(target[0] * target[1] * 3 + 1)
    cuda.fill(place, 99, target[0] * target[1] * 3 + 1, stream)
    letterbox.cut(OnDevice(tuple(addresses), tuple(pitches), size), frame, place, target, stream)
    out = np.zeros(target[0] * target[1] * 3 + 1, np.uint8)
    cuda.download(out, place, stream)
    cuda.synchronise(stream)
    assert out[-1] == 99, "it wrote beyond its input"
    for address in (*addresses, place):
        cuda.release(address)
    cuda.destroy_stream(stream)
    return out[:-1].reshape(*target, 3)


def random_cases(seed: int, count: int) -> list[tuple[Size, Size, Size]]:
    numbers = np.random.default_rng(seed)

    def size(most: Size) -> Size:
        return int(numbers.integers(1, most[0] + 1)), int(numbers.integers(1, most[1] + 1))

    targets = [size((90, 90)) for _ in range(count)]
    return [(size((120, 120)), target, size(target)) for target in targets]


def offset_of(target: Size, content: Size) -> Size:
    return (target[0] - content[0]) // 2, (target[1] - content[1]) // 3


def check_bgr(cuda: Cuda, cases: list[tuple[Size, Size, Size]], most: int) -> None:
    """Hold them against OpenCV's, from which no byte may be further than `most`."""
    letterbox = GpuLetterbox(cuda)
    for seed, (size, target, content) in enumerate(cases):
        picture = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        plan = Letterbox(size, target, content, offset_of(target, content))
        expected = plan.blank(114)
        plan.cut(Picture(bgr=picture), expected)
        got = cut(cuda, letterbox, [picture], size, Uncut((picture,), content, plan.offset, 114), target)
        assert np.abs(got.astype(int) - expected).max() <= most, (size, target, content)


def check_yuv(cuda: Cuda, cases: list[tuple[Size, Size, Size]]) -> None:
    letterbox = GpuLetterbox(cuda)
    for seed, (odd, target, content) in enumerate(cases):
        size = (odd[0] + odd[0] % 2, odd[1] + odd[1] % 2)  # the pipeline has planes of even sizes only
        data = np.random.default_rng(seed).integers(0, 256, (size[0] * 3 // 2, size[1]), dtype=np.uint8)
        planes = Planes(data, "bt709" if seed % 2 else "bt601", full_range=seed % 3 == 0)
        plan = Letterbox(size, target, content, offset_of(target, content))
        expected = plan.blank(0)
        plan.cut(Picture(planes=planes), expected)
        each = (planes.y, planes.u, planes.v)
        frame = Uncut(each, content, plan.offset, 0, yuv_to_bgr(planes.matrix, planes.full_range))
        got = cut(cuda, letterbox, list(each), size, frame, target)
        assert np.abs(got.astype(int) - expected).max() <= 1, (size, target, content)


def test_bgr_pictures_are_cut_as_opencv_does_to_the_last_bit(cuda: Cuda) -> None:
    check_bgr(cuda, [*SIZES, *random_cases(1, 60)], most=0)


def test_yuv_planes_are_cut_as_opencv_does_within_one(cuda: Cuda) -> None:
    check_yuv(cuda, [*SIZES, *random_cases(2, 60)])


def test_planes_of_an_odd_size_have_chroma_rounded_up(cuda: Cuda) -> None:
    """5 x 7: the last row and column of the chroma belong to a single row and column of the luma."""
    numbers = np.random.default_rng(3)
    planes = [numbers.integers(0, 256, shape, dtype=np.uint8) for shape in ((5, 7), (3, 4), (3, 4))]
    identity = np.eye(3, 4, dtype=np.float32)
    got = cut(cuda, GpuLetterbox(cuda), planes, (5, 7), Uncut(tuple(planes), (3, 4), (0, 0), 0, identity), (3, 4))
    assert np.array_equal(got[..., 1], planes[1])
    assert np.array_equal(got[..., 2], planes[2])


def test_planes_without_a_matrix_are_refused(cuda: Cuda) -> None:
    planes = [np.zeros((4, 4), np.uint8)] * 3
    letterbox, stream = GpuLetterbox(cuda), cuda.create_stream()
    with pytest.raises(ValueError, match="not 3 planes without one"):
        letterbox.cut(
            OnDevice((1, 2, 3), (4, 4, 4), (4, 4)), Uncut(tuple(planes), (4, 4), (0, 0), 0), 1, (4, 4), stream
        )
    cuda.destroy_stream(stream)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", NAMES)
def test_nvrtc_compiles_the_kernels_for_every_gpu(name: str, capability: str) -> None:
    cubin = compile_source(kernel_source(name), capability, name)
    assert cubin.startswith(b"\x7fELF")
    assert name.encode() in cubin


@pytest.mark.parametrize("name", NAMES)
def test_nvcc_compiles_the_kernels_for_every_gpu(name: str, tmp_path: Path) -> None:
    needs_nvcc()
    numbers = [capability.replace(".", "") for capability in CAPABILITIES]
    targets = [f"-gencode=arch=compute_{number},code=sm_{number}" for number in numbers]
    command = ["nvcc", "--fatbin", "-Werror=all-warnings", *targets, str(KERNELS / f"{name}.cu"), "-o", "out.fatbin"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.fatbin").stat().st_size > 0


@pytest.mark.gpu
@pytest.mark.parametrize("choice", ["cuda-python", "pycuda"])
def test_on_a_real_gpu_the_letterbox_is_opencvs(choice: Choice) -> None:
    if driver().problem is not None:
        pytest.skip(f"needs an NVIDIA GPU: {driver().problem}")
    try:
        opened = open_cuda(choice, gpu_for("auto"))
    except BackendUnavailable as reason:
        pytest.skip(f"needs an NVIDIA GPU's library: {reason}")
    opened.activate()
    check_bgr(opened, [*SIZES, *random_cases(1, 20)], most=1)  # of another OpenCV, perhaps
    check_yuv(opened, [*SIZES, *random_cases(2, 20)])
    opened.close()
