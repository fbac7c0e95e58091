"""The flavours of TensorRT: which module, what it can do here, and where they differ.

`tensorrt` is the library for desktop and server GPUs and for Jetson, `tensorrt_rtx` the one for RTX PCs. They share
what is used here from TensorRT 10.0 on. The differences, as they were found in the modules themselves:

                                     10.0    10.16      11.x     RTX 1.x
    creation flag STRONGLY_TYPED     yes     yes        yes      yes       (11.x and RTX: on without it, too)
    builder flag TF32, on at first   yes     yes        yes      yes
    progress monitor                 yes     yes        yes      yes
    timing cache                     yes     yes        yes      a no-op, and asking may need a GPU
    targets (compute capabilities)   no      no         no       yes
    builds without a driver          no      no         no       yes
    size of an engine's memory       plain   plain, v2  v2       v2        (device_memory_size, ..._v2)
    memory is given to a context by  setter  method     method   method    (device_memory, set_device_memory)
    runtime configuration, kernels   no      no         no       yes       (the first is there from 10.16 on)
    validity of a plan is told       no      no         no       yes
    builder flag for recording       no      no         no       1.2 on    (REQUIRE_USER_ALLOCATION)
    tells if it can be recorded      no      no         no       1.2 on    (is_stream_capturable)

A module counts only if it has what is needed to build, to run and to tell its version: packages of stubs leave a
folder `tensorrt` that can be imported and holds nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from engines.cuda import driver as nvidia
from engines.errors import BackendUnavailable

if TYPE_CHECKING:
    from engines.cuda.driver import Driver

TensorRTBackend = Literal["tensorrt", "tensorrt-rtx"]

MODULES: dict[TensorRTBackend, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
HOW_TO_INSTALL: dict[TensorRTBackend, str] = {
    "tensorrt": "pip install tensorrt-cu13 on a desktop or server (from NVIDIA's package index), or use the TensorRT "
    "that JetPack brings on a Jetson",
    "tensorrt-rtx": "pip install 'frameloom[rtx]'",
}
NEEDED = ("Builder", "Runtime", "__version__")
RUN_ONLY = ("tensorrt_lean", "tensorrt_dispatch")
"""Packages that run plans and cannot build any."""
CURRENT = "current"
"""A compute capability: whichever the GPU at hand has."""
OLDEST = 10
"""First major version of plain TensorRT with everything that is used here."""


@dataclass(frozen=True)
class Flavour:
    """An installed TensorRT."""

    backend: TensorRTBackend
    trt: Any
    """The module, `tensorrt` or `tensorrt_rtx`."""
    version: str


def find_flavour(backend: TensorRTBackend) -> Flavour:
    """Import a TensorRT.

    Raises:
        BackendUnavailable: it is not installed, incomplete, or too old; the message says what to install.
    """
    name, remedy = MODULES[backend], HOW_TO_INSTALL[backend]
    try:
        trt = importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: a library that ctypes cannot load
        raise BackendUnavailable(f"{name} cannot be imported ({error}){_run_only()}: {remedy}") from error
    if missing := [part for part in NEEDED if not hasattr(trt, part)]:
        raise BackendUnavailable(
            f"the package {name} at {_place(trt)} has no {' and no '.join(missing)}: it only holds stubs or a part of "
            f"TensorRT; uninstall it, then: {remedy}"
        )
    version = str(trt.__version__)
    if backend == "tensorrt" and _major(version) < OLDEST:
        raise BackendUnavailable(f"TensorRT {version} is too old, {OLDEST}.0 is needed: {remedy}")
    return Flavour(backend, trt, version)


def _run_only() -> str:
    found = [name for name in RUN_ONLY if importlib.util.find_spec(name) is not None]
    return f"; {' and '.join(found)} can run plans but not build them" if found else ""


def _place(trt: Any) -> str:
    return str(getattr(trt, "__file__", None) or next(iter(getattr(trt, "__path__", [])), "an unknown place"))


def _major(version: str) -> int:
    first = version.split(".")[0]
    return int(first) if first.isdigit() else 0


def builds_without_gpu(flavour: Flavour) -> bool:
    """Whether its Builder may be touched where no driver answers; no Runtime ever may."""
    return flavour.backend == "tensorrt-rtx"


def guard(flavour: Flavour, driver: Driver) -> None:
    """Refuse to go on without a driver: to be called before any Runtime, and before a Builder that needs a GPU.

    Raises:
        BackendUnavailable: there is none; TensorRT would crash the process.
    """
    if driver.problem is not None:
        raise BackendUnavailable(f"{flavour.backend} {flavour.version} needs an NVIDIA GPU: {driver.problem}")


def compiles_in_runs(flavour: Flavour) -> bool:
    """Whether a plan's kernels are compiled where it runs; what was compiled can be kept."""
    return flavour.backend == "tensorrt-rtx"


def creation_flags(flavour: Flavour) -> int:
    """Return the flags for `Builder.create_network`: layers run in the types that the graph states."""
    flags = flavour.trt.NetworkDefinitionCreationFlag
    return 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0


def has_progress_monitor(flavour: Flavour) -> bool:
    """Whether a build can be watched."""
    return hasattr(flavour.trt, "IProgressMonitor")


def has_timing_cache(flavour: Flavour) -> bool:
    """Whether what a build measures can be kept for the next."""
    return flavour.backend == "tensorrt"


def has_targets(flavour: Flavour) -> bool:
    """Whether a plan can be built for stated compute capabilities; else it is for the GPU at hand."""
    return hasattr(flavour.trt, "ComputeCapability")


def targets(flavour: Flavour, compute_capabilities: tuple[str, ...]) -> list[Any]:
    """Return TensorRT-RTX's values for capabilities such as `8.6`; `current` is that of the GPU at hand.

    Raises:
        BackendUnavailable: it does not know one of them, with those it knows; there are no targets at all; or no GPU
            is at hand.
    """
    if not compute_capabilities:
        return []
    if not has_targets(flavour):
        raise BackendUnavailable(
            f"{flavour.backend} builds for the GPU at hand only, not for other compute capabilities"
        )
    kinds = flavour.trt.ComputeCapability.__members__
    known = {f"{name[2:-1]}.{name[-1]}": value for name, value in kinds.items() if name.startswith("SM")}  # SM86: 8.6
    if CURRENT in compute_capabilities and CURRENT.upper() in kinds:
        guard(flavour, nvidia.driver())
        known[CURRENT] = kinds[CURRENT.upper()]
    if unknown := [wanted for wanted in compute_capabilities if wanted not in known]:
        raise BackendUnavailable(
            f"{flavour.backend} {flavour.version} cannot build for compute capability {', '.join(unknown)}; "
            f"it knows {', '.join(known)}"
        )
    return [known[wanted] for wanted in compute_capabilities]


def recording_flag(flavour: Flavour) -> Any:
    """Return the builder flag without which TensorRT-RTX may take memory of its own in a run; None: there is none.

    A run that does so cannot be recorded as a CUDA graph.
    """
    return getattr(flavour.trt.BuilderFlag, "REQUIRE_USER_ALLOCATION", None)


def refuses_recording(words: str) -> bool:
    """Whether a build failed for that flag: RTX 1.7 says `kREQUIRE_USER_ALLOCATION is not compatible with` and why."""
    return "userallocation" in words.lower().replace("_", "")


def can_be_recorded(context: Any, stream: int) -> bool:
    """Whether an execution context, as it is set now, may run on a stream that is being recorded.

    Where TensorRT does not tell beforehand, the recording does.
    """
    tells = hasattr(context, "is_stream_capturable")
    return bool(context.is_stream_capturable(stream)) if tells else True


def device_memory(engine: Any) -> int:
    """Return the bytes of device memory that an execution context of a deserialised engine needs."""
    has_v2 = hasattr(engine, "device_memory_size_v2")
    return int(engine.device_memory_size_v2 if has_v2 else engine.device_memory_size)
