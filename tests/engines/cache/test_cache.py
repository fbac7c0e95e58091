"""The cache of compiled engines: what is trusted, what is not, and what processes that meet or die leave behind."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from engines.cache.engine_cache import EngineCache
from engines.cache.file_lock import locked
from engines.cache.folder import Damaged
from engines.cache.manifest import CALIBRATED, Key, key_of
from engines.cache.validity import Present, PresentGpu
from engines.cuda.driver import Gpu
from engines.engine import Candidates
from engines.errors import EngineBuildError, ModelError
from engines.spec import InputSpec, ModelSpec
from engines.tensorrt.recipe import VERSION, Recipe
from tests.engines.onnx_files import identity, spec_of

PLAN = b"a plan" * 1000
GPU: dict[str, Any] = {"gpu": "NVIDIA RTX 4090", "compute_capability": "8.9", "driver": "580.65.06"}
HERE = PresentGpu("NVIDIA RTX 4090", "8.9", "580.65.06")


@pytest.fixture
def cache(tmp_path: Path) -> EngineCache:
    return EngineCache(tmp_path / "engines")


def a_key(backend: str = "tensorrt", version: str = "10.13.3", recipe: Recipe | None = None, **machine: Any) -> Key:
    spec = ModelSpec("yolox-nano", Path("yolox.onnx"), "detect", InputSpec(416, 416), sha256="a" * 64)
    return key_of(spec, recipe or Recipe(batch=8), backend, version, **machine)


def on_gpu(**changes: Any) -> Key:
    return a_key(**GPU).model_copy(update=changes)


def put(cache: EngineCache, key: Key, plan: bytes = PLAN, **more: Any) -> Path:
    with cache.lock(key, "is stored"):
        return cache.store(key, plan, 61.5, **more).path


# ---- what is found


def test_what_was_stored_is_found_with_its_bytes(cache: EngineCache) -> None:
    path = put(cache, on_gpu(), state="verified", parity={"pictures": 3})
    entry = cache.find(on_gpu()).entry
    assert entry is not None
    assert (entry.path, entry.plan, entry.manifest.state) == (path, PLAN, "verified")
    assert entry.manifest.key == on_gpu()
    assert path.name.startswith("yolox-nano-tensorrt-fp16-")
    manifest = json.loads(path.with_suffix(".json").read_text())
    assert manifest["plan_sha256"] == hashlib.sha256(PLAN).hexdigest()
    assert manifest["bytes"] == len(PLAN)
    assert manifest["build_s"] == 61.5
    assert manifest["built_at"].endswith("Z")
    assert manifest["parity"] == {"pictures": 3}


def test_engines_lie_in_the_users_cache_which_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FRAMELOOM_CACHE", str(tmp_path))
    assert EngineCache().folder == tmp_path / "engines"


def test_an_empty_cache_has_nothing_and_no_problem(cache: EngineCache) -> None:
    assert cache.find(on_gpu()).entry is None
    assert cache.find(on_gpu()).problem is None
    assert cache.entries() == []
    assert cache.clean(everything=True) == []
    assert not cache.folder.exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_sha256": "b" * 64}, f"from a model file of sha256 {'a' * 64}, which is now {'b' * 64}"),
        ({"version": "10.14.0"}, "by tensorrt 10.13.3, and 10.14.0 is installed"),
        ({"gpu": "NVIDIA H200", "compute_capability": "9.0"}, r"NVIDIA RTX 4090 .*8.9.* this is NVIDIA H200 \(9.0\)"),
        ({"driver": "590.10"}, "with driver 580.65.06, which is now 590.10"),
        ({"recipe": 99}, f"by recipe {VERSION}, which is now 99"),
        ({"system": "Linux aarch64"}, "on Linux x86_64, and this is Linux aarch64"),
        ({"std": (255.0, 255.0, 255.0)}, r"of std \(1.0, 1.0, 1.0\), which is now \(255.0, 255.0, 255.0\)"),
        ({"colour": "bgr"}, "of colour rgb, which is now bgr"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_engine_for_other_circumstances_is_not_found_and_both_values_are_said(
    cache: EngineCache, changed: dict[str, Any], words: str
) -> None:
    put(cache, on_gpu(system="Linux x86_64"))
    wanted = on_gpu(**{"system": "Linux x86_64", **changed})
    found = cache.find(wanted)
    assert found.entry is None
    assert re.search(words, found.problem or "")
    put(cache, wanted, b"another")  # neither takes the other's place
    assert [
        entry.plan for entry in (cache.find(on_gpu(system="Linux x86_64")).entry, cache.find(wanted).entry) if entry
    ] == [
        PLAN,
        b"another",
    ]


def test_the_nearest_of_several_is_told(cache: EngineCache) -> None:
    put(cache, on_gpu(version="9.0", driver="1", recipe=0))
    put(cache, on_gpu(driver="570.1"))
    problem = cache.find(on_gpu()).problem
    assert problem is not None
    assert problem.endswith("was built with driver 570.1, which is now 580.65.06")


@pytest.mark.parametrize(
    "other",
    [
        Recipe(batch=4),
        Recipe(batch=8, input_size=(320, 320)),
        Recipe(batch=8, candidates=Candidates(5, 4)),
        Recipe("fp32", batch=8),
    ],
    ids=str,
)
def test_an_engine_with_other_settings_is_no_problem_and_no_substitute(cache: EngineCache, other: Recipe) -> None:
    put(cache, a_key(recipe=other, **GPU))
    assert cache.find(on_gpu()).entry is None
    assert cache.find(on_gpu()).problem is None


def test_the_size_that_a_model_has_anyway_is_the_same_engine() -> None:
    assert a_key(recipe=Recipe(batch=8, input_size=(416, 416)), **GPU) == on_gpu()


def test_the_size_that_only_the_file_says_is_the_same_engine_as_when_it_is_asked_for(tmp_path: Path) -> None:
    spec = spec_of(identity(tmp_path, ("n", 3, 64, 96)))
    assert spec.input.height is None
    keys = [key_of(spec, Recipe(input_size=size), "tensorrt", "10") for size in (None, (64, 96))]
    assert keys[0] == keys[1]
    assert keys[0].input_size == (64, 96)
    spec = spec_of(identity(tmp_path, ("n", 3, "h", "w")))
    with pytest.raises(ModelError, match="leaves its input size open"):
        key_of(spec, Recipe(), "tensorrt", "10")


@pytest.mark.parametrize("there", [(), ("8.6",), GPU], ids=str)
def test_what_is_for_other_gpus_is_no_problem_where_one_is_built_for_some(cache: EngineCache, there: Any) -> None:
    put(cache, on_gpu() if there is GPU else a_key(recipe=Recipe(batch=8, compute_capabilities=there)))
    wanted = a_key(version="11", recipe=Recipe(batch=8, compute_capabilities=("8.9", "12.0")))
    assert cache.find(wanted).entry is None
    assert cache.find(wanted).problem is None


def test_an_int8_engine_belongs_to_one_calibration(cache: EngineCache) -> None:
    put(cache, on_gpu(precision="int8", calibrated_sha256="c" * 64))
    assert cache.find(on_gpu(precision="int8", calibrated_sha256="c" * 64)).entry is not None
    found = cache.find(on_gpu(precision="int8", calibrated_sha256="d" * 64))
    assert found.entry is None
    assert str(found.problem).endswith("was built of a network that was calibrated on other pictures")


def test_working_space_is_remembered_and_makes_no_other_engine(cache: EngineCache) -> None:
    put(cache, a_key(recipe=Recipe(batch=8, workspace_bytes=1 << 20), **GPU), workspace_bytes=1 << 20)
    entry = cache.find(on_gpu()).entry
    assert entry is not None
    assert entry.manifest.workspace_bytes == 1 << 20


@pytest.mark.parametrize(
    ("targets", "found", "problem"),
    [
        (("8.6", "8.9"), True, None),
        ((), True, None),
        (("12.0",), False, "was built for compute capability 12.0, and NVIDIA RTX 4090 has 8.9"),
    ],
    ids=str,
)
def test_a_portable_engine_is_for_the_gpus_of_its_targets(
    cache: EngineCache, targets: tuple[str, ...], found: bool, problem: str | None
) -> None:
    put(cache, a_key(recipe=Recipe(batch=8, compute_capabilities=targets)))
    assert (cache.find_portable(on_gpu()).entry is not None) == found
    told = cache.find(on_gpu()).problem
    assert told is problem is None or (problem is not None and told is not None and told.endswith(problem))


def test_a_portable_engine_of_another_version_or_damaged_is_not_taken(cache: EngineCache) -> None:
    put(cache, a_key(version="1.6"))
    assert cache.find_portable(on_gpu()).entry is None
    put(cache, a_key()).write_bytes(b"rot")
    lookup = cache.find_portable(on_gpu())
    assert lookup.entry is None
    assert "is damaged" in str(lookup.problem)


@pytest.mark.parametrize("name", ["../../etc/passwd", ".hidden", "my model (2)", "m" * 300])
def test_any_model_name_makes_a_file_in_the_folder(cache: EngineCache, name: str) -> None:
    path = put(cache, on_gpu(model=name))
    assert path.parent == cache.folder
    assert path.is_file()
    assert not path.name.startswith(".")
    assert cache.find(on_gpu(model=name)).entry is not None
    assert len(cache.entries()) == 1


# ---- what is not trusted


def broken_plan(path: Path) -> None:
    path.write_bytes(PLAN[:-1] + b"!")


def torn_plan(path: Path) -> None:
    path.write_bytes(PLAN[:100])


def absent_plan(path: Path) -> None:
    path.unlink()


def absent_manifest(path: Path) -> None:
    path.with_suffix(".json").unlink()


def torn_manifest(path: Path) -> None:
    file = path.with_suffix(".json")
    file.write_bytes(file.read_bytes()[:200])


def empty_manifest(path: Path) -> None:
    path.with_suffix(".json").write_bytes(b"")


def manifest_of_the_future(path: Path) -> None:
    file = path.with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "quantum": True}))


def edited_manifest(path: Path) -> None:
    """Says that it is for this driver, under the name of another."""
    file = path.with_suffix(".json")
    file.write_text(file.read_text().replace("580.65.06", "590.10"))


def linked_plan(path: Path) -> None:
    path.rename(path.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent / "elsewhere")


def plan_that_is_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def manifest_that_is_a_pipe(path: Path) -> None:
    plan_that_is_a_pipe(path.with_suffix(".json"))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (broken_plan, f"is damaged: its sha256 is {hashlib.sha256(PLAN[:-1] + b'!').hexdigest()}, and was "
         f"{hashlib.sha256(PLAN).hexdigest()} when"),
        (torn_plan, "is damaged: its sha256 is"),
        (absent_plan, "cannot be read: No such file"),
        (absent_manifest, "cannot be trusted: its manifest .*No such file"),
        (torn_manifest, "is no manifest: .*JSON"),
        (empty_manifest, "is no manifest"),
        (manifest_of_the_future, "is no manifest: quantum"),
        (edited_manifest, "is the manifest of yolox-nano-tensorrt-fp16-"),
        (linked_plan, "cannot be read: "),
        (plan_that_is_a_pipe, "cannot be read: it is no regular file"),
        (manifest_that_is_a_pipe, "its manifest .*: it is no regular file"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)  # fmt: skip
def test_what_is_not_whole_is_never_used_and_the_reason_is_said(
    cache: EngineCache, damage: Callable[[Path], None], words: str
) -> None:
    path = put(cache, on_gpu())
    damage(path)
    lookup = cache.find(on_gpu())
    assert lookup.entry is None
    with pytest.raises(Damaged, match=words):
        cache.read(path)
    assert lookup.problem is not None
    assert [each.verdict.word for each in cache.entries()] == ["damaged"]
    put(cache, on_gpu(), b"new")
    entry = cache.find(on_gpu()).entry
    assert entry is not None
    assert entry.plan == b"new"


# ---- other users


@pytest.mark.parametrize("file", ["plan", "manifest"])
def test_what_another_user_has_put_there_is_not_used(
    cache: EngineCache, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    path = put(cache, on_gpu())
    theirs = (path if file == "plan" else path.with_suffix(".json")).stat().st_ino
    fstat = os.fstat

    def of_somebody(descriptor: int) -> Any:
        status = fstat(descriptor)
        fields = list(status)
        fields[4] = 12345 if status.st_ino == theirs else status.st_uid
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", of_somebody)
    found = cache.find(on_gpu())
    assert found.entry is None
    assert "it belongs to user 12345, neither to you nor to root" in str(found.problem)
    assert [each.verdict.word for each in cache.entries()] == ["damaged"]


def test_a_new_folder_is_its_users_alone(cache: EngineCache) -> None:
    put(cache, on_gpu())
    assert cache.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777], ids=oct)
def test_a_folder_that_others_may_write_is_not_used(cache: EngineCache, mode: int) -> None:
    entry = cache.entry(on_gpu(), PLAN)
    put(cache, on_gpu())
    cache.folder.chmod(mode)
    uses: list[Callable[[], Any]] = [
        lambda: cache.find(on_gpu()),
        lambda: cache.find_portable(on_gpu()),
        lambda: cache.keep(entry),
        lambda: cache.kernels(entry, Gpu(0, "any", "8.9", 1, "1")),
        lambda: cache.timing_cache(on_gpu()),
    ]
    for use in uses:
        with pytest.raises(EngineBuildError, match=f"other users may write .*: chmod 700 {cache.folder}"):
            use()
    cache.folder.chmod(0o755)
    for use in uses:
        use()


def test_a_folder_of_another_user_is_not_used(cache: EngineCache, monkeypatch: pytest.MonkeyPatch) -> None:
    put(cache, on_gpu())
    monkeypatch.setattr("engines.cache.folder.trusted_users", lambda: (12345, 12345))
    with pytest.raises(EngineBuildError, match=f"belongs to user {os.geteuid()}, who could put engines there"):
        cache.find(on_gpu())


# ---- processes


def python(code: str, *arguments: object, stderr: Any = None) -> subprocess.Popen[str]:
    """Run code that has `cache` and `key` in another process."""
    start = (
        "import os, sys, time, logging\nfrom pathlib import Path\nfrom engines.cache.engine_cache import EngineCache\n"
        "from engines.cache.manifest import Key\nfrom engines.cache import whole_files\nlogging.basicConfig()\n"
        "cache, key = EngineCache(Path(sys.argv[1])), Key.model_validate_json(sys.argv[2])\n"
    )
    command = [sys.executable, "-c", start + code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=Path(__file__).parents[3])


BUILD = """
with cache.lock(key, "builds yolox-nano"):
    if cache.find(key).entry is None:
        print("building", flush=True)
        time.sleep(3)  # the other may start late on a busy machine
        cache.store(key, b"plan", 1.0)
    else:
        print("found", flush=True)
"""


def test_two_processes_that_start_at_once_build_once_and_the_second_says_what_it_waits_for(cache: EngineCache) -> None:
    both = [python(BUILD, cache.folder, on_gpu().model_dump_json(), stderr=subprocess.PIPE) for _ in range(2)]
    told = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(out.strip() for out, _ in told) == ["building", "found"]
    builder, waiter = (0, 1) if told[0][0].strip() == "building" else (1, 0)
    assert told[builder][1] == ""
    assert told[waiter][1].count("\n") == 1
    assert f"waiting for process {both[builder].pid} on " in told[waiter][1]
    assert "which builds yolox-nano" in told[waiter][1]
    assert not list(cache.folder.glob(".*"))


def killed_when_it_says_so(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "now"
    process.send_signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    process.stdout.close()


def test_a_killed_builder_holds_nobody_up(cache: EngineCache) -> None:
    code = 'with cache.lock(key, "builds"):\n    print("now", flush=True)\n    time.sleep(60)'
    killed_when_it_says_so(python(code, cache.folder, on_gpu().model_dump_json()))
    put(cache, on_gpu())
    assert cache.find(on_gpu()).entry is not None


@pytest.mark.parametrize("at", ["fsync", "replace"])
@pytest.mark.parametrize("there", [False, True], ids=["new", "in place of another"])
@pytest.mark.parametrize("file", [1, 2], ids=["plan", "manifest"])
def test_what_a_process_killed_while_storing_leaves_is_never_trusted(
    cache: EngineCache, at: str, there: bool, file: int
) -> None:
    if there:
        put(cache, on_gpu(), b"the old one")
    code = f"""
real, calls = getattr(os, {at!r}), [0]
def stop(*arguments):
    if {at!r} == "replace" or not os.path.isdir(f"/proc/self/fd/{{arguments[0]}}"):
        calls[0] += 1
        if calls[0] == {file}:
            print("now", flush=True)
            time.sleep(60)
    return real(*arguments)
setattr(os, {at!r}, stop)
with cache.lock(key, "builds"):
    cache.store(key, b"the new one", 1.0)
"""
    killed_when_it_says_so(python(code, cache.folder, on_gpu().model_dump_json()))
    lookup = cache.find(on_gpu())
    if there and file == 1:
        assert lookup.entry is not None
        assert lookup.entry.plan == b"the old one"
    else:
        assert lookup.entry is None
    assert [each.why for each in cache.clean() if each.path.name.endswith(".unfinished")] == [
        "a process that has ended left it unfinished"
    ]
    put(cache, on_gpu(), b"the next one")
    assert sorted(file.suffix for file in cache.folder.iterdir()) == [".json", ".plan"]


def test_threads_of_one_process_wait_for_each_other_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order: list[str] = []
    held = threading.Event()

    def first() -> None:
        with locked(tmp_path / "a.lock", "works"):
            held.set()
            threading.Event().wait(0.3)
            order.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    assert held.wait(10)
    with caplog.at_level(logging.WARNING), locked(tmp_path / "a.lock", "stores something else"):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for process {os.getpid()} on {os.uname().nodename}, which works"
    ]
    assert list(tmp_path.iterdir()) == []


def test_many_that_fight_for_a_lock_that_is_deleted_each_time_are_never_two_inside(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(30):
            with locked(tmp_path / "a.lock", "works"):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                threading.Event().wait(0.0005)
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


# ---- disks


def test_a_folder_that_cannot_be_written_is_said_once_and_the_engine_is_used_from_memory(
    disk_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    disk = disk_of("2m")
    put(EngineCache(disk / "engines"), on_gpu(driver="570.1"))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            cache = EngineCache(disk / "engines")
            with cache.lock(on_gpu(), "builds"):
                entry = cache.store(on_gpu(), PLAN)
            entry = cache.mark(entry, "verified", {})
            assert cache.timing_cache(on_gpu()) is None
    assert (entry.plan, entry.manifest.state) == (PLAN, "verified")
    assert cache.find(on_gpu()).entry is None
    assert cache.find(on_gpu(driver="570.1")).entry is not None
    assert len(caplog.records) == 1
    assert f"{disk}/engines cannot be written" in caplog.text
    assert "FRAMELOOM_CACHE" in caplog.text
    with pytest.raises(EngineBuildError, match="cannot be cleaned: Read-only"):
        cache.clean(everything=True)


def test_a_read_only_place_for_a_folder_that_is_not_there_yet_is_the_same(
    disk_of: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    disk = disk_of("64k")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    cache = EngineCache(disk / "not" / "there")
    with caplog.at_level(logging.WARNING), cache.lock(on_gpu(), "builds"):
        assert cache.store(on_gpu(), PLAN).plan == PLAN
    assert "cannot be written" in caplog.text


def test_a_full_disk_is_an_error_and_leaves_what_was_there(disk_of: Callable[[str], Path]) -> None:
    cache = EngineCache(disk_of("256k") / "engines")
    put(cache, on_gpu())
    with pytest.raises(EngineBuildError, match=r"cannot be kept as .*\.plan: No space left on device.*engines clean"):
        put(cache, on_gpu(), b"x" * 300_000)
    entry = cache.find(on_gpu()).entry
    assert entry is not None
    assert entry.plan == PLAN
    with pytest.raises(EngineBuildError, match="No space left"):
        put(cache, on_gpu(driver="590"), b"x" * 300_000)
    assert cache.find(on_gpu(driver="590")).entry is None
    assert sorted(file.suffix for file in cache.folder.iterdir()) == [".json", ".plan"]


def test_a_disk_that_is_full_after_the_plan_leaves_a_plan_that_is_not_trusted(disk_of: Callable[[str], Path]) -> None:
    disk = disk_of("64k")
    cache = EngineCache(disk / "engines")
    cache.folder.mkdir()
    size = 60_000
    with suppress(EngineBuildError):
        put(cache, on_gpu(), b"x" * size)
    lookup = cache.find(on_gpu())
    assert lookup.entry is None
    assert "its manifest" in str(lookup.problem)


def test_a_file_where_the_folder_should_be_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "engines").write_text("")
    with pytest.raises(EngineBuildError, match="File exists"):
        put(EngineCache(tmp_path / "engines"), on_gpu())


# ---- list and clean


def listed(cache: EngineCache, present: Present) -> dict[str, str]:
    """Say how each is judged, by its precision, which the tests use as a name."""
    return {
        each.manifest.precision if each.manifest else "damaged": f"{each.verdict.word}: {each.verdict.reason}"
        for each in cache.entries(present)
    }


@pytest.mark.parametrize(
    ("key", "more", "verdict"),
    [
        (on_gpu(), {"state": "verified"}, "valid: "),
        (on_gpu(), {}, "unverified: it has not been compared"),
        (on_gpu(), {"state": "refused", "refusal": "the largest error is 9"}, "refused: the largest error is 9"),
        (on_gpu(driver="570.1"), {"state": "verified"}, "stale: .*driver 570.1, which is 580.65.06 now"),
        (on_gpu(version="10.0"), {"state": "verified"}, "stale: .*tensorrt 10.0, and 10.13.3 is installed"),
        (on_gpu(recipe=0), {"state": "verified"}, f"stale: .*recipe 0, which is {VERSION} now"),
        (
            on_gpu(model_sha256="b" * 64),
            {"model_path": "/m.onnx"},
            f"stale: .*/m.onnx .*{'b' * 64}, and has {'a' * 64} ",
        ),
        (on_gpu(model_sha256="b" * 64), {"model_path": "/my/yolox-nano.onnx"}, "unverified: "),
        (on_gpu(gpu="NVIDIA H200", version="9.0", driver="1"), {}, "elsewhere: it is for NVIDIA H200"),
        (a_key(version="9.0", recipe=Recipe(compute_capabilities=("12.0",))), {}, "elsewhere: .*capability 12.0"),
        (a_key(version="9.0", recipe=Recipe(compute_capabilities=("8.9",))), {}, "stale: .*tensorrt 9.0, and 10.13.3"),
        (on_gpu(gpu="NVIDIA H200", compute_capability="9.0"), {}, r"elsewhere: .*NVIDIA H200; .*RTX 4090 \(8.9\)"),
        (on_gpu(backend="tensorrt-rtx", version="1.7"), {}, "elsewhere: tensorrt-rtx 1.7 is not installed here"),
        (on_gpu(system="Linux aarch64", version="1"), {}, "elsewhere: it is for Linux aarch64"),
        (a_key(recipe=Recipe(compute_capabilities=("8.6", "8.9"))), {}, "unverified: "),
        (a_key(recipe=Recipe(compute_capabilities=("12.0",))), {}, "elsewhere: .*compute capability 12.0"),
        (a_key(CALIBRATED, ""), {}, "valid: "),
        (a_key(CALIBRATED, "").model_copy(update={"system": "any"}), {}, "valid: "),
    ],
    ids=str,
)
def test_the_list_judges_by_the_present(cache: EngineCache, key: Key, more: dict[str, Any], verdict: str) -> None:
    put(cache, key, **more)
    [each] = cache.entries(Present({"tensorrt": "10.13.3"}, (HERE,), {"/m.onnx": "a" * 64, "yolox-nano": "a" * 64}))
    assert re.match(verdict, f"{each.verdict.word}: {each.verdict.reason}")
    assert each.bytes > len(PLAN)


def test_without_a_gpu_everything_for_one_is_elsewhere(cache: EngineCache) -> None:
    put(cache, on_gpu(), state="verified")
    put(cache, a_key(recipe=Recipe("fp32", compute_capabilities=("8.6",))))
    assert listed(cache, Present({"tensorrt": "10.13.3"})) == {
        "fp16": "elsewhere: it is for NVIDIA RTX 4090; the GPU here is none that answers",
        "fp32": "unverified: it has not been compared with its model file yet",
    }


def test_clean_deletes_what_nobody_can_use_and_says_what_and_how_much(cache: EngineCache) -> None:
    kept = [
        put(cache, on_gpu(), state="verified"),
        put(cache, on_gpu(gpu="NVIDIA H200", compute_capability="9.0", driver="550"), state="verified"),
        put(cache, on_gpu(precision="fp32"), state="refused", refusal="wrong"),
    ]
    stale = put(cache, on_gpu(driver="570.1"))
    damaged = put(cache, on_gpu(precision="int8"))
    damaged.write_bytes(b"rot")
    orphan = cache.folder / "lone.plan"
    orphan.write_bytes(b"12345")
    (cache.folder / ".gone.lock").touch()
    (cache.folder / "my-notes.txt").write_text("not ours")
    (cache.folder / "gpu.timing").write_text("measured")
    removed = cache.clean(Present({"tensorrt": "10.13.3"}, (HERE,)))
    gone = {each.path.name: (each.bytes, each.why) for each in removed}
    assert set(gone) == {f"{path.stem}{suffix}" for path in (stale, damaged) for suffix in (".plan", ".json")} | {
        "lone.plan"
    }
    assert gone["lone.plan"][0] == 5
    assert "driver 570.1" in gone[stale.name][1]
    assert gone[stale.name][0] == len(PLAN)
    assert "is damaged" in gone[damaged.name][1]
    left = {f"{path.stem}{suffix}" for path in kept for suffix in (".plan", ".json")} | {"my-notes.txt", "gpu.timing"}
    assert {file.name for file in cache.folder.iterdir()} == left
    cache.clean(everything=True)
    assert {file.name for file in cache.folder.iterdir()} == {"my-notes.txt"}


def test_clean_goes_on_beside_what_is_no_file_and_says_so_once(
    cache: EngineCache, caplog: pytest.LogCaptureFixture
) -> None:
    stale = put(cache, on_gpu(driver="570.1"))
    locked_by_a_folder = put(cache, on_gpu(driver="560.1"))
    folders = ["a.plan", "b.json", "c.kernels", ".d.lock", ".e.plan.unfinished", f".{locked_by_a_folder.stem}.lock"]
    for name in folders:
        (cache.folder / name).mkdir()
    with caplog.at_level(logging.WARNING):
        removed = cache.clean(Present({}, (HERE,)))
    assert {each.path.name for each in removed} == {stale.name, stale.with_suffix(".json").name}
    assert sorted(record.getMessage() for record in caplog.records) == sorted(
        f"{cache.folder / name} is no file, and stays as it is" for name in folders
    )
    assert {file.name for file in cache.folder.iterdir() if file.is_dir()} == set(folders)


def test_clean_deletes_measurements_that_a_killed_process_has_half_written(cache: EngineCache) -> None:
    path = put(cache, on_gpu(model="my.timing"), state="verified")
    whole = cache.folder / "tensorrt-10-0a.timing"
    torn = [cache.folder / ".tensorrt-10-0a.timing.unfinished", cache.folder / "tensorrt-10-0a.timingab12_cd3"]
    for file in (whole, *torn):
        file.write_bytes(b"measured")
    assert sorted(each.path for each in cache.clean()) == sorted(torn)
    assert sorted(cache.folder.iterdir()) == sorted([path, path.with_suffix(".json"), whole])


def test_clean_leaves_alone_what_is_being_built(cache: EngineCache) -> None:
    path = put(cache, on_gpu())
    unfinished = path.with_name(f".{path.name}.unfinished")
    with cache.lock(on_gpu(), "builds"):
        unfinished.write_bytes(b"half")
        assert cache.clean(everything=True) == []
        assert unfinished.exists()
    assert {each.path.name for each in cache.clean(everything=True)} == {
        unfinished.name, path.name, path.with_suffix(".json").name,
    }  # fmt: skip


def test_what_a_comparison_has_shown_is_written_beside_the_plan(cache: EngineCache) -> None:
    put(cache, on_gpu())
    entry = cache.find(on_gpu()).entry
    assert entry is not None
    cache.mark(entry, "refused", {"pictures": 2}, "wrong colours")
    after = cache.find(on_gpu()).entry
    assert after is not None
    assert (after.manifest.state, after.manifest.refusal, after.plan) == ("refused", "wrong colours", PLAN)
    assert after.manifest.built_at == entry.manifest.built_at
