"""Video files: timestamps, orientation, formats, colours, damage. Images and names have files of their own."""

from __future__ import annotations

import itertools
import os
import threading
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.capture import SourceOptions, Synthetic, VideoFile, make_source
from pipeline.capture.source import Damaged
from pipeline.capture.step import in_step
from pipeline.errors import SourceError
from pipeline.frame import Frame
from pipeline.picture import Matrix
from tests.pipeline.videos import (
    RGB,
    add_sound,
    corners_picture,
    encode,
    flat_frame,
    grey_picture,
    grey_video,
    look_into,
    rotate_by_metadata,
    sound_only,
    yuv_of,
)


def read(path: Path, rotate: int | None = None) -> tuple[VideoFile, list[Frame]]:
    """Open, read to the end, close."""
    source = VideoFile("clip", path, SourceOptions(rotate=rotate))
    source.open()
    frames = [item for item in source.frames() if isinstance(item, Frame)]
    return source, frames


# --- time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vtest.avi", "mmtracking_demo.mp4", "retalking_1.mp4", "carphone.mp4"])
def test_timestamps_are_those_that_pyav_gives(shared: Path, name: str) -> None:
    path = shared / "data" / "videos" / name
    source = VideoFile("clip", path)
    source.open()
    with av.open(str(path)) as container:
        pairs = zip(source.frames(), container.decode(video=0), strict=True)
        for ours, theirs in itertools.islice(pairs, 60):
            assert isinstance(ours, Frame)
            assert ours.pts == pytest.approx(theirs.time, abs=1e-9)
    source.close()


def test_where_a_container_has_no_presentation_times_the_pictures_come_in_order(shared: Path) -> None:
    path = shared / "data" / "videos" / "Megamind.avi"
    source, frames = read(path)
    times = [frame.pts for frame in frames]
    assert times == sorted(times)
    assert times[10:20] == pytest.approx([times[10] + step / 23.976 for step in range(10)], abs=1e-3)
    theirs = look_into(path).times
    assert theirs != sorted(theirs)  # AVI with B-frames: the decoder's own guess jumps
    assert source.remark() is None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".flv", ".avi", ".h264"])
def test_every_frame_of_a_container_is_read_once_and_without_a_remark(tmp_path: Path, suffix: str) -> None:
    source, frames = read(grey_video(tmp_path / f"clip{suffix}", 30))
    assert len(frames) == 30
    assert [frame.index for frame in frames] == list(range(30))
    steps = [after.pts - before.pts for before, after in pairwise(frames)]
    if suffix == ".avi":  # it has no presentation times; after two pictures the decoding times take over
        steps = steps[2:]
    assert steps == pytest.approx([0.04] * len(steps), abs=1e-3)
    assert source.remark() is None


def test_a_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times = [0, 0.033, 0.066, 0.2, 0.9, 1.7, 2.5, 2.51]
    source, frames = read(grey_video(tmp_path / "vfr.mkv", len(times), times_s=times))
    assert [frame.pts for frame in frames] == pytest.approx(times, abs=1e-3)  # Matroska counts milliseconds
    assert source.remark() is None


def test_a_film_cut_by_an_edit_list_is_not_called_truncated(tmp_path: Path) -> None:
    whole = grey_video(tmp_path / "whole.mp4", 50, gop=50)
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(str(whole)) as source, av.open(str(tmp_path / "cut.mp4"), "w", options=options) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        shift = int(1.4 / source.streams.video[0].time_base)
        for packet in source.demux(video=0):
            if packet.dts is not None and packet.pts is not None:
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                output.mux(packet)
    cut, frames = read(tmp_path / "cut.mp4")
    assert len(frames) == 15
    assert cut.remark() is None
    assert cut.info.frames == 15


def test_a_run_that_stops_early_does_not_call_the_file_truncated(tmp_path: Path) -> None:
    source = VideoFile("clip", grey_video(tmp_path / "a.mp4", 30))
    source.open()
    frames = source.frames()
    for _ in range(3):
        next(frames)
    assert source.remark() is None
    source.stop()
    assert list(frames) == []
    assert source.remark() is None
    source.close()


# --- orientation ------------------------------------------------------------------------------------------------


def upright(clockwise: int, bgr: np.ndarray) -> np.ndarray:
    return np.rot90(bgr, -clockwise // 90)


@pytest.mark.parametrize("clockwise", [90, 180, 270])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p"])
def test_the_rotation_tag_turns_the_picture_as_players_do(tmp_path: Path, clockwise: int, pix_fmt: str) -> None:
    path = encode(tmp_path / "a.mp4", [corners_picture(128, 64)] * 3, pix_fmt=pix_fmt, options={"qp": "0"})
    _, plain = read(path)
    _, frames = read(rotate_by_metadata(path, clockwise))
    assert (frames[0].planes is not None) == (pix_fmt == "yuv420p")
    before, after = plain[0].picture, frames[0].picture
    assert (after.width, after.height) == ((128, 64) if clockwise == 180 else (64, 128))
    assert np.abs(after.bgr.astype(int) - upright(clockwise, before.bgr)).max() <= (0 if pix_fmt == "yuv444p" else 2)
    if before.planes is not None and after.planes is not None:
        for plane in ("y", "u", "v"):
            turned = upright(clockwise, getattr(before.planes, plane))
            assert np.array_equal(getattr(after.planes, plane), turned)
    with av.open(str(path)) as container:  # FFmpeg's own word: anticlockwise degrees of the display matrix
        assert next(container.decode(video=0)).rotation % 360 == -clockwise % 360


@pytest.mark.parametrize("clockwise", [0, 90, 180, 270])
def test_a_rotation_that_is_asked_for_replaces_the_tag(tmp_path: Path, clockwise: int) -> None:
    path = encode(tmp_path / "a.mp4", [corners_picture(128, 64)] * 2, options={"qp": "0"})
    _, plain = read(path)
    source, frames = read(rotate_by_metadata(path, 90), rotate=clockwise)
    assert np.abs(frames[0].image.astype(int) - upright(clockwise, plain[0].image)).max() <= 2
    assert (source.info.width, source.info.height) == (frames[0].width, frames[0].height)


# --- sizes and formats ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(101, 75), (75, 102), (1, 1), (2, 2), (3, 1), (640, 360)])
def test_any_size_is_read_whole(tmp_path: Path, size: tuple[int, int]) -> None:
    path = encode(tmp_path / "a.mkv", [grey_picture(*size, 90)] * 2, codec="ffv1", pix_fmt="bgr0")
    source, frames = read(path)
    assert (frames[0].width, frames[0].height) == (source.info.width, source.info.height) == size
    assert frames[0].image.shape == (size[1], size[0], 3)
    assert int(frames[0].image.mean()) == 90


def test_an_odd_size_in_4_2_0_is_converted_at_capture(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", [grey_picture(101, 75, 90)] * 2, codec="ffv1", pix_fmt="yuv420p")
    _, frames = read(path)
    assert frames[0].planes is None
    assert frames[0].image.shape == (75, 101, 3)
    assert abs(int(frames[0].image.mean()) - 90) <= 1


def test_an_8k_picture_is_read(tmp_path: Path) -> None:
    path = encode(tmp_path / "8k.mp4", [grey_picture(7680, 4320, 90)], options={"preset": "ultrafast", "qp": "1"})
    _, frames = read(path)
    assert (frames[0].width, frames[0].height, len(frames)) == (7680, 4320, 1)
    assert abs(int(frames[0].image[2000, 3000].mean()) - 90) <= 3


COLOURS = [
    ("yuv420p", "libx264", ".mp4", False),
    ("yuv420p", "libx264", ".mp4", True),
    ("yuv444p", "libx264", ".mp4", False),
    ("yuv444p", "libx264", ".mp4", True),
    ("yuv420p10le", "libx264", ".mp4", False),
    ("yuv420p10le", "libx264", ".mp4", True),
    ("yuv422p", "ffv1", ".mkv", False),
    ("yuv422p10le", "ffv1", ".mkv", True),
]


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize(("pix_fmt", "codec", "suffix", "full"), COLOURS)
def test_colour_tags_are_honoured(
    tmp_path: Path, pix_fmt: str, codec: str, suffix: str, full: bool, matrix: Matrix
) -> None:
    levels = yuv_of(RGB, matrix, full, 10 if "10" in pix_fmt else 8)
    options = {"qp": "1"} if codec == "libx264" else {}
    patch = [flat_frame(64, 48, pix_fmt, levels) for _ in range(2)]
    path = encode(tmp_path / f"a{suffix}", patch, codec=codec, pix_fmt=pix_fmt, options=options, tags=(matrix, full))
    _, frames = read(path)
    assert frames[0].image[24, 32, ::-1].tolist() == pytest.approx(RGB, abs=2)
    if frames[0].planes is not None:
        assert (frames[0].planes.matrix, frames[0].planes.full_range) == (matrix, full)


@pytest.mark.parametrize(
    ("size", "matrix"),
    [
        ((640, 480), "bt601"),
        ((768, 576), "bt601"),
        ((1280, 720), "bt709"),
        ((1280, 544), "bt709"),
        ((720, 1280), "bt709"),
    ],
)
def test_untagged_hd_is_709_and_untagged_sd_601(tmp_path: Path, size: tuple[int, int], matrix: Matrix) -> None:
    patch = [flat_frame(*size, "yuv420p", yuv_of(RGB, matrix, full=False))]
    _, frames = read(encode(tmp_path / "a.mp4", patch, options={"qp": "1", "preset": "ultrafast"}))
    assert frames[0].image[100, 100, ::-1].tolist() == pytest.approx(RGB, abs=2)


@pytest.mark.parametrize(("pix_fmt", "codec"), [("bgr0", "ffv1"), ("rgb24", "qtrle"), ("gray", "ffv1")])
def test_rgb_and_grey_are_taken_as_they_are(tmp_path: Path, pix_fmt: str, codec: str) -> None:
    rgb = (120, 120, 120) if pix_fmt == "gray" else RGB
    picture = np.full((48, 64, 3), rgb[::-1], np.uint8)
    path = tmp_path / ("a.mov" if codec == "qtrle" else "a.mkv")
    if pix_fmt == "gray":
        encode(path, [flat_frame(64, 48, "gray", [120])], codec=codec, pix_fmt=pix_fmt)
    else:
        encode(path, [picture], codec=codec, pix_fmt=pix_fmt)
    _, frames = read(path)
    assert frames[0].image[24, 32, ::-1].tolist() == pytest.approx(rgb, abs=2)


def test_sound_is_ignored(tmp_path: Path) -> None:
    silent = grey_video(tmp_path / "a.mp4", 20)
    source, frames = read(add_sound(silent, tmp_path / "loud.mp4"))
    assert len(frames) == 20
    assert source.remark() is None


def test_a_change_of_size_in_the_stream_changes_the_frames(tmp_path: Path) -> None:
    small, large = grey_video(tmp_path / "a.ts", 10), grey_video(tmp_path / "b.ts", 10, size=(128, 96))
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    _, frames = read(both)
    sizes = [(frame.width, frame.height) for frame in frames]
    assert sorted(set(sizes), key=sizes.index) == [(64, 48), (128, 96)]
    assert len(sizes) == 20


# --- damage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "frames"), [("vtest.avi", 795), ("bikes.mp4", 250)])
def test_of_a_truncated_file_what_decodes_is_used_and_the_remark_says_how_much(
    tmp_path: Path, shared: Path, name: str, frames: int
) -> None:
    path, cut = shared / "data" / "videos" / name, tmp_path / f"cut{name}"
    if name.endswith(".mp4"):  # with its index in front, as files for the web have it
        with (
            av.open(str(path)) as video,
            av.open(str(tmp_path / name), "w", options={"movflags": "faststart"}) as output,
        ):
            stream = output.add_stream_from_template(video.streams.video[0])
            for packet in video.demux(video=0):
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
        path = tmp_path / name
    whole = path.read_bytes()
    cut.write_bytes(whole[: len(whole) * 6 // 10])
    source, got = read(cut)
    assert 0.3 * frames < len(got) < 0.9 * frames
    remark = source.remark()
    assert remark is not None
    assert f"damaged or truncated; {len(got)} of about {frames} frames decoded" in remark


def test_an_mp4_whose_index_is_missing_is_refused_as_cut_off(tmp_path: Path) -> None:
    path = grey_video(tmp_path / "a.mp4", 50)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 20])
    with pytest.raises(SourceError, match=r"cut off before it was finished"):
        VideoFile("a", path).open()


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mp4", ".avi"])
def test_bytes_damaged_in_the_middle_cost_frames_but_not_the_run(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(5)
    noise = [rng.integers(0, 255, (96, 128, 3)).astype(np.uint8) for _ in range(40)]
    path = encode(tmp_path / f"a{suffix}", noise, gop=8)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = rng.integers(0, 255, 3000).astype(np.uint8).tobytes()
    path.write_bytes(data)
    source = VideoFile("a", path)
    source.open()
    items = list(source.frames())
    good = [item for item in items if isinstance(item, Frame)]
    assert len(good) >= 15
    assert [frame.pts for frame in good] == sorted(frame.pts for frame in good)
    assert len(good) >= 38 or "damaged" in (source.remark() or "")  # a demuxer may leave out a packet in silence
    assert all(isinstance(item, Frame | Damaged) for item in items)
    source.close()


def test_a_file_of_which_nothing_decodes_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    path = grey_video(tmp_path / "a.mp4", 20)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : data.index(b"moov") - 4] = b"\xff" * (data.index(b"moov") - 4 - start)
    path.write_bytes(data)
    with pytest.raises(SourceError, match="not one picture of it can be decoded"):
        VideoFile("a", path).open()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.mp4", b"hello world\n" * 200, "its format is not recognised"),
        ("notes.txt", b"hello world\n" * 200, "it is text"),
        ("empty.mp4", b"", "is empty"),
        ("zeros.mp4", bytes(5000), "its format is not recognised"),
    ],
)
def test_what_is_no_video_is_refused_with_a_reason(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        make_source("a", str(tmp_path / name)).open()
    assert caught.value.request_was_wrong


@pytest.mark.parametrize("place", ["nothing.mp4", "no/where.mp4", "notes.txt/a.mp4", "a" * 300 + ".mp4"])
def test_a_missing_file_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceError, match=r"no such file|cannot be read"):
        make_source("a", str(tmp_path / place)).open()


def test_a_file_with_nothing_but_sound_is_refused_also_with_a_cover(tmp_path: Path) -> None:
    sound = sound_only(tmp_path / "song.m4a")
    with pytest.raises(SourceError, match=r"no video stream \(streams: audio\)"):
        VideoFile("a", sound).open()
    cover = encode(tmp_path / "cover.mkv", [grey_picture(64, 48, 90)], codec="mjpeg", pix_fmt="yuvj420p")
    covered = tmp_path / "covered.mkv"
    with av.open(str(sound)) as music, av.open(str(cover)) as art, av.open(str(covered), "w") as output:
        picture = output.add_stream_from_template(art.streams.video[0])
        picture.disposition = av.stream.Disposition.attached_pic
        track = output.add_stream_from_template(music.streams.audio[0])
        for source, stream in ((art, picture), (music, track)):
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = stream
                    output.mux(packet)
    with av.open(str(covered)) as container:
        if not container.streams.video[0].disposition & av.stream.Disposition.attached_pic:
            return  # this muxer made a film of it
    with pytest.raises(SourceError, match="no video stream"):
        VideoFile("a", covered).open()


@pytest.mark.parametrize(
    "name", ["ü ñ 猫.mp4", "a b.mp4", "a[1].mp4", "10%d.mp4", "c:d.mp4", "-x.mp4", "a'b\"c.mp4", "é?.mp4"]
)
def test_odd_names_open_as_the_file(tmp_path: Path, name: str) -> None:
    path = grey_video(tmp_path / "plain.mp4", 3).rename(tmp_path / name)
    for address in (str(path), f"file://{path}" if "%" not in name else str(path)):
        source = make_source("a", address)
        source.open()
        assert len(list(source.frames())) == 3
        source.close()


def test_a_relative_name_that_looks_like_a_protocol_opens_as_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    grey_video(Path("plain.mp4"), 3).rename("concat:x.mp4")
    assert len(read(Path("concat:x.mp4"))[1]) == 3


def test_a_name_that_is_no_text_opens(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    grey_video(tmp_path / "plain.mp4", 3).rename(path)
    assert len(read(path)[1]) == 3


def test_a_pipe_is_read_without_losing_its_first_byte(tmp_path: Path) -> None:
    video, pipe = grey_video(tmp_path / "a.ts", 10), tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(video.read_bytes()))
    writer.start()
    assert len(read(pipe)[1]) == 10
    writer.join()


def test_no_descriptor_stays_open(tmp_path: Path) -> None:
    good, bad = grey_video(tmp_path / "a.mp4", 3), sound_only(tmp_path / "song.m4a")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        source, _ = read(good)
        source.close()
        with pytest.raises(SourceError):
            VideoFile("a", bad).open()
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_decoders_own_pictures_are_copied(tmp_path: Path) -> None:
    path = grey_video(tmp_path / "a.mp4", 10)
    _, frames = read(path)
    kept = [picture.as_planes().data.copy() for picture in (frame.picture for frame in frames)]
    assert all(np.array_equal(frame.picture.as_planes().data, data) for frame, data in zip(frames, kept, strict=True))
    assert [int(image.mean()) for image in look_into(path).images] == pytest.approx(
        [int(frame.image.mean()) for frame in frames], abs=2
    )
    assert not frames[0].picture.as_planes().data.flags.writeable


# --- the test pattern -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "size", "fps", "frames"),
    [
        ("synthetic", (640, 480), 30, None),
        ("synthetic?frames=3", (640, 480), 30, 3),
        ("synthetic://64x48", (64, 48), 30, None),
        ("synthetic://64x48@12.5?frames=4", (64, 48), 12.5, 4),
    ],
)
def test_the_test_pattern_has_what_its_address_asks_for(
    address: str, size: tuple[int, int], fps: float, frames: int | None
) -> None:
    source = make_source("s", address)
    source.open()
    assert (source.info.width, source.info.height, source.info.fps, source.info.frames) == (*size, fps, frames)
    items = [item for item, _ in zip(source.frames(), range(4), strict=False)]
    assert len(items) == min(4, frames or 4)
    assert [item.pts for item in items if isinstance(item, Frame)] == [index / fps for index in range(len(items))]


@pytest.mark.parametrize(
    "address",
    [
        "synthetic://",
        "synthetic:64x48",
        "synthetic://64",
        "synthetic://63x48",
        "synthetic://0x48",
        "synthetic://64x48@0",
        "synthetic://64x48@-1",
        "synthetic://64x48@1e3",
        "synthetic://64x48?frames=0",
        "synthetic://99999x48",
        "synthetic://٦٤x٤٨",
        "synthetic?frames=x",
    ],
)
def test_an_address_of_no_pattern_is_refused(address: str) -> None:
    with pytest.raises(SourceError, match="synthetic"):
        make_source("s", address)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("rstp://u:secret@cam/live", "did you mean rtsp://"),
        ("srt+tls://u:secret@x", "nothing here reads srt"),
        ("rtsp:///live", "names no host"),
        ("rtsp://cam:port/live", "is no address"),
        ("rtsp://[fe80/live", "is no address"),
        ("/dev/video999", "there is no /dev/video999"),
        (999, "there is no /dev/video999"),
    ],
)
def test_an_address_that_cannot_be_one_is_refused_at_once(address: str | int, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        make_source("s", address)
    assert "secret" not in str(caught.value)


# --- several files in step --------------------------------------------------------------------------------------


def test_files_in_step_stay_within_a_second_of_media_time(tmp_path: Path) -> None:
    slow, fast = (
        Synthetic("slow", "synthetic://16x16@5?frames=20"),
        Synthetic("fast", "synthetic://16x16@50?frames=200"),
    )
    sources = in_step([slow, fast])
    at: dict[str, float] = {"slow": 0.0, "fast": 0.0}
    apart: list[float] = []

    def run(number: int) -> None:
        source = sources[number]
        source.open()
        for item in source.frames():
            assert isinstance(item, Frame)
            at[item.source] = item.pts
            if max(at.values()) < 3.5:  # before one of them ends
                apart.append(abs(at["slow"] - at["fast"]))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert max(apart) <= 1.0
    assert at["slow"] == pytest.approx(3.8)
    assert at["fast"] == pytest.approx(3.98)


def test_a_file_that_is_stopped_or_left_holds_up_no_other() -> None:
    first, second = in_step([Synthetic("a", "synthetic://16x16@5"), Synthetic("b", "synthetic://16x16@5")])
    first.open()
    second.open()
    frames = first.frames()
    next(frames)
    del frames  # what a source's thread does after max_frames
    assert len([item for item, _ in zip(second.frames(), range(50), strict=False)]) == 50
