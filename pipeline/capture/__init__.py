"""Sources of frames; `make_source` tells from an address which kind it is."""

from __future__ import annotations

import glob
import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from pipeline.capture.file import VideoFile
from pipeline.capture.images import Images, is_image
from pipeline.capture.source import Damaged, Source, SourceInfo
from pipeline.capture.synthetic import Synthetic, is_synthetic
from pipeline.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Damaged", "Images", "Source", "SourceInfo", "Synthetic", "VideoFile", "make_source", "source_names"]

LONGEST_NAME = 64
"""An automatic name is part of file names, whose length is limited."""


def make_source(name: str, url: str | int, rotate: int | None = None) -> Source:
    """Return the source that an address stands for; it is not opened yet.

    Args:
        name: of the source.
        url: a video file, an image, a folder or a glob of images, or `synthetic`.
        rotate: degrees clockwise; None follows the metadata.

    Raises:
        SourceError: no source of this version reads such an address.
    """
    if isinstance(url, int):
        raise SourceError(f"camera {url}: cameras are not supported by this version")
    if is_synthetic(url):
        return Synthetic(name, url)
    if re.match(r"[\w+.-]+://", url) and not url.startswith("file://"):
        raise SourceError(f"{url.split('://')[0]}:// streams are not supported by this version")
    place = _local(url)
    path = Path(place)
    if os.path.isdir(place) or is_image(path) or (glob.has_magic(place) and not os.path.lexists(place)):
        return Images(name, place, rotate)
    return VideoFile(name, path, rotate)


def _local(url: str) -> str:
    """Return the path that a file:// address names; other addresses as they are."""
    return unquote(url.removeprefix("file://")) if url.startswith("file://") else url


def source_names(given: Sequence[str | None], urls: Sequence[str | int]) -> list[str]:
    """Name every source: as given, else after its file, folder or host; the second `a` becomes `a-2`.

    Raises:
        ConfigError: a name was given twice.
    """
    explicit = [name for name in given if name is not None]
    twice = next((name for name in explicit if explicit.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two sources are called {twice!r}; names must differ")
    taken = set(explicit)
    names: list[str] = []
    for name, url in zip(given, urls, strict=True):
        names.append(name if name is not None else _free_name(_automatic_name(url), taken))
        taken.add(names[-1])
    return names


def _free_name(base: str, taken: set[str]) -> str:
    numbered = (f"{base}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([base], numbered) if name not in taken)


def _automatic_name(url: str | int) -> str:
    if isinstance(url, int):
        return f"camera{url}"
    text = _file_name(_local(url)) if "://" not in url or url.startswith("file://") else _host_name(url)
    return re.sub(r"[^\w.-]+", "_", text).strip("_.")[:LONGEST_NAME] or "source"


def _host_name(url: str) -> str:
    """Return the host without user, password, port or query."""
    if is_synthetic(url):
        return "synthetic"
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # an IPv6 address without its closing bracket
        return ""


def _file_name(place: str) -> str:
    path = Path(place)
    if os.path.isdir(place):
        return path.resolve().name
    return path.parent.name if glob.has_magic(path.stem) and not os.path.lexists(place) else path.stem
