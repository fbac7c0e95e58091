"""Pack what `make gpu-check` needs for a machine with a GPU that reaches no package index, in parts of a size.

    python -m tools.gpu.pack FOLDER --python 3.12 --part-mib 60

It downloads wheels of the versions that the tests run with (`constraints.txt`), takes models and a clip from the zoo,
and writes parts, a manifest and `install.py` (see `tools.gpu.unpack`). Copy the folder, or part by part, to the other
machine, beside a checkout; then there, in the checkout:

    python3 FOLDER/install.py --target site     # prints lines to be given to the shell
    make gpu-check

Large wheels are packed again by xz, whose filter for x86 code suits libraries: that of TensorRT-RTX is 234 MB, 95 MB
as a wheel and 62 MB by xz. It takes minutes; `--no-xz` leaves it out. The licences of what is packed are its makers'.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from engines.errors import FrameloomError, ModelError
from engines.zoo import Zoo
from pipeline.errors import ConfigError
from tools.gpu import unpack
from tools.gpu.unpack import CHUNK, MANIFEST
from tools.terminal import download_progress, say

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("yolox-nano", "centerface", "dlib-resnet", "mobilefacenet", "demo-bikes")
TESTS = ("pytest", "pytest-timeout")
SOURCE_ONLY = ("tensorrt-rtx-cu13",)
"""Packages of pure Python without a wheel in the index; it is made here."""
OLDEST_GLIBC, NEWEST_GLIBC = 5, 35
"""Minor versions of glibc 2 whose wheels are taken; 2.35 is that of Ubuntu 22.04."""
WORTH_XZ = 8 << 20
"""Bytes of a wheel from which on it is packed again."""
GAIN = 0.9
"""It stays as it was unless this part of it, or less, is left."""
LZMA = [{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2, "preset": 9}]
MIB = 1 << 20


@dataclass(frozen=True)
class Packed:
    """A file on its way."""

    path: str
    """Where it goes, relative."""
    sha256: str
    """Of the file as it will be written there."""
    stored: int
    """Bytes among the parts."""
    xz: bool


def download(folder: Path, python: str, machine: str, has: Sequence[str], requirements: Sequence[str]) -> list[Path]:
    """Download wheels for another machine, with all that they need, and return them.

    Args:
        folder: where they go.
        python: version of the other machine's Python, such as `3.12`.
        machine: its processor, such as `x86_64`.
        has: names of packages that are there already.
        requirements: what is needed; empty: this checkout as `frameloom[rtx]`, and what its tests need.

    Raises:
        ConfigError: pip cannot get one; with its words.
    """
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(constraints_for(python)) + "\n", encoding="utf-8")
    if not requirements:
        for source in (str(ROOT), *SOURCE_ONLY):
            _pip("wheel", "--no-deps", f"--wheel-dir={folder}", f"--constraint={constraints}", source)
        (own,) = folder.glob("frameloom-*.whl")
        requirements = [f"frameloom[rtx] @ {own.as_uri()}", *TESTS]
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC, OLDEST_GLIBC - 1, -1)]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    _pip(
        "download",
        "--only-binary=:all:",
        f"--python-version={python}",
        "--implementation=cp",
        *(f"--platform={platform}" for platform in platforms),
        f"--find-links={folder}",
        f"--dest={folder}",
        f"--constraint={constraints}",
        *requirements,
    )
    there = {canonicalize_name(name) for name in has}
    return [wheel for wheel in sorted(folder.glob("*.whl")) if canonicalize_name(wheel.name.split("-")[0]) not in there]


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigError(f"pip {arguments[0]} failed:\n{(done.stderr or done.stdout).strip()}")


def constraints_for(python: str) -> list[str]:
    """Return the lines of `constraints.txt` that hold for a Python, without conditions: pip would take its own."""
    wanted = []
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            requirement = Requirement(line)
            if _holds(requirement, python):
                wanted.append(f"{requirement.name}{requirement.specifier}")
    return wanted


def _holds(requirement: Requirement, python: str) -> bool:
    place = {"python_version": python, "python_full_version": f"{python}.0"}
    return requirement.marker is None or requirement.marker.evaluate(place)


def fetched(names: Sequence[str] | None) -> Iterator[Path]:
    """Yield the files of models and clips; of the usual ones (None) those that can be had, with a note for others.

    Raises:
        ModelError: one that was named cannot be had.
    """
    zoo = Zoo.load()
    for name in MODELS if names is None else names:
        try:
            with download_progress(name) as progress:
                yield zoo.fetch(name, progress)
        except ModelError as reason:
            if names is not None:
                raise
            say(f"note: left out: {reason}")


def pack(files: Sequence[tuple[Path, str]], folder: Path, part_bytes: int, *, xz: bool = True) -> int:
    """Write files into parts, with the manifest and `install.py`; return how many parts there are.

    Args:
        files: each with the path that it gets on the other side, relative.
        folder: where the parts go.
        part_bytes: largest size of a part.
        xz: whether large wheels are packed again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("part-*"):
        old.unlink()
    packed: list[Packed] = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch, _Parts(folder, part_bytes) as parts:
        for path, name in files:
            smaller = _compressed(path, Path(scratch)) if xz and path.suffix == ".whl" else None
            stored, sha256 = smaller or (path, _sha256(path))
            parts.add(_chunks(stored))
            packed.append(Packed(name, sha256, stored.stat().st_size, smaller is not None))
            if smaller:
                stored.unlink()
    content = {"parts": parts.written, "files": [asdict(each) for each in packed]}
    (folder / MANIFEST).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(unpack.__file__, folder / "install.py")
    return len(parts.written)


def _compressed(wheel: Path, scratch: Path) -> tuple[Path, str] | None:
    """Return a wheel without compression of its own, packed by xz, and the former's sha256; None: not worth it."""
    if wheel.stat().st_size < WORTH_XZ:
        return None
    plain, target = scratch / wheel.name, scratch / f"{wheel.name}.xz"
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(plain, "w", zipfile.ZIP_STORED) as stored:
        for member in source.infolist():
            plainly = zipfile.ZipInfo(member.filename)
            plainly.external_attr, plainly.file_size = member.external_attr, member.file_size
            with source.open(member) as content, stored.open(plainly, "w") as copy:
                shutil.copyfileobj(content, copy, CHUNK)
    sha256 = _sha256(plain)
    with lzma.open(target, "wb", format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=LZMA) as smaller:
        for chunk in _chunks(plain):
            smaller.write(chunk)
    plain.unlink()
    if target.stat().st_size <= GAIN * wheel.stat().st_size:
        return target, sha256
    target.unlink()
    return None


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            yield chunk


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


class _Parts:
    """Files of a limited size that what is added is written into, one behind another."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._buffer = bytearray()
        self.written: list[dict[str, str | int]] = []

    def __enter__(self) -> _Parts:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None and self._buffer:
            self._write(bytes(self._buffer))

    def add(self, chunks: Iterator[bytes]) -> None:
        """Add a file."""
        for chunk in chunks:
            self._buffer += chunk
            while len(self._buffer) >= self._size:
                self._write(bytes(self._buffer[: self._size]))
                del self._buffer[: self._size]

    def _write(self, content: bytes) -> None:
        name = f"part-{len(self.written):03d}"
        (self._folder / name).write_bytes(content)
        self.written.append({"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})


def main(
    folder: Annotated[Path, typer.Argument(help="Where the parts go.")],
    python: Annotated[str, typer.Option(metavar="3.N", help="Version of Python on the other machine.")] = "3.12",
    machine: Annotated[str, typer.Option(help="Its processor.")] = "x86_64",
    part_mib: Annotated[int, typer.Option(min=1, help="Largest size of a part.")] = 60,
    has: Annotated[list[str] | None, typer.Option(help="A package that is there already; repeatable.")] = None,
    require: Annotated[
        list[str] | None, typer.Option(help="Pack this and what it needs instead; repeatable.", show_default=False)
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help=f"Repeatable; default: {', '.join(MODELS)}.")] = None,
    xz: Annotated[bool, typer.Option(help="Pack large wheels again: minutes, for a third less.")] = True,
) -> None:
    """Pack for a machine with a GPU and without a package index."""
    models = [(path, f"models/{path.name}") for path in fetched(model)]
    with tempfile.TemporaryDirectory() as scratch:
        wheels = download(Path(scratch), python, machine, has or (), require or ())
        files = [*((wheel, f"wheels/{wheel.name}") for wheel in wheels), *models]
        count = pack(files, folder, part_mib * MIB, xz=xz)
    total = sum(part.stat().st_size for part in folder.glob("part-*"))
    say(f"{len(files)} files in {count} parts, {total / MIB:.0f} MiB: {folder}")
    say(f"there: python3 {folder.name}/install.py --target site")


if __name__ == "__main__":
    try:
        typer.run(main)
    except FrameloomError as error:
        sys.exit(f"pack: {error}")
