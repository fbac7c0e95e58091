"""Model files at hand: the user's cache and the mirror folders. Nothing here uses the network or changes a file.

FRAMELOOM_MIRROR names folders, joined by `os.pathsep`, for machines without a network and for tests. They are searched
recursively, and a file is recognised by its sha256, whatever it is called; only files of an accepted size are hashed.
A file is hashed each time it is found: yolox-nano takes 9 ms, the 22 MB of dlib-resnet 55 ms.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from engines.errors import ChecksumMismatch, ModelError, ModelNotFound
from engines.importers.darknet_files import SUFFIXES, files_of
from engines.zoo_entry import Entry, Wanted

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 18
WEIGHTS_BESIDE = b"\n\x08location"
"""How an ONNX file writes where a tensor lies that is in another file: a field of protobuf with that very word."""


@dataclass(frozen=True)
class Found:
    """A file at hand, and the sha256 it has."""

    path: Path
    sha256: str


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file as 64 lower-case hexadecimal digits."""
    return digest_of(path, "sha256")


def identity_of(path: Path, sha256: str | None = None) -> str:
    """Return what a model is known by, where something was made of it: the sha256 of its file.

    Of a Darknet network, whose weights say little without the other file, it is one of both; of an ONNX file that keeps
    weights in files beside it, one of all that are there.

    Args:
        path: of the model, either file of a Darknet network.
        sha256: of that file, where it is known.

    Raises:
        ModelError: a file cannot be read, or is not there.
    """
    files = files_of(path) if path.suffix in SUFFIXES else (path, *_weights_beside(path))
    sums = [sha256 if sha256 and each == path else sha256_of(each) for each in files]
    return sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()


def _weights_beside(path: Path) -> list[Path]:
    """Return the files with weights of an ONNX file, without reading them; whoever loads it says which are missing.

    Only a file in which the word for it is found is parsed: any other costs one search through its bytes.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(WEIGHTS_BESIDE) < 0:
                return []
    except ValueError:  # it is empty
        return []
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    from engines.onnx_file import tensors_of

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # no ONNX file, as whoever loads it says
        return []
    beside = {ExternalDataInfo(tensor).location for tensor in tensors_of(graph) if uses_external_data(tensor)}
    return [weights for location in sorted(beside) if (weights := path.parent / location).is_file()]


def digest_of(path: Path, algorithm: str) -> str:
    """Return a file's digest in hexadecimal; `algorithm` is one of hashlib's names.

    Raises:
        ModelError: the file cannot be read.
    """
    digest = hashlib.new(algorithm)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def cache_root() -> Path:
    """Return the folder of what can be had again: FRAMELOOM_CACHE where that is set, else in the user's cache."""
    root = os.environ.get("FRAMELOOM_CACHE")
    return Path(root).expanduser() if root else user_cache_path("frameloom")


def model_cache() -> Path:
    """Return the folder of fetched files."""
    return cache_root() / "models"


def mirror_folders() -> list[Path]:
    """Return the folders that FRAMELOOM_MIRROR names, in order, whether they exist or not."""
    names = os.environ.get("FRAMELOOM_MIRROR", "").split(os.pathsep)
    return [Path(name).expanduser() for name in names if name.strip()]


def find(entry: Entry) -> Found | None:
    """Return the file of `entry` from the cache, else from the mirror folders, else None.

    One that comes with Frameloom is looked for nowhere else.
    Where it has companions, they lie beside it; where one does not, the entry counts as not there.

    Raises:
        ChecksumMismatch: a cached file is not the one that was asked for. It is left as it is.
    """
    if entry.shipped_path is not None:
        return _shipped(entry, entry.shipped_path)
    here = [cached(each, entry.name) for each in entry.files]
    if all(here):
        return here[0]
    found = mirrored(entry)
    beside = () if found is None else [(found.path.with_suffix(Path(c.file).suffix), c) for c in entry.companions]
    complete = all(path.is_file() and sha256_of(path) == companion.sha256 for path, companion in beside)
    return found if complete else None


def _shipped(entry: Entry, path: Path) -> Found:
    if not path.is_file():
        raise ModelNotFound(f"{path}, which comes with Frameloom, is not there: install Frameloom anew")
    sha256 = sha256_of(path)
    if sha256 not in entry.bytes_by_sha256:
        raise ChecksumMismatch(f"{path} is not {entry.name} any more: its sha256 is {sha256}: install Frameloom anew")
    return Found(path, sha256)


def cached(wanted: Wanted, name: str) -> Found | None:
    """Return a file of the entry `name` from the cache, else None.

    Raises:
        ChecksumMismatch: it is not the one that was asked for. It is left as it is.
    """
    path = model_cache() / wanted.file
    if not path.is_file():
        return None
    sha256 = sha256_of(path)
    if sha256 not in wanted.bytes_by_sha256:
        raise ChecksumMismatch(
            f"{path} is not {name}: its sha256 is {sha256}, expected {wanted.accepted_hashes}; "
            f"move or delete that file, then run `frameloom models pull {name}`"
        )
    return Found(path, sha256)


def mirrored(wanted: Wanted) -> Found | None:
    """Return a file from the first mirror that has it; what cannot be read is skipped with a logged warning."""
    accepted = wanted.bytes_by_sha256
    for path in _mirrored_files():
        try:
            if path.stat().st_size in accepted.values() and (sha256 := sha256_of(path)) in accepted:
                return Found(path, sha256)
        except (OSError, ModelError) as error:
            log.warning("FRAMELOOM_MIRROR: skipped a file: %s", error)
    return None


def _mirrored_files() -> Iterator[Path]:
    """Yield every file below the mirror folders, in a fixed order."""

    def skipped(error: OSError) -> None:
        log.warning("FRAMELOOM_MIRROR: skipped a folder: %s", error)

    for mirror in mirror_folders():
        for parent, folders, names in os.walk(mirror, onerror=skipped):
            folders.sort()
            for name in sorted(names):
                yield Path(parent, name)
