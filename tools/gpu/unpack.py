"""Join what `tools.gpu.pack` has packed, and install it where no package index can be reached.

    python3 install.py --target site            # into a folder for PYTHONPATH
    python3 install.py --venv venv              # into a virtual environment that also sees what is there already

The packed files were put one behind another, and the whole was cut into parts. Every part and every file is checked
by its sha256. This file is copied into the pack as `install.py`, so it uses nothing but Python itself.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import lzma
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
CHUNK = 1 << 20


class Torn(Exception):
    """A part is missing or is not as it was packed; the message says which."""


def check_parts(folder: Path, parts: list[dict[str, Any]]) -> None:
    """See that all parts are there, and as they were packed.

    Raises:
        Torn: some are not; all of those are named.
    """
    if wrong := [problem for part in parts if (problem := _problem(folder / part["name"], part))]:
        raise Torn("; ".join(wrong))


def _read(folder: Path, parts: list[dict[str, Any]]) -> Iterator[bytes]:
    for part in parts:
        with (folder / part["name"]).open("rb") as file:
            while chunk := file.read(CHUNK):
                yield chunk


def _problem(path: Path, part: dict[str, Any]) -> str | None:
    if not path.is_file():
        return f"{path} is missing: copy it there"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() == part["sha256"]:
        return None
    return f"{path} is damaged: {path.stat().st_size} bytes of {part['bytes']}, and another sha256; copy it again"


class _Tape:
    """Packed bytes, taken a file at a time."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._rest = chunks, b""

    def take(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes."""
        while size:
            chunk = self._rest or next(self._chunks)
            yield chunk[:size]
            self._rest = chunk[size:]
            size -= len(chunk) - len(self._rest)


def unpack(packed: Path, parts: Path, into: Path) -> list[Path]:
    """Write the packed files into a folder and return them.

    Args:
        packed: the folder with the manifest.
        parts: the folder with the parts.
        into: where the files go.

    Raises:
        Torn: a part is missing or damaged, or a file is not what was packed.
    """
    manifest = json.loads((packed / MANIFEST).read_text(encoding="utf-8"))
    check_parts(parts, manifest["parts"])
    tape, written = _Tape(_read(parts, manifest["parts"])), []
    for file in manifest["files"]:
        path = into / file["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        opener, digest = lzma.LZMADecompressor() if file["xz"] else None, hashlib.sha256()
        with path.open("wb") as target:
            for chunk in tape.take(file["stored"]):
                plain = chunk if opener is None else opener.decompress(chunk)
                digest.update(plain)
                target.write(plain)
        if digest.hexdigest() != file["sha256"]:
            raise Torn(f"{path} is not what was packed, though all parts are: pack it again")
        written.append(path)
    return written


def install(wheels: list[Path], target: Path | None, environment: Path | None) -> str:
    """Install wheels and return what leads to them, as a line for a shell.

    cuda-python looks for NVRTC beside the Python that runs, not on PYTHONPATH, so that is told to the loader.

    Args:
        wheels: each is installed as it is: nothing else is looked for.
        target: a folder for PYTHONPATH.
        environment: else a virtual environment.
    """
    python = Path(sys.executable)
    if environment is not None:
        venv.create(environment, system_site_packages=True, with_pip=True)
        python = environment / "bin" / "python"
    where = [] if target is None else ["--target", str(target), "--upgrade"]
    quiet = ["--quiet", "--disable-pip-version-check", "--no-warn-script-location", "--no-cache-dir"]
    exactly = ["--no-index", "--no-deps", "--no-compile", *where, *map(str, wheels)]
    subprocess.run([str(python), "-m", "pip", "install", *quiet, *exactly], check=True)
    if target is None:
        return f"export PATH={python.parent.resolve()}:$PATH"
    libraries = sorted({str(file.parent) for file in target.resolve().glob("nvidia/**/*.so*")})
    return f"export PYTHONPATH={target.resolve()} LD_LIBRARY_PATH={':'.join([*libraries, '$LD_LIBRARY_PATH'])}"


def main(arguments: list[str] | None = None) -> None:
    """Unpack, install, and say how to go on."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description="Install what was packed, without a package index.")
    parser.add_argument("--parts", type=Path, default=here, help="where the parts are; default: beside this file")
    parser.add_argument("--models", type=Path, default=here / "models", help="where models and clips go")
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--target", type=Path, help="a folder to install into")
    place.add_argument("--venv", type=Path, help="a virtual environment to make")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=here) as folder:
        try:
            files = unpack(here, options.parts, Path(folder))
            wheels = [file for file in files if file.suffix == ".whl"]
            line = install(wheels, options.target, options.venv)
        except Torn as error:
            parser.exit(1, f"install.py: {error}\n")
        except subprocess.CalledProcessError as error:  # Debian's Python may come without what makes environments
            words = (error.output or b"").decode(errors="replace").strip()
            parser.exit(1, f"install.py: {words} {error}; without a working venv, say --target\n")
        options.models.mkdir(parents=True, exist_ok=True)
        for file in files:
            if file not in wheels:
                file.replace(options.models / file.name)
    mirror = f"export FRAMELOOM_MIRROR={options.models.resolve()} FRAMELOOM_OFFLINE=1"
    sys.stdout.write(f"{line}\n{mirror}\n")


if __name__ == "__main__":
    main()
