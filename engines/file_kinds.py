"""What a file that is given as a model really is, told from its first bytes, so that the message can say what to do.

It is looked at before anything else is done with it: hashing 3 GB takes seconds, and reading them takes the memory. So
what can be no ONNX file, for its size or its kind, is neither hashed nor read; nothing is unpacked, no pickle opened.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from engines.errors import ModelError

if TYPE_CHECKING:
    from pathlib import Path

MOST_BYTES = 2**31 - 1
"""What protobuf, and so an ONNX file, can hold."""
TFLITE_SUFFIX = ".tflite"
IMPORTED = frozenset({".dat", ".cfg", ".weights", TFLITE_SUFFIX})
"""Suffixes of formats that are read as they are; their importers say what is wrong with such a file."""
HEAD_BYTES = 4096
FIELDS = frozenset({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26})
"""Numbers of the fields of an ONNX file's outermost message."""
VARINT, LENGTH_DELIMITED = 0, 2
"""Kinds of protobuf fields."""


class Kind(NamedTuple):
    """Another format."""

    what: str
    advice: str


TO_ONNX = "export the model to ONNX and give that file"
AS_SOURCE = "give it as --source, and a model as --model"
PYTORCH = Kind(
    "a PyTorch file",
    "export it to ONNX, for Ultralytics by `yolo export model={name} format=onnx`, else by torch.onnx.export",
)
TENSORRT = Kind(
    "a compiled TensorRT engine",
    "give the ONNX file that it was built from: engines are only taken from Frameloom's own cache",
)
TFLITE = Kind("a TensorFlow Lite file", "rename it to {stem}" + TFLITE_SUFFIX)
ENCRYPTED = "decrypt it, and give the file that comes out"
UNPACK = "unpack it, and give the .onnx file that is in it"
BEGINNINGS = (
    (4, b"TFL3", TFLITE),
    (0, b"ftrt", TENSORRT),
    (0, b"vtrt", TENSORRT),
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file, as Keras writes", f"{TO_ONNX} (tf2onnx)")),
    (0, b"version https://git-lfs", Kind("a pointer of Git LFS, not the file itself", "fetch that by `git lfs pull`")),
    (0, b"7767517\n", Kind("ncnn's network text (.param)", f"{TO_ONNX}, from the framework that it was trained in")),
    (0, b"\x1f\x8b", Kind("packed (gzip)", UNPACK)),
    (0, b"BZh", Kind("packed (bzip2)", UNPACK)),
    (0, b"\xfd7zXZ\x00", Kind("packed (xz)", UNPACK)),
    (0, b"\x28\xb5\x2f\xfd", Kind("packed (zstd)", UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", UNPACK)),
    (0, b"Rar!\x1a\x07", Kind("a RAR archive", UNPACK)),
    (257, b"ustar", Kind("a tar archive", UNPACK)),
    (0, b"Salted__", Kind("encrypted (OpenSSL)", ENCRYPTED)),
    (0, b"age-encryption.org/", Kind("encrypted (age)", ENCRYPTED)),
    (0, b"-----BEGIN PGP", Kind("encrypted (PGP)", ENCRYPTED)),
    (0, b"\xff\xd8\xff", Kind("a picture (JPEG)", AS_SOURCE)),
    (0, b"\x89PNG\r\n\x1a\n", Kind("a picture (PNG)", AS_SOURCE)),
    (4, b"ftyp", Kind("a video (MP4)", AS_SOURCE)),
)
"""Offset, bytes that stand there, and what that is. TensorRT-RTX writes `vtrt`."""


def refuse_foreign(path: Path) -> None:
    """Refuse what cannot be an ONNX file, or a TFLite file by its suffix; one that passes still need not be one.

    Raises:
        ModelError: it cannot be read, is empty, too large, or another format; with what to do.
    """
    if path.suffix in IMPORTED - {TFLITE_SUFFIX}:
        return
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    if not head:
        raise ModelError(f"{path} is empty (0 bytes): copy or download it again")
    kind = _kind(path, head, size)
    if kind is not None and not (kind == TFLITE and path.suffix == TFLITE_SUFFIX):
        named = path.with_suffix(".pt") if kind.advice == PYTORCH.advice and path.suffix == ".onnx" else path
        advice = kind.advice.format(name=named.name, stem=path.stem)
        if named != path:  # Ultralytics goes by the suffix
            advice = f"rename it to {named.name}, then {advice}"
        raise ModelError(f"{path} is {kind.what}, not an ONNX model: {advice}")
    if size > MOST_BYTES:
        raise ModelError(
            f"{path} has {size / 1e9:.1f} GB, and an ONNX file can hold 2 GB at most: export the model in fp16, or "
            "choose a smaller one"
        )


def refuse_too_large(path: Path) -> None:
    """Refuse what would take seconds to hash, and be refused thereafter.

    Raises:
        ModelError: as of `refuse_foreign`.
    """
    if path.stat().st_size > MOST_BYTES:
        refuse_foreign(path)


def what_is_wrong(path: Path) -> str:
    """Return the end of a sentence on a file that protobuf cannot read: `is cut off: ...`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = _stated_end(file, size)
    if end is None:
        return "is not an ONNX model: it is encrypted, or damaged, or another format"
    if end > size:
        return f"is cut off: {size} bytes are there, of {end} or more: copy or download it again"
    return "is damaged: it begins as an ONNX model does, but cannot be read: copy or download it again"


def _kind(path: Path, head: bytes, size: int) -> Kind | None:
    for offset, beginning, kind in BEGINNINGS:
        if head[offset : offset + len(beginning)] == beginning:
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_zip(path)
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return PYTORCH._replace(what="a Python pickle, as PyTorch writes")
    length = int.from_bytes(head[:4], "little")
    if head[4:5] == b"{" and head[4 + length : 8 + length] in (b"ftrt", b"vtrt"):
        return TENSORRT._replace(what="a compiled TensorRT engine of Ultralytics")
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < size:
        return Kind("a file of weights alone (safetensors)", TO_ONNX)
    return _kind_of_text(head)


def _kind_of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError):
        return Kind("a damaged zip archive", "copy or download it again")
    if any(member.endswith("data.pkl") for member in members):
        return PYTORCH
    if "model.weights.h5" in members:
        return Kind("a Keras file", f"{TO_ONNX} (tf2onnx)")
    inside = [member for member in members if member.endswith(".onnx")]
    return Kind("a zip archive", f"unpack it, and give {inside[0]}" if inside else UNPACK)


def _kind_of_text(head: bytes) -> Kind | None:
    """Say what kind of text it is; None: it is none, as no ONNX file is."""
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) < HEAD_BYTES or error.start < HEAD_BYTES - 3:  # else a character is cut in two
            return None
        text = head[: error.start].decode()
    if not all(character.isprintable() or character.isspace() for character in text):
        return None
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")):
        return Kind("a web page", "download the file itself, not the page about it")
    if start.startswith(("<?xml", "<net")) and "<net" in start:
        return Kind("OpenVINO's format (.xml and .bin)", "give the ONNX file that it was converted from")
    return Kind("text", TO_ONNX)


def _stated_end(file: BinaryIO, size: int) -> int | None:
    """Return where the outermost message ends by what it says itself; None: it is no ONNX file's.

    Source: the Protocol Buffers encoding (tag = number << 3 | kind).
    """
    while file.tell() < size:
        tag = _varint(file)
        if tag >> 3 not in FIELDS or tag & 7 not in (VARINT, LENGTH_DELIMITED):
            return None
        value = _varint(file)
        if tag & 7 == LENGTH_DELIMITED:
            if (end := file.tell() + value) > MOST_BYTES:
                return None
            file.seek(end)
    return file.tell()


def _varint(file: BinaryIO) -> int:
    value = shift = 0
    while byte := file.read(1):
        value |= (byte[0] & 0x7F) << shift
        shift += 7
        if byte[0] < 0x80 or shift > 63:
            break
    return value
