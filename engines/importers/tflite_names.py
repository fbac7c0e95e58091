"""Names of classes that a TFLite file carries: a list of labels in a zip archive behind its tables.

Source: TensorFlow Lite, "Adding metadata to TensorFlow Lite models": associated files are zipped to the model's end.
"""

from __future__ import annotations

import io
import zipfile
import zlib

MOST_BYTES = 1 << 20
LIST = ".txt"
UNREADABLE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, NotImplementedError)
"""What a damaged, encrypted or strange archive raises; text in another encoding is a ValueError."""


def labels_of(content: bytes) -> list[str]:
    """Return the lines of the only list in a file's bytes; empty where there is none that can be read."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            lists = [member for member in archive.infolist() if member.filename.endswith(LIST)]
            if len(lists) != 1 or lists[0].file_size > MOST_BYTES:
                return []
            with archive.open(lists[0]) as file:
                text = file.read(MOST_BYTES).decode("utf-8-sig")
    except UNREADABLE:
        return []
    return [line.strip() for line in text.rstrip().splitlines()]
