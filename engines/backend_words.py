"""What a backend says when it refuses a model or fails at it, in one line without the backend's own source code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engines.errors import EngineBuildError, UnsupportedModel
from engines.operators import foreign, named

if TYPE_CHECKING:
    from pathlib import Path

    import onnx

LONGEST = 400
OPSET = re.compile(r"Opset (\d+) is under development.*support for domain \S+ is till opset (\d+)", re.S)
FILE_FORMAT = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
NOISE = (
    re.compile(r"\[ONNXRuntimeError\] : \d+ : \w+ : "),
    re.compile(r"/onnxruntime_src/\S+:\d+ [^()]*\([^()]*\)(?: const)? "),
    re.compile(r"^Exception from \S+$", re.M),
    re.compile(r"Check '.*' failed at \S+$", re.M),
    re.compile(r"^(?:FrontEnd API failed|Model wasn't fully|Summary:|While validating node|To facilitate).*$", re.M),
    re.compile(r"^-- Conversion is failed for: .*$", re.M),
)
"""Where in its source it noticed, and what it says of any model."""


def refusal(
    backend: str,
    version: str,
    path: Path,
    model: onnx.ModelProto,
    error: Exception,
    size: tuple[int, int] | None,
    advice: str = "",
) -> EngineBuildError:
    """Return the error for a model that a backend cannot load or compile.

    Args:
        backend: its name, which is also its package's.
        version: of the backend.
        path: of the file.
        model: what the backend was given.
        error: what it raised.
        size: height and width that were asked for; None: the file's own.
        advice: what else may run it, such as `try --backend onnxruntime`.
    """
    text = str(error)
    for pattern, what, instead in (
        (OPSET, "version {} of ONNX's operators (opset)", "with opset {} or lower"),
        (FILE_FORMAT, "version {} of ONNX's file format (IR)", "for version {} or older"),
    ):
        if (found := pattern.search(text)) is not None:
            wanted, known = found.groups()
            return UnsupportedModel(
                f"{path} uses {what.format(wanted)}, and {backend} {version} knows {known} at most: pip install "
                f"--upgrade {backend}, or export the model {instead.format(known)}"
            )
    if nodes := [node for node in foreign(model) if node.op_type in text]:
        return UnsupportedModel(
            f"{backend} cannot run {path}: it has operators that are not ONNX's own ({named(nodes)}); export it with "
            "ONNX's alone, and without NMS: Frameloom does that itself"
        )
    if size is None:
        return EngineBuildError(f"{backend} refused {path}: {in_one_line(error)}" + (f"; {advice}" if advice else ""))
    return EngineBuildError(
        f"{backend} refused {path} at {size[0]}x{size[1]}: {in_one_line(error)}; if the file is for another size only, "
        "leave the size out" + (f", else {advice}" if advice else "")
    )


def in_one_line(error: Exception) -> str:
    """Return what a backend's error says, without line breaks, source files and signatures."""
    text = str(error)
    for noise in NOISE:
        text = noise.sub("", text)
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]} ..."
