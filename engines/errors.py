"""Everything that can go wrong between an ONNX file and a running model.

    FrameloomError                 base of every error of this project
    ├── ModelError                 the model file or its description is at fault
    │   ├── ModelNotFound          nowhere to be had: supply the file, or a network
    │   ├── ChecksumMismatch       a file is not the one that was asked for: replace it
    │   └── UnknownHead            outputs that no decoder here understands: choose another model
    └── EngineError                compiling or running it is at fault
        ├── BackendUnavailable     install the backend, or choose another
        ├── EngineBuildError       the backend refused the model: its message says why
        │   └── UnsupportedModel   the model needs what the backend does not have: export it otherwise
        ├── EngineStale            a compiled engine does not match this machine: rebuild it
        ├── ParityFailed           a compiled engine disagrees with its ONNX file: do not use it
        └── DeviceLost             the GPU or its driver is gone: start again, and look at its health

A message says what happened, shows the value, and says what to do.
"""

from __future__ import annotations


class FrameloomError(Exception):
    """Base of every error that Frameloom raises on purpose.

    `request_was_wrong` decides the exit code: 2 where the arguments, the configuration or a named
    file are at fault, 1 where the run itself failed.
    """

    request_was_wrong = False


class ModelError(FrameloomError):
    """The model file or its description is at fault."""

    request_was_wrong = True


class ModelNotFound(ModelError, FileNotFoundError):
    """The model is in no place that was searched."""


class ChecksumMismatch(ModelError):
    """A file exists but is not the one that was asked for."""


class UnknownHead(ModelError):
    """The model's outputs match no decoder."""


class EngineError(FrameloomError):
    """Compiling or running a model failed."""


class BackendUnavailable(EngineError):
    """The backend or precision that was asked for does not exist on this machine."""

    request_was_wrong = True


class EngineBuildError(EngineError):
    """A backend refused to compile the model."""


class UnsupportedModel(EngineBuildError):
    """The model needs operators, or a version of them, that the backend does not have."""

    request_was_wrong = True


class EngineStale(EngineError):
    """A compiled engine was made for another machine, version or file."""


class ParityFailed(EngineError):
    """A compiled engine disagrees with its ONNX file by more than its bound."""


class DeviceLost(EngineError):
    """The GPU, its context or its driver is gone; nothing in this process can use it any more."""
