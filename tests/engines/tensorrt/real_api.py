"""What the versions of TensorRT really offer, read from their own Python bindings; none of them can run here.

The bindings of plain TensorRT come from the package index, the libraries that they call do not. Over stubs of those
libraries the bindings can be imported, in a process of their own, and tell every class, method and signature.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

WHEELS = {
    "10.0.1": "tensorrt-cu12-bindings",
    "10.16.1.11": "tensorrt-cu12-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
RTX = "rtx"
VERSIONS = (*WHEELS, RTX)

Api = dict[str, dict[str, Any]]
"""`Class.attribute` (of the module: the name alone) to `doc`, and `settable` of a property."""

STUB = """
#define STUB(name) extern "C" void *name() { return nullptr; }
STUB(createInferBuilder_INTERNAL)
STUB(createInferRefitter_INTERNAL)
STUB(createInferRuntime_INTERNAL)
STUB(createNvOnnxParserRefitter_INTERNAL)
STUB(createNvOnnxParser_INTERNAL)
STUB(getBuilderPluginRegistry)
STUB(getNvOnnxParserVersion)
STUB(getPluginRegistry)
STUB(initLibNvInferPlugins)
"""
TELL = """
import ctypes, importlib.util, inspect, json, sys

if len(sys.argv) == 1:
    import tensorrt_rtx as module
else:
    binding, *libraries = sys.argv[1:]
    for library in libraries:
        ctypes.CDLL(library, ctypes.RTLD_GLOBAL)
    spec = importlib.util.spec_from_file_location("tensorrt", binding)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

found = {}

def tell(owner, prefix, depth):
    for name in dir(owner):
        if name.startswith("_") and name != "__init__":
            continue
        value = getattr(owner, name)
        static = inspect.getattr_static(owner, name)
        found[prefix + name] = {"doc": value.__doc__ or "", "settable": bool(getattr(static, "fset", None))}
        if isinstance(value, type) and depth < 2:
            tell(value, f"{prefix}{name}.", depth + 1)

tell(module, "", 0)
json.dump(found, sys.stdout)
"""


def api_of(version: str, folder: Path) -> Api:
    """Return the API of a version; skips where its bindings cannot be had.

    Args:
        version: one of `VERSIONS`.
        folder: where files may be left.
    """
    if version == RTX:
        if importlib.util.find_spec("tensorrt_rtx") is None:
            pytest.skip("tensorrt_rtx is not installed")
        return _told()
    return _told(_binding(version, folder), *_stubs(version.split(".")[0], folder))


def _told(*files: Path) -> Api:
    done = subprocess.run([sys.executable, "-c", TELL, *map(str, files)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told: Api = json.loads(done.stdout)
    return told


def _binding(version: str, folder: Path) -> Path:
    wheels = folder / "wheels"
    package = f"{WHEELS[version]}=={version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        done = subprocess.run(
            [*command, "--only-binary=:all:", "--dest", str(wheels), package],
            capture_output=True,
            text=True,
            timeout=120,
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"the package index does not answer for {package}")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason"]
        pytest.skip(f"the package index gives no {package} for this Python: {lines[-1]}")
    (wheel,) = wheels.glob(f"*-{version}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = (name for name in archive.namelist() if Path(name).match("tensorrt_bindings/tensorrt*.so"))
        return Path(archive.extract(member, folder / version))


def _stubs(major: str, folder: Path) -> list[Path]:
    """Return stubs of the libraries of a major version, by the names that its bindings ask for."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    source = folder / "stub.cpp"
    source.write_text(STUB)
    libraries = [folder / f"{name}.so.{major}" for name in ("libnvinfer", "libnvonnxparser", "libnvinfer_plugin")]
    for library in libraries:
        command = ["g++", "-shared", "-fPIC", f"-Wl,-soname,{library.name}", str(source), "-o", str(library)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return libraries
