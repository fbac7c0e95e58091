"""What `frameloom doctor` looks at: each check is one small function that returns what it saw and what to do.

Nothing is constructed that may bring the process down: OpenCV's windows do without a display, TensorRT's objects
without a driver (`checks_gpu`). Every library is imported inside its own check, so that a broken one is one line of
the answer.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, cast

from tools import checks_gpu
from tools.check import Check

DECODERS = ("h264", "hevc", "av1", "mpeg4", "mjpeg")
DEFAULT_MODEL = "yolox-nano"
SMALLEST_PYTHON = (3, 10)
MIB = 1 << 20


def run_checks() -> Iterator[Check]:
    """Run every check; one that fails itself is a problem like any other."""
    for check in CHECKS:
        try:
            yield from check()
        except Exception as error:  # a doctor does not faint
            yield Check(check.__name__.strip("_"), "problem", f"the check itself failed: {error!r}")


def _python() -> Iterator[Check]:
    new_enough = sys.version_info[:2] >= SMALLEST_PYTHON
    advice = "" if new_enough else "install Python 3.10 or later"
    text = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Check("python", "ok" if new_enough else "problem", text, advice, essential=True)
    try:
        yield Check("frameloom", "ok", importlib.metadata.version("frameloom"))
    except importlib.metadata.PackageNotFoundError:
        yield Check("frameloom", "missing", "runs from a folder, not installed", "pip install .")


def _libraries() -> Iterator[Check]:
    for module, package in (("numpy", "numpy"), ("cv2", "opencv-python"), ("av", "av"), ("onnx", "onnx")):
        yield _library(module, package, essential=True)
    yield _library("pycocotools", "pycocotools", advice="for `frameloom eval detect`: pip install 'frameloom[eval]'")


def _library(module: str, package: str, *, advice: str = "", essential: bool = False) -> Check:
    try:
        loaded = importlib.import_module(module)
    except ImportError as error:
        return Check(package, "missing", str(error), advice or f"pip install {package}", essential)
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = str(getattr(loaded, "__version__", "of unknown version"))
    return Check(package, "ok", version)


def _ffmpeg() -> Iterator[Check]:
    import av

    versions = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    yield Check("ffmpeg", "ok", ", ".join(f"{name} {version}" for name, version in sorted(versions.items())))


def _backends() -> Iterator[Check]:
    found = [_openvino(), _onnxruntime()]
    yield from found
    if all(check.status != "ok" for check in found):
        yield Check(
            "backends", "problem", "nothing can run a model", "pip install openvino onnxruntime", essential=True
        )


def _openvino() -> Check:
    try:
        import openvino
    except ImportError as error:
        return Check("openvino", "missing", str(error), "pip install openvino")
    from engines.openvino import shared_core

    native = "BF16" in shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    bf16 = "bf16 native" if native else "bf16 only emulated, slower than fp32"
    return Check("openvino", "ok", f"{openvino.get_version().split('-')[0]}; CPU: fp32, {bf16}")


def _onnxruntime() -> Check:
    try:
        import onnxruntime
    except ImportError as error:
        return Check("onnxruntime", "missing", str(error), "pip install onnxruntime")
    return Check("onnxruntime", "ok", f"{onnxruntime.__version__}; CPU: fp32")


def _cpu() -> Iterator[Check]:
    import psutil

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Check("cpu", "ok", f"{_cpu_model()}; {psutil.cpu_count() or '?'} cores, {usable} usable here")
    memory = psutil.virtual_memory()
    yield Check("memory", "ok", f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB free")


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown model"


def _codecs() -> Iterator[Check]:
    absent = [name for name in DECODERS if _codec(name, "r") is None]
    present = ", ".join(name for name in DECODERS if name not in absent)
    if absent:
        yield Check(
            "decoders", "problem", f"{present}; without {', '.join(absent)}", "pip install --force-reinstall av"
        )
    else:
        yield Check("decoders", "ok", present)
    problem = encoder_problem("libx264")
    advice = "" if problem is None else "recording needs it: pip install --force-reinstall av"
    yield Check("libx264", "ok" if problem is None else "problem", problem or "encodes H.264", advice)
    problem = encoder_problem("h264_nvenc")
    advice = "" if problem is None else "only for encoding on an NVIDIA GPU; libx264 is used instead"
    yield Check("h264_nvenc", "ok" if problem is None else "missing", problem or "encodes H.264", advice)


def _codec(name: str, mode: Literal["r", "w"]) -> Any:
    import av

    try:
        return av.Codec(name, mode)
    except ValueError:  # av's UnknownCodecError
        return None


def encoder_problem(name: str) -> str | None:
    """Return why an encoder cannot be used, tried by opening it; None: it can."""
    from pipeline.sinks.video import Codec, problem_of

    if _codec(name, "w") is None:
        return "not in this FFmpeg"
    problem = problem_of(cast(Codec, name))
    return None if problem is None else f"in this FFmpeg, but does not start here ({problem})"


def _hardware_decoding() -> Iterator[Check]:
    from pipeline.capture.hardware import KINDS, problem_of

    problems = {kind: problem_of(kind) for kind in KINDS}
    works = [kind for kind, problem in problems.items() if problem is None]
    text = f"works by {', '.join(works)}" if works else "; ".join(f"{kind}: {why}" for kind, why in problems.items())
    advice = "" if works else "only for `hardware:` of a source; software decodes instead"
    yield Check("hardware decoding", "ok" if works else "missing", text, advice)


def _cameras() -> Iterator[Check]:
    from pipeline.capture.live.camera import cameras

    found = cameras()
    advice = "" if found else "plug one in, or use streams and files; the user must be in the group video"
    yield Check("cameras", "ok" if found else "missing", ", ".join(found) or "none", advice)


def _display() -> Iterator[Check]:
    from pipeline.sinks.window import display_problem

    problem = display_problem()
    advice = "" if problem is None else "only for --window: set DISPLAY; recording needs none"
    yield Check("display", "ok" if problem is None else "missing", problem or "windows can be shown", advice)


def _cache() -> Iterator[Check]:
    from engines.model_files import mirror_folders, model_cache

    root = model_cache().parent
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK)):
        yield Check("cache", "problem", f"{root} cannot be written", "set FRAMELOOM_CACHE to a folder that can")
    else:
        files = [path for path in root.rglob("*") if path.is_file()] if root.exists() else []
        size = sum(path.stat().st_size for path in files)
        yield Check("cache", "ok", f"{root}: {len(files)} files, {size / MIB:.1f} MiB")
    for folder in mirror_folders():
        if os.access(folder, os.R_OK) and folder.is_dir():
            count = sum(len(names) for _, _, names in os.walk(folder))
            yield Check("mirror", "ok", f"{folder}: {count} files")
        else:
            yield Check("mirror", "problem", f"{folder} is no folder that can be read", "correct FRAMELOOM_MIRROR")


def _models() -> Iterator[Check]:
    from engines.errors import ChecksumMismatch
    from engines.zoo import Zoo

    zoo, at_hand = Zoo.load(), []
    for name in zoo.names():
        try:
            if zoo.locate(name) is not None:
                at_hand.append(name)
        except ChecksumMismatch as error:
            yield Check("models", "problem", str(error), f"frameloom models pull {name}")
    text = f"{len(at_hand)} of {len(zoo)} at hand" + (f": {', '.join(at_hand)}" if at_hand else "")
    if DEFAULT_MODEL in at_hand:
        yield Check("models", "ok", text)
    else:
        yield Check(
            "models", "missing", text, f"{DEFAULT_MODEL} is fetched on first use, or: frameloom models pull --default"
        )


CHECKS: tuple[Callable[[], Iterator[Check]], ...] = (
    _python,
    _libraries,
    _ffmpeg,
    _backends,
    checks_gpu.gpu,
    checks_gpu.tensorrt,
    checks_gpu.cuda_libraries,
    checks_gpu.compiled_engines,
    _cpu,
    _codecs,
    _hardware_decoding,
    _cameras,
    _display,
    _cache,
    _models,
)
