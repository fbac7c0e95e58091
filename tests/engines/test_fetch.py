"""Fetching models from a real local index and file server: what arrives, what is refused, and what is left behind."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from engines import download
from engines.errors import ChecksumMismatch, ModelError, ModelNotFound
from engines.zoo import Zoo
from tests.engines.package_site import (
    MODEL,
    OTHER_MODEL,
    Site,
    companion,
    entry,
    in_sdist,
    in_wheel,
    running_site,
    sdist,
    sha256,
    wheel,
    zoo_file,
    zoo_of,
)

WHEEL = "weights-1.0-py3-none-any.whl"
SDIST = "weights-1.0.tar.gz"
FETCH = "import sys; from pathlib import Path; from engines.zoo import Zoo; Zoo.load(Path(sys.argv[1])).fetch('tiny')"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("FRAMELOOM_MIRROR", "FRAMELOOM_OFFLINE", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(download, "RETRY_PAUSES_S", (0.0, 0.0))
    with running_site() as running:
        monkeypatch.setenv("PIP_INDEX_URL", running.index)
        yield running


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "models"


def left_in(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*"))


def test_a_model_is_taken_out_of_a_wheel(site: Site, tmp_path: Path, cache: Path) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL, "weights/__init__.py": b"raise SystemExit"}))
    path = zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny")
    assert path == cache / "tiny.onnx"
    assert path.read_bytes() == MODEL
    assert left_in(cache) == ["tiny.onnx"]


def test_a_model_is_taken_out_of_a_source_archive_and_its_setup_is_not_run(
    site: Site, tmp_path: Path, cache: Path
) -> None:
    marker = tmp_path / "marker"
    setup = f"open({str(marker)!r}, 'w').close()".encode()
    site.publish(SDIST, sdist({"setup.py": setup, "weights/tiny.onnx": MODEL}))
    assert zoo_of(tmp_path, entry(sources=[in_sdist()])).fetch("tiny").read_bytes() == MODEL
    assert not marker.exists()
    assert left_in(cache) == ["tiny.onnx"]


def test_a_second_fetch_asks_nobody(site: Site, tmp_path: Path) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL}))
    zoo = zoo_of(tmp_path, entry(sources=[in_wheel()]))
    zoo.fetch("tiny")
    site.asked.clear()
    assert zoo.fetch("tiny").read_bytes() == MODEL
    assert site.asked == []


def test_only_the_pinned_version_and_kind_is_taken(site: Site, tmp_path: Path) -> None:
    site.publish("weights-2.0-py3-none-any.whl", wheel({"weights/tiny.onnx": b"newer"}))
    site.publish(SDIST, sdist({"weights/tiny.onnx": MODEL}))
    with pytest.raises(ModelNotFound, match="the index has no such archive"):
        zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny")
    assert site.downloads() == []


def test_everything_of_the_zoo_in_one_archive_costs_one_download(site: Site, tmp_path: Path, cache: Path) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL, "weights/two.onnx": OTHER_MODEL}))
    zoo = zoo_of(
        tmp_path,
        entry(sources=[in_wheel()]),
        entry("two", OTHER_MODEL, sources=[in_wheel("weights/two.onnx")]),
        entry("three", b"3", sources=[in_wheel("weights/three.onnx")]),
    )
    zoo.fetch("tiny")
    zoo.fetch("two")
    assert site.downloads() == [f"/files/{WHEEL}"]
    assert left_in(cache) == ["tiny.onnx", "two.onnx"]


def test_a_companion_comes_out_of_the_same_download(site: Site, tmp_path: Path, cache: Path) -> None:
    site.publish(SDIST, sdist({"weights/tiny.onnx": MODEL, "weights/tiny.cfg": b"[net]"}))
    zoo = zoo_of(tmp_path, entry(companions=[companion("tiny.cfg", b"[net]")], sources=[in_sdist()]))
    assert zoo.fetch("tiny") == cache / "tiny.onnx"
    assert (cache / "tiny.cfg").read_bytes() == b"[net]"
    (cache / "tiny.cfg").unlink()
    assert zoo.locate("tiny") is None
    assert zoo.fetch("tiny") == cache / "tiny.onnx"
    assert left_in(cache) == ["tiny.cfg", "tiny.onnx"]
    assert len(site.downloads()) == 2


@pytest.mark.parametrize(
    ("members", "error", "words"),
    [
        ({}, ModelNotFound, "has no weights/tiny.cfg"),
        ({"weights/tiny.cfg": b"[cfg]"}, ChecksumMismatch, sha256(b"[cfg]")),
        ({"weights/tiny.cfg": b"[network]"}, ModelNotFound, "9 bytes, not 5"),
    ],
)
def test_a_model_whose_companion_is_missing_or_wrong_is_not_kept(
    site: Site, tmp_path: Path, cache: Path, members: dict[str, bytes], error: type[ModelError], words: str
) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL, **members}))
    zoo = zoo_of(tmp_path, entry(companions=[companion("tiny.cfg", b"[net]")], sources=[in_wheel()]))
    with pytest.raises(error, match=words):
        zoo.fetch("tiny")
    assert left_in(cache) == []


def test_progress_rises_to_the_announced_size(site: Site, tmp_path: Path) -> None:
    data = wheel({"weights/tiny.onnx": os.urandom(600_000), "weights/two.onnx": MODEL})
    site.publish(WHEEL, data)
    seen: list[tuple[int, int | None]] = []
    zoo_of(tmp_path, entry(sources=[in_wheel("weights/two.onnx")])).fetch(
        "tiny", lambda done, total: seen.append((done, total))
    )
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert seen[-1] == (len(data), len(data))


@pytest.mark.parametrize(
    ("archive", "digest", "error", "words"),
    [
        pytest.param(
            wheel({"weights/tiny.onnx": MODEL}), "0" * 64, ChecksumMismatch, "the index says 0000", id="index"
        ),
        pytest.param(wheel({"weights/tiny.onnx": MODEL}), "", ModelError, "gives no sha256", id="index-without-hash"),
        pytest.param(
            wheel({"weights/tiny.onnx": MODEL[::-1]}), None, ChecksumMismatch, sha256(MODEL[::-1]), id="member"
        ),
        pytest.param(wheel({"weights/other.onnx": MODEL}), None, ModelNotFound, "has no weights/tiny.onnx", id="none"),
        pytest.param(wheel({"weights/tiny.onnx": MODEL * 9}), None, ModelNotFound, "540000 bytes, not 60000", id="big"),
        pytest.param(b"not a zip", None, ModelNotFound, "cannot be read", id="not-an-archive"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said_and_nothing_is_kept(
    site: Site,
    tmp_path: Path,
    cache: Path,
    archive: bytes,
    digest: str | None,
    error: type[ModelError],
    words: str,
) -> None:
    site.publish(WHEEL, archive, digest=digest)
    with pytest.raises(error, match=words):
        zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny")
    assert left_in(cache) == []


def test_a_member_that_climbs_out_of_its_archive_is_written_nowhere(site: Site, tmp_path: Path, cache: Path) -> None:
    absolute = str(tmp_path / "absolute" / "tiny.onnx")
    members = {"../../tiny.onnx": b"x", absolute: b"x", "weights/../tiny.onnx": b"x", "weights/tiny.onnx": MODEL}
    site.publish(WHEEL, wheel(members))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    path = zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == {path, tmp_path / "zoo.yaml"}


def test_a_link_in_a_source_archive_is_not_followed(site: Site, tmp_path: Path, cache: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(MODEL)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        info = tarfile.TarInfo("weights-1.0/weights/tiny.onnx")
        info.type, info.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(info)
    site.publish(SDIST, buffer.getvalue())
    with pytest.raises(ModelNotFound, match=r"the archive has no weights/tiny\.onnx"):
        zoo_of(tmp_path, entry(sources=[in_sdist()])).fetch("tiny")
    assert left_in(cache) == []


def test_a_member_that_lies_about_its_size_cannot_fill_the_disk(site: Site, tmp_path: Path, cache: Path) -> None:
    honest = wheel({"weights/tiny.onnx": b"\0" * 5_000_000})
    size, lie = (5_000_000).to_bytes(4, "little"), len(MODEL).to_bytes(4, "little")
    assert honest.count(size) == 2  # in the local header and in the directory
    site.publish(WHEEL, honest.replace(size, lie))
    with pytest.raises(ModelError):
        zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny")
    assert left_in(cache) == []


def test_a_truncated_download_is_tried_again_then_refused(site: Site, tmp_path: Path, cache: Path) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": os.urandom(300_000)}))
    site.cut_after = 1000
    with pytest.raises(ModelNotFound, match="IncompleteRead"):
        zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny")
    assert len(site.downloads()) == 3
    assert left_in(cache) == []


def test_an_address_that_sends_too_much_is_cut_off(site: Site, tmp_path: Path, cache: Path) -> None:
    site.files["/files/tiny.onnx"] = MODEL + b"more"
    with pytest.raises(ModelNotFound, match="more than the expected 60000 bytes"):
        zoo_of(tmp_path, entry(sources=[{"url": f"{site.address}/files/tiny.onnx"}])).fetch("tiny")
    assert left_in(cache) == []


def test_the_next_source_is_tried_and_the_first_failure_is_logged(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.files["/files/tiny.onnx"] = MODEL
    zoo = zoo_of(tmp_path, entry(sources=[in_wheel(), {"url": f"{site.address}/files/tiny.onnx"}]))
    with caplog.at_level(logging.WARNING):
        assert zoo.fetch("tiny").read_bytes() == MODEL
    assert "the index has no such package" in caplog.text


def test_with_every_server_down_one_sentence_lists_all_places(
    site: Site, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (mirror := tmp_path / "mirror").mkdir()
    monkeypatch.setenv("FRAMELOOM_MIRROR", str(mirror))
    monkeypatch.setenv("PIP_INDEX_URL", "http://me:secret@127.0.0.1:9/simple/")
    zoo = zoo_of(tmp_path, entry(sources=[in_wheel(), {"url": "http://127.0.0.1:9/tiny.onnx?token=hush"}]))
    with pytest.raises(ModelNotFound) as caught:
        zoo.fetch("tiny")
    assert str(caught.value) == (
        f"tiny (tiny.onnx) is nowhere to be had: not in the cache ({cache / 'tiny.onnx'}); in no mirror folder "
        f"({mirror}); package weights 1.0 (wheel) from http://me:***@127.0.0.1:9/simple/: Connection refused; "
        f"http://127.0.0.1:9/tiny.onnx?token=***: Connection refused; put a file with sha256 {sha256(MODEL)} "
        "into a folder and set FRAMELOOM_MIRROR to that folder"
    )


def test_an_http_error_is_named(site: Site, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="/gone: HTTP 404 Not Found; put a file"):
        zoo_of(tmp_path, entry(sources=[{"url": f"{site.address}/gone"}])).fetch("tiny")


def test_offline_nothing_is_asked(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL}))
    monkeypatch.setenv("FRAMELOOM_OFFLINE", "1")
    with pytest.raises(ModelNotFound, match="FRAMELOOM_OFFLINE is set"):
        zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny")
    assert site.asked == []


def test_a_password_of_the_index_is_used_for_its_files_and_never_printed(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.password = "p-w"
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL}), link=f"{site.address}/files/")
    zoo = zoo_of(tmp_path, entry(sources=[in_wheel()]))
    monkeypatch.setenv("PIP_INDEX_URL", site.index.replace("//", "//me:wrong@"))
    with pytest.raises(ModelNotFound, match="HTTP 401") as caught:
        zoo.fetch("tiny")
    assert "wrong" not in str(caught.value)
    monkeypatch.setenv("PIP_INDEX_URL", site.index.replace("//", "//me:p-w@"))
    assert zoo.fetch("tiny").read_bytes() == MODEL


def test_two_processes_may_fetch_the_same_model_at_once(site: Site, tmp_path: Path, cache: Path) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL}))
    site.hold = threading.Event()
    path = zoo_file(tmp_path, entry(sources=[in_wheel()]))
    both = [subprocess.Popen([sys.executable, "-c", FETCH, str(path)]) for _ in range(2)]
    wait_for(lambda: len(site.downloads()) == 2)
    site.hold.set()
    assert [process.wait(30) for process in both] == [0, 0]
    assert left_in(cache) == ["tiny.onnx"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_leaves_no_model_and_is_swept_up_later(
    site: Site, tmp_path: Path, cache: Path, how: signal.Signals
) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL}))
    site.hold = threading.Event()
    path = zoo_file(tmp_path, entry(sources=[in_wheel()]))
    with subprocess.Popen([sys.executable, "-c", FETCH, str(path)], stderr=subprocess.DEVNULL) as process:
        wait_for(lambda: any(cache.rglob("archive.whl")))
        process.send_signal(how)
        process.wait(30)
    assert not (cache / "tiny.onnx").exists()
    leftovers = list(cache.iterdir())
    assert len(leftovers) == (1 if how == signal.SIGKILL else 0)
    for leftover in leftovers:
        a_week_ago = time.time() - 7 * 24 * 3600
        os.utime(leftover, (a_week_ago, a_week_ago))
    site.hold.set()
    assert Zoo.load(path).fetch("tiny").read_bytes() == MODEL
    assert left_in(cache) == ["tiny.onnx"]


def test_an_exception_in_the_progress_callback_leaves_nothing(site: Site, tmp_path: Path, cache: Path) -> None:
    site.publish(WHEEL, wheel({"weights/tiny.onnx": MODEL}))

    def interrupted(_done: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny", interrupted)
    assert left_in(cache) == []


def test_a_cache_that_cannot_be_written_is_named(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelNotFound, match=f"Not a directory: {tmp_path / 'file'}"):
        zoo_of(tmp_path, entry(sources=[in_wheel()])).fetch("tiny")


def test_a_refused_certificate_is_not_tried_again() -> None:
    calls = []

    def attempt() -> None:
        calls.append(1)
        raise requests.exceptions.SSLError("self-signed certificate")

    with pytest.raises(requests.exceptions.SSLError):
        download.retried(attempt)
    assert len(calls) == 1


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 20 s"
        time.sleep(0.01)
