"""Request: several who wait for one request of an engine, each for its own picture."""

from __future__ import annotations

from engines.engine import Outputs, Pending


class Request:
    """A request on one or more frames, whose outputs are waited for once."""

    def __init__(self, pending: Pending, frames: int) -> None:
        self._pending = pending
        self._frames = frames
        self._outputs: Outputs = {}
        self._error: BaseException | None = None
        self._collected = False

    def outputs_of(self, place: int) -> Outputs:
        """Return what the model says of one of the frames.

        Raises:
            EngineError: the request failed, for all of its frames.
        """
        if not self._collected:
            self._collected = True
            try:
                self._outputs = self._pending.result()
            except BaseException as error:
                self._error = error
        if self._error is not None:
            raise self._error
        if self._frames == 1:
            return self._outputs
        return {name: array[place : place + 1] for name, array in self._outputs.items()}
