"""Packing for a machine with a GPU and without a package index: what goes in comes out, or it is said what is wrong."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from pipeline.errors import ConfigError
from tools.gpu import pack as packing
from tools.gpu.pack import constraints_for, download, pack
from tools.gpu.unpack import MANIFEST, Torn, unpack

PART = 1000
SIZES = {"wheels/a.bin": 2500, "models/b.bin": 0, "models/c.bin": 1, "d.bin": 1499, "e.bin": 3000}


def rubbish(size: int) -> bytes:
    return np.random.default_rng(size).bytes(size)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    files = []
    for name, size in SIZES.items():
        path = tmp_path / "from" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(rubbish(size))
        files.append((path, name))
    assert pack(files, tmp_path / "packed", PART) == 7
    return tmp_path / "packed"


def test_files_come_out_as_they_went_in_and_no_part_is_too_large(packed: Path, tmp_path: Path) -> None:
    assert [path.stat().st_size for path in sorted(packed.glob("part-*"))] == [PART] * 7
    written = unpack(packed, packed, tmp_path / "out")
    assert [str(path.relative_to(tmp_path / "out")) for path in written] == list(SIZES)
    assert [path.read_bytes() for path in written] == [rubbish(size) for size in SIZES.values()]


def test_parts_may_lie_elsewhere_and_packing_again_leaves_no_part_of_before(packed: Path, tmp_path: Path) -> None:
    stash = tmp_path / "stash"
    stash.mkdir()
    for part in packed.glob("part-*"):
        part.rename(stash / part.name)
    assert len(unpack(packed, stash, tmp_path / "out")) == len(SIZES)
    (packed / "part-009").write_bytes(b"old")
    small = tmp_path / "small"
    small.write_bytes(b"small")
    assert pack([(small, "small")], packed, PART) == 1
    assert [path.name for path in packed.glob("part-*")] == ["part-000"]


@pytest.mark.parametrize("harm", ["torn", "changed", "missing"])
def test_a_part_that_is_not_as_it_was_is_named_and_nothing_is_written(packed: Path, tmp_path: Path, harm: str) -> None:
    part = packed / "part-003"
    content = part.read_bytes()
    if harm == "missing":
        part.unlink()
    else:
        part.write_bytes(content[:-1] if harm == "torn" else bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(Torn, match=rf"part-003 is {'missing' if harm == 'missing' else 'damaged'}.*copy it") as error:
        unpack(packed, packed, tmp_path / "out")
    assert "part-002" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_file_that_does_not_fit_its_sha256_is_refused(packed: Path, tmp_path: Path) -> None:
    manifest = json.loads((packed / MANIFEST).read_text())
    manifest["files"][0]["sha256"] = "0" * 64
    (packed / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(Torn, match=r"a\.bin is not what was packed"):
        unpack(packed, packed, tmp_path / "out")


def wheel_with(path: Path, content: bytes) -> Path:
    """A wheel of one module and one program."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("module.py", content)
        program = zipfile.ZipInfo("x.data/scripts/program")
        program.external_attr = (stat.S_IFREG | 0o755) << 16
        wheel.writestr(program, "#!python\n")
    return path


def test_a_large_wheel_is_packed_again_where_that_makes_it_smaller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "WORTH_XZ", 1000)
    far_repeated = rubbish(100_000) * 5  # too far apart for a wheel's own compression
    large = wheel_with(tmp_path / "large.whl", far_repeated)
    random = wheel_with(tmp_path / "random.whl", rubbish(100_000))
    small = wheel_with(tmp_path / "small.whl", b"x = 1\n")
    files = [(path, path.name) for path in (large, random, small)]
    pack(files, tmp_path / "packed", 1 << 20)
    described = {each["path"]: each for each in json.loads((tmp_path / "packed" / MANIFEST).read_text())["files"]}
    assert {name: each["xz"] for name, each in described.items()} == {
        "large.whl": True,
        "random.whl": False,
        "small.whl": False,
    }
    assert described["large.whl"]["stored"] < large.stat().st_size / 4
    again, *same = unpack(tmp_path / "packed", tmp_path / "packed", tmp_path / "out")
    assert [path.read_bytes() for path in same] == [random.read_bytes(), small.read_bytes()]
    with zipfile.ZipFile(again) as wheel:
        assert wheel.read("module.py") == far_repeated
        assert (wheel.getinfo("x.data/scripts/program").external_attr >> 16) & 0o777 == 0o755
    pack(files, tmp_path / "packed", 1 << 20, xz=False)
    assert unpack(tmp_path / "packed", tmp_path / "packed", tmp_path / "out")[0].read_bytes() == large.read_bytes()


def test_a_real_wheel_is_downloaded_packed_and_installed_without_an_index(tmp_path: Path) -> None:
    """For another Python than this one; what is installed there is installed by `install.py` and Python alone."""
    app = typer.Typer()
    app.command()(packing.main)
    folder = tmp_path / "packed"
    arguments = [str(folder), "--python", "3.12", "--require", "iniconfig", "--part-mib", "1"]
    result = CliRunner().invoke(app, [*arguments, "--model", "yolox-nano"])
    assert result.exit_code == 0, (result.exception, result.output)
    assert "2 files in 4 parts" in result.stdout
    environment = {"PATH": os.environ["PATH"], "PIP_NO_INDEX": "1", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-I", folder / "install.py", "--target", tmp_path / "site", "--models", tmp_path / "models"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"export PYTHONPATH={tmp_path / 'site'} ")
    assert second == f"export FRAMELOOM_MIRROR={tmp_path / 'models'} FRAMELOOM_OFFLINE=1"
    code = "import iniconfig; print(iniconfig.__file__)"
    where = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True, text=True
    )
    assert where.stdout.startswith(str(tmp_path / "site"))
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["yolox_nano.onnx"]
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == [], "nothing temporary stays"


def test_a_torn_part_ends_the_installation_with_a_sentence(packed: Path, tmp_path: Path) -> None:
    (packed / "part-000").unlink()
    done = subprocess.run(
        [sys.executable, packed / "install.py", "--target", tmp_path / "site"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"install.py: {packed / 'part-000'} is missing: copy it there\n"
    assert not (tmp_path / "site").exists()


def test_what_is_there_already_is_not_packed(tmp_path: Path) -> None:
    assert download(tmp_path, "3.12", "x86_64", ["IniConfig"], ["iniconfig"]) == []


def test_what_pip_cannot_get_is_told_in_its_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pip download failed:[\s\S]*iniconfig==0\.0\.0"):
        download(tmp_path, "3.12", "x86_64", [], ["iniconfig==0.0.0"])


def test_versions_are_those_for_the_other_python() -> None:
    newer, older = ([line for line in constraints_for(python) if "numpy" in line] for python in ("3.12", "3.10"))
    assert len(newer) == len(older) == 1
    assert newer != older
    assert not any(";" in line for line in constraints_for("3.12"))
