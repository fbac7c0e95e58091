"""What CUDA's error codes mean to this project: which of them no later call in this process survives.

After a kernel that crashed, or a GPU that fell off the bus, every call on the context gives the same code again (the
"sticky" errors of CUDA's manual). Only a new process gets a new context: those become DeviceLost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.errors import DeviceLost, EngineError

if TYPE_CHECKING:
    import numpy.typing as npt

    from engines.cuda.driver import Gpu

OUT_OF_MEMORY = 2
LOST = {
    4: "CUDA_ERROR_DEINITIALIZED",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    214: "CUDA_ERROR_ECC_UNCORRECTABLE",
    220: "CUDA_ERROR_NVLINK_UNCORRECTABLE",
    226: "CUDA_ERROR_CONTAINED",
    700: "CUDA_ERROR_ILLEGAL_ADDRESS",
    702: "CUDA_ERROR_LAUNCH_TIMEOUT",
    709: "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    710: "CUDA_ERROR_ASSERT",
    714: "CUDA_ERROR_HARDWARE_STACK_ERROR",
    715: "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    716: "CUDA_ERROR_MISALIGNED_ADDRESS",
    717: "CUDA_ERROR_INVALID_ADDRESS_SPACE",
    718: "CUDA_ERROR_INVALID_PC",
    719: "CUDA_ERROR_LAUNCH_FAILED",
    721: "CUDA_ERROR_TENSOR_MEMORY_LEAK",
    802: "CUDA_ERROR_SYSTEM_NOT_READY",
    803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    806: "CUDA_ERROR_MPS_RPC_FAILURE",
    807: "CUDA_ERROR_MPS_SERVER_NOT_READY",
    810: "CUDA_ERROR_MPS_CLIENT_TERMINATED",
    999: "CUDA_ERROR_UNKNOWN",
}
"""By the numbers of cuda.h, which never change."""
ADVICE = {
    214: "the card's memory is failing: look at `nvidia-smi -q -d ECC`, and restart it",
    220: "a link between cards is failing: look at `nvidia-smi nvlink -s`, and restart the machine",
    702: "a kernel ran longer than the display's watchdog allows: use a GPU without a display",
    803: "the driver was upgraded under the running system: restart the machine",
}


def fault(code: int, name: str, doing: str, gpu: Gpu) -> EngineError:
    """Return the error for a code that a CUDA call gave.

    Args:
        code: as in cuda.h.
        name: what CUDA calls it, or says about it.
        doing: what was being done, as in "while copying to it".
        gpu: where.
    """
    if code in LOST:
        advice = ADVICE.get(code, "look at `nvidia-smi` and the kernel's log (`dmesg | grep -i xid`)")
        return DeviceLost(f"{gpu} is lost: {LOST[code]} while {doing}; start again, and {advice}")
    return EngineError(f"CUDA failed while {doing}: {name} on {gpu}")


def no_room(size: int, free: int, total: int, gpu: Gpu) -> EngineError:
    """Return the error for device memory that is full."""
    return EngineError(
        f"{gpu} has no room for {size / 2**20:.1f} MiB: {free / 2**20:.1f} of {total / 2**20:.1f} MiB are free; "
        "use a smaller batch or fewer requests, or end what else runs on it"
    )


def check_contiguous(array: npt.NDArray[Any]) -> None:
    """Refuse an array whose bytes are not one piece: the copy would read or write its neighbours.

    Raises:
        ValueError: it has gaps.
    """
    if not array.flags.c_contiguous:
        raise ValueError(f"only a contiguous array can be copied to or from a GPU, not strides {array.strides}")
