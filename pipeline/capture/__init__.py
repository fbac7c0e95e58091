"""Sources of frames; `make_source` tells from an address which kind it is."""

from __future__ import annotations

import glob
import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.capture.address import check_network, is_camera, is_network, is_recording, local_path
from pipeline.capture.file import VideoFile
from pipeline.capture.images import Images, is_image
from pipeline.capture.live import make_live
from pipeline.capture.options import SourceOptions
from pipeline.capture.source import Damaged, Source, SourceInfo, SourceState
from pipeline.capture.synthetic import Synthetic, is_synthetic
from pipeline.capture.view import view_of
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Damaged",
    "Images",
    "Source",
    "SourceInfo",
    "SourceOptions",
    "SourceState",
    "Synthetic",
    "VideoFile",
    "make_source",
    "source_names",
]

LONGEST_NAME = 64
"""An automatic name is part of file names, whose length is limited."""


def make_source(name: str, url: str | int, options: SourceOptions | None = None) -> Source:
    """Return the source that an address stands for; it is not opened yet.

    Args:
        name: of the source.
        url: a camera's number or device; the address of a stream; a video file, an image, a folder or a glob of
            images; or `synthetic`.
        options: how to read it.

    Raises:
        SourceError: nothing here reads such an address.
    """
    options = options or SourceOptions()
    return view_of(_plain_source(name, url, options), options.max_fps, options.crop)


def _plain_source(name: str, url: str | int, options: SourceOptions) -> Source:
    if is_camera(url) or (is_network(url) and not is_recording(str(url))):
        return make_live(name, url, options)
    url = str(url)
    if is_synthetic(url):
        return Synthetic(name, url)
    if is_network(url):
        check_network(url)
        return VideoFile(name, url, options)
    place = local_path(url)
    path = Path(place)
    if os.path.isdir(place) or is_image(path) or (glob.has_magic(place) and not os.path.lexists(place)):
        return Images(name, place, options.rotate)
    return VideoFile(name, path, options)


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
    text = _host_name(url) if is_network(url) or is_synthetic(url) else _file_name(local_path(url))
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
