"""Sources of frames; `make_source` tells from an address which kind it is."""

from __future__ import annotations

import glob
import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.capture.file import VideoFile
from pipeline.capture.images import Images, is_image
from pipeline.capture.source import Damaged, Source, SourceInfo
from pipeline.capture.synthetic import Synthetic, is_synthetic
from pipeline.errors import ConfigError, SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Damaged", "Images", "Source", "SourceInfo", "Synthetic", "VideoFile", "make_source", "source_names"]


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
    if re.match(r"\w+://", url):
        raise SourceError(f"{url.split('://')[0]}:// streams are not supported by this version")
    path = Path(url)
    if path.is_dir() or (not path.exists() and glob.has_magic(url)) or is_image(path):
        return Images(name, url, rotate)
    return VideoFile(name, path, rotate)


def source_names(given: Sequence[str | None], urls: Sequence[str | int]) -> list[str]:
    """Name every source: as given, else after its file, folder or host; the second `a` becomes `a-2`.

    Raises:
        ConfigError: a name was given twice.
    """
    explicit = [name for name in given if name is not None]
    for name in explicit:
        if explicit.count(name) > 1:
            raise ConfigError(f"two sources are called {name!r}; names must differ")
    taken = set(explicit)
    names: list[str] = []
    for wanted, url in zip(given, urls, strict=True):
        names.append(wanted if wanted is not None else _free_name(_automatic_name(url), taken))
        taken.add(names[-1])
    return names


def _free_name(base: str, taken: set[str]) -> str:
    numbered = (f"{base}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([base], numbered) if name not in taken)


def _automatic_name(url: str | int) -> str:
    if isinstance(url, int):
        return f"camera{url}"
    if "://" in url:
        scheme, _, rest = url.partition("://")
        host = rest.split("/")[0].split("@")[-1].split(":")[0]
        text = "synthetic" if scheme == "synthetic" else host
    else:
        path = Path(url)
        text = path.name if path.is_dir() else path.stem
        if glob.has_magic(text):
            text = path.parent.name
    return re.sub(r"[^\w.-]+", "_", text).strip("_") or "source"
