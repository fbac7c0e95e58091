"""A started request: one lane, and the parts of its batch that are still to be run on it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from engines.errors import DeviceLost, EngineError
from engines.tensorrt.outputs import joined

if TYPE_CHECKING:
    from engines.cuda.layer import Cuda
    from engines.engine import Batch, Outputs, Uncut
    from engines.tensorrt.lane import Lane
    from engines.tensorrt.lanes import Lanes


class TensorRTRequest:
    """A request in flight; `result` gives its lane back."""

    def __init__(
        self, lane: Lane, lanes: Lanes, waiting: deque[Batch | list[Uncut]], names: tuple[str, ...], cuda: Cuda
    ) -> None:
        """Take over a lane on which the first part has been started; `waiting` are the others."""
        self._cuda = cuda
        self._lane: Lane | None = lane
        self._lanes = lanes
        self._waiting = waiting
        self._names = names
        self._lock = threading.Lock()
        self._outputs: Outputs = {}
        self._error: Exception | None = None

    def result(self) -> Outputs:
        """Wait, and return arrays that belong to the caller."""
        self.settle()
        if self._error is not None:
            raise self._error
        return self._outputs

    def settle(self) -> None:
        """Wait, run the parts that wait, and give the lane back; the engine's `close` may have done so already."""
        with self._lock:
            if self._lane is None:
                return
            try:
                with self._cuda.active():
                    self._outputs = joined(self._finish(self._lane))
            except Exception as error:  # told by `result`, whoever settles
                self._error = error
                if isinstance(error, DeviceLost):
                    self._lanes.end(error)
            except BaseException:
                self._error = EngineError("the request has no result: waiting for it was interrupted")
                raise
            finally:
                lane, self._lane = self._lane, None
                self._lanes.give_back(lane)

    def _finish(self, lane: Lane) -> list[Outputs]:
        parts = [lane.collect()]
        while self._waiting:
            lane.start(self._waiting.popleft(), self._names)
            parts.append(lane.collect())
        return parts
