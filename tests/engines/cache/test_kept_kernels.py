"""Kernels that runs have compiled: kept whole or not at all, and never worth an error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from engines.cache.engine_cache import Cached, EngineCache
from engines.cache.file_lock import locked
from engines.cache.kept_kernels import KeptKernels
from engines.cuda.driver import Gpu
from tests.engines.cache.test_cache import on_gpu

GPU = Gpu(0, "NVIDIA RTX 4090", "8.9", 1, "580.65.06")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def stored(cache: EngineCache, plan: bytes = b"a plan") -> Cached:
    with cache.lock(on_gpu(), "is stored"):
        return cache.store(on_gpu(), plan)


def kept(cache: EngineCache, entry: Cached, gpu: Gpu = GPU) -> KeptKernels:
    found = cache.kernels(entry, gpu)
    assert found is not None
    return found


def files(cache: EngineCache) -> list[Path]:
    return sorted(cache.folder.glob("*.kernels"))


def test_what_was_kept_is_read_by_the_next(cache: EngineCache) -> None:
    entry = stored(cache)
    assert kept(cache, entry).read() == b""
    kept(cache, entry).write(b"kernels")
    assert kept(cache, entry).read() == b"kernels"
    kept(cache, entry).write(b"more kernels")
    assert kept(cache, entry).read() == b"more kernels"
    (file,) = files(cache)
    assert file.stat().st_mode & 0o777 == 0o600
    assert {each.suffix for each in cache.folder.iterdir()} == {".plan", ".json", ".kernels"}


@pytest.mark.parametrize("other", ["plan", "gpu", "capability", "driver"])
def test_another_plan_gpu_or_driver_has_its_own(cache: EngineCache, other: str) -> None:
    kept(cache, stored(cache)).write(b"kernels")
    gpus = {
        "plan": GPU,
        "gpu": Gpu(0, "NVIDIA RTX 4080", "8.9", 1, GPU.driver),
        "capability": Gpu(0, GPU.name, "9.0", 1, GPU.driver),
        "driver": Gpu(0, GPU.name, "8.9", 1, "590.1"),
    }
    entry = stored(cache, b"another plan" if other == "plan" else b"a plan")
    assert kept(cache, entry, gpus[other]).read() == b""
    second = Gpu(1, GPU.name, GPU.compute_capability, 2, GPU.driver)
    assert kept(cache, stored(cache), second).read() == b"kernels"


def test_what_has_not_changed_is_not_written_again(cache: EngineCache) -> None:
    entry = stored(cache)
    kept(cache, entry).write(b"kernels")
    (file,) = files(cache)
    before = file.stat().st_ino
    again = kept(cache, entry)
    again.write(again.read())
    assert file.stat().st_ino == before
    again.write(b"more")
    assert file.stat().st_ino != before


@pytest.mark.parametrize("damage", [b"", b"short", None], ids=["empty", "short", "one bit"])
def test_what_is_damaged_is_not_used_and_said(
    cache: EngineCache, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    entry = stored(cache)
    kept(cache, entry).write(b"kernels")
    (file,) = files(cache)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if damage is None else damage)
    with caplog.at_level(logging.INFO):
        assert kept(cache, entry).read() == b""
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "is damaged, so kernels are compiled again" in caplog.text
    kept(cache, entry).write(b"kernels")
    assert file.read_bytes() == whole


def test_a_link_is_not_followed(cache: EngineCache, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry = stored(cache)
    kept(cache, entry).write(b"kernels")
    (file,) = files(cache)
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    with caplog.at_level(logging.INFO):
        assert kept(cache, entry).read() == b""
    assert "cannot be read, so kernels are compiled again" in caplog.text


def test_those_of_another_user_are_not_used(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    entry = stored(cache)
    mine = kept(cache, entry)
    mine.write(b"kernels")
    monkeypatch.setattr("engines.cache.whole_files.trusted_users", lambda: (12345, 12345))
    with caplog.at_level(logging.INFO):
        assert mine.read() == b""
    assert "it belongs to user" in caplog.text


def test_who_meets_another_that_writes_leaves_it_to_that_one(cache: EngineCache) -> None:
    entry = stored(cache)
    mine = kept(cache, entry)
    mine.write(b"kernels")
    (file,) = files(cache)
    with locked(cache.folder / f".{file.stem}.lock", "writes"):
        mine.write(b"more")
    assert kept(cache, entry).read() == b"kernels"
    mine.write(b"more")
    assert kept(cache, entry).read() == b"more"


def test_a_disk_that_is_full_is_told_and_does_no_harm(
    disk_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    cache = EngineCache(disk_of("64k") / "engines")
    entry = stored(cache)
    kept(cache, entry).write(b"kernels")
    with caplog.at_level(logging.INFO):
        kept(cache, entry).write(b"k" * 200_000)
    assert "compiled kernels cannot be kept as" in caplog.text
    assert "No space left" in caplog.text
    assert kept(cache, entry).read() == b"kernels"


def test_a_folder_that_is_gone_is_told_and_does_no_harm(cache: EngineCache, caplog: pytest.LogCaptureFixture) -> None:
    mine = kept(cache, stored(cache))
    for file in cache.folder.iterdir():
        file.unlink()
    cache.folder.rmdir()
    with caplog.at_level(logging.INFO):
        mine.write(b"kernels")
    assert "compiled kernels cannot be kept as" in caplog.text


def test_clean_deletes_them_with_their_plan_and_those_of_plans_that_were_built_again(cache: EngineCache) -> None:
    kept(cache, stored(cache)).write(b"old kernels")
    (old,) = files(cache)
    kept(cache, stored(cache, b"built again")).write(b"kernels")
    assert [(each.path, each.why) for each in cache.clean()] == [(old, "their engine is gone")]
    (new,) = files(cache)
    assert new in [each.path for each in cache.clean(everything=True)]
    assert list(cache.folder.iterdir()) == []


def test_clean_deletes_what_a_killed_writer_has_left(cache: EngineCache) -> None:
    kept(cache, stored(cache)).write(b"kernels")
    (file,) = files(cache)
    left = file.with_name(f".{file.name}.unfinished")
    left.write_bytes(b"half")
    assert [each.path for each in cache.clean()] == [left]
    assert files(cache) == [file]
