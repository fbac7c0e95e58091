"""Which files a Darknet network is made of; found by their names, and not opened."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from engines.errors import ModelNotFound

NETWORK, WEIGHTS, NAMES = ".cfg", ".weights", ".names"
SUFFIXES = (NETWORK, WEIGHTS)


class Files(NamedTuple):
    """The two files of a network."""

    network: Path
    weights: Path


def files_of(path: Path) -> Files:
    """Return both files of a network, given either: beside `x.cfg` lies `x.weights`.

    Beside weights of another name it is the only `.cfg` in the folder: training writes `x_best.weights`.

    Raises:
        ModelNotFound: the other file is not there.
    """
    if path.suffix == NETWORK:
        weights = path.with_suffix(WEIGHTS)
        if not weights.is_file():
            raise ModelNotFound(f"{path} is a Darknet network without weights: put {weights.name} beside it")
        return Files(path, weights)
    if (network := path.with_suffix(NETWORK)).is_file():
        return Files(network, path)
    there = sorted(path.parent.glob(f"*{NETWORK}"))
    if len(there) != 1:
        others = f"there are {', '.join(each.name for each in there)}" if there else "there is no other .cfg"
        raise ModelNotFound(f"{path} needs its network beside it: {network.name} is not there, and {others}")
    return Files(there[0], path)


def names_of(files: Files) -> tuple[Path | None, bool]:
    """Return the file with the names of the classes, and whether it is called like one of the two.

    Else the only `.names` in the folder is meant; None: there is no such file.
    """
    for path in files:
        if (own := path.with_suffix(NAMES)).is_file():
            return own, True
    there = sorted(files.network.parent.glob(f"*{NAMES}"))
    return (there[0] if len(there) == 1 else None), False
