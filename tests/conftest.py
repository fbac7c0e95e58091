"""What all tests share: where the test material is, and that nothing is skipped unnoticed.

Tests that need material outside the repository look for a folder `shared` beside it and skip with a reason where it
is not. With FRAMELOOM_NO_SKIPS=1 a skip fails the run, except for what a machine may lack (`MAY_SKIP`).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import rtsp

SHARED = Path(__file__).resolve().parents[1].parent / "shared"
MAY_SKIP = ("native bf16", "NVIDIA GPU", "no nvcc")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of test material; skips where there is none."""
    if not SHARED.is_dir():
        pytest.skip("no folder 'shared' with test material beside the repository")
    return SHARED


@pytest.fixture(scope="session")
def face_models(shared: Path) -> dict[str, str]:
    """The environment in which the face models are at hand; the default ones are fetched into the user's cache."""
    from engines.errors import ModelError
    from engines.model_files import model_cache
    from engines.zoo import Zoo

    try:
        for name in ("centerface", "dlib-resnet"):
            Zoo.load().fetch(name)
    except ModelError as error:
        pytest.skip(f"no face models: {error}")
    places = [shared / "models", shared / "data" / "videos", model_cache()]
    return {"FRAMELOOM_MIRROR": os.pathsep.join(map(str, places))}


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a file system of a size, such as "64k", to be filled; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        place = tmp_path / f"disk-{size}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no right to mount a tmpfs here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def rtsp_server() -> Iterator[Callable[..., rtsp.RtspServer]]:
    """Starts RTSP servers with the settings of `RtspServer`; ends them after the test; skips where none can run."""
    if reason := rtsp.missing():
        pytest.skip(reason)
    with contextlib.ExitStack() as running:
        yield lambda **settings: running.enter_context(rtsp.RtspServer(**settings))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that skipped what it should have run."""
    if not os.environ.get("FRAMELOOM_NO_SKIPS"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    skipped = reporter.stats.get("skipped", [])
    reasons = [(report.nodeid, str(report.longrepr[-1])) for report in skipped]
    wrong = [(test, reason) for test, reason in reasons if not any(word in reason for word in MAY_SKIP)]
    if wrong and session.exitstatus == pytest.ExitCode.OK:
        for test, reason in wrong:
            reporter.write_line(f"FRAMELOOM_NO_SKIPS: {test}: {reason}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
