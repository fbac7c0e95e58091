"""Clips: what was before an event and after it, in files that play; their names, records, limits, and full disks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.arrays import Image
from pipeline.assemble_sinks import make_sinks
from pipeline.capture import VideoFile
from pipeline.capture.source import SourceInfo, SourceState
from pipeline.config.result_settings import ClipsSettings
from pipeline.config.settings import Settings
from pipeline.config.sink_settings import RecordSettings, SinksSettings
from pipeline.config.values import X264Preset
from pipeline.errors import ConfigError
from pipeline.frame import Frame
from pipeline.picture import Picture, Planes
from pipeline.sinks.clips import Clips
from pipeline.sinks.packet_ring import PacketRing
from pipeline.sinks.recorder import Recorder, RecorderOptions
from pipeline.sinks.retention import MANY
from pipeline.sinks.sink import Sink
from pipeline.sinks.video import SECOND, Encoded, VideoOptions
from tests.pipeline.videos import Seen, look_into, noise_planes
from tests.servers import barcode

REPOSITORY = Path(__file__).resolve().parents[2]
RATE = 25
ENTER: dict[str, Any] = {"event": "zone.enter", "zone": "door", "track": 3}
LEAVE: dict[str, Any] = {"event": "zone.leave", "zone": "door", "track": 3}


def numbered(number: int, size: tuple[int, int] = (256, 64)) -> Planes:
    """A picture that says which one it is, by a bar code."""
    width, height = size
    data = np.full((height * 3 // 2, width), 128, np.uint8)
    barcode.stamp(data[:height], number)
    return Planes(data)


def frame(number: int, source: str = "cam", events: Iterable[dict[str, Any]] = (), **how: Any) -> Frame:
    picture = how.pop("picture", None) or Picture(planes=numbered(number, how.pop("size", (256, 64))))
    pts = how.pop("pts", number / RATE)
    return Frame(source, number, pts, 100 + pts, picture, events=list(events), **how)


def clips(folder: Path, sources: Iterable[str] = ("cam",), **how: Any) -> Clips:
    defaults: dict[str, Any] = {"on": ("zone.enter",), "before_s": 2.0, "after_s": 1.0, "preset": "ultrafast"}
    sink = Clips(ClipsSettings(folder=folder, **{**defaults, **how}))
    sink.check([SourceInfo(name, f"{name}.avi", fps=RATE) for name in sources])
    sink.open()
    return sink


def feed(sink: Sink, count: int, at: Iterable[int] = (), source: str = "cam", first: int = 0) -> None:
    for number in range(first, count):
        sink.consume(frame(number, source, [ENTER] if number in set(at) else []))


def videos(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.mp4"), key=lambda path: (path.stat().st_mtime_ns, path.name))


def numbers(path: Path) -> list[int | None]:
    return [barcode.read(image) for image in look_into(path).images]


def jpeg(path: Path) -> Image:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image, np.uint8)


def record(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return found


def check_times(seen: Seen) -> None:
    assert seen.ticks[0] == 0
    assert all(before < after for before, after in pairwise(seen.ticks))
    assert seen.keyframes[0] == 0
    assert all(after - before <= 1.0001 for before, after in pairwise([*seen.keyframes, seen.times[-1]]))
    assert seen.errors == 0


# --- around an event --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["ultrafast", "superfast", "medium"])
@pytest.mark.parametrize(("before_s", "after_s"), [(2.0, 1.0), (0.5, 2.0), (0.0, 0.0), (30.0, 1.0)])
def test_a_clip_begins_before_its_event_and_lasts_until_after_it(
    tmp_path: Path, preset: str, before_s: float, after_s: float
) -> None:
    sink = clips(tmp_path, before_s=before_s, after_s=after_s, preset=preset)
    feed(sink, 260, at=[137])
    sink.end("cam")
    sink.close()
    (path,) = videos(tmp_path)
    shown = numbers(path)
    first, last = shown[0], shown[-1]
    assert first is not None
    assert shown == list(range(first, first + len(shown)))
    early = 1 if preset != "medium" else 1 + 12 / RATE  # keyframes that it holds back to look ahead come too late
    assert max(0.0, 137 / RATE - before_s - early) - 1e-6 <= first / RATE <= max(0.0, 137 / RATE - before_s) + 1e-6
    assert last == 137 + round(after_s * RATE)
    seen = look_into(path)
    check_times(seen)
    assert seen.times == pytest.approx([index / RATE for index in range(len(shown))], abs=1e-4)
    about = record(path)
    assert about["pts"] == pytest.approx(first / RATE, abs=1e-4)
    assert about["duration_s"] == pytest.approx((last - first) / RATE, abs=1e-3)
    assert about["events"][0]["clip_s"] == pytest.approx((137 - first) / RATE, abs=1e-3)


def test_where_no_event_matches_there_is_no_clip(tmp_path: Path) -> None:
    sink = clips(tmp_path, on=("zone.enter", "person.*"))
    for number in range(100):
        sink.consume(frame(number, events=[LEAVE, {"event": "personal"}] if number == 50 else []))
    sink.close()
    assert list(tmp_path.iterdir()) == []
    assert sink.files == []


def test_the_files_are_named_for_source_time_and_event_and_say_what_happened(tmp_path: Path) -> None:
    sink = clips(tmp_path, on=("*",))
    at = time.mktime((2026, 3, 4, 5, 6, 7, 0, 0, -1))
    for number in range(100):
        events = {60: [ENTER], 70: [LEAVE, {"event": "odd name/é"}]}.get(number, [])
        sink.consume(frame(number, events=events, wall_time=at + (number - 60) / RATE))
    sink.close()
    stem = "cam-20260304-050607-zone.enter"
    assert {path.name for path in tmp_path.iterdir()} == {f"{stem}.mp4", f"{stem}.jpg", f"{stem}.json"}
    about = record(tmp_path / f"{stem}.mp4")
    assert (about["type"], about["source"], about["event"]) == ("clip", "cam", "zone.enter")
    assert about["file"] == f"{stem}.mp4"
    assert about["wall_time"] == pytest.approx(at, abs=0.001)
    assert about["time"].startswith("2026-03-04T05:06:07.000")
    assert about["continues"] is None
    said = [(line["event"], line["frame"], line["source"]) for line in about["events"]]
    assert said == [("zone.enter", 60, "cam"), ("zone.leave", 70, "cam"), ("odd name/é", 70, "cam")]
    assert [line["clip_s"] for line in about["events"]] == pytest.approx(
        [2.4 - about["pts"], 2.8 - about["pts"], 2.8 - about["pts"]], abs=2e-3
    )


def test_an_events_own_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    sink = clips(folder, on=("*",))
    sink.consume(frame(0, events=[{"event": "../../etc/passwd"}]))
    sink.close()
    assert [path.parent for path in tmp_path.rglob("*.mp4")] == [folder]


def test_the_thumbnail_is_the_events_own_picture(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    feed(sink, 80, at=[33])
    sink.close()
    (path,) = tmp_path.glob("*.jpg")
    assert barcode.read(jpeg(path)) == 33
    clips_without = clips(tmp_path / "without", thumbnail=False)
    feed(clips_without, 80, at=[33])
    clips_without.close()
    assert not list((tmp_path / "without").glob("*.jpg"))


@pytest.mark.parametrize(("pictures", "level"), [("annotated", 200), ("original", 60)])
def test_annotated_or_original_pictures_are_recorded(tmp_path: Path, pictures: str, level: int) -> None:
    sink = clips(tmp_path, pictures=pictures)
    for number in range(60):
        original = Picture(bgr=np.full((64, 96, 3), 60, np.uint8))
        shown = Picture(bgr=np.full((64, 96, 3), 200, np.uint8))
        sink.consume(frame(number, events=[ENTER] if number == 40 else [], picture=original, rendered=shown))
    sink.close()
    (path,) = videos(tmp_path)
    assert set(np.abs(np.array(look_into(path).levels) - level) <= 3) == {True}
    assert jpeg(path.with_suffix(".jpg")).mean() == pytest.approx(level, abs=3)


def test_events_in_a_row_make_one_clip_and_later_ones_another(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    feed(sink, 300, at=[50, 70, 76, 200])
    sink.close()
    first, second = videos(tmp_path)
    assert numbers(first)[-1] == 76 + RATE
    assert [line["frame"] for line in record(first)["events"]] == [50, 70, 76]
    assert numbers(second)[-1] == 200 + RATE
    assert [line["frame"] for line in record(second)["events"]] == [200]


def test_what_goes_on_for_too_long_is_continued_without_a_gap(tmp_path: Path) -> None:
    sink = clips(tmp_path, max_s=5.0)
    feed(sink, 600, at=range(100, 400))
    sink.close()
    found = videos(tmp_path)
    assert len(found) >= 3
    shown = [numbers(path) for path in found]
    assert all(look_into(path).times[-1] <= 5 for path in found)
    joined = [number for part in shown for number in part]
    assert joined == list(range(shown[0][0] or 0, 399 + RATE + 1))
    assert [record(path)["continues"] for path in found] == [None, *(path.name for path in found[:-1])]
    assert len({path.with_suffix(".jpg").read_bytes() for path in found}) == len(found)
    assert [line["frame"] for path in found for line in record(path)["events"]] == list(range(100, 400))


def test_several_sources_have_clips_of_their_own(tmp_path: Path) -> None:
    sink = clips(tmp_path, ["a", "b", "c"])
    for number in range(150):
        for source, at in (("a", 60), ("b", 60), ("c", 900)):
            sink.consume(frame(number + 1000 * ord(source), source, [ENTER] if number == at else [], pts=number / RATE))
    for source in ("a", "b", "c"):
        sink.end(source)
    sink.close()
    assert sorted(path.name[:2] for path in videos(tmp_path)) == ["a-", "b-"]
    for path in videos(tmp_path):
        assert {(number or 0) // 1000 for number in numbers(path)} == {ord(path.name[0])}


def test_a_change_of_size_begins_another_file(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    for number in range(120):
        size = (256, 64) if number < 60 else (320, 96)
        sink.consume(frame(number, events=[ENTER] if number == 50 else [], size=size))
    sink.close()
    first, second = videos(tmp_path)
    assert (look_into(first).sizes, look_into(second).sizes) == ({(256, 64)}, {(320, 96)})
    assert [*numbers(first), *numbers(second)] == list(range(numbers(first)[0] or 0, 76))
    check_times(look_into(second))


def test_times_that_repeat_jump_back_or_have_gaps_rise_in_the_clip(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    times = [100 + index / RATE for index in range(50)] + [102.0, 102.0, 101.99] + [0.04 * n for n in range(100)]
    for number, pts in enumerate(times):
        sink.consume(frame(number, events=[ENTER] if number == 55 else [], pts=pts))
    sink.close()
    (path,) = videos(tmp_path)
    check_times(look_into(path))
    assert 55 in numbers(path)


def test_after_a_gap_a_clip_does_not_go_on(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    for number in range(120):
        pts = number / RATE + (60 if number >= 55 else 0)
        sink.consume(frame(number, events=[ENTER] if number in (50, 55) else [], pts=pts))
    sink.close()
    first, second = videos(tmp_path)
    assert numbers(first)[-1] == 54
    assert look_into(first).times[-1] < 5
    assert numbers(second)[0] == 55
    check_times(look_into(second))


@pytest.mark.parametrize("preset", ["superfast", "medium"])
@pytest.mark.parametrize("together", [False, True], ids=["alone", "with a recording"])
@pytest.mark.parametrize("after", [0, 3, 40])
def test_a_clip_after_an_outage_holds_nothing_from_before_it(
    tmp_path: Path, preset: X264Preset, together: bool, after: int
) -> None:
    settings = ClipsSettings(on=("zone.enter",), folder=tmp_path / "clips", before_s=5.0, after_s=2.0, preset=preset)
    sink = Clips(settings, encodes=not together)
    recorder = Recorder(RecorderOptions(tmp_path / "out.mp4", video=VideoOptions(preset=preset)), sink)
    for each in (sink, recorder):
        each.check([SourceInfo("cam", "cam.avi", fps=RATE)])
    for number in range(250):
        pts = number / RATE + (3600 if number >= 150 else 0)
        item = frame(number, events=[ENTER] if number == 150 + after else [], pts=pts)
        (recorder if together else sink).consume(item)
    recorder.close()
    sink.close()
    (path,) = videos(tmp_path / "clips")
    assert numbers(path) == list(range(150, 150 + after + 2 * RATE + 1))
    check_times(look_into(path))
    about = record(path)
    assert about["pts"] == pytest.approx(3606, abs=1e-3)
    assert about["duration_s"] == pytest.approx(after / RATE + 2, abs=1e-3)
    assert about["events"][0]["clip_s"] == pytest.approx(after / RATE, abs=1e-3)


@pytest.mark.parametrize("together", [False, True], ids=["alone", "with a recording"])
def test_a_clip_is_finished_while_its_source_is_away(tmp_path: Path, together: bool) -> None:
    settings = ClipsSettings(on=("zone.enter",), folder=tmp_path / "clips", before_s=1.0, after_s=0.5)
    sink = Clips(settings, encodes=not together)
    recorder = Recorder(RecorderOptions(tmp_path / "out.mp4"), sink)
    for each in (sink, recorder):
        each.check([SourceInfo("cam", "cam.avi", fps=RATE)])
    user = recorder if together else sink
    for number in range(56):
        user.consume(frame(number, events=[ENTER] if number == 50 else []))
    (path,) = videos(tmp_path / "clips")
    for each in (sink, recorder):
        each.source_changed(SourceState("cam", "stalled"))
    assert record(path)["duration_s"] is None, "it may come back in time"
    time.sleep(0.6)
    for each in (sink, recorder):
        each.source_changed(SourceState("other", "waiting"))
        each.source_changed(SourceState("cam", "streaming"))
    assert record(path)["duration_s"] is None
    for each in (sink, recorder):
        each.source_changed(SourceState("cam", "waiting"))
    assert record(path)["duration_s"] > 1
    for number in range(56, 100):
        user.consume(frame(number, pts=60 + number / RATE, events=[ENTER] if number == 80 else []))
    recorder.close()
    sink.close()
    first, second = videos(tmp_path / "clips")
    assert first == path
    assert numbers(first)[-1] == 53  # the encoder has the newest two
    assert numbers(second)[0] == 56


def test_a_clip_waits_for_its_events_picture_while_its_source_is_away(tmp_path: Path) -> None:
    sink = clips(tmp_path, after_s=0.0)
    feed(sink, 56, at=[55])
    time.sleep(0.1)
    sink.source_changed(SourceState("cam", "waiting"))
    sink.consume(frame(56, pts=60.0))
    sink.close()
    (path,) = videos(tmp_path)
    assert numbers(path)[-1] == 55


def test_what_is_recorded_when_the_run_ends_is_finished_at_once(tmp_path: Path) -> None:
    sink = clips(tmp_path, ["a", "b"], after_s=60.0)
    for number in range(100):
        for source in ("a", "b"):
            sink.consume(frame(number, source, [ENTER] if number == 80 else []))
    before = time.monotonic()
    sink.close()
    assert time.monotonic() - before < 0.3
    for path in videos(tmp_path):
        assert numbers(path)[-1] == 99
        assert record(path)["duration_s"] > 0


def test_a_real_video_gives_a_clip_of_its_own_pictures(tmp_path: Path, shared: Path) -> None:
    source = VideoFile("film", shared / "data" / "videos" / "numbered_180_frames.mp4")
    source.open()
    sink = Clips(ClipsSettings(on=("zone.enter",), folder=tmp_path, before_s=1.0, after_s=1.0, max_s=9.0))
    sink.check([source.info])
    originals, times = [], []
    for item in source.frames():
        assert isinstance(item, Frame)
        originals.append(item.image)
        times.append(item.pts)
        if item.index == 90:
            item.events.append(dict(ENTER))
        sink.consume(item)
    sink.end("film")
    sink.close()
    source.close()
    (path,) = videos(tmp_path)
    seen, about = look_into(path), record(path)
    check_times(seen)
    assert times[90] - 2 - 1e-6 <= about["pts"] <= times[90] - 1 + 1e-6
    first = times.index(next(pts for pts in times if pts >= about["pts"] - 1e-4))
    assert seen.times == pytest.approx(
        [pts - times[first] for pts in times[first:] if pts <= times[90] + 1 + 1e-6], abs=1e-4
    )
    for index, image in enumerate(seen.images):
        assert cv2.PSNR(image, originals[first + index]) > 28


# --- memory -----------------------------------------------------------------------------------------------------


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_ten_minutes_take_no_more_memory_than_ten_seconds(tmp_path: Path) -> None:
    sink = clips(tmp_path, before_s=5.0)
    feed(sink, 10 * RATE)
    early, ring = resident(), sink._makers["cam"].ring
    most = 0
    for number in range(10 * RATE, 600 * RATE):
        sink.consume(frame(number))
        most = max(most, len(ring))
    assert most <= 6 * RATE + 2
    assert resident() - early < 20_000_000
    sink.close()
    assert list(tmp_path.iterdir()) == []


def packets(count: int, size: int = 100, every: int = RATE, stream: object = "x") -> list[Encoded]:
    return [Encoded(bytes(size), n * SECOND // RATE, n % every == 0, stream) for n in range(count)]


@pytest.mark.parametrize("seconds", [0.0, 0.4, 1.0, 5.0])
def test_the_ring_begins_with_a_keyframe_and_reaches_back_far_enough(seconds: float) -> None:
    ring = PacketRing(seconds, 1e9)
    for packet in packets(1000):
        ring.add(packet)
        held = list(ring)
        assert held[0].is_keyframe
        assert held[-1] is packet
        assert held[0].ticks <= max(0, packet.ticks - seconds * SECOND)
        assert packet.ticks - held[0].ticks < (seconds + 1) * SECOND
        assert ring.size == 100 * len(ring)


def test_the_ring_never_takes_more_memory_than_it_may() -> None:
    ring = PacketRing(5.0, 10_000)
    for packet in packets(1000, size=150):
        ring.add(packet)
        assert 0 < ring.size == 150 * len(ring) <= 10_000
        assert not ring.wants_keyframe()
    ring = PacketRing(5.0, 2000)  # less than a group of pictures
    for packet in packets(1000, size=150):
        ring.add(packet)
        assert ring.size == 150 * len(ring) <= 2000
        assert packet.is_keyframe == (len(ring) == 1)
        assert ring.wants_keyframe() == (packet.ticks % SECOND == 13 * SECOND // RATE)
        assert not ring.wants_keyframe(), "once is enough"


def test_where_memory_is_too_small_for_a_second_the_event_is_in_the_clip_nevertheless(tmp_path: Path) -> None:
    sink = clips(tmp_path, memory_mb=0.05)
    for number in range(100):
        picture = Picture(planes=noise_planes(128, 64, number))
        sink.consume(frame(number, events=[ENTER] if number == 60 else [], picture=picture))
        assert sink._makers["cam"].ring.size <= 50_000
    sink.close()
    (path,) = videos(tmp_path)
    about = record(path)
    assert 1 < about["pts"] <= 60 / RATE
    assert look_into(path).times[-1] + about["pts"] == pytest.approx(60 / RATE + 1, abs=1e-3)


# --- disk -------------------------------------------------------------------------------------------------------


def noisy(sink: Sink, count: int, at: Iterable[int], first: int = 0, size: tuple[int, int] = (128, 96)) -> None:
    for number in range(first, count):
        picture = Picture(planes=noise_planes(*size, number))
        sink.consume(frame(number, events=[ENTER] if number in set(at) else [], picture=picture))


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_the_oldest_clips_go_before_all_take_too_much(tmp_path: Path) -> None:
    (tmp_path / "holiday.mp4").write_bytes(b"precious" * 100)
    sink = clips(tmp_path, max_mb=3.0, before_s=0.5)
    most = 0
    for number in range(1500):
        noisy(sink, number + 1, [number] if number % 100 == 50 else [], first=number)
        most = max(most, taken(tmp_path) - 800)
    sink.close()
    assert most <= 3_000_000
    assert 1_000_000 < taken(tmp_path) <= 3_000_800
    left = videos(tmp_path)
    assert left[0].read_bytes() == b"precious" * 100
    frames = [record(path)["events"][0]["frame"] for path in left[1:]]
    assert frames == [1450 - 100 * back for back in reversed(range(len(frames)))]
    assert len(frames) > 1
    assert {path.suffix for path in tmp_path.iterdir()} == {".mp4", ".jpg", ".json"}
    assert sorted(path.stem for path in tmp_path.glob("*.jpg")) == sorted(path.stem for path in left[1:])
    assert sink.dropped == 0


def test_clips_of_earlier_runs_count_from_the_start(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    noisy(sink, 300, [50, 150, 250])
    sink.close()
    found = videos(tmp_path)
    assert len(found) == 3
    clips(tmp_path, max_mb=1.5 * max(path.stat().st_size for path in found) / 1e6)
    assert videos(tmp_path) == found[2:]
    assert len(list(tmp_path.iterdir())) == 3


def test_a_clip_that_alone_is_too_large_ends_early(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = clips(tmp_path, max_mb=1.0, after_s=60.0)
    noisy(sink, 400, [50, 60, 70])
    sink.close()
    (path,) = videos(tmp_path)
    assert taken(tmp_path) <= 1_000_000
    assert len(look_into(path).times) > 25
    assert record(path)["duration_s"] > 1
    (said,) = caplog.records
    assert "ends early: it alone takes clips.max_mb, which is 1" in said.getMessage()


def test_a_clip_that_is_being_read_is_not_deleted(tmp_path: Path) -> None:
    sink = clips(tmp_path)
    noisy(sink, 200, [50, 150])
    sink.close()
    first, second = videos(tmp_path)
    reader = Clips(ClipsSettings(on=("zone.enter",), folder=tmp_path, max_mb=0.01))
    reader.check([SourceInfo("old", str(first), fps=RATE)])
    assert first.exists()
    assert not second.exists()


def test_among_many_clips_of_earlier_runs_the_limit_holds_nevertheless(tmp_path: Path) -> None:
    for number in range(2 * MANY):
        stem = f"cam-20200101-000000-zone.enter-{number + 2}"
        (tmp_path / f"{stem}.json").write_text("{}")
        (tmp_path / f"{stem}.mp4").write_bytes(bytes(2000))
        for suffix in ("json", "mp4"):
            os.utime(tmp_path / f"{stem}.{suffix}", (1e9 + number, 1e9 + number))
    sink = clips(tmp_path, max_mb=2 * MANY * 0.002, before_s=0.5)
    noisy(sink, 300, [50, 150, 250], size=(64, 48))
    sink.close()
    assert taken(tmp_path) <= 4000 * MANY
    new = sorted(tmp_path.glob("cam-202[1-9]*.mp4"))
    assert len(new) == 3
    assert all(record(path)["duration_s"] > 1 for path in new)


def test_on_a_full_disk_clips_are_given_up_said_once_and_begun_again(
    disk_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    disk = disk_of("2m")
    folder = disk / "clips"
    sink = clips(folder, max_mb=None, before_s=1.0)
    noisy(sink, 100, [50])
    assert sink.dropped == 0
    (good,) = videos(folder)
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(4_000_000))
    noisy(sink, 500, range(200, 400), first=100)
    assert sink.dropped == 1, "all that happened from 200 to 400 is one clip"
    assert videos(folder) == [good]
    (said,) = caplog.records
    assert "No space left on device; clips are given up until it works again" in said.getMessage()
    assert sink.remark() is not None
    filler.unlink()
    noisy(sink, 700, [600], first=500)
    sink.close()
    assert len(videos(folder)) == 2
    assert record(videos(folder)[1])["events"][0]["frame"] == 600
    check_times(look_into(videos(folder)[1]))
    assert sink.dropped == 1
    assert len(caplog.records) == 1
    assert {path.suffix for path in folder.iterdir()} == {".mp4", ".jpg", ".json"}


def test_a_disk_that_gets_full_during_a_clip_keeps_what_shows_the_event(disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("2m")
    sink = clips(disk, max_mb=None, before_s=1.0, after_s=60.0)
    noisy(sink, 600, [50])
    sink.close()
    assert sink.dropped == 1
    (path,) = videos(disk)
    assert len(look_into(path).times) > 40


def test_a_folder_that_vanishes_costs_its_clip_and_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "clips"
    sink = clips(folder)
    feed(sink, 60, at=[50])
    shutil.rmtree(folder)
    feed(sink, 120, first=60)
    assert sink.dropped == 1
    assert len(caplog.records) == 1
    feed(sink, 250, at=[180], first=120)
    sink.close()
    (path,) = videos(folder)
    assert numbers(path)[-1] == 180 + RATE


@pytest.mark.parametrize("place", ["file/clips", "/proc/frameloom"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=r"clips\.folder: cannot write to folder "):
        clips(tmp_path / place)


def test_images_are_refused(tmp_path: Path) -> None:
    sink = Clips(ClipsSettings(on=("*",), folder=tmp_path / "clips"))
    with pytest.raises(ConfigError, match="clips: source photos is images, which have no time"):
        sink.check([SourceInfo("photos", str(tmp_path), folders=frozenset({tmp_path}))])


def test_pictures_that_no_encoder_takes_cost_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sink = clips(tmp_path)
    strip = Picture(bgr=np.zeros((16, 40_000, 3), np.uint8))  # x264 ends at 16384
    for number in range(3):
        sink.consume(frame(number, events=[ENTER], picture=strip))
    sink.close()
    assert videos(tmp_path) == []
    (said,) = caplog.records
    assert "cannot encode pictures of 40000 x 16 with libx264" in said.getMessage()


# --- together with a recording ----------------------------------------------------------------------------------


def test_a_recording_of_the_same_pictures_is_encoded_once(tmp_path: Path) -> None:
    settings = ClipsSettings(on=("*",), folder=tmp_path / "clips", before_s=2.0, after_s=1.0)
    both = SinksSettings(record=RecordSettings(path=tmp_path / "out.mp4", segment_s=1.5))
    recorder, sink = make_sinks(Settings(clips=settings, sinks=both), lambda: pytest.fail("no sink needs the run"))
    assert isinstance(recorder, Recorder)
    assert isinstance(sink, Clips)
    for each in (recorder, sink):
        each.check([SourceInfo("cam", "cam.avi", fps=RATE)])
    for number in range(200):
        shown = frame(number, events=[ENTER] if number == 110 else [])
        sink.consume(shown)  # on another thread in a run: does nothing
        recorder.consume(shown)
    assert not sink._encoders
    recorder.end("cam")
    recorder.close()
    sink.close()
    (path,) = videos(tmp_path / "clips")
    shown_numbers = numbers(path)
    first = shown_numbers[0] or 0
    assert shown_numbers == list(range(first, 110 + RATE + 1))
    assert 110 - 3 * RATE <= first <= 110 - 2 * RATE
    check_times(look_into(path))
    assert [number for each in recorder.files for number in numbers(each)] == list(range(200))
    assert sink.files == [tmp_path / "clips"]


@pytest.mark.parametrize(
    "record", [{"crf": 30}, {"preset": "medium"}, {"layout": "grid"}, {}], ids=["crf", "preset", "grid", "original"]
)
def test_a_recording_of_another_kind_is_encoded_apart(tmp_path: Path, record: dict[str, Any]) -> None:
    settings = ClipsSettings(on=("*",), folder=tmp_path, pictures="annotated" if record else "original")
    both = SinksSettings(record=RecordSettings(path=tmp_path / "out.mp4", **record))
    recorder, sink = make_sinks(Settings(clips=settings, sinks=both), lambda: pytest.fail("no sink needs the run"))
    assert isinstance(recorder, Recorder)
    assert isinstance(sink, Clips)
    for each in (recorder, sink):
        each.check([SourceInfo("cam", "cam.avi", fps=RATE, width=256, height=64)])
        for number in range(3):
            each.consume(frame(number))
        each.close()
    assert recorder._clips is None
    assert sink._encodes


def test_a_clip_that_cannot_be_written_does_not_touch_the_recording(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    sink = Clips(ClipsSettings(on=("*",), folder=folder), encodes=False)
    recorder = Recorder(RecorderOptions(tmp_path / "out.mp4", video=VideoOptions(preset="ultrafast")), sink)
    for each in (sink, recorder):
        each.check([SourceInfo("cam", "cam.avi", fps=RATE)])
    shutil.rmtree(folder)
    folder.write_text("in the way")
    for number in range(100):
        recorder.consume(frame(number, events=[ENTER] if number == 50 else []))
    recorder.end("cam")
    recorder.close()
    assert sink.dropped == 1
    assert numbers(tmp_path / "out.mp4") == list(range(100))


# --- a kill -----------------------------------------------------------------------------------------------------

KILLED = """
import sys, time
from pathlib import Path
from tests.pipeline.test_clips import ENTER, clips, frame
sink = clips(Path(sys.argv[1]), after_s=1000.0, max_s=2000.0)
for number in range(100_000):
    sink.consume(frame(number, events=[ENTER] if number == 130 else []))
    print(number, flush=True)
    time.sleep(0.002)
"""


def test_after_a_kill_a_clip_plays_with_what_was_before(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) > 250:
            break
    process.kill()
    last = int([line, *process.stdout.readlines()][-1])
    process.wait()
    process.stdout.close()
    (path,) = videos(tmp_path)
    shown = numbers(path)
    first = shown[0] or 0
    assert 130 - 3 * RATE <= first <= 130 - 2 * RATE
    assert shown == list(range(first, first + len(shown)))
    assert (shown[-1] or 0) >= last - RATE - 2  # the newest two are in the encoder
    check_times(look_into(path))
    assert record(path)["event"] == "zone.enter"
    assert barcode.read(jpeg(path.with_suffix(".jpg"))) == 130
    after = clips(tmp_path, max_mb=0.001)  # the next run counts it, and may delete it
    after.close()
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_would_have_no_room_for_its_event_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_s 6 is too short for before_s 5: at least 2 seconds more"):
        ClipsSettings(on=("*",), max_s=6.0)
