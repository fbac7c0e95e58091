"""Cameras: what is chosen, how pixels are read, what is said; a scripted device stands for the hardware."""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2

# isort: split
import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from pipeline.arrays import Image
from pipeline.capture.live import camera as module
from pipeline.capture.live import make_live
from pipeline.capture.live.camera import CameraConnection, cameras, check_camera
from pipeline.capture.live.failure import Unsupported
from pipeline.capture.live.link import Link
from pipeline.capture.live.pixels import LENIENT_AFTER, RAW, JpegConverter, RawConverter, best_of, converter_for
from pipeline.capture.live.v4l2 import Filled, Layout, Waiter
from pipeline.capture.options import LiveOptions, SourceOptions
from pipeline.errors import SourceError

WIDTH, HEIGHT = 322, 180
"""Neither is a multiple of what decoders align to."""
FOUR_TWO_TWO = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422
FOUR_TWO_ZERO = cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420
LONG_S = 60.0
AT_ONCE_S = 5.0


# ---------------------------------------------------------------------------------------------- formats


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (["YUYV", "MJPG"], "MJPG"),
        (["GREY", "NV12", "YUYV"], "YUYV"),
        (["RGB3", "H264"], "RGB3"),
        (["H264", "Y16 "], None),
        ([], None),
    ],
)
def test_jpeg_is_taken_before_raw_pictures_and_these_before_nothing(offered: list[str], taken: str | None) -> None:
    assert best_of(offered) == taken


# ---------------------------------------------------------------------------------------------- pixels


def scene(width: int = WIDTH, height: int = HEIGHT) -> Image:
    """Return a smooth picture of many colours, so that formats with less chroma show it nearly as well."""
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def as_camera_gives(fourcc: str, bgr: Image, matrix: Colorspace, full: bool, padding: int) -> tuple[bytes, int]:
    """Return a picture in a camera's format, and its stride; made by FFmpeg, whose own padding is taken out."""
    raw = RAW[fourcc]
    height, width = bgr.shape[:2]
    colour_range = ColorRange.JPEG if full else ColorRange.MPEG
    frame = av.VideoFrame.from_ndarray(bgr, format="bgr24").reformat(
        format=raw.name, dst_colorspace=matrix, dst_color_range=colour_range
    )
    planes = []
    for (pair, rows), index in zip(raw.planes, raw.order, strict=False):
        plane: Any = frame.planes[index]
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: height * rows // 2, : width * pair // 2]
        extra = padding * pair // raw.planes[0][0]
        planes.append(np.pad(lines, ((0, 0), (0, extra)), constant_values=99).tobytes())
    return b"".join(planes), width * raw.planes[0][0] // 2 + padding


@pytest.mark.parametrize("padding", [0, 28])
@pytest.mark.parametrize(("encoding", "matrix"), [(1, Colorspace.ITU601), (2, Colorspace.ITU709)])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("fourcc", ["YUYV", "UYVY", "NV12", "YU12", "YV12", "RGB3", "BGR3"])
def test_colours_are_those_that_the_camera_saw(
    fourcc: str, full: bool, encoding: int, matrix: Colorspace, padding: int
) -> None:
    bgr = scene()
    data, stride = as_camera_gives(fourcc, bgr, matrix, full, padding)
    layout = Layout(fourcc, WIDTH, HEIGHT, stride, encoding=encoding, quantization=1 if full else 2)
    picture = RawConverter(layout).picture(data)
    assert picture is not None
    assert (picture.width, picture.height) == (WIDTH, HEIGHT)
    difference = np.abs(picture.bgr.astype(int) - bgr)
    assert difference.mean() < 3.5
    assert np.percentile(difference, 99) <= 8


@pytest.mark.parametrize(
    ("colorspace", "encoding", "is_709"), [(8, 0, False), (3, 0, True), (8, 2, True), (3, 1, False)]
)
def test_the_matrix_is_the_one_that_the_driver_names_or_that_its_colour_space_implies(
    colorspace: int, encoding: int, is_709: bool
) -> None:
    layout = Layout("YUYV", 1280, 720, colorspace=colorspace, encoding=encoding)
    picture = RawConverter(layout).picture(bytes(1280 * 720 * 2))
    assert picture is not None
    assert picture.planes is not None
    assert (picture.planes.matrix == "bt709") is is_709


@pytest.mark.parametrize(
    ("colorspace", "quantization", "full"), [(8, 0, False), (7, 0, True), (8, 1, True), (7, 2, False)]
)
def test_the_range_is_the_one_that_the_driver_names_or_that_its_colour_space_implies(
    colorspace: int, quantization: int, full: bool
) -> None:
    layout = Layout("UYVY", 4, 2, colorspace=colorspace, quantization=quantization)
    picture = RawConverter(layout).picture(bytes(16))
    assert picture is not None
    assert picture.planes is not None
    assert picture.planes.full_range is full


@pytest.mark.parametrize("fourcc", ["YU12", "YV12", "NV12"])
def test_what_the_camera_gives_in_4_2_0_stays_as_it_is(fourcc: str) -> None:
    planes = np.random.default_rng(1).integers(0, 256, (HEIGHT * 3 // 2, WIDTH), dtype=np.uint8)
    y, u, v = np.split(planes.reshape(-1), [HEIGHT * WIDTH, HEIGHT * WIDTH * 5 // 4])
    data = {"YU12": [y, u, v], "YV12": [y, v, u], "NV12": [y, np.stack([u, v], axis=1)]}[fourcc]
    picture = RawConverter(Layout(fourcc, WIDTH, HEIGHT)).picture(b"".join(part.tobytes() for part in data))
    assert picture is not None
    assert picture.planes is not None
    np.testing.assert_array_equal(picture.planes.data, planes)


def test_luma_of_4_2_2_stays_as_it_is_and_chroma_of_two_rows_becomes_their_mean() -> None:
    packed = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH // 2, 4), dtype=np.uint8)
    picture = RawConverter(Layout("YUYV", WIDTH, HEIGHT, quantization=1)).picture(packed.tobytes())
    assert picture is not None
    assert picture.planes is not None
    np.testing.assert_array_equal(picture.planes.y, packed[..., [0, 2]].reshape(HEIGHT, WIDTH))
    u, v = (packed[::2, :, channel].astype(int) / 2 + packed[1::2, :, channel] / 2 for channel in (1, 3))
    np.testing.assert_allclose(picture.planes.u, u, atol=1)
    np.testing.assert_allclose(picture.planes.v, v, atol=1)


def test_a_picture_of_odd_height_becomes_bgr() -> None:
    bgr = scene(WIDTH, HEIGHT + 1)
    data, stride = as_camera_gives("YUYV", bgr, Colorspace.ITU601, full=False, padding=12)
    picture = RawConverter(Layout("YUYV", WIDTH, HEIGHT + 1, stride, encoding=1, quantization=2)).picture(data)
    assert picture is not None
    assert picture.planes is None
    assert np.abs(picture.bgr.astype(int) - bgr).mean() < 3


def test_grey_stays_as_it_is() -> None:
    grey = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)
    picture = RawConverter(Layout("GREY", WIDTH, HEIGHT, quantization=1)).picture(grey.tobytes())
    assert picture is not None
    np.testing.assert_array_equal(picture.bgr, np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize("fourcc", list(RAW))
def test_a_raw_picture_of_which_a_byte_is_missing_is_damaged_but_its_last_padding_may_be(fourcc: str) -> None:
    data, stride = as_camera_gives(fourcc, scene(), Colorspace.ITU601, full=False, padding=24)
    converter = RawConverter(Layout(fourcc, WIDTH, HEIGHT, stride))
    pair, first = RAW[fourcc].planes[-1][0], RAW[fourcc].planes[0][0]
    whole = len(data) - 24 * pair // first
    assert converter.picture(data[:whole]) is not None
    assert converter.picture(data[: whole - 1]) is None
    assert converter.picture(b"") is None


def jpeg(sampling: int = FOUR_TWO_TWO) -> bytes:
    parameters = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    return bytes(cv2.imencode(".jpg", scene(640, 480), parameters)[1])


@pytest.mark.parametrize(("sampling", "planes"), [(FOUR_TWO_TWO, False), (FOUR_TWO_ZERO, True)])
def test_jpeg_is_decoded_as_opencv_does_it_and_4_2_0_stays_planes(sampling: int, planes: bool) -> None:
    data = jpeg(sampling)
    picture = converter_for(Layout("MJPG", 640, 480)).picture(data)
    assert picture is not None
    assert (picture.planes is not None) is planes
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert expected is not None
    assert np.abs(picture.bgr.astype(int) - expected).mean() < 2


def noisy_jpeg() -> bytes:
    """Return one that is long enough to lose a part."""
    noise = np.random.default_rng(4).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    return bytes(cv2.imencode(".jpg", noise)[1])


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[: len(data) // 2] + data[len(data) // 2 + 3000 :],
        lambda data: data[: len(data) // 2] + bytes(3000) + data[len(data) // 2 + 3000 :],
        lambda data: data[:200],
        lambda data: b"\x00" * 1000,
    ],
    ids=["cut off", "a hole", "zeros", "head only", "no JPEG"],
)
def test_a_damaged_jpeg_is_refused_and_the_next_is_not(damage: Callable[[bytes], bytes]) -> None:
    whole, converter = noisy_jpeg(), JpegConverter()
    assert converter.picture(whole) is not None
    assert converter.picture(damage(whole)) is None
    assert converter.picture(whole) is not None


def test_jpegs_with_something_behind_them_or_without_their_end_marker_are_whole() -> None:
    whole, converter = noisy_jpeg(), JpegConverter()
    assert converter.picture(whole + bytes(5000)) is not None
    assert converter.picture(whole[:-2]) is not None


def test_a_camera_whose_jpegs_all_have_a_fault_is_believed_in_the_end() -> None:
    faulty, converter = noisy_jpeg()[:-2000], JpegConverter()
    seen = [converter.picture(faulty) is not None for _ in range(LENIENT_AFTER + 2)]
    assert seen == [False] * LENIENT_AFTER + [True] * 2


def test_a_camera_that_has_sent_one_good_jpeg_is_never_believed_a_bad_one() -> None:
    whole, converter = noisy_jpeg(), JpegConverter()
    assert converter.picture(whole) is not None
    assert all(converter.picture(whole[:-2000]) is None for _ in range(3 * LENIENT_AFTER))


# ---------------------------------------------------------------------------------------------- connections


class Script:
    """A camera in place of `v4l2.Device`: YUYV at 4 x 2 and 30 fps, whatever is asked for."""

    def __init__(self, *filled: Filled, fourccs: tuple[str, ...] = ("YUYV",)) -> None:
        self._filled, self._fourccs = list(filled), fourccs
        self._ends = os.pipe()
        self._waiter = Waiter(self._ends[0])
        self.fails = self.is_closed = False

    def fourccs(self) -> Iterator[str]:
        yield from self._fourccs

    def choose(self, fourcc: str, width: int | None, height: int | None) -> Layout:
        return Layout(fourcc, 4, 2)

    def choose_rate(self, fps: float) -> float:
        return 30.0

    def start(self) -> None:
        if self.fails:
            raise OSError(errno.ENOSPC, "no room")

    def read(self, timeout_s: float) -> Filled | None:
        if self._filled:
            return self._filled.pop(0)
        assert not self.is_closed
        assert self._waiter.wait(timeout_s) == 0
        if not self._waiter.is_woken:
            raise TimeoutError
        return None

    def interrupt(self) -> None:
        self._waiter.wake()

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._waiter.close()
            for end in self._ends:
                os.close(end)


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Script], None]]:
    """Puts a scripted camera in the place of every device."""
    plugged: list[Script] = []

    def plug_in(script: Script) -> None:
        plugged.append(script)
        monkeypatch.setattr(module, "Device", lambda path: script)

    yield plug_in
    for script in plugged:
        script.close()


def options(rotate: int | None = None, **live: Any) -> SourceOptions:
    return SourceOptions(rotate=rotate, live=LiveOptions(**live))


def filled(stamped_s: float | None = None, is_monotonic: bool = True, is_damaged: bool = False) -> Filled:
    return Filled(bytes(range(16)), stamped_s, is_monotonic, is_damaged)


@pytest.mark.parametrize(
    ("stamped_s", "is_monotonic", "captured_at"),
    [
        (99.9, True, 99.9),
        (100.1, True, 100.0),
        (90.0, True, 99.0),
        (99.9, False, 100.0),
        (None, True, 100.0),
    ],
    ids=["the driver's", "not in the future", "not long ago", "another clock", "none"],
)
def test_a_picture_was_captured_when_the_driver_says_unless_that_cannot_be(
    plug: Callable[[Script], None], stamped_s: float | None, is_monotonic: bool, captured_at: float
) -> None:
    plug(Script(filled(stamped_s, is_monotonic)))
    connection = CameraConnection("cam", "", options(), clock=lambda: 100.0, wall_clock=lambda: 5000.0)
    arrival = next(connection.arrivals())
    assert arrival.captured_at == captured_at
    assert arrival.stream_s == stamped_s
    assert arrival.wall_time == pytest.approx(4900.0 + captured_at)
    assert arrival.source == "cam"
    assert arrival.picture is not None
    assert connection.heard_at == 100.0


def test_a_buffer_that_the_driver_calls_damaged_is_an_arrival_without_a_picture(plug: Callable[[Script], None]) -> None:
    plug(Script(filled(1.0), filled(1.1, is_damaged=True), filled(1.2)))
    arrivals = CameraConnection("cam", "", options()).arrivals()
    assert [next(arrivals).picture is None for _ in range(3)] == [False, True, False]


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_pictures_are_turned_clockwise(plug: Callable[[Script], None], rotate: int) -> None:
    plug(Script(filled(), filled()))
    upright = next(CameraConnection("cam", "", options()).arrivals()).picture
    turned = next(CameraConnection("cam", "", options(rotate)).arrivals()).picture
    assert upright is not None
    assert turned is not None
    np.testing.assert_array_equal(turned.bgr, np.rot90(upright.bgr, -rotate // 90))


def test_what_the_camera_does_not_give_is_said_once_for_all_connections(
    plug: Callable[[Script], None], caplog: pytest.LogCaptureFixture
) -> None:
    plug(Script())
    told: set[str] = set()
    for _ in range(2):
        CameraConnection("cam", "", options(width=640, height=480, fps=60), told=told)
    assert [(each.levelno, each.getMessage()) for each in caplog.records] == [
        (logging.WARNING, "cam: asked for 640 x 480, the camera gives 4 x 2"),
        (logging.WARNING, "cam: asked for 60 fps, the camera gives 30"),
    ]


def test_what_the_camera_gives_as_asked_is_not_spoken_of(
    plug: Callable[[Script], None], caplog: pytest.LogCaptureFixture
) -> None:
    plug(Script())
    CameraConnection("cam", "", options(width=4, height=2, fps=29.97))
    assert not caplog.records


def test_a_camera_without_a_readable_format_is_refused_and_closed(plug: Callable[[Script], None]) -> None:
    script = Script(fourccs=("H264", "Y16 "))
    plug(script)
    with pytest.raises(Unsupported, match="it has H264, Y16 "):
        CameraConnection("cam", "", options())
    assert script.is_closed


def test_a_camera_that_does_not_begin_is_closed(plug: Callable[[Script], None]) -> None:
    script = Script()
    script.fails = True
    plug(script)
    with pytest.raises(OSError, match="no room"):
        CameraConnection("cam", "", options())
    assert script.is_closed


def test_arrivals_end_at_once_when_they_are_interrupted(plug: Callable[[Script], None]) -> None:
    plug(Script(filled()))
    connection = CameraConnection("cam", "", options(open_timeout_s=LONG_S, read_timeout_s=LONG_S))
    timer = threading.Timer(0.2, connection.interrupt)
    timer.start()
    before = time.monotonic()
    assert len(list(connection.arrivals())) == 1
    assert time.monotonic() - before < AT_ONCE_S
    timer.join()


@pytest.mark.parametrize("slow", [False, True], ids=["while reading", "while opening"])
def test_a_link_that_is_closed_gives_the_camera_back_at_once(plug: Callable[[Script], None], slow: bool) -> None:
    script = Script()
    plug(script)
    opening, go_on = threading.Event(), threading.Event()
    settings = options(open_timeout_s=LONG_S, read_timeout_s=LONG_S)

    def connect() -> CameraConnection:
        opening.set()
        assert go_on.wait(LONG_S)
        return CameraConnection("cam", "", settings)

    link = Link("cam", "", connect, (LONG_S, LONG_S), time.monotonic)
    assert opening.wait(AT_ONCE_S)
    if slow:
        link.close()
        go_on.set()
    else:
        go_on.set()
        assert link.get(0.2) is None
        link.close()
    link.join(AT_ONCE_S)
    assert not link.is_alive
    assert script.is_closed


# ---------------------------------------------------------------------------------------------- what there is


@pytest.mark.parametrize(
    ("device", "complaint"),
    [
        ("/dev/video999", "there is no /dev/video999"),
        ("/dev/null", "/dev/null is no video device"),
        ("/proc/cpuinfo", "/proc/cpuinfo is no device"),
    ],
)
def test_what_is_no_camera_is_refused_with_a_list_of_those_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, complaint: str
) -> None:
    monkeypatch.setattr(module, "NODES", tmp_path)
    with pytest.raises(SourceError) as caught:
        check_camera(device)
    assert str(caught.value) == f"{complaint}; cameras here: none"


def test_a_camera_that_is_not_there_is_refused_before_a_run() -> None:
    with pytest.raises(SourceError, match="there is no /dev/video999"):
        make_live("cam", 999, SourceOptions())


def refuse(number: int, device: str) -> str | None:
    raise OSError(number, os.strerror(number), device)


def test_a_camera_that_this_user_may_not_open_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "objection_to", partial(refuse, errno.EACCES))
    with pytest.raises(SourceError, match="group video"):
        check_camera("/dev/video0")


@pytest.mark.parametrize("number", [errno.EBUSY, errno.ENODEV])
def test_a_camera_that_is_busy_or_being_plugged_in_is_waited_for_and_not_refused(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(module, "objection_to", partial(refuse, number))
    check_camera("/dev/video0")


def test_cameras_are_listed_by_number_with_their_names_and_without_what_gives_no_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, name in [(0, "Webcam"), (1, "Webcam"), (2, "Doorbell"), (10, "Microscope")]:
        (tmp_path / f"video{number}").mkdir()
        (tmp_path / f"video{number}" / "name").write_text(name + "\n")
    (tmp_path / "v4l-subdev0").mkdir()
    objections = {"/dev/video1": "it gives metadata"}
    monkeypatch.setattr(module, "NODES", tmp_path)
    monkeypatch.setattr(module, "objection_to", objections.get)
    assert cameras() == ["/dev/video0 (Webcam)", "/dev/video2 (Doorbell)", "/dev/video10 (Microscope)"]


@pytest.mark.parametrize(
    ("number", "listed"),
    [(errno.EBUSY, ["/dev/video0 (?)"]), (errno.EACCES, ["/dev/video0 (?)"]), (errno.ENODEV, []), (errno.ENOENT, [])],
)
def test_a_camera_that_cannot_be_asked_is_listed_unless_it_is_gone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, listed: list[str]
) -> None:
    (tmp_path / "video0").mkdir()
    monkeypatch.setattr(module, "NODES", tmp_path)
    monkeypatch.setattr(module, "objection_to", partial(refuse, number))
    assert cameras() == listed
