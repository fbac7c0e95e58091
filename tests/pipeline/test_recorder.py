"""Recordings: files that play, also after a kill or on a full disk; their times, keyframes, sizes, colours, names."""

from __future__ import annotations

import collections
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.capture import VideoFile
from pipeline.capture.source import SourceInfo
from pipeline.errors import ConfigError, SinkError
from pipeline.frame import Frame
from pipeline.picture import Matrix, Picture, Planes, bgr_to_planes
from pipeline.sinks import video
from pipeline.sinks.file_names import FileNames
from pipeline.sinks.mp4_file import Mp4File
from pipeline.sinks.recorder import Recorder, RecorderOptions, Recording
from pipeline.sinks.retention import MANY
from pipeline.sinks.video import SECOND, RisingClock, VideoEncoder, VideoOptions
from tests.pipeline.videos import (
    AV_MATRIX,
    RGB,
    flat_frame,
    grey_picture,
    grey_video,
    look_into,
    noise_planes,
    yuv_of,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def grey(level: int, size: tuple[int, int] = (64, 48)) -> Planes:
    return bgr_to_planes(grey_picture(*size, level))


def frame(index: int, source: str = "a", pts: float | None = None, size: tuple[int, int] = (64, 48)) -> Frame:
    picture = Picture(planes=grey(20 + 4 * index % 200, size))
    return Frame(source, index, index / 25 if pts is None else pts, 100 + index / 10, picture)


def recording(path: Path, fps: float = 25, options: VideoOptions | None = None) -> Recording:
    return Recording(FileNames(path, set(), numbered=False), fps, options or VideoOptions())


def write(path: Path, times: list[float], fps: float = 25, options: VideoOptions | None = None) -> None:
    writer = recording(path, fps, options)
    for index, time_s in enumerate(times):
        writer.write(grey(20 + 4 * index % 200), time_s)
    writer.close()


def recorder(path: Path, sources: list[SourceInfo] | None = None, **how: object) -> Recorder:
    sink = Recorder(RecorderOptions(path, **how))  # type: ignore[arg-type]
    sink.check(sources or [SourceInfo("a", "a.mp4", fps=25)])
    sink.open()
    return sink


# --- an ordinary file -------------------------------------------------------------------------------------------


def test_a_finished_recording_is_an_ordinary_mp4_with_every_picture(tmp_path: Path) -> None:
    write(tmp_path / "out.mp4", [index / 25 for index in range(60)])
    seen = look_into(tmp_path / "out.mp4")
    assert seen.times == pytest.approx([index / 25 for index in range(60)])
    assert np.abs(np.array(seen.levels) - [20 + 4 * index % 200 for index in range(60)]).max() <= 4
    assert seen.types == {"I", "P"}
    assert seen.errors == 0
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.frames == 60
        assert stream.codec_context.name == "h264"
        assert float(stream.average_rate or 0) == pytest.approx(25, rel=0.02)
        assert not stream.codec_context.has_b_frames
    data = (tmp_path / "out.mp4").read_bytes()
    boxes, position = [], 0
    while position < len(data):
        boxes.append(data[position + 4 : position + 8])
        length = int.from_bytes(data[position : position + 4], "big")
        position += length if length != 1 else int.from_bytes(data[position + 8 : position + 16], "big")
    assert boxes.count(b"moov") == 1
    assert b"moof" not in boxes  # the fragments are inside mdat now, for nobody to see


def test_variable_times_are_kept_to_the_tick(tmp_path: Path) -> None:
    times = [0, 0.033, 0.066, 0.2, 0.9, 1.7, 2.5, 2.51]
    write(tmp_path / "out.mp4", times)
    assert look_into(tmp_path / "out.mp4").ticks == [round(time_s * 90_000) for time_s in times]


def test_a_variable_rate_film_is_recorded_with_its_own_times(tmp_path: Path) -> None:
    path = grey_video(tmp_path / "vfr.mp4", 9, times_s=[0, 0.01, 0.5, 0.51, 1.0, 1.9, 2.0, 4.0, 4.1])
    source = VideoFile("a", path)
    source.open()
    sink = recorder(tmp_path / "out.mp4", [source.info])
    for item in source.frames():
        assert isinstance(item, Frame)
        sink.consume(item)
    sink.close()
    source.close()
    assert look_into(tmp_path / "out.mp4").ticks == look_into(path).ticks


def steady(rate: float, count: int) -> list[float]:
    return [index / rate for index in range(count)]


def jumpy() -> list[float]:
    steps = random.Random(3).choices([0.01, 0.04, 0.3, 0.7, 0.95, 1.5], [9, 9, 2, 1, 1, 1], k=150)
    return [sum(steps[:index]) for index in range(150)]


@pytest.mark.parametrize(
    ("times", "fps"),
    [
        (steady(1, 8), 1),
        (steady(0.2, 4), 0.2),
        (steady(2, 12), 2),
        (steady(3, 20), 3),
        (steady(25, 80), 25),
        (steady(30_000 / 1001, 100), 30_000 / 1001),
        (steady(120, 400), 120),
        (jumpy(), 25),
    ],
    ids=["1", "0.2", "2", "3", "25", "29.97", "120", "jumpy"],
)
def test_a_keyframe_comes_at_least_every_second(tmp_path: Path, times: list[float], fps: float) -> None:
    write(tmp_path / "out.mp4", times, fps)
    seen = look_into(tmp_path / "out.mp4")
    assert seen.times == pytest.approx(times, abs=1e-4)
    for before, after in pairwise([*seen.keyframes, seen.times[-1]]):
        between = [time_s for time_s in seen.times if before < time_s <= after]
        assert after - before <= 1 + 1e-4 or between == [after]  # unless there is no picture in between


@pytest.mark.parametrize("preset", ["ultrafast", "veryfast", "medium"])
def test_no_preset_makes_b_frames(tmp_path: Path, preset: str) -> None:
    write(tmp_path / "out.mp4", steady(25, 60), options=VideoOptions(preset=preset))
    seen = look_into(tmp_path / "out.mp4")
    assert (seen.types, len(seen.times)) == ({"I", "P"}, 60)


@pytest.mark.parametrize(
    ("times", "ticks"),
    [
        ([0, 0, 0, 0.04], [0, 1, 2, 3600]),
        ([0, 0.04, 0.02, 0.06], [0, 3600, 3601, 5400]),
        ([-0.08, -0.04, 0, 0.04], [0, 1, 2, 3600]),
        ([5, 5.04, 0, 0.04], [450_000, 453_600, 457_200, 460_800]),  # joined files: it goes on
    ],
)
def test_times_rise_strictly_whatever_the_source_says(tmp_path: Path, times: list[float], ticks: list[int]) -> None:
    clock = RisingClock(25)
    assert [clock.ticks(time_s) for time_s in times] == ticks
    write(tmp_path / "out.mp4", times)
    assert look_into(tmp_path / "out.mp4").ticks == ticks


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full", [False, True])
def test_colours_and_their_tags_reach_the_recording(tmp_path: Path, matrix: Matrix, full: bool) -> None:
    data = flat_frame(64, 48, "yuv420p", yuv_of(RGB, matrix, full)).to_ndarray()
    planes = Planes(np.ascontiguousarray(data), matrix, full)
    writer = recording(tmp_path / "out.mp4", options=VideoOptions(crf=1))
    for index in range(3):
        writer.write(planes, index / 25)
    writer.close()
    seen = look_into(tmp_path / "out.mp4")
    assert seen.color_range == (2 if full else 1)
    assert seen.colorspace in ({1} if matrix == "bt709" else {5, 6})
    source = VideoFile("a", tmp_path / "out.mp4")
    source.open()
    shown = next(source.frames())
    assert isinstance(shown, Frame)
    assert shown.planes is not None
    assert (shown.planes.matrix, shown.planes.full_range) == (matrix, full)
    assert shown.image[24, 32, ::-1].tolist() == pytest.approx(RGB, abs=3)
    source.close()
    assert AV_MATRIX[matrix] in (1, 5)


def test_pictures_in_bgr_are_recorded_in_their_colours(tmp_path: Path) -> None:
    sink = recorder(tmp_path / "out.mp4", video=VideoOptions(crf=1))
    for index in range(2):
        picture = Picture(bgr=np.full((721, 1281, 3), RGB[::-1], np.uint8))
        sink.consume(Frame("a", index, index / 25, 0, picture))
    sink.close()
    seen = look_into(tmp_path / "out.mp4")
    assert seen.sizes == {(1282, 722)}
    assert seen.images[0][100, 100, ::-1].tolist() == pytest.approx(RGB, abs=3)


@pytest.mark.parametrize(
    ("size", "recorded"),
    [
        ((1, 1), (16, 16)),
        ((2, 2), (16, 16)),
        ((3, 40), (16, 40)),
        ((40, 2), (40, 16)),
        ((101, 75), (102, 76)),
        ((17, 16), (18, 16)),
    ],
)
def test_odd_and_tiny_sizes_are_padded(tmp_path: Path, size: tuple[int, int], recorded: tuple[int, int]) -> None:
    sink = recorder(tmp_path / "out.mp4")
    for index in range(3):
        picture = Picture(bgr=grey_picture(*size, 90))
        sink.consume(Frame("a", index, index / 25, 0, picture))
    sink.close()
    seen = look_into(tmp_path / "out.mp4")
    assert (seen.sizes, len(seen.times)) == ({recorded}, 3)
    assert seen.images[0].mean() == pytest.approx(90, abs=3)


@pytest.mark.parametrize("rate", [1, 5, 25, 60])
@pytest.mark.parametrize("count", [25, 500])
def test_what_a_file_will_take_on_the_disk_is_known_while_it_is_written(tmp_path: Path, rate: int, count: int) -> None:
    encoder = VideoEncoder(rate, VideoOptions(preset="ultrafast"))
    encoded = [each for n in range(count) for each in encoder.encode(grey(n % 200, (32, 32)), n * SECOND // rate)]
    file = Mp4File(tmp_path / "out.mp4", encoded[0].stream)
    for each in encoded:
        file.write(each)
        assert (tmp_path / "out.mp4").stat().st_size <= file.size
    file.close()
    assert 0 <= file.size - (tmp_path / "out.mp4").stat().st_size <= 2000 + 40 * count


# --- several files ----------------------------------------------------------------------------------------------


def test_a_change_of_size_starts_a_new_file_at_zero(tmp_path: Path) -> None:
    sink = recorder(tmp_path / "out.mp4")
    for index in range(12):
        sink.consume(frame(index, size=(64, 48) if index < 5 else (96, 64)))
    sink.close()
    assert sink.files == [tmp_path / "out.mp4", tmp_path / "out-002.mp4"]
    first, second = (look_into(path) for path in sink.files)
    assert (len(first.times), first.sizes, len(second.times), second.sizes) == (5, {(64, 48)}, 7, {(96, 64)})
    assert second.times == pytest.approx(steady(25, 7))


def test_segments_are_numbered_and_hold_every_picture(tmp_path: Path) -> None:
    sink = recorder(tmp_path / "out.mp4", segment_s=1.0)
    for index in range(80):
        sink.consume(frame(index))
    sink.close()
    assert [path.name for path in sink.files] == [f"out-00{number}.mp4" for number in (1, 2, 3, 4)]
    seen = [look_into(path) for path in sink.files]
    assert [len(each.times) for each in seen] == [25, 25, 25, 5]
    assert all(each.times[0] == 0 for each in seen)


def test_several_sources_have_a_file_each_and_the_grid_one_of_its_own(tmp_path: Path) -> None:
    sources = [SourceInfo(name, f"{name}.mp4", fps=25, width=64, height=48) for name in ("a", "b", "grid")]
    sink = recorder(tmp_path / "out.mp4", sources, layout="both")
    for index in range(10):
        for source in sources:
            sink.consume(frame(index, source.name))
    for source in sources:
        sink.end(source.name)
    sink.close()
    names = {path.name for path in sink.files}
    assert names == {"out-a.mp4", "out-b.mp4", "out-grid.mp4", "out-grid-all.mp4"}
    assert {path.name: look_into(path).sizes for path in sink.files}["out-grid-all.mp4"] == {(128, 96)}
    assert all(len(look_into(path).times) == 10 for path in sink.files)


def test_a_grid_alone_has_the_name_that_was_given(tmp_path: Path) -> None:
    sources = [SourceInfo(name, f"{name}.mp4", fps=25, width=64, height=48) for name in ("a", "b")]
    sink = recorder(tmp_path / "out.mp4", sources, layout="grid", video=VideoOptions(crf=1))
    for index in range(10):
        for number, source in enumerate(sources):
            sink.consume(frame(index, source.name, pts=100 * number + index / 25))  # each begins at a time of its own
    for source in sources:
        sink.end(source.name)
    sink.close()
    assert sink.files == [tmp_path / "out.mp4"]
    seen = look_into(tmp_path / "out.mp4")
    assert seen.times == pytest.approx(steady(25, 10))
    for index, image in enumerate(seen.images):  # both tiles show the same moment
        left, right = image[5:40, 5:55].mean(), image[5:40, 70:120].mean()
        assert left == pytest.approx(20 + 4 * index, abs=4)
        assert right == pytest.approx(left, abs=4)


def test_live_sources_are_recorded_by_the_capture_clock_from_zero(tmp_path: Path) -> None:
    sink = recorder(tmp_path / "out.mp4", [SourceInfo("a", "rtsp://cam", live=True, fps=10)])
    for index in range(5):
        sink.consume(frame(index, pts=7777.0))
    sink.close()
    assert look_into(tmp_path / "out.mp4").times == pytest.approx([index / 10 for index in range(5)], abs=1e-4)


def test_no_source_is_ever_overwritten(tmp_path: Path) -> None:
    precious = [grey_video(tmp_path / name, 5) for name in ("out-a.mp4", "out-002.mp4")]
    before = [path.read_bytes() for path in precious]
    sources = [SourceInfo("a", str(precious[0])), SourceInfo("b", str(precious[1]))]
    with pytest.raises(ConfigError, match=r"out-a\.mp4 is also a source: it would be overwritten"):
        recorder(tmp_path / "out.mp4", sources)
    sink = recorder(tmp_path / "out.mp4", sources[1:])
    for index in range(4):
        sink.consume(frame(index, "b", size=(64, 48 + 16 * (index // 2))))
    sink.close()
    assert [path.name for path in sink.files] == ["out.mp4", "out-003.mp4"]
    assert [path.read_bytes() for path in precious] == before


def test_one_sources_second_file_is_not_anothers_first(tmp_path: Path) -> None:
    sources = [SourceInfo("cam", "1"), SourceInfo("cam-002", "2")]
    sink = recorder(tmp_path / "out.mp4", sources)
    for index in range(4):
        for source in sources:
            sink.consume(frame(index, source.name, size=(64, 48 + 16 * (index // 2))))
    sink.close()
    assert len({path.resolve() for path in sink.files}) == 4
    assert all(len(look_into(path).times) == 2 for path in sink.files)


# --- names with times, and what is deleted again -------------------------------------------------------------------


def record_seconds(sink: Recorder, seconds: float, source: str = "a") -> None:
    for index in range(round(25 * seconds)):
        sink.consume(frame(index, source))
    sink.close()


def test_each_segment_is_named_by_the_time_at_which_it_begins_and_replaces_none(tmp_path: Path) -> None:
    path = tmp_path / "rec" / "%Y-%m-%d" / "%H-%M.mp4"
    before = datetime.now().astimezone()
    for _ in range(2):
        record_seconds(recorder(path, segment_s=1.0), 3)
    after = datetime.now().astimezone()
    found = sorted((tmp_path / "rec").rglob("*.mp4"))
    assert len(found) == 6
    assert all(len(look_into(each).times) == 25 and look_into(each).times[0] == 0 for each in found[1:])
    names = {each.relative_to(tmp_path / "rec").as_posix() for each in found}
    first = {f"{at:%Y-%m-%d/%H-%M}.mp4" for at in (before, after)}
    assert names & first
    if len(first) == 1:  # the minute did not change meanwhile
        stem = first.pop().removesuffix(".mp4")
        assert names == {f"{stem}.mp4", *(f"{stem}-{number}.mp4" for number in range(2, 7))}


def test_several_sources_have_their_names_behind_the_time(tmp_path: Path) -> None:
    sources = [SourceInfo(name, f"{name}.avi", fps=25) for name in ("a", "b")]
    sink = recorder(tmp_path / "%Y.mp4", sources)
    for source in sources:
        sink.consume(frame(0, source.name))
    sink.close()
    year = datetime.now().astimezone().year
    assert [path.name for path in sink.files] == [f"{year}-a.mp4", f"{year}-b.mp4"]


@pytest.mark.parametrize("name", ["%Q.mp4", "%", "%Y%.mp4", "100%.mp4"])
def test_a_percent_sign_that_stands_for_no_time_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"sinks\.record: '%.?' in .* stands for no time; these do: %Y"):
        recorder(tmp_path / name)


def test_a_source_is_never_replaced_by_a_file_with_its_name(tmp_path: Path) -> None:
    path = grey_video(tmp_path / f"{datetime.now().astimezone():%Y}.mp4", 5)
    precious = path.read_bytes()
    sink = recorder(tmp_path / "%Y.mp4", [SourceInfo("a", str(path), fps=25)], keep_mb=0.0001)
    sink.consume(frame(0))
    sink.close()
    assert path.read_bytes() == precious
    assert not sink.files, "it takes more than what may be kept"


def test_the_oldest_segments_go_when_all_take_too_much_and_others_stay(tmp_path: Path) -> None:
    others = {"other-001.mp4": b"x" * 90_000, "out-1.mp4": b"y" * 90_000, "out-001.txt": b"z" * 90_000}
    for name, content in others.items():
        (tmp_path / name).write_bytes(content)
    sink = recorder(tmp_path / "out.mp4", segment_s=1.0, keep_mb=0.3, video=VideoOptions(preset="ultrafast"))
    largest = 0
    for index in range(400):
        picture = Picture(planes=noise_planes(64, 48, index))
        sink.consume(Frame("a", index, index / 25, 0, picture))
        largest = max(largest, sum(path.stat().st_size for path in tmp_path.glob("out-???.mp4")))
    sink.close()
    left = sorted(path.name for path in tmp_path.glob("out-???.mp4"))
    assert left == [path.name for path in sink.files]
    assert left[-1] == "out-016.mp4"
    assert 1 < len(left) < 16
    assert left == [f"out-{number:03d}.mp4" for number in range(17 - len(left), 17)]
    assert sum((tmp_path / name).stat().st_size for name in left) <= 300_000
    assert largest <= 300_000
    assert {name: (tmp_path / name).read_bytes() for name in others} == others


def test_segments_that_ended_too_long_ago_go_with_their_folders_at_the_start(tmp_path: Path) -> None:
    old = tmp_path / "rec" / "2020-01-31" / "10-00-00.mp4"
    young = tmp_path / "rec" / "2020-02-01" / "10-00-00-2.mp4"
    foreign = [tmp_path / "rec" / "2020-02-02" / "holiday.mp4", tmp_path / "rec" / "notes" / "10-00-00.mp4"]
    for path in (old, young, *foreign):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"x")
        os.utime(path, (1, 1) if path is not young else None)
    record_seconds(recorder(tmp_path / "rec" / "%Y-%m-%d" / "%H-%M-%S.mp4", keep_s=3600.0), 1)
    assert not old.parent.exists()
    assert all(path.exists() for path in (young, *foreign))


def test_among_20000_segments_a_new_one_holds_no_frame_up(tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / f"20260101-{number // 3600:02d}{number // 60 % 60:02d}{number % 60:02d}.mp4").touch()
    sink = recorder(tmp_path / "%Y%m%d-%H%M%S.mp4", segment_s=1.0, keep_s=1e9)
    slowest = 0.0
    for index in range(110):
        before = time.thread_time()
        sink.consume(frame(index))
        slowest = max(slowest, time.thread_time() - before)
    sink.close()
    assert len(sink.files) == 5
    assert slowest < 0.05, "seconds; 0.97 when every file was looked at"


def test_an_earlier_runs_segment_that_is_written_anew_is_not_deleted_meanwhile(tmp_path: Path) -> None:
    for number in range(1, 2 * MANY + 1):
        (tmp_path / f"out-{number:03d}.mp4").write_bytes(bytes(1000))
        os.utime(tmp_path / f"out-{number:03d}.mp4", (number, number))
    sink = recorder(tmp_path / "out.mp4", segment_s=1.0, keep_mb=2 * MANY / 1000)
    for index in range(100):
        sink.consume(frame(index))
    sink.close()
    assert [len(look_into(tmp_path / f"out-00{number}.mp4").times) for number in (1, 2, 3, 4)] == [25] * 4
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000 * MANY


@pytest.mark.parametrize(("keep_mb", "most"), [(0.05, 40), (0.0001, 1)])
def test_what_is_deleted_is_forgotten(tmp_path: Path, keep_mb: float, most: int) -> None:
    sink = recorder(tmp_path / "%Y%m%d-%H%M%S.mp4", segment_s=1.0, keep_mb=keep_mb)
    for index in range(25 * 100):
        sink.consume(frame(index))
        (known,) = (recording.files for recording in sink._recordings.values())
        assert len(known) <= most
        assert len(sink._taken) <= most + 1  # and the source
    sink.close()
    assert set(sink.files) == set(tmp_path.iterdir())


def test_keeping_needs_more_than_one_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"sinks\.record: .*out\.mp4 is one file: keep_s and keep_mb need segment_s"):
        recorder(tmp_path / "out.mp4", keep_mb=5.0)


# --- where it cannot be written ---------------------------------------------------------------------------------


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    sink = recorder(tmp_path / "a" / "b" / "out.mp4")
    sink.consume(frame(0))
    sink.close()
    assert len(look_into(tmp_path / "a" / "b" / "out.mp4").times) == 1


@pytest.mark.parametrize("place", ["file/out.mp4", "/proc/frameloom/out.mp4", "folder.mp4"])
def test_a_place_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(ConfigError, match=r"sinks\.record: "):
        recorder(tmp_path / place)


def test_nvenc_that_does_not_work_here_is_replaced_and_that_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA GPU")
    video._works.cache_clear()
    for name in ("one.mp4", "two.mp4"):
        sink = recorder(tmp_path / name, video=VideoOptions(encoder="h264_nvenc"))
        sink.consume(frame(0))
        sink.close()
        assert len(look_into(tmp_path / name).times) == 1
    (said,) = caplog.records
    assert said.getMessage().startswith("sinks.record.encoder: h264_nvenc does not work here (")
    assert said.getMessage().endswith("); libx264 encodes")


def open_files(folder: Path) -> list[str]:
    links = (os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd"))
    return [target for link in links if os.path.lexists(link) and str(folder) in (target := os.readlink(link))]


def fill(path: Path) -> int:
    """Write until the disk is full; return how many pictures were accepted."""
    writer = recording(path, options=VideoOptions(preset="ultrafast"))
    accepted = itertools.count()
    with pytest.raises(SinkError, match=r"No space left on device|File too large"):
        write_noise(writer, accepted)
    with pytest.raises(SinkError):
        writer.close()
    return next(accepted) - 1


def write_noise(writer: Recording, numbers: Iterator[int]) -> None:
    for number in itertools.takewhile(lambda number: number < 400, numbers):
        writer.write(noise_planes(320, 240, number), number / 25)


@pytest.fixture
def tiny_disk(disk_of: Callable[[str], Path]) -> Path:
    return disk_of("3m")


def test_on_a_full_disk_the_recording_fails_clearly_and_what_is_written_plays(tiny_disk: Path) -> None:
    accepted = fill(tiny_disk / "out.mp4")
    assert open_files(tiny_disk) == []
    seen = look_into(tiny_disk / "out.mp4")
    assert len(seen.times) >= accepted - 30
    assert seen.errors <= 1  # the picture that was cut in two


FULL = """
import resource, signal, sys
from pathlib import Path
from tests.pipeline.test_recorder import fill, open_files
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
path = Path(sys.argv[1])
print(fill(path), len(open_files(path.parent)))
"""


def test_at_a_limit_on_file_size_what_is_written_plays(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path / "out.mp4")],
        capture_output=True, text=True, cwd=REPOSITORY, check=True,
    )  # fmt: skip
    accepted, still_open = map(int, done.stdout.split())
    assert still_open == 0
    assert len(look_into(tmp_path / "out.mp4").times) >= accepted - 30
    assert done.stderr == ""


KILLED = """
import sys, time
from pathlib import Path
from tests.pipeline.test_recorder import grey, recording
rate = float(sys.argv[2])
writer = recording(Path(sys.argv[1]), rate)
index = 0
while True:
    writer.write(grey(20 + 4 * index % 200), index / rate)
    print(index / rate, flush=True)
    index += 1
    time.sleep(0.002)
"""


@pytest.mark.parametrize("rate", [1, 3, 25, 120])
def test_after_a_kill_the_recording_plays_up_to_its_last_second(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "out.mp4"
    writer = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), str(rate)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert writer.stdout is not None
    for line in writer.stdout:
        if float(line) > 5.4:
            break
    writer.kill()
    last = float([line, *writer.stdout.readlines()][-1])
    writer.wait()
    writer.stdout.close()
    seen = look_into(path)
    assert seen.errors == 0
    assert seen.times[-1] + 1 / rate >= last - 1 - 1e-3
    assert seen.times == pytest.approx(steady(rate, len(seen.times)), abs=1e-4)


def test_names_with_odd_characters_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ü 猫.mp4", "a[1].mp4", "pipe:1.mp4", "100%%.mp4"):
        write(Path(name), steady(25, 3))
        assert len(look_into(Path(name.replace("%%", "%"))).times) == 3


def test_all_files_are_closed_although_one_fails(tiny_disk: Path, tmp_path: Path) -> None:
    (tiny_disk / "out-b.mp4").symlink_to(tmp_path / "elsewhere.mp4")
    sources = [SourceInfo(name, name, fps=25) for name in ("a", "b")]
    sink = recorder(tiny_disk / "out.mp4", sources)
    frames = (
        Frame(name, index, index / 25, time.monotonic(), Picture(planes=noise_planes(320, 240, index)))
        for index in range(400)
        for name in ("a", "b")
    )
    with pytest.raises(SinkError):
        collections.deque(map(sink.consume, frames), maxlen=0)
    with pytest.raises(SinkError):
        sink.close()
    assert open_files(tmp_path) == []
    seen = look_into(tmp_path / "elsewhere.mp4")
    assert seen.errors == 0
    assert len(seen.times) > 20
