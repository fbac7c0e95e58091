"""The spool: in order, nothing lost over restarts and SIGKILL, bounded, and damage costs only what it hits."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sinks.spool import Spool, SpoolInUse

LIMIT = 1_000_000


@contextlib.contextmanager
def no_handles() -> Iterator[None]:
    """No file can be opened inside."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
        yield


def payloads(spool: Spool, confirm: bool = True) -> list[bytes]:
    """Everything that can be read now."""
    found = []
    while (each := spool.next()) is not None:
        found.append(each[1])
        if confirm:
            spool.confirm(each[0] + 1)
    return found


def numbered(first: int, end: int, size: int = 0) -> list[bytes]:
    return [str(number).encode().rjust(size, b" ") for number in range(first, end)]


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool", LIMIT)
    yield opened
    opened.close()


def test_what_is_put_comes_out_in_order_and_once(spool: Spool) -> None:
    for each in numbered(0, 5):
        spool.put(each)
    assert payloads(spool) == numbered(0, 5)
    spool.put(b"later")
    assert payloads(spool) == [b"later"]
    assert (payloads(spool), spool.waiting, spool.dropped) == ([], 0, 0)


def test_what_was_read_but_not_confirmed_comes_again(spool: Spool) -> None:
    for each in numbered(0, 5):
        spool.put(each)
    assert payloads(spool, confirm=False) == numbered(0, 5)
    spool.confirm(2)
    spool.rewind()
    assert spool.waiting == 3
    assert payloads(spool) == numbered(2, 5)


def test_the_next_run_finds_what_was_not_confirmed(tmp_path: Path) -> None:
    for begin in (0, 10, 20):  # three runs, of which each confirms three and adds ten
        spool = Spool(tmp_path, LIMIT)
        for each in numbered(begin, begin + 10):
            spool.put(each)
        for _ in range(3):
            number, _payload = spool.next() or (0, b"")
            spool.confirm(number + 1)
        spool.close()
    spool = Spool(tmp_path, LIMIT)
    assert spool.waiting == 21
    assert payloads(spool) == numbered(9, 30)
    spool.close()
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


def test_nothing_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, itertools; from pathlib import Path; from pipeline.sinks.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), 50_000_000)\n"
        "for number in itertools.count():\n"
        "    spool.put(b'%d' % number); sys.stdout.write(f'{number}\\n'); sys.stdout.flush()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as process:
        assert process.stdout is not None
        for _ in range(3000):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split(b"\n")
    last = 2999 + sum(1 for line in said if line)
    spool = Spool(tmp_path, LIMIT * 50)
    found = payloads(spool)
    assert found[: last + 1] == numbered(0, last + 1)
    assert len(found) - last - 1 in (0, 1)  # it may have been killed between keeping one and telling us
    assert spool.dropped == 0
    spool.close()


def test_beyond_its_limit_the_oldest_are_given_up_counted_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path, 20_000)
    for each in numbered(0, 1000, 100):
        spool.put(each)
        assert sum(path.stat().st_size for path in tmp_path.glob("*.events")) <= 20_000
    left = payloads(spool)
    assert left == numbered(1000 - len(left), 1000, 100)
    assert len(left) > 100
    assert spool.dropped + len(left) == 1000
    assert len(caplog.records) == 1
    assert "more than 0.02 MB of events wait" in caplog.text
    spool.close()


def test_one_that_is_larger_than_all_is_given_up_alone(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1000)
    for each in (b"a", b"x" * 2000, b"b"):
        spool.put(each)
    assert payloads(spool) == [b"a", b"b"]
    assert spool.dropped == 1
    spool.close()


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_torn_last_line_costs_that_event_only(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, LIMIT)
    for each in (b"first", b"second", b"third"):
        spool.put(each)
    spool.close()
    (file,) = tmp_path.glob("*.events")
    os.truncate(file, file.stat().st_size - cut)
    again = Spool(tmp_path, LIMIT)
    again.put(b"fourth")
    assert payloads(again) == [b"first", b"second", b"fourth"]
    assert (again.dropped, again.waiting) == (1, 0)
    again.close()


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_damage_costs_no_more_than_it_hits(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, LIMIT)
    for each in numbered(0, 40, 20):
        spool.put(each)
    spool.close()
    (file,) = folder.glob("*.events")
    content = bytearray(file.read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    garbage = data.draw(st.binary(min_size=1, max_size=60))
    content[start : start + len(garbage)] = garbage
    file.write_bytes(content)
    again = Spool(folder, LIMIT)
    again.put(b"new")
    found = payloads(again)
    assert found[-1] == b"new"
    assert found[:-1] == [each for each in numbered(0, 40, 20) if each in found]  # in order, none twice, none made up
    assert len(found) >= 41 - 4  # 60 bytes hit at most four lines of 30
    assert again.waiting == 0
    again.close()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\0" * 21])
def test_without_the_number_of_what_is_confirmed_events_come_again(tmp_path: Path, content: bytes) -> None:
    spool = Spool(tmp_path, LIMIT)
    for each in numbered(0, 5):
        spool.put(each)
    spool.confirm(3)
    spool.close()
    (tmp_path / "confirmed").write_bytes(content)
    again = Spool(tmp_path, LIMIT)
    assert payloads(again) == numbered(0, 5)
    again.close()


def test_two_cannot_use_one_folder(spool: Spool) -> None:
    with pytest.raises(SpoolInUse):
        Spool(spool.folder, LIMIT)
    spool.close()
    Spool(spool.folder, LIMIT).close()


def test_only_the_owner_can_read_it(spool: Spool) -> None:
    spool.put(b"who was seen")
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in spool.folder.iterdir()} == {0o600}


def test_on_a_full_disk_events_wait_in_memory_and_go_to_disk_later(
    disk_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    disk = disk_of("64k")
    spool = Spool(disk / "spool", LIMIT)
    spool.put(b"0".rjust(100))
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 65536)
    for each in numbered(1, 500, 100):
        spool.put(each)
    assert "No space left on device" in caplog.text
    assert len(caplog.records) == 1
    assert (spool.waiting, spool.dropped) == (500, 0)
    filler.unlink()
    spool.sync()
    spool.put(numbered(500, 501, 100)[0])
    spool.close()
    again = Spool(disk / "spool", LIMIT)
    assert payloads(again) == numbered(0, 501, 100)
    again.close()


def test_memory_is_bounded_on_a_full_disk(disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("64k")
    spool = Spool(disk / "spool", 64_000_000)
    for each in numbered(0, 60_000, 100):
        spool.put(each)
    assert spool.dropped > 10_000
    assert spool.waiting + spool.dropped == 60_000
    found = payloads(spool)
    assert len(found) == 60_000 - spool.dropped
    assert found == sorted(found)
    assert found[-1] == numbered(59_999, 60_000, 100)[0]
    spool.close()


def test_a_writer_and_a_reader_work_at_the_same_time(spool: Spool) -> None:
    found: list[bytes] = []
    done = threading.Event()

    def read() -> None:
        while not (done.is_set() and not spool.waiting):
            found.extend(payloads(spool))
            spool.sync()

    reader = threading.Thread(target=read)
    reader.start()
    for each in numbered(0, 20_000):
        spool.put(each)
        if each.endswith(b"000"):
            time.sleep(0.005)
    done.set()
    reader.join(60)
    assert found == numbered(0, 20_000)
    assert spool.dropped == 0


def test_a_moment_without_file_handles_costs_nothing(spool: Spool) -> None:
    for each in numbered(0, 5):
        spool.put(each)
    with no_handles():
        spool.sync()
        spool.put(numbered(5, 6)[0])
        assert spool.next() is None  # not now
    spool.sync()
    assert payloads(spool) == numbered(0, 6)
    assert spool.dropped == 0


@pytest.mark.parametrize("what", ["folder", "files"])
def test_events_outlive_a_folder_that_somebody_deletes(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    for each in numbered(0, 5):
        spool.put(each)
    assert spool.next() == (0, b"0")  # the reader is in the middle of the file
    spool.confirm(1)
    if what == "folder":
        shutil.rmtree(spool.folder)
    else:
        for path in spool.folder.iterdir():
            path.unlink()
    spool.put(b"5")
    spool.sync()
    spool.put(b"6")
    assert spool.next() == (1, b"1")
    with pytest.raises(SpoolInUse):
        Spool(tmp_path / "spool", LIMIT)
    assert len(caplog.records) == 1
    assert "was deleted while events waited there; made it again" in caplog.text
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    spool.close()
    again = Spool(tmp_path / "spool", LIMIT)
    assert payloads(again) == numbered(1, 7)
    assert (spool.waiting, spool.dropped) == (6, 0)
    again.close()


def test_what_is_deleted_just_before_the_end_is_there_for_the_next_run(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    spool.put(b"0")
    shutil.rmtree(spool.folder)
    spool.close()
    again = Spool(tmp_path / "spool", LIMIT)
    assert payloads(again) == [b"0"]
    again.close()


def test_full_files_that_somebody_deletes_are_counted(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    for each in numbered(0, 3000, 100):
        spool.put(each)
    shutil.rmtree(spool.folder)
    spool.close()
    again = Spool(tmp_path / "spool", LIMIT)
    found = payloads(again)
    again.close()
    assert 0 < len(found) == spool.waiting < 3000
    assert len(found) + spool.dropped == 3000


def test_another_run_that_took_the_place_of_a_deleted_folder_keeps_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", LIMIT)
    spool.put(b"mine")
    shutil.rmtree(spool.folder)
    other = Spool(tmp_path / "spool", LIMIT)
    other.put(b"theirs")
    spool.sync()
    assert spool.next() is None
    assert payloads(other) == [b"theirs"]
    other.close()
    spool.sync()
    assert payloads(spool) == [b"mine"]
    spool.close()
