"""A small QEMU machine that sees this machine's files and has a camera.

Its root is this machine's `/`, read-only over 9p, under a layer in memory: so the same virtual environment runs
inside, and nothing outside can be changed. It is emulated (TCG), which needs no rights and works inside of containers
and other machines; a program starts about 5 times slower in it.
"""

from __future__ import annotations

import gzip
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.v4l2.kernel import CAMERA, Kernel, Missing

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "modprobe": "kmod",
    "v4l2-ctl": "v4l-utils",
}
"""The Debian package of each program that is needed here or inside."""
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAMERA_OPTIONS = "n_devs=1 node_types=0x1 input_types=0x0"
"""One camera that is a webcam; without them it is also a TV card with outputs and a radio."""
MEMORY_MIB = 2048
BOOT_S = 60
"""For what is around the command; 5 s on an idle machine."""
KILLED = 137


class Broken(Exception):
    """The machine ended before the command did."""


def check_programs() -> None:
    """See that everything is installed.

    Raises:
        Missing: names the packages to install.
    """
    missing = [package for program, package in PACKAGES.items() if shutil.which(program, path=SEARCH) is None]
    if missing:
        raise Missing(f"Debian packages are missing: apt-get install {' '.join(missing)}")


def run_inside(kernel: Kernel, command: Sequence[str], folder: Path, limit_s: float) -> int:
    """Run a command inside as root, its output on this standard output.

    Args:
        kernel: to boot.
        command: and its arguments.
        folder: to run it in.
        limit_s: seconds after which it is killed.

    Returns:
        Its exit code; 137 where it was killed.

    Raises:
        Broken: the machine did not come to the end of the command.
    """
    with tempfile.TemporaryDirectory() as place:
        shared = Path(place, "shared")
        shared.mkdir()
        start = _initrd(Path(place), kernel, _script(command, folder), limit_s)
        try:
            ended = subprocess.run(_qemu(kernel, start, shared), stdin=subprocess.DEVNULL, timeout=limit_s + BOOT_S)
        except subprocess.TimeoutExpired:
            return KILLED
        code = shared / "exit-code"
        if code.exists():
            return int(code.read_text())
        raise Broken(f"the machine broke down (QEMU ended with {ended.returncode})")


def _script(command: Sequence[str], folder: Path) -> str:
    return f"""
        export PATH={SEARCH} HOME=/run TMPDIR=/run LANG=C.UTF-8
        cd {shlex.quote(str(folder))} && exec {shlex.join(command)}
    """


def _initrd(place: Path, kernel: Kernel, script: str, limit_s: float) -> Path:
    """Pack what the machine starts from."""
    tree = place / "tree"
    for name in ("bin", "proc", "sys", "dev", "host", "layer", "root"):
        (tree / name).mkdir(parents=True)
    shutil.copy(shutil.which("busybox", path=SEARCH) or "busybox", tree / "bin" / "busybox")
    shutil.copytree(kernel.folder / "modules", tree / "modules")
    shutil.copy(Path(__file__).with_name("init.sh"), tree / "init")
    (tree / "init").chmod(0o755)
    options = {f"{CAMERA}.ko": CAMERA_OPTIONS}
    (tree / "order").write_text("".join(f"{name} {options.get(name, '')}\n" for name in kernel.modules))
    (tree / "command").write_text(script)
    (tree / "limit").write_text(str(round(limit_s)))
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    pack = ["cpio", "--create", "--format=newc", "--quiet"]
    packed = subprocess.run(pack, cwd=tree, input=names.encode(), stdout=subprocess.PIPE, check=True).stdout
    (place / "initrd").write_bytes(gzip.compress(packed, 1))
    return place / "initrd"


def _qemu(kernel: Kernel, start: Path, shared: Path) -> list[str]:
    program = shutil.which("qemu-system-x86_64", path=SEARCH) or "qemu-system-x86_64"
    machine = ["-accel", "tcg,thread=multi", "-cpu", "max", "-machine", "q35", "-smp", "2", "-m", str(MEMORY_MIB)]
    console = ["-display", "none", "-nodefaults", "-serial", "stdio", "-no-reboot"]
    boot = ["-kernel", str(kernel.image), "-initrd", str(start), "-append", "console=ttyS0 quiet panic=-1 oops=panic"]
    disks = (
        "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        f"local,path={shared},mount_tag=shared,security_model=none",
    )
    return [program, *machine, *console, *boot, *(word for disk in disks for word in ("-virtfs", disk))]
