"""PlanContext: what runs a plan for one number of pictures; a lane has several, and records their runs.

TensorRT reports failures as None or False and lines in its log; here they become errors that carry those lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.errors import EngineError
from engines.tensorrt.flavour import can_be_recorded

if TYPE_CHECKING:
    from engines.tensorrt.graphs import Shapes
    from engines.tensorrt.loaded_plan import LoadedPlan


class PlanContext:
    """An execution context of a plan.

    `release` gives it back whoever still knows this object: a traceback does, and TensorRT's own object must be gone
    before the plan, and while the GPU's context is there.
    """

    def __init__(self, plan: LoadedPlan, context: Any) -> None:
        """Wrap TensorRT's object; nobody else may keep it."""
        self._plan = plan
        self._context = context

    def use(self, scratch: int, addresses: dict[str, int]) -> None:
        """Say where scratch memory (`scratch_bytes`) and all tensors are on the device.

        Raises:
            EngineError: an address is refused.
        """
        if hasattr(self._context, "set_device_memory"):
            self._context.set_device_memory(scratch, self._plan.scratch_bytes)
        else:  # TensorRT 10.0
            self._context.device_memory = scratch
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise EngineError(f"TensorRT refused the address of {name!r} of {self._plan.name}: {self._plan.said()}")

    def set_count(self, count: int) -> Shapes:
        """Set it to this many pictures and return the shapes of all tensors.

        Raises:
            EngineError: the plan does not take so many.
        """
        plan = self._plan
        if not self._context.set_input_shape(plan.input, (count, *plan.input_size, 3)):
            raise EngineError(f"TensorRT refused {count} pictures of {plan.name}: {plan.said()}")
        shapes = {name: tuple(self._context.get_tensor_shape(name)) for name in plan.types}
        for name, found in shapes.items():
            if min(found, default=1) < 0:
                raise EngineError(f"the size of {name!r} of {plan.name} depends on the picture: {found}")
        return shapes

    def run(self, stream: int) -> None:
        """Put a run on a stream.

        Raises:
            EngineError: it could not even be started.
        """
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"TensorRT failed to run {self._plan.name}: {self._plan.said()}")

    def check_recordable(self, stream: int) -> None:
        """Ask before a recording, where TensorRT can tell: a recording that fails leaves errors in its log.

        Raises:
            EngineError: a run as it is set now cannot be recorded.
        """
        if not can_be_recorded(self._context, stream):
            raise EngineError(f"TensorRT cannot record runs of {self._plan.name}: {self._plan.said()}")

    def release(self) -> None:
        """Give it back; it must not be running."""
        self._context = None
