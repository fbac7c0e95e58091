"""What `frameloom engines quantize` cannot do, said before anything is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engines.errors import ModelError
from engines.graph import load
from engines.int8.circumstances import CPU_BACKENDS, version_of
from engines.tensorrt.refusals import is_quantised
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from engines.engine import Backend
    from tools.engines.models import Wanted


def cpu_backend(wanted: Backend) -> Backend:
    """Return the CPU backend that is meant.

    Raises:
        ConfigError: it is a GPU's, or it is not installed.
    """
    if wanted == "auto":
        wanted = "openvino" if version_of("openvino") is not None else "onnxruntime"
    if wanted not in CPU_BACKENDS:
        raise ConfigError(
            f"quantize is for CPUs (--backend openvino or onnxruntime); for {wanted}: frameloom engines build "
            "--precision int8 --images FOLDER"
        )
    if version_of(wanted) is None:
        raise ConfigError(f"{wanted} is not installed: pip install {wanted}")
    return wanted


def refuse_unsuitable(wanted: Wanted) -> None:
    """Refuse what nobody could judge.

    Raises:
        ModelError: in words.
    """
    spec = wanted.spec
    if spec.encoder is not None:
        raise ModelError(
            f"{spec.name} encodes faces, and encoders run in fp32 on every CPU, so that galleries mean the same "
            "everywhere: it is not put into int8"
        )
    if wanted.judge is None:
        raise ModelError(
            f"{spec.name} ({spec.task}) gives no boxes that can be read, so nobody could judge it in int8"
            f"{': ' + wanted.note if wanted.note else ''}"
        )
    if is_quantised(load(spec.path)):
        raise ModelError(f"{spec.path} is in int8 already: run it as it is (--precision fp32), or give the float file")
