"""A program that enrols people until it is killed: python -m tests.pipeline.gallery.enrol GALLERY NAME."""

from __future__ import annotations

import itertools
import sys

from pipeline.gallery.store import GalleryFile
from tests.pipeline.gallery.people import DLIB, encodings

TOGETHER = 50
"""Encodings of one enrolment: together they fill several pages."""


def main(path: str, name: str) -> None:
    with GalleryFile.open(path, DLIB, create=True, timeout_s=20) as gallery:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for number in itertools.count():
            gallery.add(f"{name} {number}", encodings(TOGETHER, seed=number))


if __name__ == "__main__":
    main(*sys.argv[1:])
