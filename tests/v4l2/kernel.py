"""Debian's kernel for the machine: found through apt, downloaded once, and only what the machine needs is kept.

The kernel that runs the tests often has no V4L2 at all (containers, clouds), and only root may load a driver. Debian's
kernel has every driver as a module, among them `vivid`, a camera in software. It is unpacked, not installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

META_PACKAGE = "linux-image-amd64"
CAMERA = "vivid"
MODULES = ("virtio_pci", "9pnet_virtio", "9p", "overlay", CAMERA)
"""What the machine needs: to see its disks, to write to them, and the camera."""
DOWNLOAD_S = 300


class Missing(Exception):
    """What the machine needs is not here; the text is one line for the user."""


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot.

    Args:
        folder: holds `vmlinuz` and `modules/`.
        modules: file names, in the order in which they must be loaded.
    """

    folder: Path
    modules: tuple[str, ...]

    @property
    def image(self) -> Path:
        """The file to boot."""
        return self.folder / "vmlinuz"


def debian_kernel(cache: Path) -> Kernel:
    """Return Debian's current kernel, from the cache or downloaded into it (70 MB, of which 10 are kept).

    Raises:
        Missing: it is in neither place.
    """
    package = _package_name()
    folder = cache / package
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as place:
            _prepare(_download(package, Path(place)), Path(place)).rename(folder)
    return Kernel(folder, tuple((folder / "order").read_text().split()))


def _package_name() -> str:
    """Return the package that the meta package stands for today."""
    if shutil.which("apt-cache") is None:
        raise Missing("this needs apt-cache, and Debian's package lists for amd64")
    told = subprocess.run(["apt-cache", "depends", META_PACKAGE], capture_output=True, text=True).stdout
    found = re.search(r"Depends: (linux-image-\S+)", told)
    if found is None:
        raise Missing(f"apt knows no package {META_PACKAGE}: this needs Debian for amd64, and apt-get update")
    return found[1]


def _download(package: str, place: Path) -> Path:
    command = ["apt-get", "download", "--quiet", package]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=DOWNLOAD_S)
    archive = next(place.glob("*.deb"), None)
    if done.returncode or archive is None:
        why = " ".join(line for line in done.stderr.splitlines() if line.startswith("E:"))
        raise Missing(f"apt-get download {package} failed (apt-get update may help): {why}")
    return archive


def _prepare(archive: Path, place: Path) -> Path:
    """Unpack a kernel package; return a folder with the part of it that is needed."""
    tree, made = place / "tree", place / "made"
    subprocess.run(["dpkg-deb", "--extract", archive, tree], check=True)
    (image,) = (tree / "boot").glob("vmlinuz-*")
    version = image.name.removeprefix("vmlinuz-")
    subprocess.run([_sbin("depmod"), "--basedir", tree, version], check=True)
    (made / "modules").mkdir(parents=True)
    shutil.copy(image, made / "vmlinuz")
    files = _in_order(tree, version, MODULES)
    for path in files:
        shutil.copy(path, made / "modules")
    (made / "order").write_text("\n".join(path.name for path in files))
    return made


def _in_order(tree: Path, version: str, names: Sequence[str]) -> list[Path]:
    """Return the files of modules and of what they depend on, each once, in the order of loading."""
    command = [_sbin("modprobe"), "--dirname", str(tree), "--set-version", version, "--show-depends", "--all", *names]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return list(dict.fromkeys(Path(path) for path in re.findall(r"^insmod (\S+)", told, re.MULTILINE)))


def _sbin(program: str) -> str:
    """Return where a program of the administrator is, which a user's PATH may leave out."""
    return shutil.which(program) or f"/usr/sbin/{program}"
